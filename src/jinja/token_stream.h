// Tokens one after the other, and how deep what is parsed from them is nested.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/failure.h"
#include "jinja/lexer.h"
#include "jinja/limits.h"

namespace odmoe::jinja {

// One owner.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next_one() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }
  // The current one; goes on to the next.
  const Token& take() {
    const Token& token = tokens_[at_];
    if (token.kind != TokenKind::kEnd) ++at_;
    return token;
  }
  bool skip_name(std::string_view name) { return skip_if(current().is_name(name)); }
  bool skip_operator(std::string_view sign) { return skip_if(current().is_operator(sign)); }

  const Token& expect(TokenKind kind, std::string_view what) {
    if (current().kind != kind) unexpected(what);
    return take();
  }
  void expect_operator(std::string_view sign) {
    if (!skip_operator(sign)) unexpected(sign);
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) unexpected(name);
  }

  [[noreturn]] void unexpected(std::string_view wanted) const {
    raise_at(line(), "expected {}, found {}", wanted, described(current()));
  }

  static std::string described(const Token& token) {
    switch (token.kind) {
      case TokenKind::kBlockEnd:
        return "the end of the statement";
      case TokenKind::kVariableEnd:
        return "the end of the expression";
      case TokenKind::kEnd:
        return "the end of the template";
      default:
        return "'" + token.text + "'";
    }
  }

  // One construct within another, for as long as it lives.
  class Level {
   public:
    explicit Level(TokenStream& stream) : stream_(&stream) {
      if (++stream_->depth_ > kMaxNesting) {
        --stream_->depth_;
        raise_at(stream.line(), "nested more than {} levels deep", kMaxNesting);
      }
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --stream_->depth_; }

   private:
    TokenStream* stream_;
  };

 private:
  bool skip_if(bool condition) {
    if (condition) ++at_;
    return condition;
  }

  std::vector<Token> tokens_;  // the last is kEnd
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace odmoe::jinja
