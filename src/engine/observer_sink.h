// Shows a RoutingObserver (odmoe/observer.h) what the routers see and choose.
#pragma once

#include <vector>

#include "engine/routing_event.h"
#include "model/decoder.h"
#include "odmoe/observer.h"

namespace odmoe {

// One owner.  Tokens of several timelines are not shown.
class ObserverSink final : public RoutingSink {
 public:
  // For evaluations of at most `chunk` tokens.  `decoder` must outlive it.
  ObserverSink(const Decoder& decoder, int64_t chunk) : decoder_(&decoder), chunk_(chunk) {}

  // From now on; null: nobody.
  void observe(RoutingObserver* observer);
  bool observed() const { return observer_ != nullptr; }

  Status on_routing(const RoutingEvent& event) override;

 private:
  Status show_tokens(const RoutingEvent& event);
  const Decoder* decoder_;
  int64_t chunk_;
  RoutingObserver* observer_ = nullptr;
  std::vector<float> embedding_;  // [n_embd, chunk], if there is an observer
};

}  // namespace odmoe
