// The routed experts' matrix products on a device that has memory of its own: out of slots that it reads,
// wherever they are, from and into activations in its memory.
//
// Such a device's kernels round by the shape of a call and not by how many rows of it one expert has, so work
// is divided into blocks whose shape depends on the evaluation alone: the experts of one token, or as many
// pairs (token, rank) of a chunk as block_rows() says.  What a block lacks points at a slot that none of its
// experts is in, and is thrown away; a block of experts that are all slots of a window is divided.  Where an
// expert has more pairs than a block, it fills blocks of its own, and what is left of it is never divided, so
// that even the number of its rows in a call is always the same.
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "backend/device_slots.h"
#include "model/blocks/experts.h"
#include "model/graph.h"
#include "model/shape.h"
#include "odmoe/result.h"

namespace odmoe {

// A layer's experts on a device.
struct DeviceLayer {
  LayerExperts experts;  // without ExpertMatrix::slot0; terms are the device's
  // Whose distance is LayerExperts::slot_bytes, at least two in each window.
  const DeviceSlots* slots = nullptr;
  uint64_t gate_offset = 0, up_offset = 0, down_offset = 0;  // in a slot
  // A token's experts have the same bits in blocks of fewer of them, so that none has to be filled up.
  bool any_of_token = false;
};

// Computes pairs with scratch memory of its own.  One owner.
class DeviceExperts {
 public:
  // Pairs of a chunk that a block has.
  static int64_t block_rows(const ModelShape& shape, int64_t n_token);

  // For chunks of at most `chunk` tokens.  `host` computes on host memory.  kIo: no memory.
  static Result<std::unique_ptr<DeviceExperts>> create(Backend& device, const Backend& host,
                                                       const ModelShape& shape, int64_t chunk);

  int64_t chunk() const { return chunk_; }
  uint64_t device_bytes() const { return memory_.size(); }
  uint64_t host_bytes() const { return host_memory_.size(); }

  // The first operation that the device cannot compute with experts of these types, `n_slot` slots in one
  // window: "MUL_MAT_ID on q4_K".  Empty: it can compute all.
  std::string lacking(const LayerExperts& experts, int32_t n_slot);
  // The first of the experts' matrices that the device wants to be longer in memory than it is, as CUDA does
  // where rows are no multiple of 512 values: it writes behind such a matrix, where in a slot another one is.
  // Null: none.
  const ExpertMatrix* padded(const LayerExperts& experts);
  // How many slots in one window it can be shown, up to `most`.
  int32_t most_slots(const LayerExperts& experts, int32_t most);

  // To be computed: pairs of one token, in column 0 of `a`, whose input and output are the device's and whose
  // weight is the host's.
  Status add_token(const DeviceLayer& layer, const ExpertColumns& a, int32_t first_column,
                   std::span<const ExpertPair> pairs);
  // The same of a chunk of n_token tokens; pairs of one expert, which are all of its, follow each other.
  // `first_column` is that of its first token, where a column is named.
  Status add_chunk(const DeviceLayer& layer, const ExpertColumns& a, int32_t first_column, int64_t n_token,
                   std::span<const ExpertPair> pairs);
  // Computes what was added and waits for it.  Returns the first pair within which a value was not finite
  // that its output may not show, with its column.
  Result<std::optional<ExpertPair>> finish();
  // Forgets what was added.
  void forget();

 private:
  struct Ids {
    ggml_tensor* slot = nullptr;
    ggml_tensor* expert = nullptr;  // null where there are no terms
  };
  // Rows' sums, one after the other in sums_.
  struct Summed {
    size_t first_sum = 0, first_pair = 0, n_pair = 0;
  };
  DeviceExperts(Backend& device, const ModelShape& shape, int64_t chunk);
  Status allocate(const Backend& host);
  Status add_block(const DeviceLayer& layer, int32_t window, const ExpertColumns& a, int32_t first_column,
                   int64_t n_row, bool one_token, std::span<const ExpertPair> pairs);
  Status launch();
  Status build(const DeviceLayer& layer, int32_t window, const ExpertColumns& a, int64_t n_row,
               bool one_token, std::span<const ExpertPair> pairs);
  static bool leaves_no_slot(const DeviceLayer& layer, int32_t window, std::span<const ExpertPair> pairs);
  int32_t filler(std::span<const ExpertPair> pairs, int32_t first_slot, int32_t n_slot);
  template <typename T, typename ValueOf>
  ggml_tensor* numbers(ggml_type type, int64_t n, const ValueOf& value_of);
  ggml_tensor* scratch(ggml_tensor* tensor);
  ggml_tensor* product(const DeviceLayer& layer, int32_t window, const ExpertMatrix& matrix, uint64_t offset,
                       ggml_tensor* x, ggml_tensor* ids);
  void sum(ggml_tensor* values, size_t n_pair);

  Backend* device_;
  ModelShape shape_;
  int64_t chunk_, most_rows_;
  Graph graph_;
  Graph asked_;
  DeviceMemory memory_, host_memory_;
  ggml_context_ptr context_;
  // On the device and on the host: numbers of rows and slots, and rows' sums.
  ggml_tensor *numbers_ = nullptr, *host_numbers_ = nullptr, *sums_ = nullptr, *host_sums_ = nullptr;
  uint64_t scratch_offset_ = 0, scratch_used_ = 0, numbers_used_ = 0;
  size_t sums_used_ = 0;
  int n_block_ = 0;
  std::vector<ExpertPair> added_;  // by block, with their columns
  std::vector<Summed> summed_;
  std::vector<ExpertPair> block_, of_window_;  // scratch of add_chunk()
  std::vector<int32_t> slots_;                 // scratch of filler()
  std::optional<ExpertPair> not_finite_;
};

}  // namespace odmoe
