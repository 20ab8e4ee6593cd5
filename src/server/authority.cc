#include "server/authority.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace odmoe::server {
namespace {

constexpr size_t kMaxNameBytes = 255;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_name_byte(char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_'; }

std::string small(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

std::optional<in6_addr> ipv6(std::string_view bracketed) {
  if (bracketed.size() < 4 || bracketed.front() != '[' || bracketed.back() != ']') return std::nullopt;
  in6_addr address{};
  const std::string text(bracketed.substr(1, bracketed.size() - 2));
  if (inet_pton(AF_INET6, text.c_str(), &address) != 1) return std::nullopt;
  return address;
}

// An address has many spellings, and one that all of them become.
std::string spelling_of(const in6_addr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(AF_INET6, &address, text.data(), text.size());
  return "[" + std::string(text.data()) + "]";
}

// 127, and one to three numbers below 256 after it: 127.1 is 127.0.0.1, as it is everywhere.
bool is_loopback_ipv4(std::string_view host) {
  size_t parts = 0;
  for (size_t at = 0; at <= host.size(); ++parts) {
    const size_t end = std::min(host.find('.', at), host.size());
    unsigned number = 0;
    const char* first = host.data() + at;
    const char* last = host.data() + end;
    const auto [stopped, error] = std::from_chars(first, last, number);
    if (error != std::errc() || stopped != last || number > 255) return false;
    if (parts == 0 && number != 127) return false;
    at = end + 1;
  }
  return parts >= 2 && parts <= 4;
}

}  // namespace

std::optional<Authority> parse_authority(std::string_view text) {
  const bool bracketed = text.starts_with('[');
  const size_t end =
      bracketed ? std::min(text.find(']'), text.size() - 1) + 1 : std::min(text.find(':'), text.size());
  std::string_view host = text.substr(0, end), rest = text.substr(end);
  if (bracketed) {
    if (!ipv6(host)) return std::nullopt;
  } else {
    if (host.ends_with('.')) host.remove_suffix(1);
    const bool good =
        !host.empty() && host.size() <= kMaxNameBytes && std::ranges::all_of(host, is_name_byte);
    if (!good || host.front() == '.' || host.ends_with('.') || host.contains("..")) return std::nullopt;
  }
  Authority authority{.host = small(host), .port = std::nullopt};
  if (bracketed) authority.host = spelling_of(*ipv6(host));
  if (rest.empty()) return authority;
  if (rest.front() != ':') return std::nullopt;
  rest.remove_prefix(1);
  if (rest.empty()) return authority;  // "localhost:" is as good as "localhost"
  uint16_t port = 0;
  const auto [stopped, error] = std::from_chars(rest.data(), rest.data() + rest.size(), port);
  if (error != std::errc() || stopped != rest.data() + rest.size() || rest.size() > 5) return std::nullopt;
  authority.port = port;
  return authority;
}

std::optional<Origin> parse_origin(std::string_view text) {
  const size_t colon = text.find("://");
  if (colon == std::string_view::npos || colon == 0 || !is_letter(text.front())) return std::nullopt;
  const std::string_view scheme = text.substr(0, colon);
  const auto is_scheme_byte = [](char c) {
    return is_letter(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
  };
  if (!std::ranges::all_of(scheme, is_scheme_byte)) return std::nullopt;
  auto authority = parse_authority(text.substr(colon + 3));
  if (!authority) return std::nullopt;
  Origin origin{.scheme = small(scheme), .authority = std::move(*authority)};
  // Browsers leave out the scheme's own port; others may not.
  if (!origin.authority.port && origin.scheme == "http") origin.authority.port = 80;
  if (!origin.authority.port && origin.scheme == "https") origin.authority.port = 443;
  return origin;
}

bool is_loopback_name(std::string_view given) {
  std::string host = small(given);
  if (host.ends_with('.')) host.pop_back();
  if (host == "localhost" || host.ends_with(".localhost")) return parse_authority(host).has_value();
  if (host.contains(':') && !host.starts_with('[')) host = "[" + host + "]";
  const auto address = ipv6(host);
  if (!address) return is_loopback_ipv4(host);
  if (IN6_IS_ADDR_LOOPBACK(&*address)) return true;
  return IN6_IS_ADDR_V4MAPPED(&*address) && address->s6_addr[12] == 127;
}

}  // namespace odmoe::server
