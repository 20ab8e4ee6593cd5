#include "engine/stats_fields.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

// A member of Stats, or of one of its members.
template <auto... Members>
Json at(const Stats& stats) {
  return (stats.*....*Members);
}

Json share(uint64_t part, uint64_t whole) {
  return whole > 0 ? Json(static_cast<double>(part) / static_cast<double>(whole)) : Json();
}

bool has_device(const Stats& stats) { return !stats.memory.device.name.empty(); }

// What is zero until it has been measured.
Json known(double value) { return value > 0 ? Json(value) : Json(); }

// Of a device, for each pass through the model that wrote a token; null where there is none.
template <auto Member>
Json per_decode_step(const Stats& stats) {
  return share(stats.decode.device.*Member, has_device(stats) ? stats.decode.steps : 0);
}

// The same for each layer of experts of a phase: of one token, of one each of several sessions, or of a
// chunk.
template <auto Phase, auto Member>
Json per_layer(const Stats& stats) {
  return share((stats.*Phase).device_layers.*Member, (stats.*Phase).layers);
}

// Of both phases together.
template <auto Member>
Json of_layers(const Stats& stats) {
  return stats.prefill.device_layers.*Member + stats.decode.device_layers.*Member;
}

// Of the experts that were wanted of a device's own memory, those that were there.
Json device_hit_rate(const Stats& stats) {
  return share(stats.device_experts.hits, stats.device_experts.hits + stats.device_experts.copies);
}

Json copies(const Stats& stats) {
  Json copies = Json::array();
  for (const Stats::Io::Copy& copy : stats.io.copies) {
    copies.push_back({{"path", copy.path},
                      {"read_bytes", copy.read_bytes},
                      {"probed_bytes_per_second", known(copy.probed_bytes_per_second)},
                      {"failed", copy.failed}});
  }
  return copies;
}

Json ranks(const Stats& stats) {
  Json ranks = Json::array();
  for (const Stats::Rank& rank : stats.ranks) {
    ranks.push_back({{"rank", rank.rank},
                     {"host", rank.host},
                     {"experts", rank.n_expert},
                     {"arena_bytes", rank.arena_bytes},
                     {"demands", rank.demands},
                     {"hits", rank.hits},
                     {"late_hits", rank.late_hits},
                     {"misses", rank.misses},
                     {"prefetched", rank.prefetched},
                     {"hit_rate", share(rank.hits, rank.demands)},
                     {"read_bytes", rank.read_bytes},
                     {"stall_us", rank.stall_us},
                     {"wait_us", rank.wait_us},
                     {"sent_bytes", rank.sent_bytes},
                     {"received_bytes", rank.received_bytes}});
  }
  return ranks;
}

Json recall(const Stats& stats) {
  Json recall = Json::array();
  for (const Stats::Predictor::Ahead& ahead : stats.predictor.ahead)
    recall.push_back(share(ahead.foreseen, ahead.wanted));
  return recall;
}

