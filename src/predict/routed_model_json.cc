#include "predict/routed_model_json.h"

#include <algorithm>
#include <array>

namespace odmoe {

Result<RoutedModel> routed_model_from_json(const Json& json, const std::string& name) {
  RoutedModel model;
  Members members(json, name + ", model");
  members.get("architecture", model.architecture);
  members.get("name", model.name);
  members.get("fingerprint", model.fingerprint);
  members.get("n_embd", model.n_embd, 1, kMaxCollectionEmbd);
  members.get("n_expert", model.n_expert, 1, kMaxCollectionExperts);
  members.get("n_expert_used", model.n_expert_used, 1, std::max(model.n_expert, 1));
  if (const Json* layers = members.array("layers", kMaxCollectionLayers)) {
    for (const Json& layer : *layers) {
      if (!layer.is_number_integer() || layer < 0 || layer > kMaxCollectionLayers ||
          (!model.layers.empty() && layer <= model.layers.back())) {
        members.wrong("layers", "a list of rising layer numbers");
        break;
      }
      model.layers.push_back(layer.get<int32_t>());
    }
    if (model.layers.empty()) members.wrong("layers", "a list of rising layer numbers");
  }
  const Json* rule = members.object("router", kMaxJsonText);
  ODMOE_RETURN_IF_ERROR(members.status);
  Members router(*rule, name + ", router");
  router.get("gating", model.router.gating);
  router.get("n_group", model.router.n_group, 1, kMaxCollectionExperts);
  router.get("n_group_used", model.router.n_group_used, 1, kMaxCollectionExperts);
  router.get("normalise", model.router.normalise);
  router.get("scale", model.router.scale);
  constexpr std::array<std::string_view, 5> kGatings = {"softmax", "sigmoid", "softmax-over-chosen",
                                                        "sqrt-softplus", "sigmoid-of-chosen"};
  if (router.status.has_value() && !std::ranges::contains(kGatings, model.router.gating)) {
    router.wrong("gating", "softmax, sigmoid, softmax-over-chosen, sqrt-softplus or sigmoid-of-chosen");
  }
  if (router.has("sees")) router.get("sees", model.router.sees);
  if (router.has("norm")) router.get("norm", model.router.norm);
  if (router.has("norm_groups")) router.get("norm_groups", model.router.norm_groups, 1, model.n_embd);
  if (router.has("experts_see_another")) {
    router.get("experts_see_another", model.router.experts_see_another);
  }
  constexpr std::array<std::string_view, 3> kSeen = {"residual", "layer-input", "streams"};
  constexpr std::array<std::string_view, 3> kNorms = {"rms", "layer", "none"};
  if (router.status.has_value() && !std::ranges::contains(kSeen, model.router.sees)) {
    router.wrong("sees", "residual, layer-input or streams");
  }
  if (router.status.has_value() && !std::ranges::contains(kNorms, model.router.norm)) {
    router.wrong("norm", "rms, layer or none");
  }
  if (router.status.has_value() && model.n_embd % model.router.norm_groups != 0) {
    router.wrong("norm_groups", "a number that divides n_embd");
  }
  ODMOE_RETURN_IF_ERROR(router.status);
  return model;
}

Json routed_model_to_json(const RoutedModel& model) {
  return {{"architecture", model.architecture},
          {"name", model.name},
          {"fingerprint", model.fingerprint},
          {"n_embd", model.n_embd},
          {"n_expert", model.n_expert},
          {"n_expert_used", model.n_expert_used},
          {"layers", model.layers},
          {"router",
           {{"gating", model.router.gating},
            {"n_group", model.router.n_group},
            {"n_group_used", model.router.n_group_used},
            {"normalise", model.router.normalise},
            {"scale", model.router.scale},
            {"sees", model.router.sees},
            {"norm", model.router.norm},
            {"norm_groups", model.router.norm_groups},
            {"experts_see_another", model.router.experts_see_another}}}};
}

}  // namespace odmoe
