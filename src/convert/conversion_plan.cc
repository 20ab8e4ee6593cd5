#include "convert/conversion_plan.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "base/units.h"
#include "format/expert_source.h"
#include "format/printable.h"
#include "format/safetensors.h"
#include "format/tensor_info.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

using Manifest = ExpertManifest;
using Tensor = TensorSource::Tensor;

// A tensor's dtype and shape as safetensors tools see them.  Types that safetensors has are what they are;
// blocks of quantised weights are rows of bytes.
SafetensorsEntry entry_for(std::string name, ggml_type type, std::vector<int64_t> ne) {
  while (ne.size() > 1 && ne.back() == 1) ne.pop_back();
  std::string dtype = "U8";
  if (type == GGML_TYPE_F32) dtype = "F32";
  if (type == GGML_TYPE_F16) dtype = "F16";
  if (type == GGML_TYPE_BF16) dtype = "BF16";
  if (dtype == "U8") ne.front() = static_cast<int64_t>(ggml_row_size(type, ne.front()));
  std::ranges::reverse(ne);
  return {.name = std::move(name), .dtype = std::move(dtype), .shape = std::move(ne)};
}

SafetensorsEntry padding_entry(const std::string& of, uint64_t bytes) {
  return {.name = "padding." + of, .dtype = "U8", .shape = {static_cast<int64_t>(bytes)}};
}

std::string type_and_shape(ggml_type type, std::span<const int64_t> ne) {
  std::string text = ggml_type_name(type);
  size_t rank = ne.size();
  while (rank > 1 && ne[rank - 1] == 1) --rank;
  for (const int64_t n : ne.first(rank)) text += odmoe::format(" {}", n);
  return text;
}

// The file of base_model/ that a dense tensor goes into.
std::string_view dense_file(std::string_view name) {
  if (name.starts_with("token_embd.") || name.starts_with("output.")) return "embeddings";
  if (name.find("_norm.") != std::string_view::npos) return "norms";
  if (name.find(".attn_") != std::string_view::npos) return "attention_layers";
  return "feed_forward";
}
constexpr std::array<std::string_view, 4> kDenseFiles = {"embeddings", "attention_layers", "feed_forward",
                                                         "norms"};

constexpr std::array<std::string_view, 4> kStackKinds = {"gate", "up", "gate_up", "down"};  // by StackKind

class Planner {
 public:
  Planner(const TensorSource& source, const LayoutOptions& options) : source_(source), options_(options) {
    plan_.manifest.layout = options.layout;
    plan_.manifest.page_bytes = options.page_bytes;
    if (options.share != nullptr) plan_.manifest.share = options.share->share;
    plan_.repack = options.repack;
    assert(options.repack == nullptr || options.layout == Manifest::Layout::kPacked);
  }

  Result<ConversionPlan> plan() {
    for (const MetadataEntry& entry : source_.metadata()) {
      // How a split GGUF was split says nothing of what is made from it.
      if (!is_tokenizer_key(entry.key) && !entry.key.starts_with("split."))
        plan_.manifest.metadata.push_back(entry);
    }
    for (const TensorSource::File& file : source_.files()) {
      plan_.manifest.sources.push_back({.name = file.path.filename().string(), .bytes = file.bytes});
    }
    std::map<int, std::array<int64_t, kStackKinds.size()>> stacks;  // by layer, the tensors or -1
    std::map<std::string_view, std::vector<size_t>> dense;
    for (size_t i = 0; i < source_.tensors().size(); ++i) {
      const Tensor& tensor = source_.tensors()[i];
      if (const auto stack = parse_stack_name(tensor.name)) {
        auto& tensors =
            stacks.try_emplace(stack->layer, std::array<int64_t, kStackKinds.size()>{-1, -1, -1, -1})
                .first->second;
        tensors[static_cast<size_t>(stack->kind)] = static_cast<int64_t>(i);
      } else {
        dense[dense_file(tensor.name)].push_back(i);
      }
    }
    if (stacks.empty()) {
      return fail(ErrorKind::kUnsupported,
                  "the model has no routed experts (blk.N.ffn_gate_exps.weight); an expert directory is for "
                  "mixture-of-experts models");
    }
    for (const std::string_view file : kDenseFiles) {
      if (dense.contains(file)) ODMOE_RETURN_IF_ERROR(add_dense_file(file, dense[file]));
    }
    for (const auto& [layer, tensors] : stacks) ODMOE_RETURN_IF_ERROR(add_layer(layer, tensors));
    make_writes();
    return std::move(plan_);
  }

