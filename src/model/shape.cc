#include "model/shape.h"

#include "odmoe/format.h"

namespace odmoe {

std::string ModelShape::router_norm(int number) const {
  const auto of_layer = [number](std::string_view norm) {
    return odmoe::format("blk.{}.{}.weight", number, norm);
  };
  switch (layer.router_input) {
    case RouterInput::kLayerInput:
      return {};
    case RouterInput::kScaled:
      return odmoe::format("blk.{}.ffn_gate_inp.scale", number);
    case RouterInput::kOfExperts:
      break;
  }
  if (layer.parallel) return of_layer(layer.attention_norm);
  const std::string_view norm = layer.expert_norm.empty() ? layer.ffn_norm : layer.expert_norm;
  return norm.empty() ? std::string() : of_layer(norm);
}

}  // namespace odmoe
