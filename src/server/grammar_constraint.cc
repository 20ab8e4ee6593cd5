#include "server/grammar_constraint.h"

#include "odmoe/format.h"

namespace odmoe::server {
namespace {

constexpr size_t kNamedBytes = 8;  // in an error

}  // namespace

void GrammarConstraint::mask(std::span<float> logits) { matcher_.mask(logits); }

bool GrammarConstraint::accept(Token token) { return matcher_.accept(token); }

bool GrammarConstraint::complete() const { return matcher_.complete(); }

bool GrammarConstraint::allows(Token token) { return matcher_.allows(token); }

std::optional<Error> GrammarConstraint::dead_end(std::string_view where) {
  if (matcher_.allows_any()) return std::nullopt;
  return Error{
      ErrorKind::kUnsupported,
      odmoe::format("the answer must continue with {}{}, but no token of this model begins with that: "
                    "ask for another form of answer",
                    what_may_follow(), where)};
}

std::string GrammarConstraint::what_may_follow() {
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
