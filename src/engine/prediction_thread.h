// Asks a predictor on a thread of its own, so that whoever computes waits for no guess.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "predict/predictor.h"

namespace odmoe {

// What it is told is copied and digested in order, or at once where nothing is asked and it is idle.  A
// question behind which another waits is not asked any more: its answer would come too late.  Its owner tells
// it things from one thread; allocates at creation alone, but for errors.
class PredictionThread {
 public:
  // Called on the thread, with the rows of scores that the predictor filled for the step that was passed.
  using Answer = std::function<void(uint64_t step, int32_t n_row, std::span<const float> scores)>;

  // The predictor must work from what it is given alone, and is the thread's until this is destroyed.
  PredictionThread(Predictor& predictor, const PredictorShape& shape, Answer answer);
  ~PredictionThread();
  PredictionThread(const PredictionThread&) = delete;
  PredictionThread& operator=(const PredictionThread&) = delete;

  // As Predictor's.  The first error of any call comes back from a later one, and nothing is asked after it.
  Status begin_token(uint64_t step, std::span<const float> embedding);
  Status routed(uint64_t step, const RoutingState& state, bool ask);  // learn(), and predict() if `ask`
  void begin_sequence();                                              // waits as below
  void await_all();  // until all that was told is digested and answered

 private:
  struct Told {
    enum class Kind : uint8_t { kToken, kLearn, kAsk } kind = Kind::kToken;
    uint64_t step = 0;
    size_t layer = 0;
    std::vector<float> embedding, router_input, attention_input, residual, weights;
    std::vector<int32_t> experts;
  };
  static constexpr size_t kCapacity = 16;

  Told& next_place() ODMOE_REQUIRES(mutex_);  // waits for room
  void run();
  Result<int32_t> digest(const Told& told, bool in_time);
  bool asked_again() const ODMOE_REQUIRES(mutex_);  // behind the first that was told

  Predictor& predictor_;
  const Answer answer_;
  std::vector<float> scores_;
  std::vector<Told> told_;  // a ring
  Mutex mutex_;
  Condition changed_;
  size_t first_ ODMOE_GUARDED_BY(mutex_) = 0, n_told_ ODMOE_GUARDED_BY(mutex_) =
                                                  0;  // in the ring; the first stays until it is digested
  std::optional<Error> error_ ODMOE_GUARDED_BY(mutex_);
  bool stop_ ODMOE_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace odmoe
