// All of a forward pass but the routed experts: the decoder's segments, shared experts and the output head,
// on the dense weights.
//
// What they compute is looked at: a value that is not finite ends the evaluation, with the layer and the part
// of it where that began (dense_checks.cc).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "engine/evaluation_memory.h"
#include "engine/joint_graphs.h"
#include "format/checkpoint.h"
#include "model/decoder.h"
#include "model/finite_watch.h"
#include "model/graph.h"
#include "model/sequence_state.h"
#include "odmoe/result.h"

namespace odmoe {

// The graphs of a session's single-token evaluations, built once for as many rows as are looked at, and for
// each of the two copies of overwritten state.  They read and write a column of the activations that is this
// session's alone, so that several sessions can be between two graphs at once.  One owner.
class DecodeGraphs {
 public:
  // `lane`: the column, below DensePass::Options::lanes; no two sessions at a time may have the same.
  // `room`: DensePass::graph_room().
  DecodeGraphs(const Decoder& decoder, const StatePlan& plan, int32_t lane, int room = 1);
  int32_t lane() const { return lane_; }

 private:
  friend class DensePass;
  int32_t lane_;
  struct Segments {
    int64_t rows_seen = 0;      // that they are for, of all groups together; 0: nothing is built yet
    std::vector<Graph> graphs;  // of the decoder
    std::vector<KeptOperands> kept;
  };
  std::array<Segments, 2> segments_;  // by SequenceState::side(); the second is empty where there is one side
  bool others_built_ = false;         // what does not depend on the timeline:
  std::vector<Graph> shared_;         // the shared expert that follows each segment; empty without one
  Graph head_;
  std::vector<KeptOperands> kept_shared_;
  KeptOperands kept_head_;
};

// Tokens of one timeline in neighbouring columns, under evaluation.
struct TokenSpan {
  const EvaluationColumns* columns = nullptr;
  const SequenceState* state = nullptr;
  DecodeGraphs* graphs = nullptr;  // of a single token; null: its graphs are built as they are run
  // Position of the first; kAnywhere, for making room: where the largest graphs are.
  static constexpr int64_t kAnywhere = -1;
  int64_t first = 0;
  int64_t n_token = 0;
};

// One owner at a time.
class DensePass {
 public:
  struct Options {
    int64_t chunk = 512;
    int32_t lanes = 1;      // tokens that are evaluated layer by layer together, but each by itself; at most
    int32_t places = 0;     // chunks of several timelines that are evaluated layer by layer together; at most
    int32_t timelines = 1;  // whose single tokens are
    bool flash_attention = true;
    bool experts_on_device = false;  // sites write where the device computes: nothing of it is sent there
    // From how many bytes of weights in a graph on, on average, those of several timelines are joined.
    uint64_t least_joint_bytes = kLeastJointBytes;
    // If set, is asked instead of the backend whether it can compute what there is, and what it cannot
    // becomes a line each of `lacking` instead of an error; nothing is run then.
    const Backend* asked = nullptr;
    std::vector<std::string>* lacking = nullptr;
  };
  // Positions whose logits are computed at once: bounds their memory when every position's are wanted.
  static constexpr int64_t kHeadColumns = 16;
  static_assert(kJoined <= kHeadColumns);
  // Below, building graphs takes longer than reading weights for each token.
  static constexpr uint64_t kLeastJointBytes = uint64_t{1} << 20;

  // Allocates activations and compute buffers for the largest evaluation; weights and `state` (any session's)
  // must have addresses.  Nothing becomes resident yet.  `host` computes on host memory, and may be the
  // backend itself.  kUnsupported names what the backend cannot compute.
  // kIo: no memory.
  static Result<std::unique_ptr<DensePass>> create(Backend& backend, const Backend& host,
                                                   const Decoder& decoder, const Checkpoint& file,
                                                   const SequenceState& state, const Options& options);

  // Whether the backend has flash attention kernels for this model's shapes and cache type.
  static bool supports_flash_attention(const Backend& backend, const Decoder& decoder,
                                       const SequenceState& state);

  ~DensePass();
  DensePass(const DensePass&) = delete;
  DensePass& operator=(const DensePass&) = delete;

  // Memory that evaluations will make resident: of the host, and of a device that has its own.
  uint64_t host_bytes() const { return host_bytes_; }
  uint64_t device_bytes() const { return device_bytes_; }
  // Of the host, that the graphs of one session take (DecodeGraphs), which is not in host_bytes().
  uint64_t graph_bytes() const { return graph_bytes_; }
  const EvaluationMemory& memory() const { return *memory_; }
  // Between the host and the backend so far, whoever asked for it; nothing where that is the host.
  const DeviceTraffic& traffic() const { return backend_->traffic(); }
  // How many times the decoder's nodes a graph may have, with what looks at them.
  int graph_room() const { return room_; }

  // Of weights, that products have read so far: a matrix counts each time it is multiplied.
  uint64_t read_bytes() const { return multiplied_bytes_; }

  // kBadFile: a bias of a router is not a number.
  Status check_router_biases() const;

  // Tokens that follow those in `state`: sets their inputs.  One token goes to the lane of `graphs`, several
  // to the columns from the first on.
  TokenSpan begin(const SequenceState& state, DecodeGraphs& graphs, std::span<const int32_t> tokens);

  // The same of several tokens, which go to the place: other timelines' tokens may be in the lanes and in the
  // other places meanwhile.
  TokenSpan begin_in_place(const SequenceState& state, int32_t place, std::span<const int32_t> tokens);

