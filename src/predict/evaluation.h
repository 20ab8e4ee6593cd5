// Predictors on recorded data: all see the same tokens in the order in which a model would show them, and
// what each says is compared with what the routers chose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "odmoe/result.h"
#include "predict/metrics.h"
#include "predict/predictor.h"
#include "predict/routing_data.h"

namespace odmoe {

// A predictor under the name by which the report calls it.
struct Contestant {
  std::string name;
  std::unique_ptr<Predictor> predictor;
};

struct PredictorScore {
  std::string name;
  bool calibrated = false;
  uint64_t bytes = 0;
  double mean_us = 0;  // of a prediction: begin_token() and predict() together, each call one
  PredictionMetrics metrics;
};

struct EvaluationResult {
  int64_t n_token = 0, n_document = 0;  // that were looked at
  // Each layer's own router on its own recorded state, distance 1 standing for 0.  Absent without states.
  std::optional<PredictionMetrics> control;
  std::vector<PredictorScore> scores;
  bool interrupted = false;  // this is what was done until then
};

struct EvaluationOptions {
  int32_t lookahead = 4;
  bool held_out_only = true;  // documents that training did not see (is_held_out)
  int64_t max_tokens = 0;     // 0: all
  // Told the share that is done; false stops.
  std::function<bool(double)> progress;
};

PredictorShape predictor_shape(const RoutedModel& model, int32_t lookahead);

// Predictors that learn while they run learn from these documents alone, each prediction being judged before
// its outcome is learnt.  A guess of layer T from d layers before is judged in cell (T, d); the guess before
// the first layer counts as made one layer before it.  What a predictor says beyond the last layer is not
// judged: begin_token() says it again.
// Errors: of the shards' files; kUsage when a contestant wants a state that was not recorded, or there is no
// held-out document.
Result<EvaluationResult> evaluate_predictors(const std::filesystem::path& folder,
                                             const Collection& collection,
                                             std::vector<Contestant> contestants,
                                             const EvaluationOptions& options);

}  // namespace odmoe
