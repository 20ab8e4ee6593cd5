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
#include <vector>

#include "base/finite.h"
#include "model/graph.h"

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

// For graphs that run often and are small: keeps what is to be looked at in memory until the graph has run.
// One owner.
class KeptOperands {
 public:
  // Room for the operands of a graph of `max_nodes` nodes.
  explicit KeptOperands(int max_nodes) { operands_.reserve(static_cast<size_t>(max_nodes)); }

  // Before the graph's tensors get addresses.
  void keep(ggml_cgraph* graph);
  // After it has run.
  NotFinite look() const;

 private:
  std::vector<HidingOperand> operands_;
};

// For graphs of many tokens, and to find where something began: nodes that look at values as soon as they are
// there.  One owner; the nodes run in many threads.
class FiniteChecks {
 public:
  enum class What {
    kHiding,  // operands in which something may be hidden
    kAll,     // every node
  };

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
