// The routed experts' matrix products, on slots of the arena.
//
// The weights of one layer's experts are 3-d tensors whose third stride is the slot, so ggml_mul_mat_id runs
// on what the drive delivered without a copy.  Work is a list of pairs (token, rank): each pair's result
// depends on nothing but its token, its expert and how many pairs of that expert are in its call (ggml
// chooses its kernels by that), so any division of the pairs into waves gives the same bits, as long as all
// pairs of an expert are in one wave.
// For one token, gate and up can be computed before down has arrived.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/repacked_layout.h"
#include "base/aligned_buffer.h"
#include "format/checkpoint.h"
#include "model/finite_watch.h"
#include "model/graph.h"
#include "model/shape.h"

namespace odmoe {

// One projection of a layer's experts: [n_in, n_out] per expert.
struct ExpertMatrix {
  ggml_type type = GGML_TYPE_F32;
  int64_t n_in = 0, n_out = 0;
  std::byte* slot0 = nullptr;              // where the matrix of slot 0 is
  const RepackedLayout* layout = nullptr;  // in which it lies there; null: as in any file
};

// Whether kernels see no difference.
inline bool same_kind(const ExpertMatrix& a, const ExpertMatrix& b) {
  return a.type == b.type && a.n_in == b.n_in && a.n_out == b.n_out && a.layout == b.layout;
}

// What of a layer's experts is always in memory: F32, on the host, a column for each expert.  Null: none.
struct ExpertTerms {
  ggml_tensor *gate_bias = nullptr, *up_bias = nullptr;  // [n_ff_exp, n_expert], added to products
  ggml_tensor* down_bias = nullptr;                      // [expert_width(), n_expert]
  ggml_tensor* down_scale = nullptr;                     // [n_expert], factors of what down gives
  explicit operator bool() const { return down_bias != nullptr || down_scale != nullptr; }
};

struct LayerExperts {
  ExpertMatrix gate, up, down;
  ExpertTerms terms;
  Glu glu;
  bool has_gate = true;     // else up is its own gate, and `gate` the same matrix
  uint64_t slot_bytes = 0;  // from one slot to the next
  // Pairs of one expert that a call may have for each to get the bits that it gets alone: exact_rows() of the
  // three matrices.
  int32_t exact_rows = 1;
};

// What experts are computed from and what becomes of it, F32.
struct ExpertColumns {
  ggml_tensor* input = nullptr;   // [expert_width(), n]
  ggml_tensor* output = nullptr;  // [expert_width(), n_expert_used * n]
  ggml_tensor* weight = nullptr;  // [1, n_expert_used * n], of ExpertExtras::weigh_input
};

// One routed expert of one token.
struct ExpertPair {
  int32_t token = 0;  // column of the input
  int32_t rank = 0;   // column of the output is token * n_expert_used + rank
  int32_t slot = 0;
  int32_t expert = 0;  // its column of ExpertTerms
};

// The types and shapes of a layer's expert tensors as the file has them; slot0 is not set.  `layout` is that
// of experts that are repacked (Checkpoint::repacked), and may be null where none is. kBadFile when they do
// not fit the model's shape.
Result<LayerExperts> describe_experts(const Checkpoint& file, const ModelShape& shape, int layer,
                                      const RepackedLayout* layout);

// Computes pairs with scratch memory of its own.  One owner.
class ExpertCompute {
 public:
  // Pairs of an expert from which on it is a product of its own: as many rows as the smallest of ggml's
  // kernels for several takes at once.
  static constexpr size_t kLeastProductRows = 4;

  // Scratch memory for chunks of at most `chunk` tokens.
  static uint64_t bytes(const ModelShape& shape, int64_t chunk);
  static Result<std::unique_ptr<ExpertCompute>> create(Backend& backend, const ModelShape& shape,
                                                       int64_t chunk);

  // How many pairs are computed at once, unless they are all of a chunk.
  int64_t max_pairs() const { return max_pairs_; }

  // Whether the backend can compute experts of these types.
  bool supported(const LayerExperts& experts);

  // Input -> output for the pairs of a chunk of n_token tokens, at least
  // one; those of one expert follow each other.  `arena` is the buffer in which the slots lie.
  Status run(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a,
             int64_t n_token, std::span<const ExpertPair> pairs);

  // The same for tokens in any columns, whose number says nothing: each gets the bits that it gets alone,
  // since the pairs of an expert are divided into calls of at most LayerExperts::exact_rows.
  Status run_columns(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a,
                     std::span<const ExpertPair> pairs);

