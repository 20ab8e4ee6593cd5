// Holds an answer to a grammar while it is written, from its beginning or from behind a thought.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/token_constraint.h"
#include "grammar/token_mask.h"

namespace odmoe::server {

class GrammarConstraint final : public TokenConstraint {
 public:
  // With `after` not empty the grammar begins behind that text, or behind the token `after_token` (-1: the
  // vocabulary has none for it); before, anything but an end may be written.
  explicit GrammarConstraint(const grammar::TokenMasks& masks, std::string after = {},
                             Token after_token = -1);

  void mask(std::span<float> logits) override;
  bool accept(Token token) override;
  bool complete() const override;
  bool allows(Token token) override;
  std::optional<Error> dead_end(std::string_view where) override;
  std::string what_may_follow() override;

 private:
  void accept_before(Token token);

  grammar::Matcher matcher_;
  std::shared_ptr<const grammar::Vocabulary> vocabulary_;
  bool before_;        // the grammar has not begun yet
  bool left_ = false;  // the token before the grammar's text ran on into it, with bytes it does not take
  std::string after_, tail_;  // what it begins behind, the end of what was written before
  Token after_token_;
};

}  // namespace odmoe::server
