#include "convert/hf_source.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cctype>
#include <cmath>
#include <iterator>
#include <map>
#include <system_error>
#include <utility>

#include "convert/hf_tokenizer.h"
#include "format/printable.h"
#include "format/tensor_info.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

bool can_make(ggml_type type) {
  if (!holds_data(type) || !is_weight_type(type)) return false;
  if (ggml_quantize_requires_imatrix(type)) return false;
  return type == GGML_TYPE_F32 || ggml_get_type_traits(type)->from_float_ref != nullptr;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string upper_name(ggml_type type) {
  std::string result = ggml_type_name(type);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return result;
}

// What there may be beside the weights that decides about the model: hyperparameters, vocabulary, template.
constexpr std::array kDescriptions = {
    "config.json",           "model.safetensors.index.json", "tokenizer.json",         "tiktoken.model",
    "tokenizer_config.json", "special_tokens_map.json",      "generation_config.json", "chat_template.jinja",
    "chat_template.json"};

// Rows of a weight that are read at once for rows of a target: `first` and the span of them.
struct RowRun {
  int64_t first = 0, span = 0;
  int64_t n = 0;  // of the target's rows
};

// The longest from `row` on, of at most `n`, whose rows ascend with no more rows between them than they are.
RowRun next_run(const HfTarget& target, int64_t matrix, int64_t row, int64_t n) {
  RowRun run{.first = target.source_row(matrix, row), .span = 1, .n = 1};
  while (run.n < n) {
    const int64_t span = target.source_row(matrix, row + run.n) - run.first + 1;
    if (span <= run.span || span > 2 * (run.n + 1)) break;
    run.span = span;
    ++run.n;
  }
  return run;
}

// Rows [row, row + n) of a matrix in the target's orders.  A row has `to_row` elements of T, one of the
// weight `from_row`; `read` fills a span with rows of the weight.
template <typename T, typename Read>
Status read_in_order(const HfTarget& target, int64_t matrix, int64_t row, int64_t n, size_t to_row,
                     size_t from_row, std::span<T> out, const Read& read) {
  std::vector<T> stored;
  const size_t piece = to_row / std::max<size_t>(1, target.column_order.size());
  for (int64_t done = 0; done < n;) {
    const RowRun run = next_run(target, matrix, row + done, n - done);
    const std::span<T> to =
        out.subspan(static_cast<size_t>(done) * to_row, static_cast<size_t>(run.n) * to_row);
    if (run.span == run.n && target.column_order.empty()) {
      ODMOE_RETURN_IF_ERROR(read(run.first, run.n, to));
    } else {
      stored.resize(static_cast<size_t>(run.span) * from_row);
      ODMOE_RETURN_IF_ERROR(read(run.first, run.span, std::span(stored)));
      for (int64_t i = 0; i < run.n; ++i) {
        const int64_t at = target.source_row(matrix, row + done + i) - run.first;
        const std::span<const T> from =
            std::span<const T>(stored).subspan(static_cast<size_t>(at) * from_row);
        std::span<T> left = to.subspan(static_cast<size_t>(i) * to_row, to_row);
        for (size_t j = 0; !left.empty(); ++j) {
          const size_t column = target.column_order.empty() ? 0 : static_cast<size_t>(target.column_order[j]);
          std::ranges::copy(from.subspan(column * piece, piece), left.begin());
          left = left.subspan(piece);
        }
      }
    }
    done += run.n;
  }
  return {};
}

}  // namespace

Result<ggml_type> parse_weight_type(std::string_view name) {
  std::string known;
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    if (ggml_get_type_traits(type)->type_name == nullptr || !can_make(type)) continue;
    if (lower(ggml_type_name(type)) == lower(name)) return type;
    known += (known.empty() ? "" : ", ") + upper_name(type);
  }
  return fail(ErrorKind::kUsage, "'{}' is not a type that weights can be written in; give one of {}",
              printable(name, 40), known);
}

