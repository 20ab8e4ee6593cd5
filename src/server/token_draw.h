// Draws the tokens of one request: the model's logits, the request's bias, its grammar, its sampler, in this
// order.  What is drawn is always within the grammar and never a token that the bias forbids; where nothing
// is left to be drawn there is an end or an error instead.
#pragma once

#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "grammar/token_mask.h"
#include "server/scheduler.h"

namespace odmoe::server {

// Why nothing more is drawn.
struct DrawEnd {
  Ending ending = Ending::kGrammar;
  Error error = {};  // of kForbidden and kError
};

// One owner.
class TokenDraw {
 public:
  // What is used of `generation` is copied.
  TokenDraw(const Generation& generation, int32_t n_vocab);

  // Whether bias and grammar leave a token to begin what the grammar describes with: kForbidden or kError
  // where they do not.  Before any logits are there, so that such a request costs no evaluation.
  std::expected<void, DrawEnd> check();

  // A token of the prompt, for the penalties.
  void read(Token token) { sampler_.accept(token); }

  // The next token.  kGrammar: the text is complete and nothing may follow.  kForbidden: the bias leaves no
  // token of those that may follow.  kError: kUnsupported when the vocabulary has none, kBadFile when the
  // model's logits leave none.
  std::expected<Token, DrawEnd> draw(std::span<const float> model_logits);

  // The token that was drawn is part of the text.  False when the text is complete with it.
  bool accept(Token token);

 private:
  // Whether no grammar holds what comes next.
  bool free() const { return !matcher_ || before_; }
  void take_before(Token token);
  void hold();
  bool forbids();
  DrawEnd nothing_left(std::span<const float> model_logits);
  std::string what_may_follow();

  std::vector<std::pair<Token, float>> bias_;
  Sampler sampler_;
  std::optional<grammar::Matcher> matcher_;
  std::shared_ptr<const grammar::Vocabulary> vocabulary_;  // of the grammar
  bool before_ = false;                                    // the grammar has not begun yet
  bool left_ = false;         // the token that ended what comes before it went on with what it does not take
  std::string after_, tail_;  // what it begins behind, the end of what was written before
  Token after_token_ = -1;
  std::vector<float> adjusted_;  // [n_vocab] logits with bias and grammar; empty: the model's own do
  int32_t n_drawn_ = 0;
};

}  // namespace odmoe::server
