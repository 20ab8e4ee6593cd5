// The weights of a shadow model: a safetensors file whose metadata says all that inference needs.
// docs/shadow-model.md, "Weights", describes it for people.
//
// One predictor stands at each layer with experts that has others after it ("source" i, counted among the
// layers with experts), and one before the first ("source" -1, if there is an embedding predictor).  Source i
// ranks the experts of layers i + 1 .. i + n_ahead(i), n_ahead(i) = min(lookahead, n_layer - 1 - i).  From
// its input
//
//   x = the inputs in the order of ShadowSpec::inputs, one after another      [n_input]
//       (source -1: the embedding alone)
//
// it computes
//
//   h_0 = x;  h_k = SiLU(LayerNorm(trunk.k.weight h_{k-1} + trunk.k.bias)), k = 1 .. depth   [hidden]
//   score = heads.weight h_depth + heads.bias + direct x                      [n_ahead * n_expert]
//
// LayerNorm with eps 1e-5, weight and bias.  `direct x` is direct.weight x, or direct_up.weight
// (direct_down.weight x) where its rank is limited.  Without hidden units (hidden 0) there is no trunk and no
// heads.weight, without a direct part no direct.*; heads.bias is always there.  A score is the log-odds that
// the expert is chosen; score d - 1 of an expert e is at (d - 1) * n_expert + e.
//
// Names: "layer.<i>." and the above, or "embedding." for source -1; weights are C order [n_out, n_in], F32 or
// F16. With a shared trunk, trunk.k.* of all layers are "shared.trunk.k.*", but for "layer.<i>.trunk.1.bias",
// and what enters the trunk is x times "layer.<i>.input_scale" [n_input]; direct takes x as it is.  The
// embedding's predictor never shares.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "format/safetensors.h"
#include "odmoe/result.h"
#include "predict/routing_data.h"

namespace odmoe {

inline constexpr int32_t kMaxShadowHidden = 1 << 16;
inline constexpr int32_t kMaxShadowDepth = 8;
inline constexpr float kShadowNormEps = 1e-5F;   // of LayerNorm
inline constexpr float kShadowStateEps = 1e-6F;  // of the division of states by their root mean square

enum class ShadowInput {
  kRouter,     // router_input of this layer as it is [n_embd]
  kAttention,  // attention_input of this layer, divided by its root mean square [n_embd]
  kExperts,    // 1 for each expert chosen in this layer, else 0 [n_expert]
  kPrevious,   // 1 for each expert that the token before chose in layers i + 1 .. i + n_ahead, in this order;
               // all 0 at a document's start [n_ahead * n_expert]
};
// "router", "attention", "experts", "previous".
std::string_view shadow_input_name(ShadowInput input);

struct ShadowSpec {
  static constexpr int kVersion = 1;
  RoutedModel model;
  int32_t lookahead = 4;                                     // 1 .. kMaxLookahead (odmoe/options.h)
  std::vector<ShadowInput> inputs = {ShadowInput::kRouter};  // none twice
  int32_t hidden = 1024;                                     // 0: no trunk
  int32_t depth = 1;                                         // layers of the trunk
  bool shared_trunk = false;
  bool direct = false;      // whether there is a direct part
  int32_t direct_rank = 0;  // 0: not limited
  bool embedding =
      true;  // whether source -1 is there; its input is the embedding divided by its root mean square
  // About the training.
  std::string tool, data;  // what wrote it; the folder's name
  int64_t n_token = 0;     // trained on
  uint64_t seed = 0;
  std::vector<double> recall;  // of the top n_expert_used on what was held out, by lookahead from 1

  size_t n_layer() const { return model.layers.size(); }
  int32_t n_ahead(int32_t source) const;
  int64_t n_input(int32_t source) const;
};

struct ShadowTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// Every tensor of such a file, in its order.
std::vector<ShadowTensor> shadow_tensors(const ShadowSpec& spec);

std::map<std::string, std::string> shadow_metadata(const ShadowSpec& spec);

// Checks the metadata, and that the file has exactly shadow_tensors(), each F32 or F16.  kBadFile, naming the
// file and what is wrong; kUnsupported for another version.
Result<ShadowSpec> read_shadow_spec(const SafetensorsFile& file);

// kUsage, naming both models, when the weights were trained for another one.
Status check_shadow_model(const ShadowSpec& spec, const RoutedModel& model, const std::string& path);

}  // namespace odmoe
