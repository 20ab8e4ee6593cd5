#include "server/grammar_constraint.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "odmoe/format.h"

namespace odmoe::server {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr size_t kNamedBytes = 8;  // in an error

}  // namespace

GrammarConstraint::GrammarConstraint(const grammar::TokenMasks& masks, std::string after, Token after_token)
    : matcher_(masks),
      vocabulary_(masks.vocabulary),
      before_(!after.empty()),
      after_(std::move(after)),
      after_token_(after_token) {}

void GrammarConstraint::mask(std::span<float> logits) {
  if (left_) {
    std::ranges::fill(logits, kForbidden);
    return;
  }
  if (!before_) return matcher_.mask(logits);
  for (const Token end : vocabulary_->end_tokens()) logits[static_cast<size_t>(end)] = kForbidden;
}

bool GrammarConstraint::accept(Token token) {
  if (!before_) return matcher_.accept(token);
  accept_before(token);
  return true;
}

void GrammarConstraint::accept_before(Token token) {
  if (token == after_token_) {
    before_ = false;
    return;
  }
  tail_ += vocabulary_->bytes_of(token);
  const size_t at = tail_.find(after_);
  if (at == std::string::npos) {
    tail_.erase(0, tail_.size() - std::min(tail_.size(), after_.size() - 1));
    return;
  }
  before_ = false;
  // The token may hold the beginning of what follows, too.
  std::string_view rest = std::string_view(tail_).substr(at + after_.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
  left_ = !matcher_.accept_bytes(rest);
}

bool GrammarConstraint::complete() const { return !before_ && !left_ && matcher_.complete(); }

bool GrammarConstraint::allows(Token token) { return before_ || matcher_.allows(token); }

std::optional<Error> GrammarConstraint::dead_end(std::string_view where) {
  if (left_) {
    return Error{ErrorKind::kUnsupported,
                 odmoe::format("the last token of the thought{} goes on with text that may not "
                               "begin the answer: ask again, or without a thought",
                               where)};
  }
  if (before_ || matcher_.allows_any()) return std::nullopt;
  return Error{
      ErrorKind::kUnsupported,
      odmoe::format("the answer must continue with {}{}, but no token of this model begins with that: "
                    "ask for another form of answer",
                    what_may_follow(), where)};
}

std::string GrammarConstraint::what_may_follow() {
  if (before_) return {};
  const grammar::ByteSet bytes = matcher_.next_bytes();
  std::string text;
  size_t named = 0;
  for (size_t byte = 0; byte < bytes.size() && named < kNamedBytes; ++byte) {
    if (!bytes.test(byte)) continue;
    const bool plain = byte > ' ' && byte < 0x7F;
    const std::string name =
        plain ? odmoe::format("'{}'", static_cast<char>(byte)) : odmoe::format("0x{:02X}", byte);
    text += (named++ == 0 ? "" : ", ") + name;
  }
  if (bytes.count() > named) return odmoe::format("one of {} bytes ({}, ...)", bytes.count(), text);
  if (named == 0) return "a control token";
  return named == 1 ? "the byte " + text : "one of the bytes " + text;
}

}  // namespace odmoe::server
