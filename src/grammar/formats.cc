#include "grammar/formats.h"

#include <array>
#include <utility>

#include "odmoe/format.h"

namespace odmoe::grammar {
namespace {

// Days that their months have, in leap years too; there is no year 0.
constexpr std::string_view kDate =
    "(?:(?:000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0["
    "469]|11)-(?:0[1-9]|[12]\\d|30)|"
    "02-(?:0[1-9]|1\\d|2[0-8]))|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])"
    "00)"
    "-02-29)";
// Zones are those that there are.
constexpr std::string_view kTime =
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:0\\d|1[01]):[0-5]\\d|[+-]12:00|\\+1[34]:"
    "00)";
// RFC 3339, appendix A.
constexpr std::string_view kDuration =
    "P(?:\\d{1,9}W|(?:\\d{1,9}D|\\d{1,9}M(?:\\d{1,9}D)?|\\d{1,9}Y(?:\\d{1,9}M(?:\\d{1,9}D)?)?)(?:T@)?|T@)";
constexpr std::string_view kDurationTime =
    "(?:\\d{1,9}H(?:\\d{1,9}M(?:\\d{1,9}S)?)?|\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S)";
// A host's name has at most 253 characters: four long parts, or eight of up to 30.
constexpr std::string_view kHostname =
    "(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?\\.){0,3}[A-Za-z](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?|"
    "(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,28}[A-Za-z0-9])?\\.){4,7}[A-Za-z](?:[A-Za-z0-9-]{0,28}[A-Za-z0-9])?)";
// The local part has at most 64 characters, and a domain of no more than 63 no part that is too long.
constexpr std::string_view kEmail =
    "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@"
    "(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\\.)+[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])";
constexpr std::string_view kEmailLengths = "^[^@]{1,64}@[^@]{1,63}$";
constexpr std::string_view kByte = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";

std::string ipv4() { return odmoe::format("(?:{0}\\.){{3}}{0}", kByte); }

std::string ipv6() {
  constexpr std::string_view kPart = "[0-9A-Fa-f]{1,4}";
  const std::string last = odmoe::format("(?:{0}:{0}|{1})", kPart, ipv4());
  std::string all = odmoe::format("(?:(?:{0}:){{6}}{1}|::(?:{0}:){{5}}{1}", kPart, last);
  // So many parts before ::, and what may stand behind it.
  for (int before = 0; before <= 4; ++before) {
    all += odmoe::format("|(?:(?:{0}:){{0,{1}}}{0})?::(?:{0}:){{{2}}}{3}", kPart, before, 4 - before, last);
  }
  all += odmoe::format("|(?:(?:{0}:){{0,5}}{0})?::{0}|(?:(?:{0}:){{0,6}}{0})?::)", kPart);
  return all;
}

// RFC 3986 and, with the characters of other scripts, RFC 3987.
struct Addresses {
  explicit Addresses(bool international) {
    const std::string_view more =
        international ? "\\u00a0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef\\u{10000}-\\u{1fffd}" : "";
    character = odmoe::format("(?:[A-Za-z0-9._~!$&'()*+,;=:@{}-]|%[0-9A-Fa-f]{{2}})", more);
    first = odmoe::format("(?:[A-Za-z0-9._~!$&'()*+,;=@{}-]|%[0-9A-Fa-f]{{2}})", more);  // of a relative path
    const std::string user =
        odmoe::format("(?:(?:[A-Za-z0-9._~!$&'()*+,;=:{}-]|%[0-9A-Fa-f]{{2}})*@)?", more);
    const std::string label = odmoe::format("[A-Za-z0-9{0}](?:[A-Za-z0-9{0}-]*[A-Za-z0-9{0}])?", more);
    // The last part begins with a letter, or it would have to be an address.
    const std::string last = odmoe::format("[A-Za-z{0}](?:[A-Za-z0-9{0}-]*[A-Za-z0-9{0}])?", more);
    authority = odmoe::format("//{}(?:(?:{}\\.)*{}\\.?|{})(?::(?:[1-5]\\d{{4}}|\\d{{1,4}}))?", user, label,
                              last, ipv4());
    segments = odmoe::format("(?:/{}*)*", character);
    tail = odmoe::format("(?:\\?(?:{0}|[/?])*)?(?:#(?:{0}|[/?])*)?", character);
  }
  std::string absolute() const {
    return odmoe::format("(?:[A-Za-z][A-Za-z0-9+.-]*:(?:{0}{1}|/?{2}+{1}|/)|file://(?:/{2}*)+){3}", authority,
                         segments, character, tail);
  }
  std::string reference() const {
    return odmoe::format("(?:{0}|(?:{1}{2}|/(?:{3}+{2})?|{4}+{2}|){5})", absolute(), authority, segments,
                         character, first, tail);
  }
  std::string character, first, authority, segments, tail;
};

std::string json_pointer() { return "(?:/(?:[^~/]|~[01])*)*"; }

// Regular expressions that ECMA-262 and Python agree on, with groups in groups.
std::string regular_expression(int depth) {
  std::string inside = depth == 0 ? std::string() : regular_expression(depth - 1);
  if (depth > 0) inside = odmoe::format("|\\((?:\\?[:=!])?{}\\)", inside);
  constexpr std::string_view kAtom =
      "(?:[^\\\\^$.*+?()\\[\\]{}|\\x00-\\x1f]|\\.|\\\\[dDwWsStnrfv^$\\\\.*+?()\\[\\]{}|/-]|"
      "\\[\\^?(?:a-z|A-Z|0-9|[^\\\\\\[\\]^\\x00-\\x1f&~|-]|\\\\[dDwWsStnr\\\\\\]\\[^.-])+\\]";
  constexpr std::string_view kQuantifier =
      "(?:(?:[*+?]|\\{(?:\\d{1,3},?|0,\\d{1,3}|[1-9],[1-9]\\d{1,2}|1,[1-9]|2,[2-9]|3,[3-9]|4,[4-9]|5,[5-9]|6,"
      "[6-9]|"
      "7,[7-9]|8,[89]|9,9)\\})\\?"
      "?)?";
  const std::string sequence = odmoe::format("\\^?(?:{}{}){})*\\$?", kAtom, inside, kQuantifier);
  return odmoe::format("(?:{0}(?:\\|{0})*)", sequence);
}

std::string whole(std::string_view pattern) { return odmoe::format("^{}$", pattern); }

// Of one expression.
std::optional<std::string> format_pattern(std::string_view name) {
  if (name == "date") return whole(kDate);
  if (name == "time") return whole(kTime);
  if (name == "date-time") return whole(odmoe::format("{}T{}", kDate, kTime));
  if (name == "duration") {
    std::string pattern(kDuration);
    for (size_t at; (at = pattern.find('@')) != pattern.npos;) pattern.replace(at, 1, kDurationTime);
    return whole(pattern);
  }
  if (name == "uuid") return "^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$";
  if (name == "hostname" || name == "idn-hostname") return whole(kHostname);
  if (name == "ipv4") return whole(ipv4());
  if (name == "ipv6") return whole(ipv6());
  if (name == "uri" || name == "url") return whole(Addresses(false).absolute());
  if (name == "iri") return whole(Addresses(true).absolute());
  if (name == "uri-reference") return whole(Addresses(false).reference());
  if (name == "iri-reference") return whole(Addresses(true).reference());
  if (name == "uri-template") {
    return "^(?:[A-Za-z0-9._~!$&()*+,;=:@/?#\\[\\]-]|%[0-9A-Fa-f]{2}|\\{[+#./"
           ";?&]?[A-Za-z0-9_]+(?:\\*|:[1-9]\\d{0,3})?"
           "(?:,[A-Za-z0-9_]+(?:\\*|:[1-9]\\d{0,3})?)*\\})*$";
  }
  if (name == "json-pointer") return whole(json_pointer());
  if (name == "relative-json-pointer") return whole("(?:0|[1-9]\\d{0,8})(?:#|" + json_pointer() + ")");
  if (name == "regex") return whole(regular_expression(2));
  if (name == "byte")
    return "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
  return std::nullopt;
}

}  // namespace

std::vector<std::string> format_patterns(std::string_view name) {
  if (name == "email" || name == "idn-email") return {whole(kEmail), std::string(kEmailLengths)};
  if (auto pattern = format_pattern(name)) return {*std::move(pattern)};
  return {};
}

std::optional<NumberFormat> number_format(std::string_view name) {
  constexpr auto kFormats = std::to_array<std::pair<std::string_view, NumberFormat>>({
      {"int8", {"-128", "127", true}},
      {"int16", {"-32768", "32767", true}},
      {"int32", {"-2147483648", "2147483647", true}},
      {"int64", {"-9223372036854775808", "9223372036854775807", true}},
      {"uint8", {"0", "255", true}},
      {"uint16", {"0", "65535", true}},
      {"uint32", {"0", "4294967295", true}},
      {"uint64", {"0", "18446744073709551615", true}},
      {"float", {"-3.4028234663852886e38", "3.4028234663852886e38", false}},
  });
  for (const auto& [known, format] : kFormats) {
    if (known == name) return format;
  }
  return std::nullopt;
}

}  // namespace odmoe::grammar
