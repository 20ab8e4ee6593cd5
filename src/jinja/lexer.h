// A template's source as tokens, with white space trimmed as jinja2 does with trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace odmoe::jinja {

enum class TokenKind : uint8_t {
  kData,  // what stands outside of all tags
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,  // its escapes are resolved
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // of numbers too, without "_"

  bool is(TokenKind wanted, std::string_view wanted_text) const {
    return kind == wanted && text == wanted_text;
  }
  bool is_name(std::string_view name) const { return is(TokenKind::kName, name); }
  bool is_operator(std::string_view sign) const { return is(TokenKind::kOperator, sign); }
};

// The last token is kEnd.  Raises kSyntax.
std::vector<Token> tokenize(std::string_view source);

}  // namespace odmoe::jinja
