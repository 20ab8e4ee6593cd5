#include "server/cors.h"

#include <algorithm>
#include <optional>
#include <string>

#include "server/authority.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

bool is_token(std::string_view text) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && kOthers.contains(c));
  });
}

// "a, b" of what in the list are words; nothing of what is longer than a browser's question ever is.
std::string words_of(std::string_view list) {
  std::string words;
  if (list.size() > kMaxPreflightBytes) return words;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    std::string_view word = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (word.starts_with(' ') || word.starts_with('\t')) word.remove_prefix(1);
    while (word.ends_with(' ') || word.ends_with('\t')) word.remove_suffix(1);
    if (!is_token(word)) continue;
    if (!words.empty()) words += ", ";
    words += word;
  }
  return words;
}

bool is_same_origin(const std::string& origin, const std::string& host) {
  const auto from = parse_origin(origin);
  if (!from || (from->scheme != "http" && from->scheme != "https")) return false;
  // A proxy in front may speak https: the page's own scheme says which port Host leaves out.
  return from == parse_origin(from->scheme + "://" + host);
}

bool is_named(const ServerOptions& options, const std::string& origin) {
  const auto asked = parse_origin(origin);
  return std::ranges::any_of(options.cors_origins, [&](const std::string& named) {
    return named == origin || (asked && parse_origin(named) == asked);
  });
}

bool any_may(const ServerOptions& options) { return std::ranges::contains(options.cors_origins, "*"); }

}  // namespace

Status check_cors_origin(std::string_view origin) {
  if (origin == "*" || origin == "null" || parse_origin(origin)) return {};
  return fail(
      ErrorKind::kUsage,
      "--cors {}: an origin is SCHEME://HOST[:PORT] without a path, such as http://localhost:3000, or *",
      origin);
}

bool may_ask(const ServerOptions& options, const httplib::Request& request) {
  const std::string origin = request.get_header_value("Origin");
  return !request.has_header("Origin") || is_same_origin(origin, request.get_header_value("Host")) ||
         any_may(options) || is_named(options, origin);
}

bool is_preflight(const httplib::Request& request) {
  return request.method == "OPTIONS" && request.has_header("Origin") &&
         request.has_header("Access-Control-Request-Method");
}

void add_cors(const ServerOptions& options, const httplib::Request& request, httplib::Response& response) {
  if (options.cors_origins.empty()) return;
  const bool preflight = is_preflight(request);
  // Caches must keep answers to different origins apart, also when this one gets no such header.
  response.set_header("Vary", preflight
                                  ? "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, "
                                    "Access-Control-Request-Private-Network"
                                  : "Origin");
  const std::string origin = request.get_header_value("Origin");
  const bool named = is_named(options, origin);
  if (origin.empty() || (!named && !any_may(options))) return;
  response.set_header("Access-Control-Allow-Origin", named ? origin : "*");
  if (!preflight) {
    response.set_header("Access-Control-Expose-Headers", "Allow, Retry-After, WWW-Authenticate");
    return;
  }
  constexpr std::string_view kMethods = "GET, HEAD, POST, DELETE, OPTIONS";
  const std::string method = request.get_header_value("Access-Control-Request-Method");
  std::string methods(kMethods);
  if (is_token(method) && method.size() <= kMaxPreflightBytes && !kMethods.contains(method))
    methods += ", " + method;
  response.set_header("Access-Control-Allow-Methods", methods);
  std::string asked;
  for (size_t i = 0; i < request.get_header_value_count("Access-Control-Request-Headers"); ++i) {
    asked += (asked.empty() ? "" : ",") + request.get_header_value("Access-Control-Request-Headers", "", i);
  }
  const std::string headers = words_of(asked);
  if (!headers.empty()) response.set_header("Access-Control-Allow-Headers", headers);
  response.set_header("Access-Control-Max-Age", "600");
  // A page of the public web that asks a machine of one's own network: only where it was named, "*" is not
  // enough.
  if (named && request.get_header_value("Access-Control-Request-Private-Network") == "true") {
    response.set_header("Access-Control-Allow-Private-Network", "true");
  }
}

}  // namespace odmoe::server
