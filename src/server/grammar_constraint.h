// Holds an answer to a grammar while it is written.
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
  explicit GrammarConstraint(const grammar::TokenMasks& masks) : matcher_(masks) {}

  void mask(std::span<float> logits) override;
  bool accept(Token token) override;
  bool complete() const override;
  bool allows(Token token) override;
  std::optional<Error> dead_end(std::string_view where) override;
  std::string what_may_follow() override;

 private:
  grammar::Matcher matcher_;
};

}  // namespace odmoe::server