 private:
  std::unexpected<Error> bad(const Tensor& tensor, std::string_view what) const {
    return fail(ErrorKind::kBadFile, "tensor '{}' {}; fetch the model again", printable(tensor.name), what);
  }

  PlannedFile& begin_file(std::string path, std::string header) {
    PlannedFile& file = plan_.files.emplace_back();
    file.path = std::move(path);
    file.first_range = plan_.ranges.size();
    add_range(file, {.tensor = PlannedRange::kHeader, .bytes = header.size()});
    // Thousands of files of a page each: it is the spaces that would take the memory.
    header.resize(header.find_last_not_of(' ') + 1);
    header.shrink_to_fit();
    file.header = std::move(header);
    return file;
  }

  void add_range(PlannedFile& file, PlannedRange range) {
    if (range.bytes == 0) return;
    file.bytes += range.bytes;
    plan_.ranges.push_back(range);
    file.end_range = plan_.ranges.size();
  }

  // Whole rows, as many as a read may have.
  void add_rows(PlannedFile& file, const Tensor& tensor, size_t index, uint64_t offset, uint64_t bytes,
                int32_t section) {
    const uint64_t row_bytes = ggml_row_size(tensor.type, tensor.ne[0]);
    const uint64_t most = std::max(row_bytes, kWriteBytes / row_bytes * row_bytes);
    for (uint64_t done = 0; done < bytes; done += std::min(most, bytes - done)) {
      add_range(file, {.tensor = static_cast<int64_t>(index),
                       .offset = offset + done,
                       .bytes = std::min(most, bytes - done),
                       .section = section});
    }
  }

  // To be repacked, which takes a matrix as a whole.
  void add_matrices(PlannedFile& file, const Manifest::Slice& slice, size_t index, uint64_t offset,
                    int32_t section) {
    const uint64_t bytes = slice.bytes / static_cast<uint64_t>(slice.n_out / slice.matrix_rows());
    for (uint64_t done = 0; done < slice.bytes; done += bytes) {
      add_range(file, {.tensor = static_cast<int64_t>(index),
                       .offset = offset + done,
                       .bytes = bytes,
                       .section = section,
                       .repack = true});
    }
  }

  Status add_dense_file(std::string_view name, const std::vector<size_t>& tensors) {
    std::vector<SafetensorsEntry> entries;
    std::map<std::string, std::string> metadata;
    for (const size_t i : tensors) {
      const Tensor& tensor = source_.tensors()[i];
      entries.push_back(entry_for(tensor.name, tensor.type, {tensor.ne.begin(), tensor.ne.end()}));
      metadata["ggml:" + tensor.name] = type_and_shape(tensor.type, tensor.ne);
    }
    ODMOE_ASSIGN_OR_RETURN(std::string header,
                           make_safetensors_header(entries, metadata, options_.page_bytes));
    PlannedFile& file = begin_file(odmoe::format("base_model/{}.safetensors", name), std::move(header));
    plan_.ranges.back().section = 0;
    for (const size_t i : tensors)
      add_rows(file, source_.tensors()[i], i, 0, source_.tensors()[i].bytes(), 0);
    plan_.manifest.files.push_back({.path = file.path, .bytes = file.bytes});
    return {};
  }

  // The slices of a layer's records, and the tensors that they come from.
  Status lay_out_records(Manifest::Layer& layer, const std::array<int64_t, kStackKinds.size()>& tensors,
                         std::vector<size_t>& from) {
    const auto [gate, up, gate_up, down] = tensors;
    const bool merged = gate_up >= 0;
    if (down < 0 || (merged ? gate >= 0 || up >= 0 : up < 0)) {
      return fail(
          ErrorKind::kBadFile,
          "layer {} has some of the tensors of its experts but not gate, up and down; fetch the model "
          "again",
          layer.layer);
    }
    // Some families have no gate.
    from.clear();
    for (const int64_t tensor : {gate, gate_up, up, down}) {
      if (tensor >= 0) from.push_back(static_cast<size_t>(tensor));
    }
    int64_t n_expert = 0;
    for (const size_t i : from) {
      const Tensor& tensor = source_.tensors()[i];
      if (!is_weight_type(tensor.type)) return bad(tensor, "is of a type that cannot hold weights");
      if (n_expert == 0) n_expert = tensor.ne[2];
      if (tensor.ne[2] != n_expert || tensor.ne[3] != 1 || n_expert < 1 || n_expert > Manifest::kMaxExperts)
        return bad(tensor, odmoe::format("is of {} experts", tensor.ne[2]));
      const uint64_t alignment = i == from.back() ? options_.page_bytes : kDataAlignment;
      const uint64_t offset = round_up(layer.record_bytes, alignment);
      const uint64_t bytes = ggml_row_size(tensor.type, tensor.ne[0]) * static_cast<uint64_t>(tensor.ne[1]);
      layer.slices.push_back({.tensor = tensor.name,
                              .type = tensor.type,
                              .n_in = tensor.ne[0],
                              .n_out = tensor.ne[1],
                              .offset = offset,
                              .bytes = bytes});
      choose_layout(layer.slices.back());
      layer.record_bytes = offset + bytes;
    }
    if (options_.share != nullptr) {
      layer.n_expert_of_all = static_cast<int32_t>(n_expert);
      for (int32_t expert = 0; expert < layer.n_expert_of_all; ++expert) {
        if (options_.share->holds(layer.layer, expert)) layer.held.push_back(expert);
      }
    }
    layer.checksums.resize(options_.share != nullptr ? layer.held.size() : static_cast<size_t>(n_expert));
    return {};
  }

