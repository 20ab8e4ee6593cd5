// One evaluation: a chunk of tokens through all layers, experts leased as the routers ask for them.
// The place where store and model meet.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/clock.h"
#include "engine/foresight.h"
#include "engine/routing_stats.h"
#include "io/aligned_buffer.h"
#include "model/blocks/experts.h"
#include "model/decoder.h"
#include "model/finite_watch.h"
#include "model/kv_cache.h"
#include "odmoe/observer.h"
#include "odmoe/options.h"
#include "odmoe/result.h"
#include "store/expert_store.h"

namespace odmoe {

class LiveStaleGate;

// The graphs of a session's single-token evaluations, built once per length of the KV cache.  They read and
// write a column of the activations that is this session's alone, so that several sessions can be between two
// graphs at once.  One owner.
class DecodeGraphs {
 public:
  // `lane`: the column, below ForwardPass::Options::lanes; no two sessions at a time may have the same.
  DecodeGraphs(const Decoder& decoder, int32_t lane);
  int32_t lane() const { return lane_; }

 private:
  friend class ForwardPass;
  int32_t lane_;
  int64_t n_kv_ = 0;             // the length that segments_ are for; 0: nothing is built yet
  std::vector<Graph> segments_;  // of the decoder
  std::vector<Graph> shared_;    // the shared expert that follows each segment; empty without one
  Graph head_;
  std::vector<KeptOperands> kept_, kept_shared_;  // of segments_ and shared_
  KeptOperands kept_head_;
};

// One owner at a time.
class ForwardPass {
 public:
  struct Options {
    int64_t chunk = 512;
    int64_t context = 0;  // the longest KV cache
    int32_t lanes = 1;    // sessions, at most: tokens of different timelines that step() takes
    bool flash_attention = true;
    const Clock* clock = &SteadyClock::instance();
    const std::atomic<bool>* interrupted = nullptr;  // may be null
  };

  // Allocates activations and compute buffers for the largest evaluation; weights and `kv` (any session's)
  // must have addresses.  Nothing becomes resident yet.  kUnsupported names what the backend cannot compute.
  static Result<std::unique_ptr<ForwardPass>> create(Backend& backend, const Decoder& decoder,
                                                     const Checkpoint& file, KvCache& kv,
                                                     const Options& options);

  // Whether the backend has a flash attention kernel for this model's shapes and cache type.
  static bool supports_flash_attention(Backend& backend, const Decoder& decoder, KvCache& kv);

  // Memory that evaluations will make resident.
  uint64_t buffer_bytes() const { return buffer_bytes_; }

  // From now on single tokens are foreseen by `predictor`, of this shape, as far ahead as `lookahead`. Before
  // attach() and before any graph is built.
  void use_predictor(std::unique_ptr<Predictor> predictor, PredictorShape shape, int32_t lookahead,
                     Foresight::Ask ask);
  // One that asks the model's own routers; for use_predictor() of this.  Errors: kIo, no memory.
  Result<std::unique_ptr<Predictor>> make_stale_gate(int32_t lookahead);

  // Must be called once before run(), when the dense weights are loaded.  The store must outlive this.
  // Where there are several lanes, tries out how many rows of an expert a call may have (exact_rows.h).
  // Errors: kIo, no memory for the trial; kBadFile, a router's bias is not a number.
  Status attach(ExpertStore& store);

  // Shows `observer` what run() sees; null: nobody.
  void observe(RoutingObserver* observer);
  bool observed() const { return observer_ != nullptr; }

  enum class Logits { kNone, kLast, kAll };
  using Sink = std::function<void(int64_t index, std::span<const float> logits)>;

  // Evaluates tokens (1 to chunk) at positions first, first + 1, ... of a timeline whose earlier positions
  // are in `kv`.  `sink` gets the logits asked for, with the index into `tokens`; valid during the call.
  // Errors: of the store (an expert could not be read), kInterrupted; kBadFile when a value is not finite on
  // which a logit asked for, or the KV cache, depends, with the layer and the part of it where that began.
  Status run(KvCache& kv, DecodeGraphs& decode_graphs, std::span<const int32_t> tokens, int64_t first,
             Logits logits, const Sink& sink);

  // One more token of one timeline, whose earlier ones are in `kv`.
  struct Step {
    KvCache* kv = nullptr;
    DecodeGraphs* graphs = nullptr;
    int32_t token = 0;
    int64_t position = 0;
  };

  // Evaluates one token of each of several timelines (1 to Options::lanes), layer by layer together: what
  // their routers choose is leased once for all of them.  `sink` gets each one's logits with the index into
  // `steps`, bit for bit as run() gives them to each alone: attention, dense weights and the output head are
  // computed for one token at a time, since kernels for several round differently, and of a routed expert no
  // more rows at once than round as one alone (LayerExperts::exact_rows).
  // Of several nothing is foreseen: the layers' demands together keep the drive busier than one token's, and
  // a predictor follows one timeline.  Nor does an observer see them.  Errors as run(); the sink may have
  // seen logits only after all layers of all went well.
  Status step(std::span<const Step> steps, const Sink& sink);

