// Recorded data of no model, whose structure is known: what the best predictor reaches can be computed, so
// that training can be held to it.
//
// Each token's state is x_0 ~ N(0, 1)^n_embd in the first layer, and x_{l+1} = sqrt(1 - noise^2) Q_l x_l +
// noise * N(0, 1)^n_embd with a random rotation Q_l in the next; layer l chooses the n_expert_used experts
// with the largest logits R_l x_l, whose rows have length 1 and random directions.  What is known of layer l
// + d once layer l has spoken is a Gaussian around (1 - noise^2)^(d/2) Q x_l, alike in all directions, so
// every logit of R_{l+d} is uncertain by as much, and the best guess is the top of those of the mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "odmoe/result.h"
#include "predict/routing_data.h"

namespace odmoe {

struct SyntheticOptions {
  int32_t n_embd = 64, n_layer = 4, n_expert = 32, n_expert_used = 4;
  int64_t n_token = 10'000;
  int32_t document_tokens = 128;
  double noise = 0.3;  // 0: the next layer follows from this one; 1: it has nothing to do with it
  uint64_t seed = 0;
  Status validate() const;  // kUsage naming the option and its range
};

struct SyntheticResult {
  Collection collection;
  // best_recall[d - 1]: mean share of a layer's experts among the best guesses from d layers before, d to 4.
  // Beyond the number of layers: left out.
  std::vector<double> best_recall;
};

// Writes a collection as collect() does, and says what can be reached on it.  The same options give the same
// bytes.  Anything in the folder that collects differently is kUsage.  `progress` as in CollectOptions; one
// that was interrupted begins anew.
Result<SyntheticResult> make_synthetic_data(const std::filesystem::path& folder,
                                            const SyntheticOptions& options, const std::string& tool,
                                            const std::function<bool(int64_t, int64_t)>& progress = {});

}  // namespace odmoe
