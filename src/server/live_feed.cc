#include "server/live_feed.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/memory_info.h"
#include "odmoe/format.h"
#include "server/expert_map.h"

namespace odmoe::server {
namespace {

// Four digits behind the point are more than anybody sees.
Json number(std::optional<double> value) {
  return value ? Json(std::round(*value * 1e4) / 1e4) : Json(nullptr);
}

Json share(uint64_t part, uint64_t whole) {
  return number(whole > 0 ? std::optional(static_cast<double>(part) / static_cast<double>(whole))
                          : std::nullopt);
}

Json bytes_per_second(std::optional<double> value) {
  return value ? Json(std::llround(*value)) : Json(nullptr);
}

Json figures_of(const Stats& stats, const LiveRates& now, const LiveSubject& subject, uint64_t resident) {
  const double probed = stats.io.probed_bytes_per_second();
  const Stats::Experts& experts = stats.experts;
  Json json;
  json["now"] = {{"tokens_per_second", number(now.tokens_per_second)},
                 {"prefill_tokens_per_second", number(now.prefill_tokens_per_second)},
                 {"hit_rate", number(now.hit_rate)},
                 {"late_hit_rate", number(now.late_hit_rate)},
                 {"stall_share", number(now.stall_share)},
                 {"read_bytes_per_second", bytes_per_second(now.read_bytes_per_second)}};
  json["total"] = {
      {"prompt_tokens", stats.prefill.tokens},
      {"tokens", stats.decode.tokens},
      {"tokens_per_second",
       number(stats.decode.tokens > 0 ? std::optional(stats.decode.tokens_per_second()) : std::nullopt)},
      {"demands", experts.demands},
      {"hit_rate", share(experts.hits, experts.demands)},
      {"late_hit_rate", share(experts.late_hits, experts.demands)},
      {"evictions", experts.evictions},
      {"working_set_experts", experts.working_set_experts},
      {"read_bytes", stats.io.demand_read_bytes + stats.io.prefetch_read_bytes},
      {"read_retries", stats.io.read_retries}};
  json["drive"] = {
      {"probed_bytes_per_second", bytes_per_second(probed > 0 ? std::optional(probed) : std::nullopt)},
      {"failed_copies", std::ranges::count(stats.io.copies, true, &Stats::Io::Copy::failed)}};
  json["memory"] = {{"budget_bytes", stats.memory.budget_bytes},
                    {"resident_bytes", resident},
                    {"dense_bytes", stats.memory.dense_bytes},
                    {"kv_bytes", stats.kv_bytes_in_use},
                    {"arena_bytes", stats.arena_bytes_now},
                    {"buffer_bytes", stats.memory.buffer_bytes},
                    {"slots", stats.n_slot_now}};
  json["sessions"] = {{"running", subject.load.running},
                      {"most", subject.sessions},
                      {"queued", subject.load.queued},
                      {"most_queued", subject.max_queue}};
  json["predictor"] = {{"name", stats.predictor.name},
                       {"prefetching", stats.predictor.prefetching},
                       {"prefetched", stats.predictor.prefetched},
                       {"accuracy", share(stats.predictor.prefetched_used, stats.predictor.prefetched)}};
  return json;
}

}  // namespace

std::shared_ptr<const LiveFrame> LiveFeed::look(const LiveSubject& subject, int64_t now_us) {
  using std::chrono::microseconds;
  const std::lock_guard lock(mutex_);
  const int64_t age_us = now_us - last_us_;
  // A listener's own pause may end a little before the first one's.
  if (last_ && age_us < microseconds(kInterval).count() * 4 / 5) return last_;
  if (last_ && age_us > microseconds(kStale).count()) window_.clear();
  const Stats stats = subject.engine->stats();
  window_.add(stats, subject.load.running > 0, now_us);
  auto frame = std::make_shared<LiveFrame>();
  frame->figures = figures_of(stats, window_.rates(), subject, resident_bytes());
  const ModelInfo& model = subject.engine->model();
  frame->experts.resize(static_cast<size_t>(model.n_layer) * static_cast<size_t>(model.n_expert));
  size_t n = 0;
  for (int32_t layer = 0; layer < model.n_layer; ++layer) {
    n += static_cast<size_t>(subject.engine->view_experts(layer, std::span(frame->experts).subspan(n)));
  }
  frame->experts.resize(n);
  last_ = std::move(frame);
  last_us_ = now_us;
  return last_;
}

Json live_model(const Engine& engine, const std::string& id, bool chat, int32_t context) {
  const ModelInfo& model = engine.model();
  std::vector<ExpertView> room(static_cast<size_t>(model.n_expert));
  Json layers = Json::array();  // [number, experts]
  for (int32_t layer = 0; layer < model.n_layer; ++layer) {
    if (const int32_t n = engine.view_experts(layer, room); n > 0) layers.push_back({layer, n});
  }
  return {{"id", id},
          {"name", model.name},
          {"architecture", model.architecture},
          {"file_bytes", model.file_bytes},
          {"expert_bytes", model.expert_bytes},
          {"n_expert_used", model.n_expert_used},
          {"context", context},
          {"chat", chat},
          {"reader", engine.stats().io.reader},
          {"layers", std::move(layers)}};
}

Json LiveStream::next(const LiveFrame& frame) {
  const bool first = letters_.size() != frame.experts.size();
  if (first) {
    letters_.assign(frame.experts.size(), 'a');
    uses_.clear();
    for (const ExpertView& expert : frame.experts) uses_.push_back(expert.uses);
  }
  uint32_t most = 0;
  for (size_t i = 0; i < uses_.size(); ++i) most = std::max(most, frame.experts[i].uses - uses_[i]);
  std::string now(letters_.size(), 'a');
  for (size_t i = 0; i < now.size(); ++i) {
    now[i] = expert_letter(frame.experts[i], frame.experts[i].uses - uses_[i], most);
    uses_[i] = frame.experts[i].uses;
  }
  Json json = frame.figures;
  json["whole"] = first;
  json["map"] = map_changes(letters_, now);
  letters_ = std::move(now);
  return json;
}

std::string event_text(std::string_view name, const Json& data) {
  return odmoe::format("event: {}\ndata: {}\n\n", name, dump_json(data));
}

}  // namespace odmoe::server
