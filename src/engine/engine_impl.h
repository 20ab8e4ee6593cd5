// The engine behind odmoe/engine.h, with the seams that tests need.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/choose_device.h"
#include "engine/dense_pass.h"
#include "engine/device_site.h"
#include "engine/drives.h"
#include "engine/expert_site.h"
#include "engine/forward_pass.h"
#include "engine/local_site.h"
#include "engine/memory_governor.h"
#include "engine/model_identity.h"
#include "format/checkpoint.h"
#include "format/expert_source.h"
#include "io/async_reader.h"
#include "model/decoder.h"
#include "model/tokenizer/tokenizer.h"
#include "odmoe/engine.h"
#include "predict/predictor.h"

namespace odmoe {

// What the engine asks of the world.  Tests put fakes here.
struct EngineDependencies {
  std::function<Result<std::unique_ptr<AsyncReader>>(const ReaderOptions&)> make_reader = odmoe::make_reader;
  const Clock* clock = &SteadyClock::instance();
  std::function<MemorySample()> sample_memory = odmoe::sample_memory;  // called in a thread of its own
  StampFile stamp_file = stamp_of;                                     // from any thread
  // What the predictor is put into, if set; how good a predictor is can be chosen so.
  std::function<std::unique_ptr<Predictor>(std::unique_ptr<Predictor>, const PredictorShape&)> wrap_predictor;
  bool memory_of_its_own = false;        // Backend::Options, of what computes the dense weights
  bool shares_host_memory = false;       // likewise
  std::function<Status()> device_fault;  // likewise
  std::function<Status(uint64_t bytes)> device_memory_fault;  // likewise
  std::optional<uint64_t> device_bytes;                       // and what that memory has left
  uint64_t least_joint_bytes = DensePass::kLeastJointBytes;   // DensePass::Options
  // What there is for "auto", and how fast they are; null: this engine on each of them.
  std::function<std::vector<DeviceInfo>()> find_devices = listed_devices;
  std::function<Result<DeviceSpeed>(const EngineOptions& options)> measure_device;
  // Further sites, which take over experts from the engine's own: asked for once, when that is ready.
  struct Site {
    std::unique_ptr<ExpertSite> site;
    ExpertOwners::Owns owns;
  };
  struct SiteContext {
    const EngineOptions& options;  // as they are used: nothing is left to be chosen
    const Decoder& decoder;
    const Checkpoint& file;
    const ExpertSource& source;
    Backend& host_backend;
    LocalSite& site;  // the engine's own, and its options
    LocalSite::Options local;
    const MemoryPlan& plan;
    std::span<const ModelCopy> copies;
  };
  std::function<Result<std::vector<Site>>(const SiteContext&)> make_sites;
  std::function<void()> before_end;  // of the engine: nobody calls change_owners() afterwards
  // Memory that they will make resident here; null: none.
  std::function<uint64_t(const ModelShape& shape, const EngineOptions& options)> site_bytes;
  // What of the statistics they know; any thread.  Null: nothing.
  std::function<std::vector<Stats::Rank>()> rank_stats;
  Decoder::MakeArchitecture make_architecture = odmoe::make_architecture;
};

class EngineImpl;
class LiveStaleGate;

class SessionImpl final : public Session {
 public:
  // `state` and `lane` are the engine's, and go back to it.
  SessionImpl(EngineImpl& engine, std::unique_ptr<SequenceState> state, int32_t lane, int32_t context);
  ~SessionImpl() override;

  Status evaluate(std::span<const Token> tokens, const LogitsSink& sink,
                  const EvaluateProgress& progress) override;
  Status evaluate_singly(std::span<const Token> tokens, const LogitsSink& sink) override;
  std::span<const float> logits() const override { return logits_; }
  std::span<const Token> tokens() const override { return tokens_; }
  int32_t context() const override { return context_; }
  int32_t truncate(int32_t n) override;
  int32_t reachable(int32_t n) const override;
  const Division& division() const override { return division_; }
  uint64_t state_bytes(int32_t n) const override { return state_->state_bytes(n); }
  void save_state(int32_t n, std::span<std::byte> state) const override;
  Status restore_state(std::span<const Token> tokens, int32_t n, const Division& division,
                       std::span<const std::byte> state) override;
  Status write_state(const std::function<Status(std::span<const std::byte>)>& take) const override;
  Status read_state(std::span<const Token> tokens, const Division& division,
                    const std::function<Status(std::span<std::byte>)>& give) override;

 private:
  friend class EngineImpl;
  class LiveStaleGate;
  Status check_next(std::span<const Token> tokens) const;
  void append(std::span<const Token> tokens, bool singly);
  EngineImpl* engine_;
  std::unique_ptr<SequenceState> state_;
  DecodeGraphs decode_graphs_;
  int32_t context_;
  std::vector<Token> tokens_;
  Division division_;
  std::vector<float> logits_;  // [n_vocab]
};

class EngineImpl final : public Engine {
 public:
  static Result<std::unique_ptr<EngineImpl>> open(const EngineOptions& options, const LoadProgress& progress,
                                                  const EngineDependencies& dependencies = {});
  static Result<MemoryPlan> memory_plan(const EngineOptions& options);
  static Status forget_device(const EngineOptions& options);
  ~EngineImpl() override;