  // Decided by type and shape alone, so that it is the same for all experts of a layer.
  void choose_layout(Manifest::Slice& slice) {
    const RepackedLayout* layout = options_.repack;
    const int64_t rows = slice.matrix_rows();
    if (layout == nullptr || rows < 1 || slice.n_out % rows != 0) return;  // what reads it says what is wrong
    if (!layout->takes(slice.type, slice.n_in, rows)) return;
    slice.repacked = true;
    std::optional<RepackedExperts>& repacked = plan_.manifest.repacked;
    if (!repacked) {
      repacked = {
          .layout = layout->name(), .ggml = layout->ggml(), .processor = layout->processor(), .matrices = {}};
    }
    if (repacked->find(slice.type, slice.n_in, rows) != nullptr) return;
    repacked->matrices.push_back({.type = slice.type,
                                  .n_in = slice.n_in,
                                  .n_out = rows,
                                  .fingerprint = layout->fingerprint(slice.type, slice.n_in, rows)});
  }

  // What a safetensors tool sees of one record: the projections, and what lies between and behind them.
  void add_record_entries(const Manifest::Layer& layer, int32_t expert, uint64_t end,
                          std::vector<SafetensorsEntry>& entries,
                          std::map<std::string, std::string>& metadata) const {
    uint64_t at = 0;
    for (const Manifest::Slice& slice : layer.slices) {
      // "blk.3.ffn_up_exps.weight" -> "blk.3.ffn_up_exps.7.weight"
      constexpr std::string_view kEnd = "weight";
      std::string name = slice.tensor;
      name.insert(name.size() - kEnd.size(), odmoe::format("{}.", expert));
      if (slice.offset > at) entries.push_back(padding_entry(name, slice.offset - at));
      const std::array ne{slice.n_in, slice.n_out};
      std::string& description = metadata["ggml:" + name] = type_and_shape(slice.type, ne);
      if (slice.repacked) description += " " + plan_.manifest.repacked->layout;
      entries.push_back(entry_for(std::move(name), slice.type, {slice.n_in, slice.n_out}));
      at = slice.offset + slice.bytes;
    }
    if (end > at) entries.push_back(padding_entry(odmoe::format("{}", expert), end - at));
  }

  void add_record(PlannedFile& file, const Manifest::Layer& layer, const std::vector<size_t>& from,
                  int32_t expert) {
    const auto gate_up = static_cast<int32_t>(2 * file.experts.size());
    file.experts.push_back(expert);
    uint64_t at = 0;
    for (size_t i = 0; i < from.size(); ++i) {
      const Manifest::Slice& slice = layer.slices[i];
      add_range(file, {.tensor = PlannedRange::kZeros, .bytes = slice.offset - at, .section = gate_up});
      const int32_t section = i + 1 == from.size() ? gate_up + 1 : gate_up;
      const uint64_t offset = static_cast<uint64_t>(expert) * slice.bytes;
      if (slice.repacked) {
        add_matrices(file, slice, from[i], offset, section);
      } else {
        add_rows(file, source_.tensors()[from[i]], from[i], offset, slice.bytes, section);
      }
      at = slice.offset + slice.bytes;
    }
  }