// clang-format off
constexpr auto kFields = std::to_array<StatsField>({
    {.value = at<&Stats::memory, &MemoryPlan::budget_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "budget_bytes"}, .live = {"memory", "budget_bytes"},
     .metric = "odmoe_memory_bytes", .label = "budget"},
    {.value = at<&Stats::memory, &MemoryPlan::dense_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "dense_bytes"}, .live = {"memory", "dense_bytes"},
     .metric = "odmoe_memory_bytes", .label = "dense"},
    {.value = at<&Stats::memory, &MemoryPlan::kv_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "kv_bytes"}},
    {.value = at<&Stats::kv_bytes_in_use>, .unit = Unit::kBytes,
     .stats = {"memory", "kv_bytes_in_use"}, .live = {"memory", "kv_bytes"},
     .metric = "odmoe_memory_bytes", .label = "kv"},
    {.value = at<&Stats::memory, &MemoryPlan::reserved_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "reserved_bytes"}},
    {.value = at<&Stats::arena_bytes_now>, .unit = Unit::kBytes,
     .stats = {"memory", "arena_bytes"}, .live = {"memory", "arena_bytes"},
     .metric = "odmoe_memory_bytes", .label = "arena"},
    {.value = at<&Stats::arena_resizes>, .unit = Unit::kCount,
     .stats = {"memory", "arena_resizes"}},
    {.value = at<&Stats::memory, &MemoryPlan::buffer_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "buffer_bytes"}, .live = {"memory", "buffer_bytes"}},
    {.value = at<&Stats::memory, &MemoryPlan::minimum_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "minimum_bytes"}},
    {.value = at<&Stats::memory, &MemoryPlan::expert_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "expert_bytes"}},
    {.value = at<&Stats::n_slot_now>, .unit = Unit::kCount,
     .stats = {"memory", "slots"}, .live = {"memory", "slots"}, .metric = "odmoe_slots"},
    {.value = at<&Stats::memory, &MemoryPlan::n_expert_total>, .unit = Unit::kCount,
     .stats = {"memory", "experts"}},
    {.value = [](const Stats& s) { return s.memory.device.name.empty() ? Json() : Json(s.memory.device.name); },
     .stats = {"device", "name"}, .live = {"device", "name"}},
    {.value = [](const Stats& s) { return s.memory.device.name.empty() ? Json() : Json(s.memory.device.shares_host_memory); },
     .stats = {"device", "shares_host_memory"}, .live = {"device", "shares_host_memory"}},
    {.value = at<&Stats::memory, &MemoryPlan::device, &MemoryPlan::Device::available_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "budget_bytes"}, .live = {"device", "budget_bytes"},
     .metric = "odmoe_device_memory_bytes", .label = "budget"},
    {.value = at<&Stats::memory, &MemoryPlan::device, &MemoryPlan::Device::dense_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "dense_bytes"}, .live = {"device", "dense_bytes"},
     .metric = "odmoe_device_memory_bytes", .label = "dense"},
    {.value = at<&Stats::memory, &MemoryPlan::device, &MemoryPlan::Device::kv_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "kv_bytes"}, .live = {"device", "kv_bytes"},
     .metric = "odmoe_device_memory_bytes", .label = "kv"},
    {.value = at<&Stats::memory, &MemoryPlan::device, &MemoryPlan::Device::buffer_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "buffer_bytes"}, .live = {"device", "buffer_bytes"},
     .metric = "odmoe_device_memory_bytes", .label = "buffers"},
    {.value = at<&Stats::memory, &MemoryPlan::device, &MemoryPlan::Device::arena_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "arena_bytes"}, .live = {"device", "arena_bytes"},
     .metric = "odmoe_device_memory_bytes", .label = "arena"},
    {.value = at<&Stats::memory, &MemoryPlan::device, &MemoryPlan::Device::n_slot>, .unit = Unit::kCount,
     .stats = {"device", "slots"}, .live = {"device", "slots"}},
    {.value = at<&Stats::memory, &MemoryPlan::device, &MemoryPlan::Device::minimum_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "minimum_bytes"}},
    {.value = at<&Stats::device_experts, &Stats::DeviceExperts::resident>, .unit = Unit::kCount,
     .stats = {"device", "experts"}, .live = {"device", "experts"}, .metric = "odmoe_device_experts"},
    {.value = at<&Stats::device_experts, &Stats::DeviceExperts::hits>, .unit = Unit::kCount,
     .stats = {"device", "hits"}, .live = {"device", "hits"},
     .metric = "odmoe_device_experts_total", .label = "hits"},
    {.value = at<&Stats::device_experts, &Stats::DeviceExperts::copies>, .unit = Unit::kCount,
     .stats = {"device", "copies"}, .live = {"device", "copies"},
     .metric = "odmoe_device_experts_total", .label = "copies"},
    {.value = at<&Stats::device_experts, &Stats::DeviceExperts::evictions>, .unit = Unit::kCount,
     .stats = {"device", "evictions"}, .live = {"device", "evictions"},
     .metric = "odmoe_device_experts_total", .label = "evictions"},
    {.value = at<&Stats::device_experts, &Stats::DeviceExperts::copied_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "copied_bytes"}, .live = {"device", "copied_bytes"},
     .metric = "odmoe_device_copied_bytes_total"},
    {.value = at<&Stats::device_experts, &Stats::DeviceExperts::evicted_to_host>, .unit = Unit::kCount,
     .stats = {"device", "evicted_to_host"}, .live = {"device", "evicted_to_host"},
     .metric = "odmoe_device_experts_total", .label = "evicted_to_host"},
    {.value = device_hit_rate, .unit = Unit::kShare,
     .stats = {"device", "hit_rate"}, .live = {"device", "hit_rate"}},
    {.value = per_decode_step<&DeviceTraffic::operations>, .stats = {"device", "operations_per_step"}},
    {.value = per_decode_step<&DeviceTraffic::graphs>, .stats = {"device", "graphs_per_step"}},
    {.value = [](const Stats& s) { return share(s.decode.device.graphs, has_device(s) ? s.decode.tokens : 0); },
     .stats = {"device", "graphs_per_token"}, .live = {"device", "graphs_per_token"}},
    {.value = per_decode_step<&DeviceTraffic::waits>, .stats = {"device", "waits_per_step"}},
    {.value = per_decode_step<&DeviceTraffic::sent_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "sent_bytes_per_step"}},
    {.value = per_decode_step<&DeviceTraffic::fetched_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "fetched_bytes_per_step"}},
    {.value = per_decode_step<&DeviceTraffic::exchange_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "exchange_us_per_step"}},
    {.value = per_decode_step<&DeviceTraffic::launch_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "launch_us_per_step"}},
    {.value = per_decode_step<&DeviceTraffic::wait_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "wait_us_per_step"}},
    {.value = per_layer<&Stats::decode, &DeviceTraffic::graphs>,
     .stats = {"device", "graphs_per_layer"}, .live = {"device", "graphs_per_layer"}},
    {.value = per_layer<&Stats::decode, &DeviceTraffic::waits>, .stats = {"device", "waits_per_layer"}},
    {.value = per_layer<&Stats::decode, &DeviceTraffic::sent_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "sent_bytes_per_layer"}, .live = {"device", "sent_bytes_per_layer"}},
    {.value = per_layer<&Stats::decode, &DeviceTraffic::fetched_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "fetched_bytes_per_layer"}, .live = {"device", "fetched_bytes_per_layer"}},
    {.value = per_layer<&Stats::decode, &DeviceTraffic::exchange_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "exchange_us_per_layer"}, .live = {"device", "exchange_us_per_layer"}},
    {.value = per_layer<&Stats::decode, &DeviceTraffic::launch_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "launch_us_per_layer"}, .live = {"device", "launch_us_per_layer"}},
    {.value = per_layer<&Stats::decode, &DeviceTraffic::wait_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "wait_us_per_layer"}, .live = {"device", "wait_us_per_layer"}},
    {.value = per_layer<&Stats::prefill, &DeviceTraffic::sent_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "prefill_sent_bytes_per_layer"}},
    {.value = per_layer<&Stats::prefill, &DeviceTraffic::fetched_bytes>, .unit = Unit::kBytes,
     .stats = {"device", "prefill_fetched_bytes_per_layer"}},
    {.value = per_layer<&Stats::prefill, &DeviceTraffic::exchange_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "prefill_exchange_us_per_layer"}},
    {.value = per_layer<&Stats::prefill, &DeviceTraffic::launch_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "prefill_launch_us_per_layer"}},
    {.value = per_layer<&Stats::prefill, &DeviceTraffic::wait_us>, .unit = Unit::kMicroseconds,
     .stats = {"device", "prefill_wait_us_per_layer"}},
    {.value = [](const Stats& s) { return Json(s.prefill.device.graphs + s.decode.device.graphs); },
     .unit = Unit::kCount, .metric = "odmoe_device_graphs_total"},
    {.value = [](const Stats& s) { return Json(s.prefill.layers + s.decode.layers); },
     .unit = Unit::kCount, .metric = "odmoe_device_layers_total"},
    {.value = of_layers<&DeviceTraffic::sent_bytes>, .unit = Unit::kBytes,
     .metric = "odmoe_device_layer_bytes_total", .label = "sent"},
    {.value = of_layers<&DeviceTraffic::fetched_bytes>, .unit = Unit::kBytes,
     .metric = "odmoe_device_layer_bytes_total", .label = "fetched"},
    {.value = of_layers<&DeviceTraffic::exchange_us>, .unit = Unit::kMicroseconds,
     .metric = "odmoe_device_layer_seconds_total", .label = "exchange"},
    {.value = of_layers<&DeviceTraffic::launch_us>, .unit = Unit::kMicroseconds,
     .metric = "odmoe_device_layer_seconds_total", .label = "launch"},
    {.value = of_layers<&DeviceTraffic::wait_us>, .unit = Unit::kMicroseconds,
     .metric = "odmoe_device_layer_seconds_total", .label = "wait"},
    {.value = at<&Stats::peak_resident_bytes>, .unit = Unit::kBytes,
     .stats = {"memory", "peak_resident_bytes"},
     .metric = "odmoe_memory_bytes", .label = "peak_resident"},

    {.value = at<&Stats::prefill, &Stats::Phase::tokens>, .unit = Unit::kCount,
     .stats = {"prefill", "tokens"}, .live = {"total", "prompt_tokens"},
     .metric = "odmoe_engine_tokens_total", .label = "prefill"},
    {.value = [](const Stats& s) { return Json(s.prefill.tokens_per_second()); }, .unit = Unit::kTokensPerSecond,
     .stats = {"prefill", "tokens_per_second"}},
    {.value = at<&Stats::prefill, &Stats::Phase::seconds>, .unit = Unit::kSeconds,
     .metric = "odmoe_engine_seconds_total", .label = "prefill"},
    {.value = at<&Stats::ttft_ms>, .unit = Unit::kMilliseconds,
     .stats = {"prefill", "ttft_ms"}},

    {.value = at<&Stats::decode, &Stats::Phase::tokens>, .unit = Unit::kCount,
     .stats = {"decode", "tokens"}, .live = {"total", "tokens"},
     .metric = "odmoe_engine_tokens_total", .label = "decode"},
    {.value = [](const Stats& s) { return s.decode.tokens > 0 ? Json(s.decode.tokens_per_second()) : Json(); },
     .unit = Unit::kTokensPerSecond,
     .stats = {"decode", "tokens_per_second"}, .live = {"total", "tokens_per_second"}, .zero_when_unknown = true},
    {.value = at<&Stats::decode, &Stats::Phase::seconds>, .unit = Unit::kSeconds,
     .metric = "odmoe_engine_seconds_total", .label = "decode"},
    {.value = at<&Stats::decode, &Stats::Phase::steps>, .unit = Unit::kCount,
     .stats = {"decode", "steps"}},
    {.value = at<&Stats::decode, &Stats::Phase::experts_read>, .unit = Unit::kCount,
     .stats = {"decode", "experts_read"}},
    {.value = at<&Stats::decode, &Stats::Phase::dense_read_bytes>, .unit = Unit::kBytes,
     .stats = {"decode", "dense_read_bytes"}},

    {.value = at<&Stats::experts, &Stats::Experts::demands>, .unit = Unit::kCount,
     .stats = {"experts", "demands"}, .live = {"total", "demands"}},
    {.value = at<&Stats::experts, &Stats::Experts::hits>, .unit = Unit::kCount,
     .stats = {"experts", "hits"}, .metric = "odmoe_expert_demands_total", .label = "hit"},
    {.value = at<&Stats::experts, &Stats::Experts::late_hits>, .unit = Unit::kCount,
     .stats = {"experts", "late_hits"}, .metric = "odmoe_expert_demands_total", .label = "late_hit"},
    {.value = at<&Stats::experts, &Stats::Experts::misses>, .unit = Unit::kCount,
     .stats = {"experts", "misses"}, .metric = "odmoe_expert_demands_total", .label = "miss"},
    {.value = [](const Stats& s) { return share(s.experts.hits, s.experts.demands); }, .unit = Unit::kShare,
     .stats = {"experts", "hit_rate"}, .live = {"total", "hit_rate"}, .zero_when_unknown = true},
    {.value = [](const Stats& s) { return share(s.experts.late_hits, s.experts.demands); }, .unit = Unit::kShare,
     .live = {"total", "late_hit_rate"}},
    {.value = at<&Stats::experts, &Stats::Experts::working_set_experts>, .unit = Unit::kCount,
     .stats = {"experts", "working_set_experts"}, .live = {"total", "working_set_experts"},
     .metric = "odmoe_working_set_experts"},
    {.value = at<&Stats::experts, &Stats::Experts::evictions>, .unit = Unit::kCount,
     .stats = {"experts", "evictions"}, .live = {"total", "evictions"}, .metric = "odmoe_expert_evictions_total"},

    {.value = at<&Stats::io, &Stats::Io::reader>,
     .stats = {"io", "reader"}},
    {.value = at<&Stats::io, &Stats::Io::demand_read_bytes>, .unit = Unit::kBytes,
     .stats = {"io", "demand_read_bytes"}, .metric = "odmoe_read_bytes_total", .label = "demand"},
    {.value = at<&Stats::io, &Stats::Io::prefetch_read_bytes>, .unit = Unit::kBytes,
     .stats = {"io", "prefetch_read_bytes"}, .metric = "odmoe_read_bytes_total", .label = "prefetch"},
    {.value = at<&Stats::io, &Stats::Io::fill_read_bytes>, .unit = Unit::kBytes,
     .stats = {"io", "fill_read_bytes"}, .metric = "odmoe_read_bytes_total", .label = "fill"},
    {.value = at<&Stats::io, &Stats::Io::experts_filled>, .unit = Unit::kCount,
     .stats = {"io", "experts_filled"}},
    {.value = at<&Stats::io, &Stats::Io::experts_filled_used>, .unit = Unit::kCount,
     .stats = {"io", "experts_filled_used"}},
    {.value = [](const Stats& s) { return Json(s.io.total_read_bytes()); },
     .unit = Unit::kBytes, .live = {"total", "read_bytes"}},
    {.value = at<&Stats::io, &Stats::Io::reads>, .unit = Unit::kCount,
     .stats = {"io", "reads"}},
    {.value = at<&Stats::io, &Stats::Io::read_retries>, .unit = Unit::kCount,
     .stats = {"io", "read_retries"}, .live = {"total", "read_retries"}, .metric = "odmoe_read_retries_total"},
    {.value = at<&Stats::io, &Stats::Io::stall_us>, .unit = Unit::kMicroseconds,
     .stats = {"io", "stall_us"}, .metric = "odmoe_stall_seconds_total"},
    {.value = [](const Stats& s) { return Json(s.io.read_bytes_per_second()); }, .unit = Unit::kBytesPerSecond,
     .stats = {"io", "read_bytes_per_second"}},
    {.value = [](const Stats& s) { return known(s.io.probed_bytes_per_second()); }, .unit = Unit::kBytesPerSecond,
     .stats = {"io", "probed_bytes_per_second"}, .live = {"drive", "probed_bytes_per_second"}},
    {.value = at<&Stats::io, &Stats::Io::depth>, .unit = Unit::kCount,
     .stats = {"io", "depth"}},
    {.value = at<&Stats::io, &Stats::Io::read_bytes>, .unit = Unit::kBytes,
     .stats = {"io", "read_bytes"}},
    {.value = copies,
     .stats = {"io", "copies"}},
    {.value = [](const Stats& s) { return Json(std::ranges::count(s.io.copies, true, &Stats::Io::Copy::failed)); },
     .unit = Unit::kCount, .live = {"drive", "failed_copies"}},

    {.value = at<&Stats::predictor, &Stats::Predictor::name>,
     .stats = {"predictor", "name"}, .live = {"predictor", "name"}},
    {.value = recall, .unit = Unit::kShare,
     .stats = {"predictor", "recall"}},
    {.value = [](const Stats& s) { return share(s.predictor.prefetched_used, s.predictor.prefetched); },
     .unit = Unit::kShare, .stats = {"predictor", "accuracy"}, .live = {"predictor", "accuracy"}},
    {.value = [](const Stats& s) {
       return share(s.predictor.prefetched_used, s.predictor.prefetched_used + s.experts.misses);
     },
     .unit = Unit::kShare, .stats = {"predictor", "coverage"}},
    {.value = [](const Stats& s) { return share(s.predictor.prefetched_late, s.predictor.prefetched_used); },
     .unit = Unit::kShare, .stats = {"predictor", "late"}},
    {.value = at<&Stats::predictor, &Stats::Predictor::prefetched>, .unit = Unit::kCount,
     .live = {"predictor", "prefetched"}},
    {.value = at<&Stats::predictor, &Stats::Predictor::prefetching>,
     .stats = {"predictor", "prefetching"}, .live = {"predictor", "prefetching"}},
    {.value = at<&Stats::predictor, &Stats::Predictor::many_reads>,
     .stats = {"predictor", "many_reads"}},
    {.value = [](const Stats& s) { return known(s.predictor.gain); }, .unit = Unit::kShare,
     .stats = {"predictor", "gain"}},
    {.value = at<&Stats::predictor, &Stats::Predictor::trials>, .unit = Unit::kCount,
     .stats = {"predictor", "trials"}},

    {.value = at<&Stats::routing, &Stats::Routing::expert_counts>, .unit = Unit::kCount,
     .stats = {"routing", "expert_counts"}},
    {.value = at<&Stats::routing, &Stats::Routing::total_selections>, .unit = Unit::kCount,
     .stats = {"routing", "total_selections"}},
    {.value = at<&Stats::routing, &Stats::Routing::load_balance_coefficient>,
     .stats = {"routing", "load_balance_coefficient"}},
    {.value = at<&Stats::routing, &Stats::Routing::auxiliary_loss>,
     .stats = {"routing", "auxiliary_loss"}},

    {.value = ranks,
     .stats = {"cluster", "ranks"}, .live = {"cluster", "ranks"}},

    {.value = [](const Stats& s) { return known(s.roofline().compute_tokens_per_second); },
     .unit = Unit::kTokensPerSecond, .stats = {"roofline", "compute_tokens_per_second"}},
    {.value = [](const Stats& s) { return known(s.roofline().io_tokens_per_second); },
     .unit = Unit::kTokensPerSecond, .stats = {"roofline", "io_tokens_per_second"}},
    {.value = [](const Stats& s) { return known(s.roofline().fraction); },
     .unit = Unit::kShare, .stats = {"roofline", "fraction"}},
});