  const ModelInfo& model() const override { return info_; }
  const MemoryPlan& plan() const override { return plan_; }
  Stats stats() const override;
  int32_t view_experts(int32_t layer, std::span<ExpertView> experts) const override;
  Status warm(std::span<const LikelyExpert> experts, const LoadProgress& progress) override;
  Result<std::unique_ptr<Session>> new_session() override;
  Status step(std::span<const NextToken> batch) override;
  Status advance(std::span<const NextTokens> parts) override;
  Result<std::string> state_identity() const override;
  std::vector<Token> encode(std::string_view text, bool add_special, bool parse_special) const override;
  Result<std::vector<Token>> encode_within(std::string_view text, bool add_special, bool parse_special,
                                           const EncodeLimits& limits) const override;
  std::string decode(std::span<const Token> tokens, bool special) const override;
  std::string token_bytes(Token token, bool special) const override {
    return tokenizer_->token_bytes(token, special);
  }
  bool is_control(Token token) const override;
  bool is_end(Token token) const override { return tokenizer_->is_end(token); }
  Token bos() const override { return tokenizer_->bos(); }
  Token eos() const override { return tokenizer_->eos(); }
  std::span<const Token> suppressed_tokens() const override { return tokenizer_->suppressed(); }
  Result<std::unique_ptr<ChatTemplate>> chat_template(const ChatTemplateChoice& choice) const override;
  Result<std::vector<Token>> encode_chat(const Conversation& conversation, const ChatTemplate& chat_template,
                                         const EncodeLimits& limits,
                                         const ChatTemplateLimits& template_limits) const override;
  Result<GenerateResult> generate(Session& session, std::span<const Token> prompt,
                                  const GenerateOptions& options, const TextSink& sink) override;
  void set_routing_observer(RoutingObserver* observer) override;
  std::string device_choice() const override { return device_choice_; }
  Status device_condition() const override { return backend_->condition(); }
  void interrupt() noexcept override { interrupted_.store(true, std::memory_order_relaxed); }
  void clear_interrupt() noexcept override { interrupted_.store(false, std::memory_order_relaxed); }

  // Other owners of experts, between two evaluations, which wait for it: `make` says what each of the further
  // sites takes over, in their order.  Its error is returned, and then owners are as they were.  Any thread.
  using MakeOwners = std::function<Result<std::vector<ExpertOwners::Owns>>()>;
  Status change_owners(const MakeOwners& make);

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Decoder& decoder() const { return *decoder_; }
  const EngineOptions& options() const { return options_; }
  const Clock& clock() const { return *clock_; }
  int graph_room() const { return dense_->graph_room(); }

  // Appends tokens to a timeline, in chunks; its first ones were divided as `division` says.  After an error
  // it is as it was.  Evaluations take turns.
  Status evaluate(SequenceState& state, DecodeGraphs& graphs, std::span<const Token> tokens,
                  const Division& division, ForwardPass::Logits logits, const ForwardPass::Sink& sink,
                  const EvaluateProgress& progress);
  // The same as if each were evaluated by itself.  After an error it is as far back as it can be reached.
  Status evaluate_singly(SequenceState& state, DecodeGraphs& graphs, std::span<const Token> tokens,
                         const Division& division, ForwardPass::Logits logits, const ForwardPass::Sink& sink);
  void return_state(std::unique_ptr<SequenceState> state, int32_t lane);
  // Replaces a timeline by the first n tokens of the saved state of `state_length`.
  void restore(SequenceState& state, int64_t n, int64_t state_length, std::span<const std::byte> saved);
  // The same of all of a state of n tokens, piece by piece; where that fails it is empty.
  Status restore_from(SequenceState& state, int64_t n, const SequenceState::GiveBytes& give);
  // Any thread; for tests that press the store from outside.
  ExpertStore& store() { return *store_; }
  void note_first_token(double ttft_ms);

