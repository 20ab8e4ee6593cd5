// How a shadow model is trained.  Plain data, so that a program without LibTorch can read the command line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "odmoe/result.h"
#include "predict/shadow_format.h"

namespace odmoe {

struct TrainOptions {
  std::filesystem::path data;      // a collection
  std::filesystem::path held_out;  // another to stop and judge by; empty: every tenth document of `data`
  std::filesystem::path output;    // the weights; OUTPUT.svg is the learning curve
  // What is trained: predict/shadow_format.h says what each is.
  std::vector<ShadowInput> inputs = {ShadowInput::kRouter, ShadowInput::kAttention};
  int32_t lookahead = 4;
  int32_t hidden = 1024;  // 0: none
  int32_t depth = 1;
  bool shared_trunk = false;
  bool direct = true;  // begins as the stale gate
  int32_t direct_rank = 0;
  bool embedding = true;
  // How.
  int32_t epochs = 20;   // at most
  int32_t patience = 3;  // epochs without a better recall before it stops
  int32_t batch = 256;   // tokens
  double learning_rate = 1e-3;
  double weight_decay = 0.01;
  double dropout = 0;  // of hidden units
  uint64_t seed = 0;
  int32_t threads = 0;                       // 0: one per processor that affinity and quotas allow
  uint64_t data_bytes = uint64_t{4} << 30U;  // of states held in memory at once, but at least one layer's
  bool half = false;                         // weights as f16
  Status validate() const;                   // kUsage naming the option and its range
};

}  // namespace odmoe
