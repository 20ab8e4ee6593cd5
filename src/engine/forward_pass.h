// One evaluation: tokens through all layers.  Dense weights are computed by a DensePass, routed experts by
// the sites that own them; in between the routers choose, and everybody who wants to know is told.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/clock.h"
#include "engine/batch_foresight_sink.h"
#include "engine/dense_pass.h"
#include "engine/expert_owners.h"
#include "engine/expert_site.h"
#include "engine/foresight_sink.h"
#include "engine/layer_demand.h"
#include "engine/observer_sink.h"
#include "engine/routing_event.h"
#include "engine/routing_stats.h"
#include "engine/site_hints.h"
#include "model/blocks/router.h"
#include "model/decoder.h"
#include "model/sequence_state.h"
#include "odmoe/observer.h"
#include "odmoe/result.h"

namespace odmoe {

// One owner at a time.
class ForwardPass {
 public:
  struct Options {
    DensePass::Options dense;
    const Clock* clock = &SteadyClock::instance();
    const std::atomic<bool>* interrupted = nullptr;  // may be null
  };

  // `decoder` and `dense` must outlive it.  Sites and sinks are added before the first run().
  ForwardPass(const Decoder& decoder, DensePass& dense, const Options& options);

  // Memory that evaluations will make resident besides what `dense` and the sites say.
  uint64_t buffer_bytes() const;

  // The first site owns all experts; of a later one `owns` says what it takes over.
  void add_site(ExpertSite& site, const ExpertOwners::Owns& owns = {});
  const ExpertOwners& owners() const { return owners_; }
  // Other owners from the next evaluation on: what each site but the first takes over.
  void change_owners(std::span<const ExpertOwners::Owns> owns);
  // Where hints go, once all sites are there; null: all experts are the first one's.
  HintSink* hint_sink();
  // Is told before the sites begin with a layer, so it has to be quick.
  void tell_first(RoutingSink& sink) { first_sinks_.push_back(&sink); }

  // From now on single tokens are foreseen.
  void use_foresight(std::unique_ptr<Foresight> foresight);
  // And steps of several; the predictor that it asks is the other's.
  void use_batch_foresight(std::unique_ptr<BatchForesight> foresight);

  // Shows `observer` what run() sees; null: nobody.
  void observe(RoutingObserver* observer) { observer_.observe(observer); }
  bool observed() const { return observer_.observed(); }

  enum class Logits { kNone, kLast, kAll };
  using Sink = std::function<void(int64_t index, std::span<const float> logits)>;

  // Evaluates tokens (1 to chunk) that follow those in `state`, which after an error is as it was.  `sink`
  // gets the logits asked for, with the index into `tokens`; valid during the call.
  // Errors: of the sites (an expert could not be read), kInterrupted; kBadFile when a value is not finite on
  // which a logit asked for, or the state, depends, with the layer and the part of it where that began.
  Status run(SequenceState& state, DecodeGraphs& decode_graphs, std::span<const int32_t> tokens,
             Logits logits, const Sink& sink);

  // One more token of one timeline.
  struct Step {
    SequenceState* state = nullptr;
    DecodeGraphs* graphs = nullptr;
    int32_t token = 0;
  };

  // Evaluates one token of each of several timelines (1 to DensePass::Options::lanes), layer by layer
  // together: what their routers choose is asked of the sites once for all of them.  `sink` gets each one's
  // logits with the index into `steps`, bit for bit as run() gives them to each alone: attention is computed
  // for one token at a time, a product with dense weights for as many as its kernel does not round otherwise
  // (DensePass::joins()), and sites compute experts so (ExpertWork::Tokens::kTimelines).
  // An observer does not see them.  Errors as run(); the sink may have
  // seen logits only after all layers of all went well.
  Status step(std::span<const Step> steps, const Sink& sink);

  // Tokens that follow those of one timeline.
  struct Part {
    SequenceState* state = nullptr;
    DecodeGraphs* graphs = nullptr;
    std::span<const int32_t> tokens;  // 1 to chunk
  };

  // As step(), of parts of several timelines (single tokens of at most DensePass::Options::lanes, several of
  // at most DensePass::Options::places): each gets the bits that run() gives it alone.  `sink` gets the
  // logits of each part's last token with the index into `parts`.  Nothing is foreseen where a part has
  // several tokens.
  Status advance(std::span<const Part> parts, const Sink& sink);

