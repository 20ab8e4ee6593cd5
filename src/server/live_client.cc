#include "server/live_client.h"

#include <algorithm>
#include <utility>

#include "server/expert_map.h"

namespace odmoe::server {
namespace {

constexpr double kMostCount = 9e15;  // whole numbers that a double holds

std::unexpected<Error> damaged(std::string_view name) {
  return fail(ErrorKind::kBadFile, "an event {} of the server is damaged; are both of the same version?",
              name);
}

// Members of the objects that a state event is made of; what is missing or of another type is not known.
const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto at = object.find(name);
  return at == object.end() ? nullptr : &*at;
}

const Json* member(const Json& json, const char* object, const char* name) {
  const Json* inner = member(json, object);
  return inner != nullptr ? member(*inner, name) : nullptr;
}

std::optional<double> number(const Json* value) {
  return value != nullptr && value->is_number() ? std::optional(value->get<double>()) : std::nullopt;
}

uint64_t count(const Json* value) {
  return static_cast<uint64_t>(std::clamp(number(value).value_or(0), 0.0, kMostCount));
}

// Of one line, since it is shown to people.
std::string text(const Json* value) {
  if (value == nullptr || !value->is_string()) return {};
  std::string line = value->get<std::string>();
  std::erase_if(line, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  return line;
}

}  // namespace

std::optional<double> LiveFigures::number(const char* group, const char* name) const {
  return server::number(member(state_, group, name));
}

uint64_t LiveFigures::count(const char* group, const char* name) const {
  return server::count(member(state_, group, name));
}

std::string LiveFigures::text(const char* group, const char* name) const {
  return server::text(member(state_, group, name));
}

std::vector<LiveFigures::Rank> LiveFigures::ranks() const {
  constexpr size_t kMostRanks = 256;
  std::vector<Rank> ranks;
  const Json* list = member(state_, "cluster", "ranks");
  if (list == nullptr || !list->is_array()) return ranks;
  for (const Json& one : *list) {
    if (ranks.size() == kMostRanks) break;
    ranks.push_back({.rank = server::count(member(one, "rank")),
                     .host = server::text(member(one, "host")),
                     .n_expert = server::count(member(one, "experts")),
                     .arena_bytes = server::count(member(one, "arena_bytes")),
                     .read_bytes = server::count(member(one, "read_bytes")),
                     .wait_us = server::count(member(one, "wait_us")),
                     .hit_rate = server::number(member(one, "hit_rate"))});
  }
  return ranks;
}

bool LiveFigures::flag(const char* group, const char* name) const {
  const Json* value = member(state_, group, name);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

Status EventReader::push(std::string_view bytes, const Take& take) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    held_ += bytes.substr(0, end);
    if (held_.size() + data_.size() > kMaxEventBytes) {
      return fail(ErrorKind::kBadFile, "the server sent an event of more than {} MiB", kMaxEventBytes >> 20U);
    }
    if (end == std::string_view::npos) return {};
    bytes.remove_prefix(end + 1);
    std::string line = std::exchange(held_, {});
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) {
      const std::string name = std::exchange(name_, {}), data = std::exchange(data_, {});
      if (!data.empty()) ODMOE_RETURN_IF_ERROR(take(name, data));
    } else if (line.starts_with("event: ")) {
      name_ = line.substr(7);
    } else if (line.starts_with("data: ")) {
      data_ += line.substr(6);
    }
  }
  return {};
}

Status LiveView::take(std::string_view name, std::string_view data) {
  if (name == "model") return take_model(data);
  if (name == "state") return take_state(data);
  if (name == "loading") loading_ = true;
  if (name == "end") ended_ = true;
  return {};
}

Status LiveView::take_model(std::string_view data) {
  const auto json = parse_json(data);
  if (!json.has_value()) return damaged("model");
  const Json* list = member(*json, "layers");
  if (list == nullptr || !list->is_array()) return damaged("model");
  std::vector<Layer> layers;
  size_t n_expert = 0;
  for (const Json& layer : *list) {
    if (!layer.is_array() || layer.size() != 2) return damaged("model");
    const uint64_t at = count(&layer[0]), n = count(&layer[1]);
    if (at > kMaxExperts || n == 0 || n > kMaxExperts - n_expert) return damaged("model");
    layers.push_back(
        {.number = static_cast<int32_t>(at), .n_expert = static_cast<int32_t>(n), .first = n_expert});
    n_expert += n;
  }
  id_ = text(member(*json, "id"));
  architecture_ = text(member(*json, "architecture"));
  file_bytes_ = count(member(*json, "file_bytes"));
  context_ = count(member(*json, "context"));
  layers_ = std::move(layers);
  letters_.assign(n_expert, 'a');
  loading_ = false;
  n_state_ = 0;
  return {};
}

Status LiveView::take_state(std::string_view data) {
  auto parsed = parse_json(data);
  if (!parsed.has_value()) return damaged("state");
  Json& json = *parsed;
  const Json* map = member(json, "map");
  const Json* whole = member(json, "whole");
  if (map == nullptr || !map->is_string()) return damaged("state");
  std::string letters = letters_;
  if (whole != nullptr && whole->is_boolean() && whole->get<bool>()) letters.assign(letters.size(), 'a');
  ODMOE_RETURN_IF_ERROR(apply_map_changes(map->get<std::string>(), letters));
  letters_ = std::move(letters);
  json.erase("map");
  figures_ = LiveFigures(std::move(json));
  ++n_state_;
  return {};
}

}  // namespace odmoe::server
