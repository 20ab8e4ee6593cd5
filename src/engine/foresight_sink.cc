#include "engine/foresight_sink.h"

#include <utility>

namespace odmoe {

ForesightSink::ForesightSink(std::unique_ptr<Foresight> foresight, const Decoder& decoder, const Clock& clock)
    : foresight_(std::move(foresight)), decoder_(&decoder), clock_(&clock) {
  if (foresight_->predictor().wants().embedding) {
    embedding_.resize(static_cast<size_t>(decoder.shape().n_embd));
  }
}

Status ForesightSink::begin(const SequenceState& state, int32_t token) {
  if (&state != state_ || state.length() != next_) foresight_->begin_sequence();
  state_ = &state;
  next_ = state.length() + 1;
  if (!embedding_.empty()) decoder_->embedding(token, embedding_);
  return foresight_->begin_token(embedding_, clock_->now_us());
}

Status ForesightSink::on_routing(const RoutingEvent& event) {
  if (!event.of_one_timeline() || event.n_token != 1) return {};
  return foresight_->routed({.layer = event.index,
                             .router_input = event.router_input,
                             .attention_input = event.attention_input,
                             .residual = event.residual,
                             .experts = event.experts,
                             .weights = event.weights});
}

void ForesightSink::end() { foresight_->end_token(clock_->now_us()); }

}  // namespace odmoe
