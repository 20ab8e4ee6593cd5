#include "convert/hf_model.h"

#include <algorithm>
#include <set>
#include <utility>

#include "convert/hf_left_over.h"
#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 40;

struct Family {
  std::string_view name;  // as config.json's "architectures" has it
  std::string_view architecture;
  void (*map)(HfModelBuilder&, const std::string&);
};
constexpr std::array kFamilies = {
    Family{"DeepseekV2ForCausalLM", "deepseek2", map_deepseek},
    Family{"DeepseekV3ForCausalLM", "deepseek2", map_deepseek},
    Family{"Glm4MoeForCausalLM", "glm4moe", map_glm4_moe},
    Family{"GptOssForCausalLM", "gpt-oss", map_gpt_oss},
    Family{"KimiK25ForConditionalGeneration", "deepseek2", map_deepseek},
    Family{"MiniMaxM2ForCausalLM", "minimax-m2", map_minimax_m2},
    Family{"OlmoeForCausalLM", "olmoe", map_olmoe},
    Family{"Qwen2MoeForCausalLM", "qwen2moe", map_qwen2_moe},
    Family{"Qwen3MoeForCausalLM", "qwen3moe", map_qwen3_moe},
    Family{"Qwen3NextForCausalLM", "qwen3next", map_qwen3_next},
    Family{"Qwen3_5MoeForCausalLM", "qwen35moe", map_qwen35_moe},
    Family{"Qwen3_5MoeForConditionalGeneration", "qwen35moe", map_qwen35_moe},
};

}  // namespace

int64_t HfTarget::source_row(int64_t matrix, int64_t row) const {
  const int64_t at = row_order.empty() ? row : row_order[static_cast<size_t>(row)];
  return first_row + at + (weights.size() > 1 ? 0 : matrix_rows * matrix);
}

HfModelBuilder::HfModelBuilder(const HfCheckpoint& checkpoint, const HfConfig& config,
                               const HfQuantisation& quantisation, std::string architecture)
    : checkpoint_(&checkpoint), config_(&config), quantisation_(&quantisation) {
  model_.architecture = std::move(architecture);
  model_.metadata.push_back(MetadataEntry::string("general.architecture", model_.architecture));
}

void HfModelBuilder::set_u32(std::string_view key, int64_t value) {
  model_.metadata.push_back(
      MetadataEntry::u32(odmoe::format("{}.{}", model_.architecture, key), static_cast<uint32_t>(value)));
}
void HfModelBuilder::set_f32(std::string_view key, double value) {
  model_.metadata.push_back(
      MetadataEntry::f32(odmoe::format("{}.{}", model_.architecture, key), static_cast<float>(value)));
}
void HfModelBuilder::set_bool(std::string_view key, bool value) {
  model_.metadata.push_back(MetadataEntry::boolean(odmoe::format("{}.{}", model_.architecture, key), value));
}
void HfModelBuilder::set_string(std::string_view key, std::string_view value) {
  model_.metadata.push_back(
      MetadataEntry::string(odmoe::format("{}.{}", model_.architecture, key), std::string(value)));
}

void HfModelBuilder::set_i32s(std::string_view key, std::vector<int64_t> values) {
  model_.metadata.push_back(
      MetadataEntry::i32s(odmoe::format("{}.{}", model_.architecture, key), std::move(values)));
}

void HfModelBuilder::fail_with(Error error) {
  if (!std::exchange(failed_, true)) error_ = std::move(error);
}

void HfModelBuilder::refuse(std::string_view what) {
  fail_with({ErrorKind::kUnsupported, odmoe::format("{}: {}, which is not read", config_->name(), what)});
}

std::vector<int64_t> HfModelBuilder::shape_of(const std::string& tensor) const {
  const HfCheckpoint::Tensor* found = checkpoint_->find(tensor);
  return found == nullptr ? std::vector<int64_t>() : found->info->shape;
}

Result<HfWeight> HfModelBuilder::weight(const std::string& name, size_t dimensions) {
  ODMOE_ASSIGN_OR_RETURN(auto found, find_hf_weight(*checkpoint_, *quantisation_, name, dimensions));
  if (found) return *std::move(found);
  return fail(ErrorKind::kBadFile, "{} has no tensor '{}.weight': it is incomplete; download it again",
              printable_path(checkpoint_->folder()), printable(name));
}

void HfModelBuilder::add(HfTarget target) {
  if (!failed_) model_.targets.push_back(std::move(target));
}

