#include "server/access.h"

#include <algorithm>
#include <cctype>
#include <span>
#include <string>
#include <string_view>

#include "base/sha256.h"
#include "odmoe/format.h"
#include "server/authority.h"
#include "server/cors.h"
#include "server/routes.h"

namespace odmoe::server {
namespace {

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// The authority that the option names: of any port if it says none.
bool is_allowed(std::string_view option, const Authority& asked) {
  const auto allowed = parse_authority(option);
  return allowed && allowed->host == asked.host &&
         (!allowed->port || allowed->port == asked.port.value_or(80));
}

// A page whose name was made to point here (DNS rebinding) still calls the server by the page's name.
bool is_own_name(const ServerOptions& options, const Authority& asked) {
  if (!is_loopback_host(options.host) || is_loopback_name(asked.host)) return true;
  return is_allowed(options.host, asked) ||
         std::ranges::any_of(options.allowed_hosts,
                             [&](const std::string& name) { return is_allowed(name, asked); });
}

std::optional<ApiError> check_host(const ServerOptions& options, const httplib::Request& request) {
  if (!request.has_header("Host")) return std::nullopt;  // of HTTP/1.0, which no browser speaks
  const auto asked = parse_authority(request.get_header_value("Host"));
  if (!asked) {
    return ApiError{.status = 400,
                    .fault = Fault::kRequest,
                    .message = "the header Host names no host",
                    .code = "malformed_request"};
  }
  if (is_own_name(options, *asked)) return std::nullopt;
  return ApiError{
      .status = 403,
      .fault = Fault::kRequest,
      .message = odmoe::format("this server answers to localhost only: start it with --allow-host {} to be "
                               "reached by that name",
                               asked->host),
      .code = "host_not_allowed"};
}

std::string given_key(const httplib::Request& request) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string header = request.get_header_value("Authorization");
  std::string key = request.get_header_value("x-api-key");
  if (header.size() > kBearer.size() &&
      same_word(std::string_view(header).substr(0, kBearer.size()), kBearer)) {
    key = header.substr(kBearer.size());
  }
  return key;
}

bool has_key(const ServerOptions& options, const httplib::Request& request) {
  const std::string key = given_key(request);
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

bool is_loopback_host(std::string_view host) { return is_loopback_name(host); }

Status check_allowed_host(std::string_view host) {
  if (parse_authority(host)) return {};
  return fail(ErrorKind::kUsage,
              "--allow-host {}: give a name or a name and a port, such as host.docker.internal:8080", host);
}

std::string owner_of(const ServerOptions& options, const httplib::Request& request) {
  return options.share_prompts ? std::string() : key_owner_of(options, request);
}

std::string key_owner_of(const ServerOptions& options, const httplib::Request& request) {
  if (options.api_keys.empty()) return {};
  const std::string secret = "odmoe prompts of " + given_key(request);
  return sha256_hex(std::as_bytes(std::span(secret)));
}

std::optional<ApiError> check_access(const ServerOptions& options, const RouteTable& routes,
                                     const httplib::Request& request) {
  if (auto error = check_host(options, request)) return error;
  // A page of another origin cannot read the answer, but it could still make the server work.
  if (!may_ask(options, request)) {
    return ApiError{.status = 403,
                    .fault = Fault::kRequest,
                    .message = "pages of this origin may not ask: start the server with --cors ORIGIN",
                    .code = "origin_not_allowed"};
  }
  const Route* const route = routes.find(request.path, request.method);
  const Route* const other = route != nullptr ? route : routes.find(request.path);  // for another method
  if (request.method == "OPTIONS") {
    // A browser whose preflight is refused does not read the error: it gets the error with the request
    // itself.
    if (is_preflight(request) || other != nullptr || request.path == "*") return std::nullopt;
    return from_status(404);
  }
  const bool needs_key = other == nullptr || other->needs_key;
  if (!options.api_keys.empty() && needs_key && !has_key(options, request)) {
    return ApiError{
        .status = 401,
        .fault = Fault::kKey,
        .message =
            "the API key is missing or wrong: send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"",
        .code = "invalid_api_key"};
  }
  if (other == nullptr) return from_status(404);
  if (route == nullptr) {
    return ApiError{
        .status = 405,
        .fault = Fault::kRequest,
        .message = odmoe::format("{} must be requested with {}", request.path, method_name(other->method)),
        .code = "method_not_allowed"};
  }
  // Nothing that unpacks to more than it seems.
  const std::string encoding = request.get_header_value("Content-Encoding");
  if (!encoding.empty() && !same_word(encoding, "identity")) {
    return ApiError{.status = 415,
                    .fault = Fault::kRequest,
                    .message = "compressed bodies are not taken: send it as it is"};
  }
  // Whatever else a body says it is, it is read as JSON: curl calls all that it sends a form.
  constexpr std::string_view kMultipart = "multipart/";
  const std::string type = request.get_header_value("Content-Type");
  if (route->takes_body && type.size() >= kMultipart.size() &&
      same_word(std::string_view(type).substr(0, kMultipart.size()), kMultipart)) {
    return ApiError{.status = 415,
                    .fault = Fault::kRequest,
                    .message = odmoe::format("bodies of the type {} are not taken: send JSON",
                                             type.substr(0, type.find(';')))};
  }
  return std::nullopt;
}

}  // namespace odmoe::server
