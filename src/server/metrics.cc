#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "engine/stats_fields.h"

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

namespace {

// Of each of several machines (Stats::ranks), which labels tell apart.
struct RankMetric {
  const char *name, *help;
  bool counter;
  double (*value)(const Stats::Rank& rank);
};

constexpr RankMetric kRankMetrics[] = {
    {"odmoe_rank_experts", "Experts that a rank owns", false,
     [](const Stats::Rank& r) { return static_cast<double>(r.n_expert); }},
    {"odmoe_rank_arena_bytes", "Memory for experts of a rank", false,
     [](const Stats::Rank& r) { return static_cast<double>(r.arena_bytes); }},
    {"odmoe_rank_demands_total", "Experts asked for of a rank", true,
     [](const Stats::Rank& r) { return static_cast<double>(r.demands); }},
    {"odmoe_rank_hits_total", "Of these, those in its memory", true,
     [](const Stats::Rank& r) { return static_cast<double>(r.hits); }},
    {"odmoe_rank_read_bytes_total", "Bytes that a rank asked of its drive", true,
     [](const Stats::Rank& r) { return static_cast<double>(r.read_bytes); }},
    {"odmoe_rank_stall_seconds_total", "Time that a rank waited for its reads", true,
     [](const Stats::Rank& r) { return static_cast<double>(r.stall_us) * 1e-6; }},
    {"odmoe_rank_wait_seconds_total", "Time that the head waited for a rank", true,
     [](const Stats::Rank& r) { return static_cast<double>(r.wait_us) * 1e-6; }},
    {"odmoe_rank_sent_bytes_total", "Bytes of layers that the head sent to a rank", true,
     [](const Stats::Rank& r) { return static_cast<double>(r.sent_bytes); }},
    {"odmoe_rank_received_bytes_total", "Bytes of layers that came back", true,
     [](const Stats::Rank& r) { return static_cast<double>(r.received_bytes); }},
};

}  // namespace

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
  if (end.patient) return;  // nobody waited for it
  impl_->queue.Observe(end.queue_ms * 1e-3);
  if (end.generated_tokens > 0) impl_->ttft.Observe(end.ttft_ms * 1e-3);
  if (end.generated_tokens > 1) impl_->token_time.Observe(end.decode_ms * 1e-3 / (end.generated_tokens - 1));
}

std::string Metrics::text(const Stats* stats, const Scheduler::Load& load, size_t connections) {
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  const auto begin = [&](std::string_view name, std::string_view help, bool counter) {
    const auto type = counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    families.push_back({std::string(name), std::string(help), type, {}});
  };
  // To the family that was begun last.
  const auto add = [&](double value, std::vector<prometheus::ClientMetric::Label> labels = {}) {
    prometheus::MetricFamily& family = families.back();
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    (family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  };
  const auto gauge = [&](const char* name, const char* help, size_t value) {
    begin(name, help, false);
    add(static_cast<double>(value));
  };
  gauge("odmoe_up", "1 once the model is loaded", stats != nullptr ? 1 : 0);
  gauge("odmoe_queue_length", "Generations that wait", load.queued);
  gauge("odmoe_running", "Generations that have a session", load.running);
  gauge("odmoe_batch_queue_length", "Generations of batches that wait", load.patient_queued);
  gauge("odmoe_batch_running", "Generations of batches that have a session", load.patient_running);
  gauge("odmoe_connections", "HTTP connections", connections);
  if (stats != nullptr) {
    for (const MetricFamily& family : metric_families()) {
      begin(family.name, family.help, family.counter);
      for (const StatsField& field : stats_fields()) {
        if (field.metric != family.name) continue;
        // Prometheus counts time in seconds.
        const double scale = field.unit == Unit::kMicroseconds ? 1e-6 : 1;
        std::vector<prometheus::ClientMetric::Label> labels;
        if (!family.label.empty()) labels.push_back({std::string(family.label), std::string(field.label)});
        add(field.value(*stats).get<double>() * scale, std::move(labels));
      }
    }
  }
  for (const RankMetric& metric : kRankMetrics) {
    if (stats == nullptr || stats->ranks.empty()) break;
    begin(metric.name, metric.help, metric.counter);
    for (const Stats::Rank& rank : stats->ranks) {
      add(metric.value(rank), {{"rank", std::to_string(rank.rank)}, {"host", rank.host}});
    }
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace odmoe::server