HfTarget* HfModelBuilder::add_matrix(const std::string& target, const std::string& source, int64_t columns,
                                     int64_t rows, HfRole role) {
  if (failed_) return nullptr;
  Result<HfWeight> found = weight(source);
  if (!found.has_value()) {
    fail_with(std::move(found).error());
    return nullptr;
  }
  if (found->rows != rows || found->columns != columns) {
    fail_with({ErrorKind::kBadFile,
               odmoe::format("{}: '{}.weight' has {} rows of {}, but config.json makes it {} of {}",
                             printable_path(checkpoint_->folder()), printable(source), found->rows,
                             found->columns, rows, columns)});
    return nullptr;
  }
  model_.targets.push_back(
      {.name = target, .role = role, .ne = {columns, rows, 1}, .weights = {*std::move(found)}});
  return &model_.targets.back();
}

void HfModelBuilder::add_stack(const std::string& target, const std::string& source, int64_t columns,
                               int64_t rows, int64_t n_matrix) {
  if (failed_) return;
  Result<HfWeight> found = weight(source, 3);
  if (!found.has_value()) return fail_with(std::move(found).error());
  if (found->rows != rows * n_matrix || found->columns != columns) {
    return fail_with({ErrorKind::kBadFile,
                      odmoe::format("{}: '{}.weight' has {} rows of {}, but config.json makes it {} of {}",
                                    printable_path(checkpoint_->folder()), printable(source), found->rows,
                                    found->columns, rows * n_matrix, columns)});
  }
  model_.targets.push_back(
      {.name = target, .ne = {columns, rows, n_matrix}, .weights = {*std::move(found)}, .matrix_rows = rows});
}

HfTarget* HfModelBuilder::add_vector(const std::string& target, const std::string& source, int64_t elements) {
  return add_vectors(target, source, elements, 1);
}

HfTarget* HfModelBuilder::add_vectors(const std::string& target, const std::string& source, int64_t columns,
                                      int64_t rows) {
  if (failed_) return nullptr;
  const HfCheckpoint::Tensor* tensor = checkpoint_->find(source);
  if (tensor == nullptr) {
    fail_with(
        {ErrorKind::kBadFile, odmoe::format("{} has no tensor '{}': it is incomplete; download it again",
                                            printable_path(checkpoint_->folder()), printable(source))});
    return nullptr;
  }
  const auto& dtype = tensor->info->dtype;
  const auto& shape = tensor->info->shape;
  int64_t n = 1;
  for (const int64_t it : shape) n *= it;
  const bool rows_fit = rows == 1 || (shape.front() == rows && shape.back() == columns);
  if (n != columns * rows || !rows_fit ||
      (dtype != "F32" && dtype != "F16" && dtype != "BF16" && dtype != "F64")) {
    fail_with({ErrorKind::kBadFile,
               odmoe::format("{}: '{}' is {} {}; {} numbers in F32, F16 or BF16 were expected{}",
                             printable_path(checkpoint_->folder()), printable(source), n, dtype,
                             columns * rows, rows_fit ? "" : odmoe::format(" in rows of {}", columns))});
    return nullptr;
  }
  HfWeight weight;
  weight.name = source;
  weight.rows = rows;
  weight.columns = columns;
  weight.data = *tensor;
  model_.targets.push_back(
      {.name = target, .role = HfRole::kExact, .ne = {columns, rows, 1}, .weights = {std::move(weight)}});
  return &model_.targets.back();
}

void HfModelBuilder::add_experts(const std::string& target, const ExpertNames& names,
                                 const std::string& projection, int64_t columns, int64_t rows,
                                 int64_t n_expert) {
  if (failed_) return;
  HfTarget made{.name = target, .role = HfRole::kExperts, .ne = {columns, rows, n_expert}};
  int64_t rows_of_weight = rows;
  // Gate and up in one tensor, gate first.
  const std::string fused = names.each + ".gate_up_proj";
  const std::string stack = names.stacked + "." + projection;
  const std::string own_stack = names.each + "." + projection;
  const bool is_up = projection == "up_proj";
  const bool in_fused = (is_up || projection == "gate_proj") && has(fused);
  if (in_fused || has(stack + ".weight") || has(own_stack)) {
    Result<HfWeight> found = weight(in_fused ? fused : has(stack + ".weight") ? stack : own_stack, 3);
    if (!found.has_value()) return fail_with(std::move(found).error());
    made.matrix_rows = in_fused ? 2 * rows : rows;
    made.first_row = in_fused && is_up ? rows : 0;
    rows_of_weight = made.matrix_rows * n_expert;
    made.weights.push_back(*std::move(found));
  } else {
    const std::string name = !names.numbered             ? projection
                             : projection == "gate_proj" ? "w1"
                             : is_up                     ? "w3"
                                                         : "w2";
    made.weights.reserve(static_cast<size_t>(n_expert));
    for (int64_t expert = 0; expert < n_expert; ++expert) {
      Result<HfWeight> found = weight(odmoe::format("{}.{}.{}", names.each, expert, name));
      if (!found.has_value()) return fail_with(std::move(found).error());
      made.weights.push_back(*std::move(found));
    }
  }
  const HfWeight& first = made.weights.front();
  for (const HfWeight& weight : made.weights) {
    if (weight.rows != rows_of_weight || weight.columns != columns) {
      return fail_with(
          {ErrorKind::kBadFile, odmoe::format("{}: '{}' has {} rows of {}, but config.json makes it {} of {}",
                                              printable_path(checkpoint_->folder()), printable(weight.name),
                                              weight.rows, weight.columns, rows_of_weight, columns)});
    }
    if (weight.natural_type() != first.natural_type() || weight.encoding != first.encoding) {
      return fail_with(
          {ErrorKind::kUnsupported,
           odmoe::format("{}: '{}' is not stored in the same format as '{}'; all experts of a layer must be",
                         printable_path(checkpoint_->folder()), printable(weight.name),
                         printable(first.name))});
    }
  }
  model_.targets.push_back(std::move(made));
}