ggml_type weight_type_for_row(ggml_type type, int64_t columns) {
  const auto fits = [&](ggml_type it) { return columns % ggml_blck_size(it) == 0; };
  if (fits(type)) return type;
  ggml_type other = GGML_TYPE_IQ4_NL;
  if (type == GGML_TYPE_Q4_K) other = GGML_TYPE_Q5_0;
  if (type == GGML_TYPE_Q5_K) other = GGML_TYPE_Q5_1;
  if (type == GGML_TYPE_Q6_K) other = GGML_TYPE_Q8_0;
  return fits(other) ? other : GGML_TYPE_F16;
}

Result<std::unique_ptr<HfSource>> HfSource::open(const std::filesystem::path& folder,
                                                 const HfOptions& options) {
  std::unique_ptr<HfSource> source(new HfSource);
  ODMOE_ASSIGN_OR_RETURN(source->checkpoint_, HfCheckpoint::open(folder));
  ODMOE_ASSIGN_OR_RETURN(source->model_, map_hf_model(*source->checkpoint_));
  for (size_t i = 0; i < source->checkpoint_->files().size(); ++i) {
    source->files_.push_back(
        {source->checkpoint_->files()[i], source->checkpoint_->file_bytes(static_cast<int>(i))});
  }
  auto& metadata = source->model_.metadata;
  std::error_code error;
  for (const char* const name : kDescriptions) {
    const std::filesystem::path path = folder / name;
    const uint64_t bytes = std::filesystem::file_size(path, error);
    if (!error) source->files_.push_back({path, bytes});
  }
  const std::string name = std::filesystem::weakly_canonical(folder, error).filename().string();
  metadata.insert(metadata.begin() + 1, MetadataEntry::string("general.name", printable(name)));
  ODMOE_ASSIGN_OR_RETURN(const HfConfig config, text_config(source->checkpoint_->config()));
  ODMOE_ASSIGN_OR_RETURN(const int64_t n_vocab, config.integer("vocab_size", 1, kMaxHfTokens));
  ODMOE_ASSIGN_OR_RETURN(auto tokenizer,
                         read_hf_tokenizer(folder, config, n_vocab, source->model_.architecture));
  std::ranges::move(tokenizer, std::back_inserter(metadata));
  ODMOE_RETURN_IF_ERROR(source->choose_types(options));
  return source;
}

Status HfSource::choose_types(const HfOptions& options) {
  for (const auto& asked : {options.experts, options.dense}) {
    if (asked && !can_make(*asked)) ODMOE_RETURN_IF_ERROR(parse_weight_type(ggml_type_name(*asked)));
  }
  std::map<std::pair<ggml_type, ggml_type>, size_t> replaced;
  for (const HfTarget& target : model_.targets) {
    ggml_type wanted = GGML_TYPE_F32;
    if (target.role != HfRole::kExact) {
      const auto& asked = target.role == HfRole::kExperts ? options.experts : options.dense;
      wanted = asked.value_or(target.weights.front().natural_type());
    }
    const ggml_type type = weight_type_for_row(wanted, target.ne[0]);
    if (type != wanted) ++replaced[{wanted, type}];
    // One table per type, made on first use and kept.
    ggml_quantize_init(type);
    tensors_.push_back(
        {.name = target.name, .type = type, .ne = {target.ne[0], target.ne[1], target.ne[2], 1}});
  }
  for (const auto& [types, count] : replaced) {
    model_.notes.push_back(odmoe::format("{} becomes {} in {} {}, whose rows it does not divide",
                                         upper_name(types.first), upper_name(types.second), count,
                                         count == 1 ? "tensor" : "tensors"));
  }
  const auto named = [](const std::optional<ggml_type>& type) {
    return type ? upper_name(*type) : std::string("as the checkpoint");
  };
  recipe_ = odmoe::format("experts {}, dense {}", named(options.experts), named(options.dense));
  return {};
}

