// Chooses the tokens of one text: the model's logits, the bias, what may not be drawn, the sampler, in this
// order.  What is chosen is always within the constraint and never a token that the bias forbids; where
// nothing is left to be chosen there is an end or an error instead.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/sampler.h"
#include "engine/token_constraint.h"
#include "odmoe/engine.h"

namespace odmoe {

struct TokenChooserOptions {
  SamplingOptions sampling;
  std::vector<std::pair<Token, float>> logit_bias = {};  // of tokens of the model; added; -infinity forbids
  // These are never drawn: what the model's file suppresses, and the end tokens of a text that is not to end
  // (ignore_eos).  A constraint says itself what may be, and where its text may end.
  std::vector<Token> never_drawn = {};
  std::unique_ptr<TokenConstraint> constraint = nullptr;  // null: anything may be written
};

// Why no token was chosen.
struct NoToken {
  enum class Why {
    kComplete,   // the text is whole, and nothing may follow
    kForbidden,  // kUsage: the bias leaves no token of those that may follow
    kError,      // kUnsupported: the vocabulary has none; kBadFile: the model's logits leave none
  };
  Why why = Why::kComplete;
  Error error = {};  // but of kComplete
};

// One owner.  Memory is taken when it is made, but for what the constraint takes.
class TokenChooser {
 public:
  // Requires options.sampling.validate() to hold and n_vocab > 0.
  TokenChooser(TokenChooserOptions options, int32_t n_vocab);

  // Whether bias and constraint leave a token to begin with.  Before any logits are there, so that a request
  // that cannot be served costs no evaluation.  A text that is whole already can be served.
  std::expected<void, NoToken> check();

  // A token of the prompt, for the penalties.
  void read(Token token) { sampler_.accept(token); }

  // The next token.  `model_logits` has n_vocab elements.
  std::expected<Token, NoToken> choose(std::span<const float> model_logits);

  // The token that another chooser of these options chose here, and which is part of the text: from now on
  // this one chooses as that one does.  As accept().
  bool chose_earlier(Token token) {
    sampler_.skip();
    return accept(token);
  }

  // The token that was chosen is part of the text.  False when the text is whole with it.
  bool accept(Token token);

 private:
  void adjust();
  bool forbids() const;
  NoToken nothing_left(std::span<const float> model_logits) const;

  std::vector<std::pair<Token, float>> bias_;
  std::vector<Token> never_drawn_;
  std::unique_ptr<TokenConstraint> constraint_;
  Sampler sampler_;
  std::vector<float> adjusted_;  // [n_vocab] logits as they are drawn from; empty: the model's own
  int32_t n_chosen_ = 0;
};

// The tokens that end a text, in order.
std::vector<Token> end_tokens(const Engine& engine);

// TokenChooserOptions::never_drawn; `ends` is end_tokens().
std::vector<Token> never_drawn(std::span<const Token> suppressed, std::span<const Token> ends,
                               bool ignore_eos);

}  // namespace odmoe