Result<HfModel> HfModelBuilder::finish(const std::string& prefix) {
  if (failed_) return std::unexpected(std::move(error_));
  for (const HfTarget& target : model_.targets) {
    int64_t elements = 1;
    for (const int64_t n : target.ne) {
      if (n < 1 || n > kMaxElements / elements) {
        return fail(ErrorKind::kBadFile, "{}: tensor '{}' would have an impossible shape", config_->name(),
                    target.name);
      }
      elements *= n;
    }
  }
  std::set<std::string_view> used;
  for (const HfTarget& target : model_.targets) {
    for (const HfWeight& weight : target.weights) {
      for (const HfCheckpoint::Tensor* tensor : {&weight.data, &weight.scale, &weight.offset}) {
        if (tensor->info != nullptr) used.insert(tensor->info->name);
      }
    }
  }
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::string> left_out,
                         hf_left_over(*checkpoint_, *config_, prefix, used));
  model_.notes.insert(model_.notes.end(), left_out.begin(), left_out.end());
  return std::move(model_);
}

Result<HfConfig> text_config(const HfConfig& config) {
  ODMOE_ASSIGN_OR_RETURN(auto text, config.object_or_none("text_config"));
  if (!text) return config;
  // What is said of the whole model holds for the text, unless that says it too.
  nlohmann::json merged = text->json();
  for (const char* key : {"quantization_config", "quantization", "tie_word_embeddings", "eos_token_id",
                          "bos_token_id", "pad_token_id"}) {
    if (config.has(key) && !text->has(key)) merged[key] = *config.find(key);
  }
  return HfConfig(std::move(merged), text->name());
}

Result<std::string> hf_name_prefix(const HfCheckpoint& checkpoint) {
  for (const char* prefix : {"model.", "language_model.model.", "model.language_model."}) {
    if (checkpoint.find(std::string(prefix) + "embed_tokens.weight") != nullptr) return std::string(prefix);
  }
  return fail(ErrorKind::kBadFile,
              "{} has no tensor 'model.embed_tokens.weight': it is incomplete, or of a kind that is not read",
              printable_path(checkpoint.folder()));
}

Result<HfModel> map_hf_model(const HfCheckpoint& checkpoint) {
  const HfConfig& whole = checkpoint.config();
  const nlohmann::json* list = whole.find("architectures");
  std::string name = list != nullptr && list->is_array() && !list->empty() && (*list)[0].is_string()
                         ? (*list)[0].get<std::string>()
                         : std::string();
  const auto* family = std::ranges::find(kFamilies, name, &Family::name);
  if (family == kFamilies.end()) {
    std::string known;
    for (const Family& it : kFamilies) known += odmoe::format("{}{}", known.empty() ? "" : ", ", it.name);
    return fail(ErrorKind::kUnsupported, "{}: the architecture is '{}', which is not read; known are {}",
                whole.name(), printable(name, 60), known);
  }
  ODMOE_ASSIGN_OR_RETURN(const HfConfig config, text_config(whole));
  ODMOE_ASSIGN_OR_RETURN(const HfQuantisation quantisation, HfQuantisation::parse(config));
  ODMOE_ASSIGN_OR_RETURN(const std::string prefix, hf_name_prefix(checkpoint));
  HfModelBuilder builder(checkpoint, config, quantisation, std::string(family->architecture));
  family->map(builder, prefix);
  return builder.finish(prefix);
}

}  // namespace odmoe