  Status add_layer(int number, const std::array<int64_t, kStackKinds.size()>& tensors) {
    Manifest::Layer layer{.layer = number};
    std::vector<size_t> from;
    ODMOE_RETURN_IF_ERROR(lay_out_records(layer, tensors, from));
    const int layer_index = static_cast<int>(plan_.manifest.layers.size());
    const bool packed = options_.layout == Manifest::Layout::kPacked;
    if (packed) {
      layer.stride = round_up(layer.record_bytes, uint64_t{options_.page_bytes});
      ODMOE_RETURN_IF_ERROR(add_packed_file(layer, layer_index, from));
    } else {
      ODMOE_RETURN_IF_ERROR(add_expert_files(layer, layer_index, from));
    }
    plan_.manifest.layers.push_back(std::move(layer));
    return {};
  }

  Status add_packed_file(Manifest::Layer& layer, int layer_index, const std::vector<size_t>& from) {
    std::vector<SafetensorsEntry> entries;
    std::map<std::string, std::string> metadata;
    for (int record = 0; record < layer.n_record(); ++record)
      add_record_entries(layer, layer.expert_of(record), layer.stride, entries, metadata);
    ODMOE_ASSIGN_OR_RETURN(std::string header,
                           make_safetensors_header(entries, metadata, options_.page_bytes));
    layer.first_offset = header.size();
    if (layer.n_record() == 0) return {};  // others have them all
    PlannedFile& file = begin_file(plan_.manifest.expert_path(layer.layer, 0), std::move(header));
    file.layer = layer_index;
    for (int record = 0; record < layer.n_record(); ++record) {
      add_record(file, layer, from, layer.expert_of(record));
      add_range(file, {.tensor = PlannedRange::kZeros, .bytes = layer.stride - layer.record_bytes});
    }
    return {};
  }

  Status add_expert_files(Manifest::Layer& layer, int layer_index, const std::vector<size_t>& from) {
    layer.first_offset = options_.page_bytes;  // where there is no file
    for (int record = 0; record < layer.n_record(); ++record) {
      const int32_t expert = layer.expert_of(record);
      std::vector<SafetensorsEntry> entries;
      std::map<std::string, std::string> metadata;
      add_record_entries(layer, expert, layer.record_bytes, entries, metadata);
      ODMOE_ASSIGN_OR_RETURN(std::string header,
                             make_safetensors_header(entries, metadata, options_.page_bytes));
      if (record == 0) layer.first_offset = header.size();
      if (header.size() != layer.first_offset) {
        return fail(ErrorKind::kUnsupported,
                    "the headers of layer {}'s files differ in size; choose a larger --page-size",
                    layer.layer);
      }
      PlannedFile& file = begin_file(plan_.manifest.expert_path(layer.layer, expert), std::move(header));
      file.layer = layer_index;
      add_record(file, layer, from, expert);
    }
    return {};
  }

  void make_writes() {
    for (size_t i = 0; i < plan_.files.size(); ++i) {
      const PlannedFile& file = plan_.files[i];
      plan_.total_bytes += file.bytes;
      PlannedWrite write{.file = i, .first_range = file.first_range, .end_range = file.first_range};
      for (size_t s = file.first_range; s < file.end_range; ++s) {
        const uint64_t bytes = plan_.ranges[s].bytes;
        if (write.bytes > 0 && write.bytes + bytes > kWriteBytes) {
          add_write(write);
          write = {.file = i, .first_range = s, .end_range = s};
        }
        write.end_range = s + 1;
        write.bytes += bytes;
      }
      add_write(write);
    }
  }

  void add_write(const PlannedWrite& write) {
    plan_.buffer_bytes = std::max(plan_.buffer_bytes, write.bytes);
    plan_.writes.push_back(write);
  }

  const TensorSource& source_;
  const LayoutOptions& options_;
  ConversionPlan plan_;
};

}  // namespace

std::optional<StackName> parse_stack_name(std::string_view name) {
  constexpr std::string_view kStart = "blk.";
  if (!name.starts_with(kStart)) return std::nullopt;
  StackName result;
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kStart.size(), end, result.layer);
  if (error != std::errc() || result.layer < 0 || result.layer >= Manifest::kMaxLayers) return std::nullopt;
  const std::string_view rest(at, static_cast<size_t>(end - at));
  for (size_t kind = 0; kind < kStackKinds.size(); ++kind) {
    if (rest != odmoe::format(".ffn_{}_exps.weight", kStackKinds[kind])) continue;
    result.kind = static_cast<StackKind>(kind);
    return result;
  }
  return std::nullopt;
}

Result<ConversionPlan> plan_conversion(const TensorSource& source, const LayoutOptions& options) {
  return Planner(source, options).plan();
}

}  // namespace odmoe