  // A single token at `position` of the timeline, in a lane: its graphs are those of any single token, but
  // built anew for each segment, from what before() and after() of the state are then.
  TokenSpan begin_single(const SequenceState& state, int64_t position, int32_t lane, int32_t token);

  // A segment of the decoder, after which the host has ffn_input and router_logits.  `chosen`:
  // [n_expert_used, n_token], what the router before it chose, for an error to name.  Errors: kBadFile, what
  // it began with or gave is not finite; kIo.
  Status segment(const TokenSpan& span, size_t segment, std::span<const int32_t> chosen);

  // The shared expert of the layer whose router ends the segment; of a model that has one.  A device with
  // memory of its own goes on with it by itself, and an error may be the next call's.
  Status shared_expert(const TokenSpan& span, size_t segment);

  // Whether single tokens of several timelines are computed together, a weight multiplied with as many of
  // them at once as no kernel rounds otherwise than one (exact_columns()): on the host's memory, where that
  // spares enough.  Then those of begin_single() can be given to what follows, 2 to most_joined() at a time,
  // one of each timeline; every bit and error is that of one after the other.
  bool joins() const { return joint_ != nullptr; }
  int32_t most_joined() const { return joins() ? joint_->most() : 0; }
  // `chosen`: of each token.
  using ChosenBefore = std::span<const std::span<const int32_t>>;
  Status segments(std::span<const TokenSpan> spans, size_t segment, ChosenBefore chosen);
  Status shared_experts(std::span<const TokenSpan> spans, size_t segment);
  // -> the first columns of memory().logits(), in order.
  Status heads(std::span<const TokenSpan> spans, ChosenBefore chosen);

  // The device is to have what sites have made of the experts, and their weights.
  void take_experts(const TokenSpan& span) const;

  // Columns [first, first + n) of what the last segment gave, n at most kHeadColumns -> the first n columns
  // of memory().logits().  `chosen` as in segment().
  Status head(const TokenSpan& span, int64_t first, int64_t n, std::span<const int32_t> chosen);

  // The position of the token in a column.
  static int64_t position(const EvaluationColumns& columns, int64_t column) {
    return columns.positions.columns(column, 1)[0];
  }

 private:
  DensePass(Backend& backend, const Backend& host, const Decoder& decoder, const Options& options);
  Status allocate(const Backend& host, const Checkpoint& file, const SequenceState& state);
  static bool supports_flash_attention(const Backend& backend, const Decoder& decoder,
                                       const SequenceState& state, int64_t n_token);
  LayerInputs inputs(Graph& graph, const TokenSpan& span) const;
  void set_inputs(const TokenSpan& span, std::span<const int32_t> tokens);
  void build_segments(const TokenSpan& span);
  void build_others(const TokenSpan& span);
  void keep(Graph& graph, KeptOperands& kept);
  // Builds a graph into graph_, adds what looks at it, gives its tensors addresses in the compute buffer and
  // launches it.
  template <typename Build>
  Status build_and_launch(FiniteWhat what, const Build& build);
  template <typename Build>
  Status launch(const TokenSpan& span, Graph* built, const KeptOperands* kept, const Build& build);
  NotFinite found() const;
  Status check_shared_expert();
  // dense_joint.cc
  Status set_up_joint(const SequenceState& state);
  enum class Piece { kSegment, kSharedExpert, kHead };
  void build_one(Graph& graph, const TokenSpan& span, Piece piece, size_t segment, size_t column);
  bool build_joint(std::span<const TokenSpan> spans, Piece piece, size_t segment);
  Result<bool> run_joint(std::span<const TokenSpan> spans, Piece piece, size_t segment);
  Error where_it_began(const TokenSpan& span, size_t segment, std::span<const int32_t> chosen);
  Error where_it_began_in_the_first(const TokenSpan& span);
  static Error head_not_finite(const EvaluationColumns& columns, int64_t column);
  Error in_experts(const TokenSpan& span, size_t segment, int64_t token,
                   std::span<const int32_t> chosen) const;
  std::optional<Error> in_one_expert(const TokenSpan& span, size_t segment, int64_t token,
                                     std::span<const int32_t> chosen) const;

  Backend* backend_;
  const Decoder* decoder_;
  Options options_;
  std::unique_ptr<EvaluationMemory> memory_;
  ggml_gallocr_ptr allocator_;
  int room_ = 1;
  std::unique_ptr<FiniteSums> sums_;  // of a device with memory of its own
  Graph graph_, checked_;             // the second is the first with checks_, or sums
  KeptOperands kept_;                 // of the first, where it is a single token's
  FiniteChecks checks_;               // where there are no sums
  std::vector<FiniteSums::Summed> summed_;
  const KeptOperands* launched_ =
      nullptr;  // of the graph that was launched last; null: it has checks or sums
  struct Shared {
    TokenSpan span;
    size_t segment = 0;
  };
  std::optional<Shared> shared_;        // launched, and not looked at
  std::unique_ptr<JointGraphs> joint_;  // null: nothing is joined
  uint64_t multiplied_bytes_ = 0;
  uint64_t host_bytes_ = 0, device_bytes_ = 0, graph_bytes_ = 0, joint_bytes_ = 0;
};

// "values that are not finite (NaN or infinite) begin in `where`, ...", for the token at a position.
Error not_finite_error(const std::string& where, int64_t position);

}  // namespace odmoe
