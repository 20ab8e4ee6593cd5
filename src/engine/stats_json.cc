#include <algorithm>
#include <nlohmann/json.hpp>

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
  using nlohmann::ordered_json;
  const MemoryPlan& memory = stats.memory;
  // What has not been measured is said to be unknown, not zero.
  const ordered_json unknown = nullptr;
  const auto known = [&](double value) { return value > 0 ? ordered_json(value) : unknown; };
  const Stats::Roofline roofline = stats.roofline();

  ordered_json json;
  json["memory"] = {{"budget_bytes", memory.budget_bytes},
                    {"dense_bytes", memory.dense_bytes},
                    {"kv_bytes", memory.kv_bytes},
                    {"kv_bytes_in_use", stats.kv_bytes_in_use},
                    {"reserved_bytes", memory.reserved_bytes},
                    {"arena_bytes", stats.arena_bytes_now},
                    {"arena_resizes", stats.arena_resizes},
                    {"buffer_bytes", memory.buffer_bytes},
                    {"minimum_bytes", memory.minimum_bytes},
                    {"expert_bytes", memory.expert_bytes},
                    {"slots", stats.n_slot_now},
                    {"experts", memory.n_expert_total},
                    {"peak_resident_bytes", stats.peak_resident_bytes}};
  json["prefill"] = {{"tokens", stats.prefill.tokens},
                     {"tokens_per_second", stats.prefill.tokens_per_second()},
                     {"ttft_ms", stats.ttft_ms}};
  json["decode"] = {{"tokens", stats.decode.tokens},
                    {"tokens_per_second", stats.decode.tokens_per_second()},
                    {"steps", stats.decode.steps},
                    {"experts_read", stats.decode.experts_read}};
  json["experts"] = {
      {"demands", stats.experts.demands},     {"hits", stats.experts.hits},
      {"late_hits", stats.experts.late_hits}, {"misses", stats.experts.misses},
      {"hit_rate", stats.experts.hit_rate()}, {"working_set_experts", stats.experts.working_set_experts},
      {"evictions", stats.experts.evictions}};
  json["io"] = {{"reader", stats.io.reader},
                {"demand_read_bytes", stats.io.demand_read_bytes},
                {"prefetch_read_bytes", stats.io.prefetch_read_bytes},
                {"reads", stats.io.reads},
                {"read_retries", stats.io.read_retries},
                {"stall_us", stats.io.stall_us},
                {"read_bytes_per_second", stats.io.read_bytes_per_second()},
                {"probed_bytes_per_second", known(stats.io.probed_bytes_per_second())},
                {"depth", stats.io.depth},
                {"read_bytes", stats.io.read_bytes},
                {"copies", ordered_json::array()}};
  for (const Stats::Io::Copy& copy : stats.io.copies) {
    json["io"]["copies"].push_back({{"path", copy.path},
                                    {"read_bytes", copy.read_bytes},
                                    {"probed_bytes_per_second", known(copy.probed_bytes_per_second)},
                                    {"failed", copy.failed}});
  }
  const Stats::Predictor& predictor = stats.predictor;
  const auto share = [&](uint64_t part, uint64_t whole) {
    return whole > 0 ? ordered_json(static_cast<double>(part) / static_cast<double>(whole)) : unknown;
  };
  json["predictor"] = {
      {"name", predictor.name},
      {"recall", ordered_json::array()},
      {"accuracy", share(predictor.prefetched_used, predictor.prefetched)},
      {"coverage", share(predictor.prefetched_used, predictor.prefetched_used + stats.experts.misses)},
      {"late", share(predictor.prefetched_late, predictor.prefetched_used)},
      {"prefetching", predictor.prefetching},
      {"many_reads", predictor.many_reads},
      {"gain", known(predictor.gain)},
      {"trials", predictor.trials}};
  for (const auto& ahead : predictor.ahead) {
    json["predictor"]["recall"].push_back(share(ahead.foreseen, ahead.wanted));
  }
  json["routing"] = {{"expert_counts", stats.routing.expert_counts},
                     {"total_selections", stats.routing.total_selections},
                     {"load_balance_coefficient", stats.routing.load_balance_coefficient},
                     {"auxiliary_loss", stats.routing.auxiliary_loss}};
  json["roofline"] = {{"compute_tokens_per_second", known(roofline.compute_tokens_per_second)},
                      {"io_tokens_per_second", known(roofline.io_tokens_per_second)},
                      {"fraction", known(roofline.fraction)}};
  return json.dump(2) + "\n";
}

}  // namespace odmoe
