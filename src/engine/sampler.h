// Chooses the next token from the logits, as SamplingOptions say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "odmoe/sampling.h"
#include "odmoe/session.h"

namespace odmoe {

// One owner.  Memory is taken when it is made (16 bytes per token of the vocabulary at most, 4 more with
// penalties); sample() and accept() allocate nothing.
class Sampler {
 public:
  // Requires options.validate() to hold and n_vocab > 0.
  Sampler(const SamplingOptions& options, int32_t n_vocab);

  // The next token, never one whose logit is -inf: that is how tokens are forbidden.  None when all are.
  // `logits` has n_vocab elements.  NaN counts as -inf and +inf as the largest float.  Draws one random
  // number unless the temperature is 0 or there is no token.
  std::optional<Token> sample(std::span<const float> logits);

  // What sample() does to what it draws next, where a token was sampled earlier.
  void skip() {
    if (options_.temperature != 0) (void)random_();
  }

  // Tells that `token` (of the prompt, or the one sampled) is part of the text, for the penalties.
  void accept(Token token);

 private:
  struct Candidate {
    float logit;
    Token token;
  };
  static bool better(const Candidate& a, const Candidate& b);

  float adjusted(float logit, size_t token) const;
  std::optional<Token> likeliest(std::span<const float> logits) const;
  void select_top_k(std::span<const float> logits);
  void keep_top_p();
  void keep_min_p();
  Token draw();

  SamplingOptions options_;
  size_t n_vocab_;
  size_t top_k_;  // n_vocab_: off
  bool penalties_;
  std::mt19937_64 random_;
  std::vector<Candidate> candidates_;  // best first; in order of ids while nothing was left out
  std::vector<double> weights_;
  size_t n_sorted_ = 0;          // of candidates_, from the front
  std::vector<int32_t> counts_;  // [n_vocab] in the window of penalty_last_n
  std::vector<Token> window_;    // ring of the tokens in it; empty: all tokens count
  size_t window_at_ = 0;
  size_t window_used_ = 0;
};

}  // namespace odmoe