  const RoutingStats& routing() const { return routing_; }
  // Null without a predictor.
  const Foresight* foresight() const { return foresight_.get(); }

 private:
  ForwardPass(Backend& backend, const Decoder& decoder, const Options& options);
  Status allocate(const Checkpoint& file, KvCache& kv);
  void make_lanes();
  Status find_exact_rows();
  LayerInputs inputs(Graph& graph, const Activations& a, KvCache& kv, int64_t n_token, int64_t n_kv) const;
  void set_inputs(const Activations& a, std::span<const int32_t> tokens, int64_t first, int64_t n_kv) const;
  void build_decode_graphs(KvCache& kv, DecodeGraphs& graphs, int64_t n_kv);
  // Builds a graph into graph_, adds checks_, gives its tensors addresses in the compute buffer and runs it.
  template <typename Build>
  Status build_and_run(const Build& build);
  // Tokens of one timeline in neighbouring columns: those of run(), or one of those of step().
  struct Part {
    const Activations* a;
    KvCache* kv;
    DecodeGraphs* graphs;
    int64_t n_token, n_kv;
    size_t index;  // of its first token among those of the evaluation
  };
  Status run_layers(const Part& part, int64_t first);
  // A graph runs, and what it gave is looked at (forward_checks.cc).
  Status compute_segment(const Part& part, size_t segment);
  Status compute_shared_expert(const Part& part, size_t segment);
  Status compute_head(const Part& part, int64_t first, int64_t n);
  Status check_experts(const Activations& a, int layer);
  Status check_router_biases() const;
  Error where_it_began(const Part& part, size_t segment);
  Error where_it_began_in_the_first(const Part& part);
  Error in_experts(const Part& part, size_t segment, int64_t token) const;
  Part part_of(std::span<const Step> steps, size_t i);
  Status step_layers(std::span<const Step> steps);
  void route(const Activations& a, int layer, int64_t n_token);
  Status show(const Activations& a, size_t segment, int64_t n_token, int64_t first);
  Status foresee_token(const KvCache& kv, int32_t token, int64_t position);
  Status foresee(const Activations& a, size_t segment);
  void read_ahead(size_t segment);
  Status run_experts(size_t segment, int64_t n_token, bool in_lanes);
  Status run_experts_of_one(const Activations& a, int layer);
  size_t lease_pending(int layer);
  void collect_pairs(std::span<const ExpertLease> leases);
  void add_pairs(const ExpertLease& lease);
  Result<size_t> compute_some(int layer, int64_t n_token, size_t n_ready, bool in_lanes);
  Status run_head(const Part& part, Logits logits, const Sink& sink);
  Status check_interrupt() const;

  Backend* backend_;
  const Decoder* decoder_;
  Options options_;
  ExpertStore* store_ = nullptr;
  std::vector<LayerExperts> experts_;  // per layer
  ggml_backend_buffer_ptr arena_;
  uint64_t buffer_bytes_ = 0;

  AlignedBuffer memory_;
  ggml_backend_buffer_ptr buffer_;
  ggml_context_ptr context_;
  Activations activations_;
  ggml_context_ptr lane_context_;
  std::vector<Activations> lanes_;  // columns of activations_, one each
  ggml_tensor* logits_ = nullptr;   // [n_vocab, kHeadColumns]
  ggml_gallocr_ptr allocator_;
  Graph graph_, checked_;  // the second is the first with checks_
  FiniteChecks checks_;
  std::unique_ptr<ExpertCompute> compute_;

  RoutingObserver* observer_ = nullptr;
  std::vector<float> observed_embedding_;  // [n_embd, chunk], if there is an observer

  Router router_;
  RoutingStats routing_;
  std::vector<int32_t> column_;                   // of the activations, by token of the evaluation
  std::vector<int32_t> chosen_;                   // [n_expert_used * n_token], expert numbers
  std::vector<float> chosen_weight_;              // [n_expert_used * n_token]
  std::vector<int32_t> pending_;                  // experts of the layer not leased yet
  size_t n_distinct_ = 0;                         // experts of the layer that were asked for
  std::vector<int32_t> pair_begin_, pair_index_;  // pairs by expert: pair_index_[pair_begin_[e] ...]
  std::vector<ExpertLease> leases_;
  std::vector<ExpertKey> hints_;

  std::unique_ptr<Foresight> foresight_;
  LiveStaleGate* stale_gate_ = nullptr;  // what foresight_ asks, if it is that
  std::vector<float> embedding_;         // [n_embd], for predictors that want it
  // The timeline and the position at which the last token that was foreseen would be followed.
  const KvCache* foreseen_kv_ = nullptr;
  int64_t foreseen_next_ = -1;
  std::vector<ExpertPair> pairs_;
};

}  // namespace odmoe