  // Evaluates tokens (1 to DensePass::Options::lanes) of one timeline that follow those in `state`, each as
  // run() does by itself, to the last bit, but layer by layer together as step() does: in each layer a token
  // comes after those before it.  `sink` as run().  After an error the state is as it was, or as far back as
  // SequenceState::begin_singly() says.  Nothing is foreseen, nor does an observer see them.
  Status run_singly(SequenceState& state, std::span<const int32_t> tokens, Logits logits, const Sink& sink);

  // What layers of experts took of the device so far, as Stats::Phase has it.
  struct LayerTraffic {
    uint64_t layers = 0;
    DeviceTraffic traffic;
  };
  const LayerTraffic& layer_traffic() const { return layer_traffic_; }

  const RoutingStats& routing() const { return routing_; }
  // Null without a predictor.
  const Foresight* foresight() const { return foresight_ ? &foresight_->foresight() : nullptr; }
  // Null without one that can follow several timelines.
  const BatchForesight* batch_foresight() const {
    return batch_foresight_ ? &batch_foresight_->foresight() : nullptr;
  }

 private:
  Status evaluate(const TokenSpan& span, std::span<const int32_t> tokens, Logits logits, const Sink& sink);
  Status evaluate_steps(std::span<const TokenSpan> spans, SequenceState* state, Logits logits,
                        const Sink& sink);
  Status run_layers(const TokenSpan& span, std::span<const int32_t> tokens, Logits logits);
  bool spares_experts(size_t segment, int64_t n_token, Logits logits) const;
  // Those of spans_ that are computed together, and what the router before chose for each.
  struct Joined {
    std::vector<TokenSpan> spans;
    std::vector<size_t> index;  // into spans_
    std::vector<std::span<const int32_t>> chosen;
    void clear();
  };
  TokenSpan begin_one(const SequenceState& state, DecodeGraphs& graphs, std::span<const int32_t> token,
                      std::optional<int32_t> joined_lane);
  template <typename Alone, typename Together>
  Status each_span(std::span<const TokenSpan> spans, const SequenceState* state, const Alone& alone,
                   const Together& together);
  // `state`: of all spans, where that is one timeline; else null.
  Status step_layers(std::span<const TokenSpan> spans, SequenceState* state, BatchForesightSink* foresight);
  Status run_head(const TokenSpan& span, Logits logits, const Sink& sink);
  RoutingEvent route(const EvaluationColumns& a, size_t segment, int64_t n_token);
  // Which experts of a chunk are not computed.
  struct Spared {
    Logits wanted = Logits::kAll;  // but those on which these depend
    bool all_of_next = true;       // and whether the next layer may be asked for all of its own
  };
  Status begin_experts(const EvaluationColumns& a, const RoutingEvent& event, ExpertWork::Tokens tokens,
                       const Spared& spared);
  Status finish_experts(const EvaluationColumns& a);
  void abandon_experts();
  void count_layer(const DeviceTraffic& before);
  bool states_wanted() const;
  bool streams_wanted() const;
  Error not_finite_in(const DemandPair& pair, const EvaluationColumns& a) const;
  std::span<const int32_t> chosen_of(size_t first, int64_t n_token) const;

  const Decoder* decoder_;
  DensePass* dense_;
  Options options_;
  ExpertOwners owners_;
  struct Site {
    ExpertSite* site = nullptr;
    bool works = false;  // has experts of this layer to compute
  };
  std::vector<Site> sites_;
  std::unique_ptr<SiteHints> hints_;

  Router router_;
  std::vector<int32_t> columns_;      // of the activations, by token of the evaluation
  std::vector<int32_t> chosen_;       // [n_expert_used, n_token]
  std::vector<float> chosen_weight_;  // [n_expert_used, n_token]
  std::vector<float> probabilities_;  // [n_expert, n_token]
  LayerDemand demand_;
  std::vector<int32_t> wanted_;            // scratch of begin_experts()
  std::vector<TokenSpan> spans_;           // of step(), advance() and run_singly()
  std::vector<ExpertWork::Chunk> chunks_;  // of advance(): those of spans_ that are one
  std::vector<ExpertColumns> lanes_;       // the device's, by lane
  Joined joined_;

  LayerTraffic layer_traffic_;
  RoutingStats routing_;
  ObserverSink observer_;
  std::unique_ptr<ForesightSink> foresight_;
  std::unique_ptr<BatchForesightSink> batch_foresight_;
  // Of a layer's routing; the second while the sites read.
  std::vector<RoutingSink*> first_sinks_, later_sinks_;
};

}  // namespace odmoe
