#include "predict/shadow_format.h"

#include <algorithm>
#include <array>
#include <utility>

#include "odmoe/format.h"
#include "odmoe/options.h"
#include "predict/routed_model_json.h"

namespace odmoe {
namespace {

constexpr const char* kKey = "odmoe.shadow";
constexpr std::array kInputs = {ShadowInput::kRouter, ShadowInput::kAttention, ShadowInput::kExperts,
                                ShadowInput::kPrevious};

class TensorList {
 public:
  explicit TensorList(const ShadowSpec& spec) : spec_(&spec) {}

  void add_shared() {
    if (!spec_->shared_trunk || spec_->hidden == 0) return;
    // The layers' inputs are alike but for "previous", whose length differs; check_spec() excludes it.
    add_trunk("shared.", spec_->n_input(0), true);
  }
  void add_source(int32_t source) {
    const std::string prefix = source < 0 ? "embedding." : odmoe::format("layer.{}.", source);
    const int64_t n_input = spec_->n_input(source), hidden = spec_->hidden;
    const int64_t n_output = int64_t{spec_->n_ahead(source)} * spec_->model.n_expert;
    if (hidden > 0) {
      if (spec_->shared_trunk && source >= 0) {
        add(prefix + "input_scale", {n_input});
        add(prefix + "trunk.1.bias", {hidden});
      } else {
        add_trunk(prefix, n_input, false);
      }
      add(prefix + "heads.weight", {n_output, hidden});
    }
    add(prefix + "heads.bias", {n_output});
    if (!spec_->direct) return;
    if (spec_->direct_rank == 0) {
      add(prefix + "direct.weight", {n_output, n_input});
    } else {
      add(prefix + "direct_down.weight", {spec_->direct_rank, n_input});
      add(prefix + "direct_up.weight", {n_output, spec_->direct_rank});
    }
  }
  std::vector<ShadowTensor> take() { return std::move(tensors_); }

 private:
  void add(std::string name, std::vector<int64_t> shape) {
    tensors_.push_back({.name = std::move(name), .shape = std::move(shape)});
  }
  void add_trunk(const std::string& prefix, int64_t n_input, bool shared) {
    for (int32_t k = 1; k <= spec_->depth; ++k) {
      const std::string trunk = odmoe::format("{}trunk.{}.", prefix, k);
      add(trunk + "weight", {spec_->hidden, k == 1 ? n_input : spec_->hidden});
      if (k > 1 || !shared) add(trunk + "bias", {spec_->hidden});
      add(trunk + "norm.weight", {spec_->hidden});
      add(trunk + "norm.bias", {spec_->hidden});
    }
  }

