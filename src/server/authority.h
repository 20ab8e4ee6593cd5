// Names of machines as requests give them: the Host header, the authority of an absolute target, an Origin.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace odmoe::server {

// NAME, NAME:PORT, 1.2.3.4:PORT or [ADDRESS]:PORT.
struct Authority {
  std::string host;              // in small letters, without a dot at its end; an IPv6 address in brackets
  std::optional<uint16_t> port;  // nothing: not said, or empty
  bool operator==(const Authority&) const = default;
};

// Nothing when it is not just that: user names, paths, spaces, a second port, what follows an address.
std::optional<Authority> parse_authority(std::string_view text);

// scheme://AUTHORITY, as browsers write it.
struct Origin {
  std::string scheme;  // in small letters
  Authority authority;
  bool operator==(const Origin&) const = default;
};
std::optional<Origin> parse_origin(std::string_view text);

// Whether the name can only mean the machine itself: localhost and names under it, 127.0.0.0/8, ::1.
bool is_loopback_name(std::string_view host);

}  // namespace odmoe::server
