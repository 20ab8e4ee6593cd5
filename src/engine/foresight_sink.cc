#include "engine/foresight_sink.h"

#include <utility>

namespace odmoe {

ForesightSink::ForesightSink(std::unique_ptr<Foresight> foresight, const Decoder& decoder, const Clock& clock)
    : foresight_(std::move(foresight)), decoder_(&decoder), clock_(&clock) {
  if (foresight_->predictor().wants().embedding) {
    embedding_.resize(static_cast<size_t>(decoder.shape().n_embd));
  }
  const ModelShape& shape = decoder.shape();
  certain_.reserve(static_cast<size_t>(shape.n_layer_by_token) *
                   static_cast<size_t>(shape.router.n_expert_used));
}

Status ForesightSink::begin(const SequenceState& state, int32_t token) {
  if (&state != state_ || state.length() != next_) foresight_->begin_sequence();
  state_ = &state;
  next_ = state.length() + 1;
  if (!embedding_.empty()) decoder_->embedding(token, embedding_);
  ODMOE_RETURN_IF_ERROR(foresight_->begin_token(embedding_, clock_->now_us()));
  certain_.clear();
  const std::vector<int>& layers = decoder_->expert_layers();
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::span<const int32_t> experts = decoder_->experts_of(layers[i], token);
    if (experts.empty()) break;  // the first layers have them
    for (const int32_t expert : experts) certain_.push_back({.layer = i, .expert = expert});
  }
  if (!certain_.empty()) foresight_->know(certain_);
  return {};
}

Status ForesightSink::on_routing(const RoutingEvent& event) {
  if (!event.of_one_timeline() || event.n_token != 1) return {};
  return foresight_->routed({.layer = event.index,
                             .router_input = event.router_input,
                             .attention_input = event.attention_input,
                             .residual = event.residual,
                             .streams = event.streams,
                             .banked = event.banked,
                             .experts = event.experts,
                             .weights = event.weights});
}

void ForesightSink::end() { foresight_->end_token(clock_->now_us()); }

}  // namespace odmoe
