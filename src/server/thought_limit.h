// Ends a thought that has become too long, by the mark that ends it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/token_constraint.h"

namespace odmoe::server {

// Immutable, so thread-safe.
struct ThoughtLimit {
  int32_t tokens = 0;                         // of a thought; its mark comes after so many
  std::string open, close;                    // the marks
  std::vector<Token> close_tokens;            // the second one's
  bool begun = false;                         // the prompt ends within a thought; else one may begin the text
  std::function<std::string(Token)> text_of;  // of a token, control tokens included; thread-safe
};

// One owner.
class LimitedThought final : public TokenConstraint {
 public:
  // `answer` holds the whole text, the thought included; null: anything may be written, but for
  // `never_drawn`.
  LimitedThought(std::shared_ptr<const ThoughtLimit> limit, std::unique_ptr<TokenConstraint> answer,
                 std::vector<Token> never_drawn);

  void mask(std::span<float> logits) override;
  bool accept(Token token) override;
  bool complete() const override;
  bool allows(Token token) override;
  std::optional<Error> dead_end(std::string_view where) override;
  std::string what_may_follow() override;

 private:
  enum class State : uint8_t { kBefore, kThought, kClosing, kDone };
  void follow(Token token);
  void close_if_long();

  std::shared_ptr<const ThoughtLimit> limit_;
  std::unique_ptr<TokenConstraint> answer_;
  std::vector<Token> never_drawn_;
  State state_;
  std::string text_;     // what was written before the thought; in it, the end of what was
  int32_t n_token_ = 0;  // of the thought
  size_t n_closed_ = 0;  // of close_tokens
};

}  // namespace odmoe::server
