#include "server/routes.h"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

namespace odmoe::server {
namespace {

struct Route {
  std::string_view path;
  bool post;
};
constexpr auto kRoutes = std::to_array<Route>({
    {.path = "/", .post = false},
    {.path = "/health", .post = false},
    {.path = "/metrics", .post = false},
    {.path = "/v1/stats", .post = false},
    {.path = "/v1/events", .post = false},
    {.path = "/v1/models", .post = false},
    {.path = "/v1/completions", .post = true},
    {.path = "/v1/chat/completions", .post = true},
    {.path = "/tokenize", .post = true},
    {.path = "/detokenize", .post = true},
});
constexpr std::string_view kVersion = "v1";
constexpr std::string_view kModel = "/v1/models/";
// A base address that ends in it, and a client that adds it.
constexpr size_t kMaxVersions = 2;

const Route* find(std::string_view path) {
  if (path.starts_with(kModel)) path = kModel.substr(0, kModel.size() - 1);
  const auto* route = std::ranges::find(kRoutes, path, &Route::path);
  return route == kRoutes.end() ? nullptr : route;
}

// "a/b" of "//a/b/".
std::vector<std::string_view> segments_of(std::string_view path) {
  std::vector<std::string_view> segments;
  while (!path.empty()) {
    const size_t end = std::min(path.find('/'), path.size());
    if (end > 0) segments.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return segments;
}

std::string joined(std::span<const std::string_view> segments) {
  std::string path;
  for (const std::string_view segment : segments) {
    path += '/';
    path += segment;
  }
  return path;
}

}  // namespace

std::string canonical_path(std::string_view path) {
  const std::vector<std::string_view> segments = segments_of(path);
  if (segments.empty()) return "/";
  size_t versions = 0;
  while (versions < segments.size() && segments[versions] == kVersion) ++versions;
  if (versions == segments.size() || versions > kMaxVersions) return std::string(path);
  const std::string bare = joined(std::span(segments).subspan(versions));
  for (std::string candidate : {bare, "/v1" + bare}) {
    if (find(candidate) != nullptr) return candidate;
  }
  return std::string(path);
}

std::string_view allowed_methods(std::string_view path) {
  const Route* route = find(path);
  if (route == nullptr) return "";
  return route->post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
}

bool takes_body(std::string_view path) {
  const Route* route = find(path);
  return route != nullptr && route->post;
}

std::string_view route_label(std::string_view path) {
  const Route* route = find(path);
  return route == nullptr ? "other" : route->path;
}

bool is_open(std::string_view path) { return path == "/health" || path == "/"; }

}  // namespace odmoe::server
