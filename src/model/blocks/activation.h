// What stands between the first two matrices of a gated feed-forward network and the third: an activation of
// the gate, times up (GLU variants, arXiv:2002.05202).
#pragma once

#include <ggml.h>

namespace odmoe {

enum class Activation {
  kSilu,
  kGelu,  // in the tanh form; ggml's CPU code looks it up in a table of half precision
  kRelu,
};

// gate, up: of one shape.  Returns activation(gate) * up, which may be written where the gate is.
inline ggml_tensor* gated(ggml_context* ctx, Activation activation, ggml_tensor* gate, ggml_tensor* up) {
  switch (activation) {
    case Activation::kSilu:
      return ggml_swiglu_split(ctx, gate, up);
    case Activation::kGelu:
      return ggml_geglu_split(ctx, gate, up);
    case Activation::kRelu:
      return ggml_reglu_split(ctx, gate, up);
  }
  return nullptr;
}

// Whether a gate that is not finite may become a number: then it is to be looked for before (finite_watch.h).
inline bool hides_infinity(Activation activation) { return activation != Activation::kSilu; }

}  // namespace odmoe