  // The same in two steps, for pairs of a single token: what gate and up give is kept until down is run with
  // the same pairs, which may have been part of different calls of run_gate_up().
  Status run_gate_up(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a,
                     std::span<const ExpertPair> pairs);
  Status run_down(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a,
                  std::span<const ExpertPair> pairs);

  // The first pair, since this was last asked, between whose gate and up and whose down there was a value
  // that is not finite.  Looked for where down is quantised, since ggml would lose it there, and before an
  // activation or a limit that would; what else is not finite shows in the output.
  std::optional<ExpertPair> take_not_finite() { return std::exchange(not_finite_, std::nullopt); }

 private:
  // Slots and experts of a graph's pairs, i32 [n_in_column, n_column].
  struct Ids {
    ggml_tensor* slot = nullptr;
    ggml_tensor* expert = nullptr;  // null where there are no terms
  };
  // The slots that a wave reaches over: a kernel's cost grows with the number of slots that it is shown.
  struct SlotSpan {
    int32_t first = 0, count = 0;
  };
  // How the pairs of a call are computed.
  enum class Way : uint8_t {
    kOneToken,  // which is multiplied by all its experts
    kRows,      // each pair is a row of its own
    kProducts,  // the same, where experts with many rows come first and are products of their own
  };
  // Neighbouring rows of one expert.
  struct Product {
    int64_t first = 0, n = 0;
    int32_t slot = 0;
  };
  ExpertCompute(Backend& backend, const ModelShape& shape, int64_t chunk);
  static SlotSpan span_of(std::span<const ExpertPair> pairs);
  void begin();
  Status run_all(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a,
                 int64_t n_token, std::span<const ExpertPair> pairs);
  Status run_some(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a, Way way,
                  std::span<const ExpertPair> pairs);
  Status run_in_waves(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a,
                      Way way, std::span<const ExpertPair> pairs);
  void put_products_first(std::span<const ExpertPair> pairs);
  void find_products(std::span<const ExpertPair> pairs);
  // Of n_column columns.  `index_of` says where a pair's numbers are.
  template <typename IndexOf>
  Ids place_ids(const LayerExperts& experts, std::span<const ExpertPair> pairs, SlotSpan span,
                int64_t n_column, const IndexOf& index_of);
  Ids place_ids(const LayerExperts& experts, std::span<const ExpertPair> pairs, SlotSpan span,
                int64_t n_column);
  ggml_tensor* place_inputs(const ExpertColumns& a, std::span<const ExpertPair> pairs, bool one_token);
  ggml_tensor* place(ggml_tensor* tensor);
  void check_in_graph(const ExpertMatrix& down, ggml_tensor* hidden);
  ggml_tensor* product(const ExpertMatrix& matrix, const LayerExperts& experts, ggml_backend_buffer_t arena,
                       SlotSpan span, ggml_tensor* x, ggml_tensor* slot_ids);
  ggml_tensor* placed_product(const ExpertMatrix& matrix, const LayerExperts& experts,
                              ggml_backend_buffer_t arena, SlotSpan span, ggml_tensor* x,
                              ggml_tensor* slot_ids);
  ggml_tensor* add_bias(ggml_tensor* y, ggml_tensor* bias, const Ids& ids);
  ggml_tensor* activate(const LayerExperts& experts, ggml_backend_buffer_t arena, SlotSpan span,
                        ggml_tensor* x, const Ids& ids);
  ggml_tensor* finish_down(const LayerExperts& experts, ggml_tensor* y, const Ids& ids);
  template <typename PairOf>
  void look_at(const ExpertMatrix& down, const ggml_tensor* hidden, const PairOf& pair_of);
  ggml_tensor* slots(const ExpertMatrix& matrix, const LayerExperts& experts, ggml_backend_buffer_t arena,
                     SlotSpan span);

  Backend* backend_;
  ExpertExtras extras_;
  int64_t n_embd_, n_ff_, n_used_, n_expert_, max_pairs_;
  Graph graph_;
  AlignedBuffer memory_;  // starts with the kept products of gate and up, [n_ff, n_used]
  ggml_backend_buffer_ptr buffer_;
  uint64_t used_ = 0;
  std::vector<ExpertPair> turn_;   // scratch of run() and run_columns()
  std::vector<Product> products_;  // of the graph, its first rows
  FiniteChecks checks_;
  std::optional<ExpertPair> not_finite_;
};

}  // namespace odmoe
