#include "engine/batch_foresight_sink.h"

#include <utility>

namespace odmoe {
namespace {

std::span<const float> fetched(const Exchange<float>& values) {
  values.fetch(0, 1);
  return values.columns(0, 1);
}

}  // namespace

BatchForesightSink::BatchForesightSink(std::unique_ptr<BatchForesight> foresight, Predictor::Wants wants,
                                       const Decoder& decoder, const Clock& clock)
    : foresight_(std::move(foresight)), wants_(wants), decoder_(&decoder), clock_(&clock) {
  if (wants_.embedding) embedding_.resize(static_cast<size_t>(decoder.shape().n_embd));
}

Status BatchForesightSink::begin(const EvaluationColumns& a, std::span<const int32_t> columns) {
  active_ = foresight_->begin_step(columns.size(), clock_->now_us());
  if (!active_) return {};
  for (size_t i = 0; i < columns.size(); ++i) {
    if (wants_.embedding) decoder_->embedding(a.tokens.columns(columns[i], 1)[0], embedding_);
    ODMOE_RETURN_IF_ERROR(foresight_->begin_token(i, embedding_));
  }
  foresight_->hint_first();
  return {};
}

Status BatchForesightSink::on_routing(const RoutingEvent& event, const EvaluationMemory& memory,
                                      std::span<const int32_t> lanes) {
  if (!active_) return {};
  const size_t n_used = event.experts.size() / lanes.size();
  for (size_t i = 0; i < lanes.size(); ++i) {
    const EvaluationColumns& a = memory.lane(lanes[i]);
    RoutingState state{.layer = event.index,
                       .router_input = a.ffn_input.columns(0, 1),
                       .experts = event.experts.subspan(i * n_used, n_used),
                       .weights = event.weights.subspan(i * n_used, n_used)};
    if (wants_.attention_input) state.attention_input = fetched(a.layer_input);
    if (wants_.residual) state.residual = fetched(a.residual);
    if (wants_.streams) {
      state.streams = fetched(a.residual_streams);
      if (a.banked) state.banked = fetched(a.banked);
    }
    ODMOE_RETURN_IF_ERROR(foresight_->routed(i, state));
  }
  foresight_->layer_done(event.index);
  return {};
}

}  // namespace odmoe
