#include "engine/observer_sink.h"

namespace odmoe {

void ObserverSink::observe(RoutingObserver* observer) {
  observer_ = observer;
  embedding_.resize(observer != nullptr ? static_cast<size_t>(decoder_->shape().n_embd * chunk_) : 0);
  embedding_.shrink_to_fit();
}

Status ObserverSink::on_routing(const RoutingEvent& event) {
  if (observer_ == nullptr || !event.of_one_timeline()) return {};
  if (event.index == 0) ODMOE_RETURN_IF_ERROR(show_tokens(event));
  return observer_->on_layer({.layer = event.layer,
                              .n_token = static_cast<int32_t>(event.n_token),
                              .attention_input = event.attention_input,
                              .router_input = event.router_input,
                              .experts = event.experts,
                              .weights = event.weights});
}

Status ObserverSink::show_tokens(const RoutingEvent& event) {
  const auto n_embd = static_cast<size_t>(decoder_->shape().n_embd);
  const std::span embedding = std::span(embedding_).first(event.tokens.size() * n_embd);
  for (size_t i = 0; i < event.tokens.size(); ++i) {
    decoder_->embedding(event.tokens[i], embedding.subspan(i * n_embd, n_embd));
  }
  return observer_->on_tokens({.tokens = event.tokens,
                               .first_position = static_cast<int32_t>(event.first_position),
                               .embedding = embedding});
}

}  // namespace odmoe
