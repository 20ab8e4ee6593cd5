// The figures of Stats, each described once: what it is called, what it is measured in, and how to get it.
// The object of --stats, /metrics and the events of the live page are made from this list, so that a new
// figure is a line of it, beside the place where it is counted.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "odmoe/stats.h"

namespace odmoe {

enum class Unit : uint8_t {
  kNone,  // a name, a flag, a list
  kCount,
  kBytes,
  kBytesPerSecond,
  kSeconds,
  kMilliseconds,
  kMicroseconds,
  kShare,  // 0 to 1, and other ratios
  kTokensPerSecond,
};

struct StatsField {
  // Where it is in an object of objects.
  struct Place {
    std::string_view group, name;
  };

  // Null: not known, or not yet.
  nlohmann::ordered_json (*value)(const Stats& stats);
  Unit unit = Unit::kNone;
  Place stats = {};  // in the object of --stats; empty: not there
  Place live = {};   // in a state event (docs/server.md); empty: not there
  // The family of metrics that it belongs to, and what tells it from others there; empty: none.
  std::string_view metric = {}, label = {};
  bool zero_when_unknown = false;  // in the object of --stats, where it has never been null
};

// In the order of the object of --stats.
std::span<const StatsField> stats_fields();

// Metrics of one name, which labels tell apart where there are several.
struct MetricFamily {
  std::string_view name, help;
  std::string_view label;  // its name; empty: a metric alone
  bool counter = true;     // or else a gauge
};

// In the order of /metrics.
std::span<const MetricFamily> metric_families();

}  // namespace odmoe
