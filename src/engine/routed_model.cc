#include "engine/routed_model.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#include "model/arch/architecture.h"

namespace odmoe {
namespace {

std::string gating_name(Gating gating) {
  switch (gating) {
    case Gating::kSoftmax:
      return "softmax";
    case Gating::kSigmoid:
      return "sigmoid";
    case Gating::kSoftmaxOverChosen:
      return "softmax-over-chosen";
    case Gating::kSqrtSoftplus:
      return "sqrt-softplus";
    case Gating::kSigmoidOfChosen:
      return "sigmoid-of-chosen";
  }
  return "";
}

// A tensor's values as F32.
Result<std::vector<float>> read_values(const Checkpoint& file, const std::string& name, int64_t n_value) {
  const TensorInfo* tensor = file.find_tensor(name);
  const std::string& model = file.path().string();
  if (tensor == nullptr) return fail(ErrorKind::kBadFile, "{} has no {}", model, name);
  if (tensor->ne[0] * tensor->ne[1] * tensor->ne[2] * tensor->ne[3] != n_value ||
      !is_weight_type(tensor->type)) {
    return fail(ErrorKind::kBadFile, "{}: {} has not the shape of a router", model, name);
  }
  const std::filesystem::path& path = file.files()[static_cast<size_t>(tensor->file)];
  std::vector<char> bytes(tensor->bytes);
  std::ifstream stream(path, std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(tensor->offset));
  stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!stream) return fail(ErrorKind::kIo, "{}: cannot read {}", path.string(), name);
  std::vector<float> values(static_cast<size_t>(n_value));
  if (tensor->type == GGML_TYPE_F32) {
    std::ranges::copy(bytes, reinterpret_cast<char*>(values.data()));
  } else {
    ggml_get_type_traits(tensor->type)->to_float(bytes.data(), values.data(), n_value);
  }
  return values;
}

std::string state_seen(const ModelShape& shape) {
  if (shape.n_stream > 0) return "streams";
  return shape.routers_see_layer_input() ? "layer-input" : "residual";
}

std::string norm_name(const ModelShape& shape) {
  if (shape.router_norm(shape.first_expert_layer()).empty()) return "none";
  return shape.layer.norm == NormKind::kLayer ? "layer" : "rms";
}

// Of the norm before a router its weight and bias.
Status read_norm(const Checkpoint& file, const ModelShape& shape, RouterWeights& router) {
  const std::string norm = shape.router_norm(router.layer);
  if (norm.empty()) {
    router.norm.assign(static_cast<size_t>(shape.n_embd), 1);
    return {};
  }
  ODMOE_ASSIGN_OR_RETURN(router.norm, read_values(file, norm, shape.n_embd));
  if (shape.layer.router_input == RouterInput::kScaled) {
    const float scale = 1 / std::sqrt(static_cast<float>(shape.n_embd));
    for (float& value : router.norm) value *= scale;
  } else if (shape.layer.norm_bias) {
    constexpr std::string_view kWeight = "weight";
    const std::string bias = norm.substr(0, norm.size() - kWeight.size()) + "bias";
    ODMOE_ASSIGN_OR_RETURN(router.norm_bias, read_values(file, bias, shape.n_embd));
  }
  return {};
}

}  // namespace

Result<RoutedModelData> read_routed_model(const Checkpoint& file, const ModelShape& shape) {
  RoutedModelData data;
  RoutedModel& model = data.model;
  model.architecture = shape.architecture;
  model.name = shape.name;
  model.n_embd = shape.n_embd;
  model.n_expert = shape.router.n_expert;
  model.n_expert_used = shape.router.n_expert_used;
  model.router = {.gating = gating_name(shape.router.gating),
                  .n_group = shape.router.n_group,
                  .n_group_used = shape.router.n_group_used,
                  .normalise = shape.router.normalise,
                  .scale = shape.router.scale,
                  .sees = state_seen(shape),
                  .norm = norm_name(shape),
                  .norm_groups = shape.layer.norm_groups,
                  .experts_see_another = shape.experts_see_another()};
  for (int layer = 0; layer < shape.n_layer; ++layer) {
    if (!shape.has_experts(layer)) continue;
    const std::string prefix = odmoe::format("blk.{}.", layer);
    RouterWeights router{.layer = layer};
    ODMOE_ASSIGN_OR_RETURN(router.weight,
                           read_values(file, prefix + "ffn_gate_inp.weight",
                                       static_cast<int64_t>(shape.n_embd) * shape.router.n_expert));
    ODMOE_RETURN_IF_ERROR(read_norm(file, shape, router));
    // What is added to logits, or to what is made of them: a model has one or none.
    const std::string bias =
        prefix + (shape.router_bias ? "ffn_gate_inp.bias" : std::string(shape.selection_bias));
    if (file.find_tensor(bias) != nullptr) {
      ODMOE_ASSIGN_OR_RETURN(router.bias, read_values(file, bias, shape.router.n_expert));
    }
    model.layers.push_back(layer);
    data.routers.push_back(std::move(router));
  }
  model.fingerprint = fingerprint_of(data.routers, model.n_embd, model.n_expert);
  return data;
}

Result<RoutedModelData> read_routed_model(const std::filesystem::path& path) {
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(path));
  Account account(*file);
  ODMOE_ASSIGN_OR_RETURN(const auto architecture, make_architecture(account));
  return read_routed_model(*file, architecture->shape());
}

}  // namespace odmoe
