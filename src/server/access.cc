#include "server/access.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

namespace odmoe::server {
namespace {

constexpr auto kRoutes = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"/", "GET"},
    {"/health", "GET"},
    {"/metrics", "GET"},
    {"/v1/stats", "GET"},
    {"/v1/events", "GET"},
    {"/v1/models", "GET"},
    {"/v1/completions", "POST"},
    {"/v1/chat/completions", "POST"},
    {"/tokenize", "POST"},
    {"/detokenize", "POST"},
});

// The page itself says nothing of the model; what it shows it asks for with the key.
bool is_open(std::string_view path) { return path == "/health" || path == "/"; }

// "Host" without its port.
std::string_view host_name(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.rfind(':'));
}

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

bool has_key(const ServerOptions& options, const httplib::Request& request) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string header = request.get_header_value("Authorization");
  std::string key = request.get_header_value("x-api-key");
  if (header.size() > kBearer.size() &&
      same_name(std::string_view(header).substr(0, kBearer.size()), kBearer)) {
    key = header.substr(kBearer.size());
  }
  bool known = false;
  for (const std::string& valid : options.api_keys) known = equal_in_constant_time(key, valid) || known;
  return known;
}

}  // namespace

bool equal_in_constant_time(std::string_view given, std::string_view secret) {
  // As many steps as the secret has bytes, whatever was given.
  unsigned difference = given.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < secret.size(); ++i) {
    const char c = i < given.size() ? given[i] : '\0';
    difference |= static_cast<unsigned>(static_cast<uint8_t>(c) ^ static_cast<uint8_t>(secret[i]));
  }
  return difference == 0;
}

bool is_loopback_host(std::string_view host) {
  if (same_name(host, "localhost") || host == "::1" || host == "[::1]") return true;
  return host.starts_with("127.") &&
         std::ranges::all_of(host, [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
}

std::string_view allowed_methods(std::string_view path) {
  if (path.starts_with("/v1/models/")) return "GET";
  const auto* route = std::ranges::find(kRoutes, path, &std::pair<std::string_view, std::string_view>::first);
  return route == kRoutes.end() ? std::string_view() : route->second;
}

std::optional<ApiError> check_access(const ServerOptions& options, const httplib::Request& request) {
  const std::string host = request.get_header_value("Host");
  // A page whose name was made to point here (DNS rebinding) still calls the server by the page's name.
  if (is_loopback_host(options.host) && !host.empty() && !is_loopback_host(host_name(host)) &&
      !same_name(host_name(host), options.host)) {
    return ApiError{
        .status = 403,
        .type = "invalid_request_error",
        .message = "this server answers to localhost only: start it with --host to be reached by name",
        .code = "host_not_allowed"};
  }
  // A page of another origin cannot read the answer, but it could still make the server work.
  const std::string origin = request.get_header_value("Origin");
  if (!origin.empty() && origin != "http://" + host && origin != "https://" + host &&
      !std::ranges::contains(options.cors_origins, "*") &&
      !std::ranges::contains(options.cors_origins, origin)) {
    return ApiError{.status = 403,
                    .type = "invalid_request_error",
                    .message = "pages of this origin may not ask: start the server with --cors ORIGIN",
                    .code = "origin_not_allowed"};
  }
  if (request.method == "OPTIONS") return std::nullopt;
  if (!options.api_keys.empty() && !is_open(request.path) && !has_key(options, request)) {
    return ApiError{.status = 401,
                    .type = "authentication_error",
                    .message = "the API key is missing or wrong: send it as \"Authorization: Bearer KEY\"",
                    .code = "invalid_api_key"};
  }
  const std::string_view methods = allowed_methods(request.path);
  if (methods.empty()) return from_status(404);
  if (request.method != methods && !(request.method == "HEAD" && methods == "GET")) {
    return ApiError{.status = 405,
                    .type = "invalid_request_error",
                    .message = std::format("{} is asked for with {}", request.path, methods),
                    .code = "method_not_allowed"};
  }
  // Nothing that unpacks to more than it seems.
  const std::string encoding = request.get_header_value("Content-Encoding");
  if (!encoding.empty() && encoding != "identity") {
    return ApiError{.status = 415,
                    .type = "invalid_request_error",
                    .message = "compressed bodies are not taken: send it as it is"};
  }
  return std::nullopt;
}

void add_cors(const ServerOptions& options, const httplib::Request& request, httplib::Response& response) {
  const std::string origin = request.get_header_value("Origin");
  const bool any = std::ranges::contains(options.cors_origins, "*");
  if (origin.empty() || (!any && !std::ranges::contains(options.cors_origins, origin))) return;
  response.set_header("Access-Control-Allow-Origin", any ? "*" : origin);
  response.set_header("Vary", "Origin");
  if (request.method != "OPTIONS") return;
  response.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
  response.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key");
  response.set_header("Access-Control-Max-Age", "600");
}

}  // namespace odmoe::server
