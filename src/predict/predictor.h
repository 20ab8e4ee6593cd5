// Guesses which experts the layers to come will want, from what one layer's router saw.  A guess decides what
// is read early and nothing else, so it may be wrong, but it must be cheap: nothing is allocated after
// creation.
//
// Layers are counted by index among those that have experts, 0 .. shape.layers.size() - 1.  Calls come in the
// order of decoding, for one token after the other:
//
//   begin_token(embedding)                 the token is known, no layer has run
//   learn(state), predict(state)           once per layer, in order, when its router has spoken
//
// A caller that skips tokens (a prompt evaluated in chunks, another session's turn) calls begin_sequence()
// before the next begin_token(): what was learnt stays, what came just before is forgotten.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

struct PredictorShape {
  std::vector<int> layers;  // the model's numbers of the layers with experts, in order
  int32_t n_embd = 0;
  int32_t n_expert = 0;
  int32_t n_expert_used = 0;
  int32_t lookahead = 1;  // 1 .. kMaxLookahead (odmoe/options.h)

  size_t n_layer() const { return layers.size(); }
  size_t n_score() const { return static_cast<size_t>(n_expert) * static_cast<size_t>(lookahead); }
};

// What is known of one token when the router of a layer has spoken.  Borrowed for the call.
struct RoutingState {
  size_t layer = 0;                        // index among the layers with experts
  std::span<const float> router_input;     // [n_embd], after the norm; may be empty unless wanted
  std::span<const float> attention_input;  // [n_embd], the residual before this layer's attention and its
                                           // norm; may be empty unless wanted
  std::span<const float> residual;         // [n_embd], after it; may be empty unless wanted
  // Of models with streams (model/residual_streams.h), after attention, and what is banked of them; may be
  // empty unless wanted.
  std::span<const float> streams, banked;
  std::span<const int32_t> experts;  // [n_expert_used], as chosen, first rank first
  std::span<const float> weights;    // [n_expert_used]
};

// One owner.
class Predictor {
 public:
  struct Wants {
    bool router_input = false;
    bool attention_input = false;
    bool residual = false;
    bool streams = false;  // and what is banked; for predictors that do not stand alone
    bool embedding = false;
  };

  virtual ~Predictor() = default;

  virtual std::string_view name() const = 0;  // as the command line calls it: "previous-token"
  // Whether it works from what it is given alone, so that one thread after another, and not only the one that
  // computes, may call it.
  virtual bool stands_alone() const { return true; }
  // Whether what it says depends on the calls before, so that it follows one timeline.
  virtual bool remembers() const { return true; }
  // What begin_token() and predict() must be given besides experts and weights.
  virtual Wants wants() const { return {}; }
  // Whether a score is meant as the log-odds that the expert will be chosen, so that 1 / (1 + exp(-score)) is
  // a probability and the scores of different layers and distances compare.  Otherwise scores only rank the
  // experts of one layer, and RankCalibration (predict/rank_calibration.h) says what a rank is worth.
  virtual bool calibrated() const = 0;
  // Memory held from creation on.
  virtual uint64_t bytes() const = 0;
  // What of it one prediction reads, which says what it costs; 0: next to nothing.
  virtual uint64_t bytes_per_prediction() const { return 0; }

  // What comes next does not follow on what came before.
  virtual void begin_sequence() {}

  // Before layer 0.  `embedding` [n_embd] of the token, may be empty unless wanted.  `scores` [n_expert,
  // lookahead]: row d - 1 ranks the experts of layer index d - 1, higher is likelier.  Returns how many rows
  // were filled, from the first; the others are untouched.  A filled row is finite throughout.
  virtual Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) {
    static_cast<void>(embedding), static_cast<void>(scores);
    return 0;
  }

  // After a layer's router.  Row d - 1 of `scores` ranks the experts of layer index state.layer + d; beyond
  // the last layer it goes on with layer 0 of the next token.  Returns how many rows were filled, from the
  // first.
  virtual Result<int32_t> predict(const RoutingState& state, std::span<float> scores) = 0;

  // What a router really chose; comes before predict() of the same state.
  virtual void learn(const RoutingState& state) { static_cast<void>(state); }
};

// The experts of one row of scores in falling order, ties by number: as many as `best` has room for, at most
// scores.size().  Allocates nothing.
void best_experts(std::span<const float> scores, std::span<int32_t> best);

}  // namespace odmoe
