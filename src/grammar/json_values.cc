#include "grammar/json_values.h"

#include <string_view>
#include <vector>

namespace odmoe::grammar {
namespace {

// Bounds of what a model that has lost its way may write: no value needs more.
constexpr int32_t kMaxDigits = 18;
constexpr int32_t kMaxIndent = 40;

}  // namespace

using Expression = GrammarBuilder::Expression;

// Each is one rule, that others call.
Expression JsonValues::once(std::optional<GrammarBuilder::Rule>& rule, Expression (JsonValues::*make)()) {
  if (!rule) {
    rule = builder_->declare();
    builder_->define(*rule, (this->*make)());
  }
  return builder_->call(*rule);
}

Expression JsonValues::any() { return once(any_, &JsonValues::make_any); }
Expression JsonValues::object() { return once(object_, &JsonValues::make_object); }
Expression JsonValues::array() { return once(array_, &JsonValues::make_array); }
Expression JsonValues::string() { return once(string_, &JsonValues::make_string); }
Expression JsonValues::number() { return once(number_, &JsonValues::make_number); }
Expression JsonValues::integer() { return once(integer_, &JsonValues::make_integer); }
Expression JsonValues::space() { return once(space_, &JsonValues::make_space); }
Expression JsonValues::character() { return once(character_, &JsonValues::make_character); }

Expression JsonValues::make_space() {
  GrammarBuilder& b = *builder_;
  const Expression line = b.sequence({b.literal("\n"), b.repeat(b.literal(" "), 0, kMaxIndent)});
  return b.choice({b.empty(), b.literal(" "), line});
}

Expression JsonValues::comma() { return builder_->sequence({builder_->literal(","), space()}); }

Expression JsonValues::colon() {
  return builder_->sequence({builder_->literal(":"), builder_->optional(builder_->literal(" "))});
}

// A character of a string: UTF-8 as the Unicode standard has it, or an escape; surrogates only in pairs.
Expression JsonValues::make_character() {
  GrammarBuilder& b = *builder_;
  ByteSet plain;
  for (size_t byte = 0x20; byte < 0x80; ++byte) plain.set(byte, byte != '"' && byte != '\\' && byte != 0x7F);
  const auto tail = [&] { return b.range(0x80, 0xBF); };
  ByteSet hex, not_d, d_low, d_high, escapes;
  for (const char c : std::string_view("0123456789abcdefABCDEF")) hex.set(static_cast<uint8_t>(c));
  not_d = hex;
  not_d.reset('d').reset('D');
  for (const char c : std::string_view("01234567")) d_low.set(static_cast<uint8_t>(c));
  for (const char c : std::string_view("89abAB")) d_high.set(static_cast<uint8_t>(c));
  ByteSet low;
  for (const char c : std::string_view("cdefCDEF")) low.set(static_cast<uint8_t>(c));
  ByteSet d;
  d.set('d').set('D');
  for (const char c : std::string_view("\"\\/bfnrt")) escapes.set(static_cast<uint8_t>(c));
  const auto h = [&] { return b.bytes(hex); };
  const Expression unit = b.choice({b.sequence({b.bytes(not_d), h(), h(), h()}),
                                    b.sequence({b.bytes(d), b.bytes(d_low), h(), h()}),
                                    b.sequence({b.bytes(d), b.bytes(d_high), h(), h(), b.literal("\\u"),
                                                b.bytes(d), b.bytes(low), h(), h()})});
  return b.choice(
      {b.bytes(plain), b.sequence({b.range(0xC2, 0xDF), tail()}),
       b.sequence({b.range(0xE0, 0xE0), b.range(0xA0, 0xBF), tail()}),
       b.sequence({b.range(0xE1, 0xEC), tail(), tail()}),
       b.sequence({b.range(0xED, 0xED), b.range(0x80, 0x9F), tail()}),
       b.sequence({b.range(0xEE, 0xEF), tail(), tail()}),
       b.sequence({b.range(0xF0, 0xF0), b.range(0x90, 0xBF), tail(), tail()}),
       b.sequence({b.range(0xF1, 0xF3), tail(), tail(), tail()}),
       b.sequence({b.range(0xF4, 0xF4), b.range(0x80, 0x8F), tail(), tail()}),
       b.sequence({b.literal("\\"), b.choice({b.bytes(escapes), b.sequence({b.literal("u"), unit})})})});
}

Expression JsonValues::make_string() {
  GrammarBuilder& b = *builder_;
  return b.sequence({b.literal("\""), b.repeat(character(), 0, -1), b.literal("\"")});
}

Expression JsonValues::boolean() {
  return builder_->choice({builder_->literal("true"), builder_->literal("false")});
}

Expression JsonValues::fraction_and_exponent() {
  GrammarBuilder& b = *builder_;
  ByteSet e, sign;
  e.set('e').set('E');
  sign.set('+').set('-');
  return b.sequence({b.optional(b.sequence({b.literal("."), digits(1, kMaxDigits)})),
                     b.optional(b.sequence({b.bytes(e), b.optional(b.bytes(sign)), digits(1, 2)}))});
}

Expression JsonValues::make_integer() {
  GrammarBuilder& b = *builder_;
  return b.choice({b.literal("0"),
                   b.sequence({b.optional(b.literal("-")), b.range('1', '9'), digits(0, kMaxDigits - 1)})});
}

Expression JsonValues::non_negative_number() {
  GrammarBuilder& b = *builder_;
  return b.sequence({b.choice({b.literal("0"), b.sequence({b.range('1', '9'), digits(0, kMaxDigits - 1)})}),
                     fraction_and_exponent()});
}

Expression JsonValues::make_number() {
  return builder_->sequence({builder_->optional(builder_->literal("-")), non_negative_number()});
}

Expression JsonValues::make_any() {
  return builder_->choice({object(), array(), string(), number(), boolean(), null()});
}

Expression JsonValues::make_object() {
  GrammarBuilder& b = *builder_;
  const Expression member = b.sequence({string(), colon(), any()});
  const Expression more = b.repeat(b.sequence({comma(), member}), 0, -1);
  return b.choice(
      {b.literal("{}"), b.sequence({b.literal("{"), space(), member, more, space(), b.literal("}")})});
}

Expression JsonValues::make_array() {
  GrammarBuilder& b = *builder_;
  const Expression more = b.repeat(b.sequence({comma(), any()}), 0, -1);
  return b.choice(
      {b.literal("[]"), b.sequence({b.literal("["), space(), any(), more, space(), b.literal("]")})});
}

}  // namespace odmoe::grammar