 private:
  EngineImpl(const EngineOptions& options, const EngineDependencies& dependencies);
  Result<std::unique_ptr<AsyncReader>> make_reader(uint32_t depth) const;
  Status read_metadata();
  DeviceTrials device_trials(const LoadProgress& progress) const;
  Status settle_device(const LoadProgress& progress, bool measures);
  Backend& host_backend() { return host_backend_ ? *host_backend_ : *backend_; }
  Status set_up_evaluation(const SequenceState& state);
  Status set_up_sites();
  void fill_own();
  Status check_placement() const;
  Status plan_device_arena(MemoryNeeds& needs) const;
  SlotKernels slot_kernels() const { return device_site_ ? device_site_->slot_kernels() : SlotKernels{}; }
  Status set_up_predictor();
  void trust_earlier_run();
  void keep_experience() const;
  // Returns the reader, the model's files added, whose alignment the plan was made for.
  Result<std::unique_ptr<AsyncReader>> reserve_memory();
  Status start_store();
  Status load(std::unique_ptr<AsyncReader> reader, const LoadProgress& progress);
  Status evaluate_chunks(SequenceState& state, DecodeGraphs& graphs, std::span<const Token> tokens,
                         const Division& division, ForwardPass::Logits logits, const ForwardPass::Sink& sink,
                         const EvaluateProgress& progress) ODMOE_REQUIRES(evaluation_mutex_);
  void make_room(SequenceState& state, int64_t n, bool boundary) ODMOE_REQUIRES(evaluation_mutex_);
  Status step_in_turn(std::span<const NextToken> batch);
  Status advance_in_turn(std::span<const NextTokens> parts);
  bool is_boundary(const Division& division, int64_t length, int64_t n) const;
  void publish_if_wanted() ODMOE_REQUIRES(evaluation_mutex_);
  void count(Stats::Phase& phase, uint64_t tokens, uint64_t steps, int64_t begin_us,
             const ExpertStoreStats& before) ODMOE_REQUIRES(evaluation_mutex_);

  EngineOptions options_;
  EngineDependencies dependencies_;
  const Clock* clock_;
  std::atomic<bool> interrupted_ = false;

  std::unique_ptr<Checkpoint> file_;
  std::unique_ptr<DenseWeights> weights_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ExpertSource> source_;
  std::unique_ptr<Backend> backend_;       // of the dense weights
  std::unique_ptr<Backend> host_backend_;  // of experts in memory of ours, where that is another one
  std::string device_choice_;
  ModelInfo info_;
  MemoryPlan plan_;
  std::vector<ModelCopy> copies_;          // the model's own files first, then its mirrors
  std::optional<ModelIdentity> identity_;  // once the metadata is read
  Stats::Io io_;  // what does not change: the reader, its depth, the paths and bandwidths of the copies
  std::string prefetching_key_;  // what trials are kept under; empty: nothing is
  MemoryGovernor::Limits limits_;

  std::shared_ptr<const StatePlan> state_plan_;
  Mutex free_mutex_;
  struct FreeSession {
    std::unique_ptr<SequenceState> state;
    int32_t lane = 0;
  };
  std::vector<FreeSession> free_ ODMOE_GUARDED_BY(free_mutex_);  // one per session that can still be made

  // What stats() tells of evaluations.  Those who ask wait for each other, never for an evaluation: it
  // leaves its figures here at its next chunk or token once somebody asked.
  struct EvaluationStats {
    Stats::Phase prefill, decode;
    double ttft_ms = 0;
    Stats::Predictor predictor;  // what the evaluations know of it
    Stats::Routing routing;
  };
  void publish_stats() const ODMOE_REQUIRES(evaluation_mutex_, stats_mutex_);
  mutable Mutex stats_mutex_;
  mutable EvaluationStats published_ ODMOE_GUARDED_BY(stats_mutex_);
  mutable std::atomic<bool> stats_wanted_ = false;

  mutable Mutex evaluation_mutex_;  // guards what follows; may be held while taking stats_mutex_
  std::unique_ptr<ExpertStore> store_;
  // One of them; their leases go before the store.
  std::unique_ptr<LocalSite> site_;
  std::unique_ptr<DeviceSite> device_site_;
  std::vector<EngineDependencies::Site> more_sites_;
  std::unique_ptr<DensePass> dense_;
  std::unique_ptr<ForwardPass> forward_;
  Foresight* foresight_ = nullptr;             // of forward_, if there is one
  BatchForesight* batch_foresight_ = nullptr;  // likewise
  LiveStaleGate* stale_gate_ = nullptr;        // what it asks, if it is that
  Stats::Phase prefill_ ODMOE_GUARDED_BY(evaluation_mutex_), decode_ ODMOE_GUARDED_BY(evaluation_mutex_);
  double ttft_ms_ ODMOE_GUARDED_BY(evaluation_mutex_) = 0;
  // In prefill_ and decode_.
  DeviceTraffic counted_traffic_ ODMOE_GUARDED_BY(evaluation_mutex_);
  ForwardPass::LayerTraffic counted_layers_ ODMOE_GUARDED_BY(evaluation_mutex_);
  uint64_t counted_dense_bytes_ ODMOE_GUARDED_BY(evaluation_mutex_) = 0;

  std::unique_ptr<MemoryGovernor> governor_;  // thread-safe itself; its thread ends before the store
};

// What a session of these options remembers.  Errors as StatePlan::make().
Result<StatePlan> plan_state(const Decoder& decoder, const EngineOptions& options);

// What `inspect` and the engine both tell of a model.
ModelInfo describe_model(const Account& account, const Decoder& decoder, const DenseWeights& weights,
                         const ExpertSource& source, const StatePlan& state);

}  // namespace odmoe
