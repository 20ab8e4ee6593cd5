#include "server/live_feed.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/memory_info.h"
#include "engine/stats_fields.h"
#include "odmoe/format.h"
#include "server/expert_map.h"

namespace odmoe::server {
namespace {

// Four digits behind the point are more than anybody sees.
Json number_or_null(std::optional<double> value) {
  return value ? Json(std::round(*value * 1e4) / 1e4) : Json(nullptr);
}

Json bytes_per_second(std::optional<double> value) {
  return value ? Json(std::llround(*value)) : Json(nullptr);
}

// As somebody who looks on sees it.
Json shown(const Json& value, Unit unit) {
  if (!value.is_number_float()) return value;
  return unit == Unit::kBytesPerSecond ? bytes_per_second(value.get<double>())
                                       : number_or_null(value.get<double>());
}

Json figures_of(const Stats& stats, const LiveRates& now, const LiveSubject& subject, uint64_t resident) {
  Json json;
  json["now"] = {{"tokens_per_second", number_or_null(now.tokens_per_second)},
                 {"prefill_tokens_per_second", number_or_null(now.prefill_tokens_per_second)},
                 {"hit_rate", number_or_null(now.hit_rate)},
                 {"late_hit_rate", number_or_null(now.late_hit_rate)},
                 {"stall_share", number_or_null(now.stall_share)},
                 {"read_bytes_per_second", bytes_per_second(now.read_bytes_per_second)}};
  json["memory"] = {{"resident_bytes", resident}};
  json["sessions"] = {{"running", subject.load.running},
                      {"most", subject.sessions},
                      {"queued", subject.load.queued},
                      {"most_queued", subject.max_queue}};
  for (const StatsField& field : stats_fields()) {
    if (field.live.name.empty()) continue;
    json[field.live.group][field.live.name] = shown(field.value(stats), field.unit);
  }
  return json;
}

}  // namespace

std::shared_ptr<const LiveFrame> LiveFeed::look(const LiveSubject& subject, int64_t now_us) {
  using std::chrono::microseconds;
  const MutexLock lock(mutex_);
  const int64_t age_us = now_us - last_us_;
  // A subscriber's own pause may end a little before the first one's.
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