Status HfSource::read(size_t tensor, uint64_t offset, std::span<std::byte> out) const {
  const HfTarget& target = model_.targets[tensor];
  const Tensor& made = tensors_[tensor];
  const uint64_t row_size = ggml_row_size(made.type, made.ne[0]);
  assert(offset % row_size == 0 && out.size() % row_size == 0);
  auto row = static_cast<int64_t>(offset / row_size);
  auto left = static_cast<int64_t>(out.size() / row_size);
  while (left > 0) {
    const int64_t n = std::min(left, target.ne[1] - row % target.ne[1]);
    const auto bytes = static_cast<size_t>(n) * row_size;
    ODMOE_RETURN_IF_ERROR(
        read_matrix(target, made.type, row / target.ne[1], row % target.ne[1], n, out.first(bytes)));
    out = out.subspan(bytes);
    row += n;
    left -= n;
  }
  return {};
}

Status HfSource::read_matrix(const HfTarget& target, ggml_type type, int64_t matrix, int64_t row, int64_t n,
                             std::span<std::byte> out) const {
  const HfWeight& weight = target.weight(matrix);
  const size_t row_size = ggml_row_size(type, target.ne[0]);
  const bool whole_blocks = target.column_width() % ggml_blck_size(type) == 0;
  if (!target.transposed && target.transform == HfTransform::kNone && whole_blocks &&
      weight.has_grid_of(type)) {
    return read_in_order(target, matrix, row, n, row_size, ggml_row_size(type, weight.columns), out,
                         [&](int64_t first, int64_t rows, std::span<std::byte> to) {
                           return read_blocks(*checkpoint_, weight, type, first, rows, to);
                         });
  }
  // Quantising many rows of a small type takes many times their size as floats: a few MiB of them at a time.
  constexpr int64_t kMaxFloats = 1 << 20;
  const int64_t step = std::max<int64_t>(1, kMaxFloats / target.ne[0]);
  std::vector<float> values(static_cast<size_t>(std::min(step, n) * target.ne[0]));
  for (int64_t done = 0; done < n; done += step) {
    const int64_t rows = std::min(step, n - done);
    const std::span<float> piece = std::span(values).first(static_cast<size_t>(rows * target.ne[0]));
    ODMOE_RETURN_IF_ERROR(read_floats(target, matrix, row + done, rows, piece));
    // ggml asserts on what is not finite.
    if (std::ranges::any_of(piece, [](float x) { return !std::isfinite(x); })) {
      return fail(ErrorKind::kBadFile,
                  "{}: '{}' has values that are not finite: it is damaged; download it again",
                  printable(checkpoint_->files()[static_cast<size_t>(weight.data.file)].string(), 400),
                  printable(weight.name));
    }
    ggml_quantize_chunk(type, piece.data(), out.data() + static_cast<size_t>(done) * row_size, 0, rows,
                        target.ne[0], nullptr);
  }
  return {};
}

Status HfSource::read_floats(const HfTarget& target, int64_t matrix, int64_t row, int64_t n,
                             std::span<float> out) const {
  const HfWeight& weight = target.weight(matrix);
  if (target.transposed) {
    // ne[0] rows of ne[1] elements; wanted are n of their columns.
    const int64_t columns = target.ne[1];
    std::vector<float> whole(static_cast<size_t>(target.ne[0] * columns));
    ODMOE_RETURN_IF_ERROR(read_rows(*checkpoint_, weight, target.source_row(matrix, 0), target.ne[0], whole));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < target.ne[0]; ++j) {
        out[static_cast<size_t>(i * target.ne[0] + j)] = whole[static_cast<size_t>(j * columns + row + i)];
      }
    }
  } else {
    ODMOE_RETURN_IF_ERROR(read_in_order(target, matrix, row, n, static_cast<size_t>(target.ne[0]),
                                        static_cast<size_t>(weight.columns), out,
                                        [&](int64_t first, int64_t rows, std::span<float> to) {
                                          return read_rows(*checkpoint_, weight, first, rows, to);
                                        }));
  }
  switch (target.transform) {
    case HfTransform::kNone:
      break;
    case HfTransform::kPlusOne:
      for (float& x : out) x += 1;
      break;
    case HfTransform::kNegativeExponential:
      for (float& x : out) x = -std::exp(x);
      break;
  }
  return {};
}

}  // namespace odmoe
