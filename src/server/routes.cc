#include "server/routes.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <span>
#include <utility>

#include "odmoe/format.h"
#include "server/dialect.h"

namespace odmoe::server {
namespace {

using Handler = Route::Handler;
using Method = Route::Method;

// The page itself says nothing of the model; what it shows it asks for with the key.
constexpr auto kOwnRoutes = std::to_array<Route>({
    {.path = "/", .needs_key = false, .needs_model = false, .handler = Handler::kPage},
    {.path = "/health", .needs_key = false, .needs_model = false, .handler = Handler::kHealth},
    {.path = "/metrics", .needs_model = false, .handler = Handler::kMetrics},
    {.path = "/v1/stats", .handler = Handler::kStats},
    {.path = "/v1/events", .needs_model = false, .handler = Handler::kEvents},
});
constexpr std::string_view kVersionSegment = "v1";
// A base address that ends in it, and a client that adds it.
constexpr size_t kMaxVersions = 2;

bool is_of(const Route& route, std::string_view path) {
  if (path == route.path) return !route.only_names;
  return route.has_names && path.size() > route.path.size() && path.starts_with(route.path) &&
         path[route.path.size()] == '/';
}

bool has_method(const Route& route, std::string_view method) {
  return method == method_name(route.method) || (route.method == Method::kGet && method == "HEAD");
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

std::string_view method_name(Method method) {
  switch (method) {
    case Method::kPost:
      return "POST";
    case Method::kDelete:
      return "DELETE";
    case Method::kGet:
      break;
  }
  return "GET";
}

RouteTable::RouteTable(Dialects dialects) : dialects_(std::move(dialects)) {
  assert(!dialects_.empty());
  const auto add = [this](const Route& route, const Dialect& dialect) {
    assert(std::ranges::none_of(routes_, [&](const Route& other) {
      return other.path == route.path && other.method == route.method && other.only_names == route.only_names;
    }));
    routes_.push_back(route);
    routes_.back().dialect = &dialect;
  };
  for (const Route& route : kOwnRoutes) add(route, default_dialect());
  for (const auto& dialect : dialects_) {
    for (const Route& route : dialect->routes()) add(route, *dialect);
  }
}

std::string RouteTable::canonical(std::string_view path) const {
  const std::vector<std::string_view> segments = segments_of(path);
  if (segments.empty()) return "/";
  size_t versions = 0;
  while (versions < segments.size() && segments[versions] == kVersionSegment) ++versions;
  if (versions == segments.size() || versions > kMaxVersions) return std::string(path);
  const std::string bare = joined(std::span(segments).subspan(versions));
  for (std::string candidate : {bare, "/v1" + bare}) {
    if (find(candidate) != nullptr) return candidate;
  }
  return std::string(path);
}

const Route* RouteTable::find(std::string_view path, std::string_view method) const {
  const auto found = std::ranges::find_if(
      routes_, [&](const Route& route) { return is_of(route, path) && has_method(route, method); });
  return found == routes_.end() ? nullptr : &*found;
}

const Route* RouteTable::find(std::string_view path) const {
  const auto found = std::ranges::find_if(routes_, [&](const Route& route) { return is_of(route, path); });
  return found == routes_.end() ? nullptr : &*found;
}

std::string RouteTable::allowed_methods(std::string_view path) const {
  std::string methods;
  if (find(path, "GET") != nullptr) methods += "GET, HEAD, ";
  for (const char* method : {"POST", "DELETE"}) {
    if (find(path, method) != nullptr) methods += odmoe::format("{}, ", method);
  }
  if (!methods.empty()) methods += "OPTIONS";
  return methods;
}

std::string_view RouteTable::label(std::string_view path) const {
  const Route* route = find(path);
  return route == nullptr ? "other" : route->path;
}

const Dialect& RouteTable::dialect_of(std::string_view path, std::string_view method) const {
  const Route* route = find(path, method);
  if (route == nullptr) route = find(path);
  return route == nullptr ? default_dialect() : *route->dialect;
}

}  // namespace odmoe::server
