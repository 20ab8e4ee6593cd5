#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/stats_fields.h"
#include "odmoe/stats.h"

namespace odmoe {

Stats::Roofline Stats::roofline() const {
  Roofline roofline;
  if (decode.tokens == 0) return roofline;
  const auto tokens = static_cast<double>(decode.tokens);
  const double compute_seconds = decode.seconds - decode.stall_seconds;
  double limit = 0;
  if (compute_seconds > 0) limit = roofline.compute_tokens_per_second = tokens / compute_seconds;
  const double probed = io.probed_bytes_per_second();
  const double bandwidth = probed > 0 ? probed : io.read_bytes_per_second();
  const double used = predictor.prefetched > 0 ? static_cast<double>(predictor.prefetched_used) /
                                                     static_cast<double>(predictor.prefetched)
                                               : 0;
  const double missed_bytes =
      static_cast<double>(decode.read_bytes) + used * static_cast<double>(decode.prefetch_bytes);
  if (missed_bytes > 0 && bandwidth > 0) {
    roofline.io_tokens_per_second = bandwidth * tokens / missed_bytes;
    limit = limit > 0 ? std::min(limit, roofline.io_tokens_per_second) : roofline.io_tokens_per_second;
  }
  if (limit > 0) roofline.fraction = decode.tokens_per_second() / limit;
  return roofline;
}

std::string stats_json(const Stats& stats) {
  nlohmann::ordered_json json;
  for (const StatsField& field : stats_fields()) {
    if (field.stats.name.empty()) continue;
    nlohmann::ordered_json value = field.value(stats);
    if (value.is_null() && field.zero_when_unknown) value = 0.0;
    json[field.stats.group][field.stats.name] = std::move(value);
  }
  return json.dump(2) + "\n";
}

}  // namespace odmoe