  const ShadowSpec* spec_;
  std::vector<ShadowTensor> tensors_;
};

Result<std::vector<ShadowInput>> read_inputs(const Json& names, const std::string& where) {
  std::vector<ShadowInput> inputs;
  for (const Json& name : names) {
    const auto input = std::ranges::find_if(kInputs, [&](ShadowInput known) {
      return name.is_string() && name.get_ref<const std::string&>() == shadow_input_name(known);
    });
    if (input == kInputs.end() || std::ranges::contains(inputs, *input)) {
      return fail(ErrorKind::kBadFile, "{} has an unknown input or one twice; it may be of a newer version",
                  where);
    }
    inputs.push_back(*input);
  }
  if (inputs.empty()) return fail(ErrorKind::kBadFile, "{} has no input", where);
  return inputs;
}

Status check_spec(const ShadowSpec& spec, const std::string& where) {
  if (spec.hidden == 0 && !spec.direct) {
    return fail(ErrorKind::kBadFile, "{} has neither hidden units nor a direct part", where);
  }
  if (spec.shared_trunk && std::ranges::contains(spec.inputs, ShadowInput::kPrevious)) {
    return fail(ErrorKind::kBadFile, "{} shares a trunk whose inputs differ in length", where);
  }
  return {};
}

}  // namespace

std::string_view shadow_input_name(ShadowInput input) {
  switch (input) {
    case ShadowInput::kRouter:
      return "router";
    case ShadowInput::kAttention:
      return "attention";
    case ShadowInput::kExperts:
      return "experts";
    case ShadowInput::kPrevious:
      return "previous";
  }
  return "";
}

int32_t ShadowSpec::n_ahead(int32_t source) const {
  return std::max(0, std::min(lookahead, static_cast<int32_t>(n_layer()) - 1 - source));
}

int64_t ShadowSpec::n_input(int32_t source) const {
  if (source < 0) return model.n_embd;
  int64_t n = 0;
  for (const ShadowInput input : inputs) {
    switch (input) {
      case ShadowInput::kRouter:
      case ShadowInput::kAttention:
        n += model.n_embd;
        break;
      case ShadowInput::kExperts:
        n += model.n_expert;
        break;
      case ShadowInput::kPrevious:
        n += int64_t{n_ahead(source)} * model.n_expert;
        break;
    }
  }
  return n;
}

std::vector<ShadowTensor> shadow_tensors(const ShadowSpec& spec) {
  TensorList list(spec);
  list.add_shared();
  for (int32_t source = spec.embedding ? -1 : 0; spec.n_ahead(source) > 0; ++source) list.add_source(source);
  return list.take();
}

std::map<std::string, std::string> shadow_metadata(const ShadowSpec& spec) {
  Json inputs = Json::array();
  for (const ShadowInput input : spec.inputs) inputs.push_back(shadow_input_name(input));
  const Json json = {{"version", ShadowSpec::kVersion},
                     {"model", routed_model_to_json(spec.model)},
                     {"lookahead", spec.lookahead},
                     {"inputs", inputs},
                     {"hidden", spec.hidden},
                     {"depth", spec.depth},
                     {"shared_trunk", spec.shared_trunk},
                     {"direct", spec.direct},
                     {"direct_rank", spec.direct_rank},
                     {"embedding", spec.embedding},
                     {"tool", spec.tool},
                     {"data", spec.data},
                     {"tokens", spec.n_token},
                     {"seed", spec.seed},
                     {"recall", spec.recall}};
  return {{kKey, json.dump(-1, ' ', false, Json::error_handler_t::replace)}, {"format", "pt"}};
}

Result<ShadowSpec> read_shadow_spec(const SafetensorsFile& file) {
  const std::string name = file.path().string();
  const auto metadata = file.metadata().find(kKey);
  if (metadata == file.metadata().end()) {
    return fail(ErrorKind::kBadFile,
                "{} holds no shadow model (no {} in its metadata): train one with odmoe train", name, kKey);
  }
  const Json json = Json::parse(metadata->second, nullptr, false);
  const std::string where = name + ", " + kKey;
  if (json.is_discarded()) return fail(ErrorKind::kBadFile, "{} is not JSON", where);
  ShadowSpec spec;
  Members members(json, where);
  int version = 0;
  members.get("version", version, 1, INT32_MAX);
  if (members.status.has_value() && version != ShadowSpec::kVersion) {
    return fail(ErrorKind::kUnsupported, "{} has version {}; this program reads version {}: train it again",
                name, version, ShadowSpec::kVersion);
  }
  members.get("lookahead", spec.lookahead, 1, kMaxLookahead);
  members.get("hidden", spec.hidden, 0, kMaxShadowHidden);
  members.get("depth", spec.depth, 1, kMaxShadowDepth);
  members.get("shared_trunk", spec.shared_trunk);
  members.get("direct", spec.direct);
  members.get("direct_rank", spec.direct_rank, 0, kMaxShadowHidden);
  members.get("embedding", spec.embedding);
  members.get("tool", spec.tool);
  members.get("data", spec.data);
  members.get("tokens", spec.n_token, 0, kMaxJsonInteger);
  members.get("seed", spec.seed, 0, kMaxJsonInteger);
  const Json* model = members.object("model", kMaxJsonText);
  const Json* inputs = members.array("inputs", kInputs.size());
  const Json* recall = members.array("recall", kMaxLookahead);
  ODMOE_RETURN_IF_ERROR(members.status);
  for (const Json& value : *recall) {
    if (!value.is_number())
      return fail(ErrorKind::kBadFile, "{}: 'recall' holds a value that is not a number", where);
    spec.recall.push_back(value.get<double>());
  }
  ODMOE_ASSIGN_OR_RETURN(spec.model, routed_model_from_json(*model, where));
  ODMOE_ASSIGN_OR_RETURN(spec.inputs, read_inputs(*inputs, where));
  ODMOE_RETURN_IF_ERROR(check_spec(spec, where));

  const std::vector<ShadowTensor> tensors = shadow_tensors(spec);
  for (const ShadowTensor& wanted : tensors) {
    const SafetensorsTensor* tensor = file.find(wanted.name);
    if (tensor == nullptr || tensor->shape != wanted.shape ||
        (tensor->dtype != "F32" && tensor->dtype != "F16")) {
      return fail(ErrorKind::kBadFile,
                  "{}: tensor {} is missing or not what the metadata says; it is damaged", name, wanted.name);
    }
  }
  if (file.tensors().size() != tensors.size()) {
    return fail(ErrorKind::kBadFile, "{} has {} tensors; its metadata says {}", name, file.tensors().size(),
                tensors.size());
  }
  return spec;
}

Status check_shadow_model(const ShadowSpec& spec, const RoutedModel& model, const std::string& path) {
  if (spec.model.fingerprint == model.fingerprint && spec.model.layers == model.layers &&
      spec.model.n_embd == model.n_embd && spec.model.n_expert == model.n_expert &&
      spec.model.n_expert_used == model.n_expert_used) {
    return {};
  }
  return fail(
      ErrorKind::kUsage,
      "{} was trained for {} ({}, routers {}), not for {} ({}, routers {}); train one with odmoe train", path,
      spec.model.name, spec.model.architecture, spec.model.fingerprint, model.name, model.architecture,
      model.fingerprint);
}

}  // namespace odmoe
