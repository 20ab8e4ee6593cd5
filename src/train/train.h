// Trains a shadow model on collected data.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "odmoe/result.h"
#include "predict/shadow_format.h"
#include "predict/train_options.h"

namespace odmoe {

// One epoch of one group of sources: a source alone, or all that share a trunk.
struct TrainedEpoch {
  int32_t first_source = 0, last_source = 0;  // of the group; -1: the embedding
  int32_t epoch = 0;                          // from 1
  double loss = 0;                            // mean binary cross-entropy of an expert, while training
  std::vector<double> recall;                 // on what is held out, of the top n_expert_used, by lookahead
};

struct TrainProgress {
  double fraction = 0;                 // of all the work, were no source to stop early
  const TrainedEpoch* last = nullptr;  // the last epoch that is done; null before the first
  size_t group = 0, n_group = 0;
};

struct TrainResult {
  ShadowSpec spec;                                 // recall included
  std::vector<TrainedEpoch> epochs;                // all, in order
  std::vector<std::vector<double>> source_recall;  // by source in order of the file, then by lookahead
  double seconds_per_epoch = 0;
};

// Every source is trained by itself (all at once with a shared trunk): AdamW (Loshchilov and Hutter,
// arXiv:1711.05101) on the binary cross-entropy of each expert, on shuffled mini-batches, the rate rising for
// a twentieth of the steps and then falling as a cosine; the parameters of the epoch with the best recall are
// kept. After every epoch OUTPUT.checkpoint/ has what it takes to go on, and the same call goes on from there
// with the same result, bit for bit, as one that was never stopped; the folder goes away once OUTPUT is
// written. Errors: kUsage (options; too little data; a saved training with other options), those of reading
// the data, kIo, kInterrupted (progress said false).
Result<TrainResult> train(const TrainOptions& options,
                          const std::function<bool(const TrainProgress&)>& progress = {});

}  // namespace odmoe