constexpr auto kFamilies = std::to_array<MetricFamily>({
    {.name = "odmoe_expert_demands_total", .help = "Experts asked for: in memory, on the way, or not", .label = "result"},
    {.name = "odmoe_expert_evictions_total", .help = "Experts that made room"},
    {.name = "odmoe_working_set_experts", .help = "Distinct experts used so far", .counter = false},
    {.name = "odmoe_slots", .help = "Experts that fit in the arena now", .counter = false},
    {.name = "odmoe_read_bytes_total", .help = "Bytes read for experts", .label = "kind"},
    {.name = "odmoe_read_retries_total", .help = "Reads that were tried again"},
    {.name = "odmoe_stall_seconds_total", .help = "Time that compute waited for reads"},
    {.name = "odmoe_engine_tokens_total", .help = "Tokens evaluated", .label = "phase"},
    {.name = "odmoe_engine_seconds_total", .help = "Time spent evaluating", .label = "phase"},
    {.name = "odmoe_memory_bytes", .help = "How the memory is divided", .label = "part", .counter = false},
    {.name = "odmoe_device_experts", .help = "Experts that are in a device's own memory now", .counter = false},
    {.name = "odmoe_device_experts_total", .help = "Experts in a device's own memory: there when wanted, copied from the host, evicted, of those still on the host", .label = "what"},
    {.name = "odmoe_device_copied_bytes_total", .help = "Bytes of experts copied to a device's own memory"},
    {.name = "odmoe_device_graphs_total", .help = "Graphs launched on a device"},
    {.name = "odmoe_device_layers_total", .help = "Layers of experts for which a device and the host exchanged activations"},
    {.name = "odmoe_device_layer_bytes_total", .help = "Bytes to and from a device for these layers", .label = "direction"},
    {.name = "odmoe_device_layer_seconds_total", .help = "Time of the host for these layers: giving bytes to the driver, giving graphs to it, waiting for the device", .label = "what"},
    {.name = "odmoe_device_memory_bytes", .help = "What is taken of a device's own memory", .label = "part", .counter = false},
});
// clang-format on

}  // namespace

std::span<const StatsField> stats_fields() { return kFields; }
std::span<const MetricFamily> metric_families() { return kFamilies; }

}  // namespace odmoe
