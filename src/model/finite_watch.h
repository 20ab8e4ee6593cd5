// Looks for values that are not finite inside a graph.
//
// What is not finite spreads from one operation to the next, so it could be looked for at the end, if nothing
// could hide it.  But before a product with quantised weights ggml rounds the other operand to a quantised
// type, which makes of a NaN 0 or anything; a softmax, a softplus or an exponential (of a recurrence's gates
// and steps) makes 0 of minus infinity, a ReLU of a NaN too, a sigmoid, a tangent, a GELU or a limit some
// number of an infinity; of an indexer's scores only the order is used; and half precision, of the KV cache,
// makes infinity of what is large.  Such operands are looked at.
#pragma once

#include <ggml-cpp.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "base/finite.h"
#include "model/graph.h"
#include "odmoe/result.h"

namespace odmoe {

// Where values that are not finite were found first.
struct NotFinite {
  const ggml_tensor* tensor = nullptr;  // null: nowhere
  int64_t row = 0;                      // of the tensor, counted over its second and higher dimensions
  explicit operator bool() const { return tensor != nullptr; }
};

// A tensor of a graph in which an operation may hide what is not finite: its values have to be below `limit`.
struct HidingOperand {
  ggml_tensor* tensor = nullptr;
  float limit = 0;
};

enum class FiniteWhat {
  kHiding,  // operands in which something may be hidden
  kAll,     // every node
};

// For a device that has memory of its own, and runs no code of ours: each row to be looked at is summed there
// (a sum is finite where all its values are, or they are so large that it makes no difference), and
// all sums of a graph are fetched at once.  One owner.
class FiniteSums {
 public:
  // Nodes that a graph has with its sums, at most, of one without.
  static constexpr int kNodes = 4;
  // Backends must outlive it; `host` computes on host memory.
  FiniteSums(Backend& backend, const Backend& host) : backend_(&backend), host_(&host) {}

  struct Summed {
    const ggml_tensor* tensor = nullptr;
    size_t first = 0;  // of its rows' sums
  };

  // Copies `plain` into `checked`, which is empty and has room for kNodes times as many.  kIo: the device has
  // no memory for more sums than any graph had so far.
  Result<std::vector<Summed>> add(ggml_cgraph* plain, Graph& checked, FiniteWhat what);
  // The same at the end of a graph, whose `operands` keep their memory until then.
  Result<std::vector<Summed>> append(Graph& graph, std::span<const HidingOperand> operands);

  // Once that graph is launched, and before another one with these sums is; then, when Backend::settle() has
  // been called.
  void queue_fetch(std::span<const Summed> summed);
  NotFinite look(std::span<const Summed> summed) const;

  // From now on graphs that are there write to its memory: it grows no more, and what would not fit is kIo.
  void keep_room() { grows_ = false; }
  uint64_t bytes() const { return memory_.size(); }  // of the device

 private:
  Status make_room(size_t n_row);
  ggml_tensor* sum(ggml_context* context, const HidingOperand& operand, size_t first) const;
  size_t rows_of(const ggml_tensor* tensor) const;
  std::span<float> fetched(std::span<const Summed> summed) const;
  Backend* backend_;
  const Backend* host_;
  DeviceMemory memory_, host_memory_;
  bool grows_ = true;
  ggml_context_ptr context_;
  ggml_tensor* sums_ = nullptr;     // F32
  ggml_tensor* on_host_ = nullptr;  // the same
};

// For graphs that run often and are small: keeps what is to be looked at in memory until the graph has run.
// One owner.
class KeptOperands {
 public:
  // Room for the operands of a graph of `max_nodes` nodes.
  explicit KeptOperands(int max_nodes) { operands_.reserve(static_cast<size_t>(max_nodes)); }

  // Before the graph's tensors get addresses.  With `sums` it has room for FiniteSums::kNodes times its
  // nodes. Errors as FiniteSums.
  Status keep(Graph& graph, FiniteSums* sums);
  // With sums: once it is launched.
  void queue_fetch() const;
  // After it has run; with sums, and Backend::settle().
  NotFinite look() const;

 private:
  std::vector<HidingOperand> operands_;
  FiniteSums* sums_ = nullptr;
  std::vector<FiniteSums::Summed> summed_;
};

// For graphs of many tokens, and to find where something began: nodes that look at values as soon as they are
// there, of a backend that computes on host memory.  One owner; the nodes run in many threads.
class FiniteChecks {
 public:
  using What = FiniteWhat;

  // Copies `plain` into `checked`, which is empty and has room for twice its nodes.
  void add(ggml_cgraph* plain, Graph& checked, What what);

  // A node that looks at F32 values, to be expanded between who makes and who takes them.
  ggml_tensor* node(ggml_context* context, ggml_tensor* values) { return node(context, values, run); }

  void forget();
  // Since forget().
  NotFinite found() const { return {.tensor = tensor_.load(), .row = row_plus_one_.load() - 1}; }

 private:
  ggml_tensor* node(ggml_context* context, ggml_tensor* values, ggml_custom_op_t how);
  void look(const ggml_tensor* values, float limit, int thread, int n_thread);
  static void run(ggml_tensor* node, int thread, int n_thread, void* checks);
  static void run_for_half(ggml_tensor* node, int thread, int n_thread, void* checks);
  std::vector<HidingOperand> operands_;
  std::atomic<const ggml_tensor*> tensor_ = nullptr;
  std::atomic<int64_t> row_plus_one_ = 0;
};

// The first row of a tensor in memory, F32, that has a value that is not below `limit`, of rows [first, end);
// `end`: none has.
int64_t first_row_not_finite(const ggml_tensor* tensor, int64_t first, int64_t end, float limit = kInfinite);

}  // namespace odmoe
