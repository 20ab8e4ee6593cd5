// What stands between the first two matrices of a gated feed-forward network and the third: an activation of
// the gate, times up (GLU variants, arXiv:2002.05202).
#pragma once

#include <ggml.h>

#include <cstdint>
#include <limits>

namespace odmoe {

enum class Activation : uint8_t {
  kSilu,
  kGelu,  // in the tanh form; ggml's CPU code looks it up in a table of half precision
  kRelu,
  // gpt-oss (arXiv:2508.10925): g sigmoid(1.702 g) (u + 1) of g = min(gate, 7) and u, up within +- 7.
  kSwigluOai,
  // SiTU (Kimi-K3): b tanh(gate / b) sigmoid(gate) * c tanh(up / c).
  kSitu,
};

// b and c of kSitu; c not above 0: up as it is.
struct Situ {
  float beta = 1, linear_beta = 0;
};

// What a limit c > 0 of a SwiGLU is for; up is always limited to +- c.
enum class SwigluLimit : uint8_t {
  kGate,       // silu(min(gate, c)) (DeepSeek-V4)
  kActivated,  // min(silu(gate), c) (Step-3.5)
};

struct Glu {
  Activation activation = Activation::kSilu;
  SwigluLimit limited = SwigluLimit::kGate;
  float limit = 0;  // of kSilu; 0: none
  Situ situ;
};

// gate, up: of one shape.  Returns activation(gate) * up.  Element by element: `place(result, operand)` is
// called of every operation, whose result may be written where its operand is; without an operand it needs
// memory of its own.
template <typename Place>
ggml_tensor* gated(ggml_context* ctx, const Glu& glu, ggml_tensor* gate, ggml_tensor* up,
                   const Place& place) {
  const auto placed = [&place](ggml_tensor* result, ggml_tensor* operand) {
    place(result, operand);
    return result;
  };
  switch (glu.activation) {
    case Activation::kSilu:
      if (glu.limit == 0) return placed(ggml_swiglu_split(ctx, gate, up), gate);
      if (glu.limited == SwigluLimit::kActivated) {
        ggml_tensor* activated = placed(ggml_silu(ctx, gate), gate);
        activated =
            placed(ggml_clamp(ctx, activated, -std::numeric_limits<float>::infinity(), glu.limit), activated);
        up = placed(ggml_clamp(ctx, up, -glu.limit, glu.limit), up);
        return placed(ggml_mul(ctx, activated, up), activated);
      }
      return placed(ggml_swiglu_clamp(ctx, gate, up, glu.limit), gate);
    case Activation::kGelu:
      return placed(ggml_geglu_split(ctx, gate, up), gate);
    case Activation::kRelu:
      return placed(ggml_reglu_split(ctx, gate, up), gate);
    case Activation::kSwigluOai:
      return placed(ggml_swiglu_oai(ctx, gate, up, 1.702F, 7), gate);
    case Activation::kSitu: {
      const auto bounded = [&](ggml_tensor* x, float bound) {
        x = placed(ggml_scale(ctx, x, 1 / bound), x);
        x = placed(ggml_tanh(ctx, x), x);
        return placed(ggml_scale(ctx, x, bound), x);
      };
      // First in the product, so that it is made before the gate is written over.
      ggml_tensor* sigmoid = placed(ggml_sigmoid(ctx, gate), nullptr);
      gate = bounded(gate, glu.situ.beta);
      gate = placed(ggml_mul(ctx, sigmoid, gate), gate);
      if (glu.situ.linear_beta > 0) up = bounded(up, glu.situ.linear_beta);
      return placed(ggml_mul(ctx, gate, up), gate);
    }
  }
  return nullptr;
}

inline ggml_tensor* gated(ggml_context* ctx, const Glu& glu, ggml_tensor* gate, ggml_tensor* up) {
  return gated(ctx, glu, gate, up, [](ggml_tensor*, ggml_tensor*) {});
}

// Whether a gate, and an up, that is not finite may become a number: then it is to be looked for before
// (finite_watch.h).
inline bool hides_infinite_up(const Glu& glu) {
  return glu.activation == Activation::kSwigluOai || glu.activation == Activation::kSitu || glu.limit != 0;
}
inline bool hides_infinite_gate(const Glu& glu) {
  return glu.activation != Activation::kSilu || glu.limit != 0;
}

}  // namespace odmoe
