#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <utility>
#include <vector>

namespace odmoe::server {

std::string_view ending_name(Ending ending) {
  switch (ending) {
    case Ending::kEndToken:
    case Ending::kGrammar:
      return "end";
    case Ending::kLength:
      return "length";
    case Ending::kContextFull:
      return "context_full";
    case Ending::kSink:
      return "stop";
    case Ending::kCancelled:
      return "cancelled";
    case Ending::kDeadline:
      return "deadline";
    case Ending::kForbidden:
      return "forbidden";
    case Ending::kError:
      return "error";
  }
  return "";
}

// The registry holds what happens here; what the engine counts itself is put into gauges and counters of the
// answer as it is asked for.
struct Metrics::Impl {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests = prometheus::BuildCounter()
                                                          .Name("odmoe_http_requests_total")
                                                          .Help("HTTP requests answered")
                                                          .Register(registry);
  prometheus::Family<prometheus::Counter>& generations = prometheus::BuildCounter()
                                                             .Name("odmoe_generations_total")
                                                             .Help("Generations by what ended them")
                                                             .Register(registry);
  prometheus::Family<prometheus::Counter>& tokens = prometheus::BuildCounter()
                                                        .Name("odmoe_tokens_total")
                                                        .Help(
                                                            "Tokens of prompts (reused: from a KV cache) and "
                                                            "generated")
                                                        .Register(registry);
  prometheus::Histogram& queue =
      histogram("odmoe_queue_seconds", "Time that generations waited for a session");
  prometheus::Histogram& ttft = histogram("odmoe_ttft_seconds", "Time from a request to its first token");
  prometheus::Histogram& token_time = histogram("odmoe_token_seconds", "Mean time per token of a generation");

  prometheus::Histogram& histogram(const char* name, const char* help) {
    const prometheus::Histogram::BucketBoundaries bounds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                            1,     2.5,  5,     10,   30,  60,   300};
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, bounds);
  }
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::count_request(std::string_view route, int status) {
  impl_->requests.Add({{"route", std::string(route)}, {"status", std::to_string(status)}}).Increment();
}

void Metrics::count_end(const GenerationEnd& end) {
  impl_->generations.Add({{"end", std::string(ending_name(end.ending))}}).Increment();
  impl_->tokens.Add({{"kind", "prompt"}}).Increment(end.prompt_tokens);
  impl_->tokens.Add({{"kind", "reused"}}).Increment(end.reused_tokens);
  impl_->tokens.Add({{"kind", "generated"}}).Increment(end.generated_tokens);
  impl_->queue.Observe(end.queue_ms * 1e-3);
  if (end.generated_tokens > 0) impl_->ttft.Observe(end.ttft_ms * 1e-3);
  if (end.generated_tokens > 1) impl_->token_time.Observe(end.decode_ms * 1e-3 / (end.generated_tokens - 1));
}

std::string Metrics::text(const Stats* stats, const Scheduler::Load& load, size_t connections) {
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  const auto add = [&](const char* name, const char* help, double value, bool counter,
                       std::vector<prometheus::ClientMetric::Label> labels = {}) {
    if (families.empty() || families.back().name != name) {
      families.push_back(
          {name, help, counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge, {}});
    }
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    (counter ? metric.counter.value : metric.gauge.value) = value;
    families.back().metric.push_back(std::move(metric));
  };
  const auto gauge = [&](const char* name, const char* help, auto value) {
    add(name, help, static_cast<double>(value), false);
  };
  const auto counter = [&](const char* name, const char* help, auto value) {
    add(name, help, static_cast<double>(value), true);
  };
  gauge("odmoe_up", "1 once the model is loaded", stats != nullptr ? 1 : 0);
  gauge("odmoe_queue_length", "Generations that wait", load.queued);
  gauge("odmoe_running", "Generations that have a session", load.running);
  gauge("odmoe_connections", "HTTP connections", connections);
  if (stats != nullptr) {
    const Stats& s = *stats;
    const auto demands = [&](const char* kind, uint64_t n) {
      add("odmoe_expert_demands_total", "Experts asked for: in memory, on the way, or not",
          static_cast<double>(n), true, {{"result", kind}});
    };
    demands("hit", s.experts.hits);
    demands("late_hit", s.experts.late_hits);
    demands("miss", s.experts.misses);
    counter("odmoe_expert_evictions_total", "Experts that made room", s.experts.evictions);
    gauge("odmoe_working_set_experts", "Distinct experts used so far", s.experts.working_set_experts);
    gauge("odmoe_slots", "Experts that fit in the arena now", s.n_slot_now);
    const auto reads = [&](const char* kind, uint64_t n) {
      add("odmoe_read_bytes_total", "Bytes read for experts", static_cast<double>(n), true, {{"kind", kind}});
    };
    reads("demand", s.io.demand_read_bytes);
    reads("prefetch", s.io.prefetch_read_bytes);
    counter("odmoe_read_retries_total", "Reads that were tried again", s.io.read_retries);
    counter("odmoe_stall_seconds_total", "Time that compute waited for reads",
            static_cast<double>(s.io.stall_us) * 1e-6);
    const auto engine_tokens = [&](const char* phase, const Stats::Phase& p) {
      add("odmoe_engine_tokens_total", "Tokens evaluated", static_cast<double>(p.tokens), true,
          {{"phase", phase}});
    };
    engine_tokens("prefill", s.prefill);
    engine_tokens("decode", s.decode);
    const auto engine_time = [&](const char* phase, const Stats::Phase& p) {
      add("odmoe_engine_seconds_total", "Time spent evaluating", p.seconds, true, {{"phase", phase}});
    };
    engine_time("prefill", s.prefill);
    engine_time("decode", s.decode);
    const auto memory = [&](const char* part, uint64_t bytes) {
      add("odmoe_memory_bytes", "How the memory is divided", static_cast<double>(bytes), false,
          {{"part", part}});
    };
    memory("budget", s.memory.budget_bytes);
    memory("dense", s.memory.dense_bytes);
    memory("kv", s.kv_bytes_in_use);
    memory("arena", s.arena_bytes_now);
    memory("peak_resident", s.peak_resident_bytes);
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace odmoe::server
