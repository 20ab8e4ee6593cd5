#include "model/blocks/experts.h"

#include <algorithm>
#include <cassert>
#include <iterator>

#include "backend/tensor_memory.h"
#include "base/units.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// Experts of a graph that are products of their own, and the nodes that each is: gate, up and down, and views
// of their rows.
constexpr size_t kMostProducts = 32;
constexpr int kMaxNodes = 64 + 6 * static_cast<int>(kMostProducts);
// As many rows are looked at by one thread sooner than by a node of the graph, at which all threads meet.
constexpr int64_t kRowsOfOneThread = 64;

bool gains_by_rows(const ExpertMatrix& matrix) { return matrix.layout != nullptr; }

bool gains_by_rows(const LayerExperts& experts) {
  return gains_by_rows(experts.gate) || gains_by_rows(experts.up) || gains_by_rows(experts.down);
}

// How many of the pairs, from the first on, are of the first one's expert.
size_t pairs_of_first(std::span<const ExpertPair> pairs) {
  const auto is_other = [&](const ExpertPair& pair) { return pair.slot != pairs.front().slot; };
  return static_cast<size_t>(std::ranges::find_if(pairs, is_other) - pairs.begin());
}

Result<ExpertMatrix> describe(const Checkpoint& file, const std::string& name, std::array<int64_t, 3> ne,
                              const RepackedLayout* layout, bool merged_gate_up = false) {
  const TensorInfo* info = file.find_tensor(name);
  if (info == nullptr) {
    return fail(ErrorKind::kBadFile, "{}: the model has no tensor {}", file.path().string(), name);
  }
  const int64_t rows = merged_gate_up ? 2 * ne[1] : ne[1];
  if (info->ne[0] != ne[0] || info->ne[1] != rows || info->ne[2] != ne[2]) {
    return fail(
        ErrorKind::kBadFile, "{}: tensor {} is {} x {} x {}, but the model's metadata asks for {} x {} x {}",
        file.path_of(*info).string(), name, info->ne[0], info->ne[1], info->ne[2], ne[0], rows, ne[2]);
  }
  assert(!info->repacked || layout != nullptr);
  return ExpertMatrix{.type = info->type,
                      .n_in = ne[0],
                      .n_out = ne[1],
                      .slot0 = nullptr,
                      .layout = info->repacked ? layout : nullptr};
}

}  // namespace

Result<LayerExperts> describe_experts(const Checkpoint& file, const ModelShape& shape, int layer,
                                      const RepackedLayout* layout) {
  const auto name = [&](const char* part) { return odmoe::format("blk.{}.ffn_{}_exps.weight", layer, part); };
  const int64_t n_expert = shape.router.n_expert;
  LayerExperts experts;
  const bool merged = file.find_tensor(name("gate_up")) != nullptr;
  experts.has_gate = shape.ffn_gates;
  if (!experts.has_gate && (merged || file.find_tensor(name("gate")) != nullptr)) {
    return fail(ErrorKind::kBadFile, "{}: layer {} has gates of its experts, which {} models do not have",
                file.path().string(), layer, shape.architecture);
  }
  experts.glu = shape.expert_glu(layer);
  const std::array<int64_t, 3> in = {shape.expert_width(), shape.n_ff_exp, n_expert};
  ODMOE_ASSIGN_OR_RETURN(experts.up, describe(file, name(merged ? "gate_up" : "up"), in, layout, merged));
  if (merged || !experts.has_gate) {
    experts.gate = experts.up;
  } else {
    ODMOE_ASSIGN_OR_RETURN(experts.gate, describe(file, name("gate"), in, layout));
  }
  ODMOE_ASSIGN_OR_RETURN(
      experts.down, describe(file, name("down"), {shape.n_ff_exp, shape.expert_width(), n_expert}, layout));
  return experts;
}

namespace {

uint64_t matrix_bytes(int64_t columns, int64_t rows) {
  return round_up(static_cast<uint64_t>(rows * columns) * sizeof(float), kTensorAlignment);
}

uint64_t index_bytes(int64_t n) {
  return round_up(static_cast<uint64_t>(n) * sizeof(int64_t), kTensorAlignment);
}

int64_t max_pairs_of(const ModelShape& shape, int64_t chunk) {
  return std::max<int64_t>(chunk, shape.router.n_expert_used);
}

}  // namespace

uint64_t ExpertCompute::bytes(const ModelShape& shape, int64_t chunk) {
  const int64_t some = max_pairs_of(shape, chunk);
  const int64_t all = chunk * shape.router.n_expert_used;
  const uint64_t kept = matrix_bytes(shape.n_ff_exp, shape.router.n_expert_used);
  // Of so many pairs: numbers of experts, and their factors; weights of inputs.
  const auto extras = [&](int64_t n) {
    const bool terms = shape.extras.biases || shape.extras.scales;
    return (terms ? index_bytes(n) + matrix_bytes(1, n) : 0) +
           (shape.extras.weigh_input ? matrix_bytes(1, n) : 0);
  };
  const int64_t n_hidden =
      shape.activation == Activation::kSitu ? 3 : 2;  // gate, up and what else gated() takes
  // Some pairs: gathered inputs, gate, up, outputs; token, slot and row numbers.
  const uint64_t partial = 2 * matrix_bytes(shape.expert_width(), some) +
                           n_hidden * matrix_bytes(shape.n_ff_exp, some) + 3 * index_bytes(some) +
                           extras(some);
  // All pairs: gate, up; slot numbers.  Inputs and outputs are the activations themselves.
  const uint64_t whole = n_hidden * matrix_bytes(shape.n_ff_exp, all) + index_bytes(all) + extras(all);
  return kept + std::max(partial, whole) + 3 * kTensorAlignment;  // and what three checks give
}

ExpertCompute::ExpertCompute(Backend& backend, const ModelShape& shape, int64_t chunk)
    : backend_(&backend),
      extras_(shape.extras),
      n_embd_(shape.expert_width()),
      n_ff_(shape.n_ff_exp),
      n_used_(shape.router.n_expert_used),
      n_expert_(shape.router.n_expert),
      max_pairs_(max_pairs_of(shape, chunk)),
      graph_(kMaxNodes) {}

Result<std::unique_ptr<ExpertCompute>> ExpertCompute::create(Backend& backend, const ModelShape& shape,
                                                             int64_t chunk) {
  std::unique_ptr<ExpertCompute> compute(new ExpertCompute(backend, shape, chunk));
  ODMOE_ASSIGN_OR_RETURN(compute->memory_, AlignedBuffer::allocate(bytes(shape, chunk)));
  compute->buffer_ = backend.wrap(compute->memory_.span());
  compute->turn_.reserve(static_cast<size_t>(chunk * compute->n_used_));
  compute->products_.reserve(kMostProducts);
  return compute;
}

ggml_tensor* ExpertCompute::place(ggml_tensor* tensor) {
  ggml_backend_tensor_alloc(buffer_.get(), tensor, memory_.data() + used_);
  used_ += round_up(ggml_nbytes(tensor), kTensorAlignment);
  assert(used_ <= memory_.span().size());
  return tensor;
}

ggml_tensor* ExpertCompute::slots(const ExpertMatrix& matrix, const LayerExperts& experts,
                                  ggml_backend_buffer_t arena, SlotSpan span) {
  ggml_tensor* tensor =
      ggml_new_tensor_3d(graph_.context(), matrix.type, matrix.n_in, matrix.n_out, span.count);
  tensor->nb[2] = experts.slot_bytes;
  tensor->nb[3] = experts.slot_bytes * static_cast<size_t>(span.count);
  std::byte* const first = matrix.slot0 + experts.slot_bytes * static_cast<uint64_t>(span.first);
  if (matrix.layout != nullptr) {
    matrix.layout->place(tensor, first);
  } else {
    ggml_backend_tensor_alloc(arena, tensor, first);
  }
  return tensor;
}

bool ExpertCompute::supported(const LayerExperts& experts) {
  graph_.reset();
  ggml_context* ctx = graph_.context();
  ggml_tensor* ids = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 1, 1);
  for (const ExpertMatrix* matrix : {&experts.gate, &experts.up, &experts.down}) {
    if (matrix->layout != nullptr) {
      if (!matrix->layout->takes(matrix->type, matrix->n_in, matrix->n_out)) return false;
      continue;
    }
    ggml_tensor* weights = ggml_new_tensor_3d(ctx, matrix->type, matrix->n_in, matrix->n_out, 1);
    ggml_tensor* x = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, matrix->n_in, 1, 1);
    if (!backend_->supports(ggml_mul_mat_id(ctx, weights, x, ids))) return false;
  }
  return true;
}

ggml_tensor* ExpertCompute::product(const ExpertMatrix& matrix, const LayerExperts& experts,
                                    ggml_backend_buffer_t arena, SlotSpan span, ggml_tensor* x,
                                    ggml_tensor* slot_ids) {
  return ggml_mul_mat_id(graph_.context(), slots(matrix, experts, arena, span), x, slot_ids);
}

// x: [n_in, 1, n] where there are products_.
ggml_tensor* ExpertCompute::placed_product(const ExpertMatrix& matrix, const LayerExperts& experts,
                                           ggml_backend_buffer_t arena, SlotSpan span, ggml_tensor* x,
                                           ggml_tensor* slot_ids) {
  if (products_.empty() || !gains_by_rows(matrix)) {
    return place(product(matrix, experts, arena, span, x, slot_ids));
  }
  ggml_context* ctx = graph_.context();
  const int64_t n = x->ne[2];
  ggml_tensor* y = place(ggml_new_tensor_3d(ctx, GGML_TYPE_F32, matrix.n_out, 1, n));
  const auto compute_rows = [&](ggml_tensor* part, int64_t first) {
    place_within(y, part, y->nb[2] * static_cast<size_t>(first));
    graph_.expand(part);
  };
  int64_t first = 0;
  for (const Product& one : products_) {
    ggml_tensor* rows =
        ggml_view_2d(ctx, x, x->ne[0], one.n, x->nb[2], x->nb[2] * static_cast<size_t>(one.first));
    compute_rows(ggml_mul_mat(ctx, slots(matrix, experts, arena, {.first = one.slot, .count = 1}), rows),
                 one.first);
    first = one.first + one.n;
  }
  if (first == n) return y;
  ggml_tensor* rows =
      ggml_view_3d(ctx, x, x->ne[0], 1, n - first, x->nb[1], x->nb[2], x->nb[2] * static_cast<size_t>(first));
  ggml_tensor* ids = ggml_view_2d(ctx, slot_ids, 1, n - first, slot_ids->nb[1],
                                  slot_ids->nb[1] * static_cast<size_t>(first));
  compute_rows(product(matrix, experts, arena, span, rows, ids), first);
  return y;
}

// In place.
ggml_tensor* ExpertCompute::add_bias(ggml_tensor* y, ggml_tensor* bias, const Ids& ids) {
  if (bias == nullptr) return y;
  ggml_tensor* sum = ggml_add_id(graph_.context(), y, bias, ids.expert);
  place_within(y, sum);
  return sum;
}

// Gate and up of x, and what becomes of them, where the gate was: element by element, so in place.
ggml_tensor* ExpertCompute::activate(const LayerExperts& experts, ggml_backend_buffer_t arena, SlotSpan span,
                                     ggml_tensor* x, const Ids& ids) {
  ggml_context* ctx = graph_.context();
  const ExpertTerms& terms = experts.terms;
  ggml_tensor* up = nullptr;
  ggml_tensor* gate = nullptr;
  if (experts.has_gate) {
    gate = placed_product(experts.gate, experts, arena, span, x, ids.slot);
    gate = add_bias(gate, terms.gate_bias, ids);
  }
  up = add_bias(placed_product(experts.up, experts, arena, span, x, ids.slot), terms.up_bias, ids);
  if (gate == nullptr) gate = up;
  checks_.forget();
  if (hides_infinite_gate(experts.glu)) graph_.expand(place(checks_.node(ctx, gate)));
  if (hides_infinite_up(experts.glu) && up != gate) graph_.expand(place(checks_.node(ctx, up)));
  return gated(ctx, experts.glu, gate, up, [this](ggml_tensor* result, ggml_tensor* operand) {
    operand == nullptr ? static_cast<void>(place(result)) : place_within(operand, result);
  });
}

// Of what down gives, in place.
ggml_tensor* ExpertCompute::finish_down(const LayerExperts& experts, ggml_tensor* y, const Ids& ids) {
  ggml_context* ctx = graph_.context();
  y = add_bias(y, experts.terms.down_bias, ids);
  if (ggml_tensor* scales = experts.terms.down_scale; scales != nullptr) {
    const int64_t n_used = ids.expert->ne[0];
    const int64_t n_column = ids.expert->ne[1];
    scales = ggml_get_rows(ctx, ggml_reshape_2d(ctx, scales, 1, scales->ne[0]),
                           ggml_reshape_1d(ctx, ids.expert, n_used * n_column));
    scales = ggml_reshape_3d(ctx, place(scales), 1, n_used, n_column);
    ggml_tensor* scaled = ggml_mul(ctx, y, scales);
    place_within(y, scaled);
    y = scaled;
  }
  return y;
}

// To be called before down is made part of the graph.
void ExpertCompute::check_in_graph(const ExpertMatrix& down, ggml_tensor* hidden) {
  if (!ggml_is_quantized(down.type) || ggml_nrows(hidden) <= kRowsOfOneThread) return;
  graph_.expand(place(checks_.node(graph_.context(), hidden)));
}

// After the graph has run.  `pair_of` says whose a row is.
template <typename PairOf>
void ExpertCompute::look_at(const ExpertMatrix& down, const ggml_tensor* hidden, const PairOf& pair_of) {
  if (not_finite_) return;
  if (const NotFinite found = checks_.found()) {
    not_finite_ = pair_of(found.row);
    return;
  }
  if (!ggml_is_quantized(down.type)) return;
  if (const int64_t n_row = ggml_nrows(hidden); n_row <= kRowsOfOneThread) {
    if (const int64_t row = first_row_not_finite(hidden, 0, n_row); row < n_row) not_finite_ = pair_of(row);
  }
}

ExpertCompute::SlotSpan ExpertCompute::span_of(std::span<const ExpertPair> pairs) {
  const auto [low, high] = std::ranges::minmax(pairs, {}, &ExpertPair::slot);
  return {.first = low.slot, .count = high.slot - low.slot + 1};
}

void ExpertCompute::begin() {
  graph_.reset();
  products_.clear();
  used_ = matrix_bytes(n_ff_, n_used_);
}

template <typename IndexOf>
ExpertCompute::Ids ExpertCompute::place_ids(const LayerExperts& experts, std::span<const ExpertPair> pairs,
                                            SlotSpan span, int64_t n_column, const IndexOf& index_of) {
  const auto make = [&](const auto& number_of) {
    ggml_tensor* ids =
        place(ggml_new_tensor_2d(graph_.context(), GGML_TYPE_I32, std::ssize(pairs) / n_column, n_column));
    const auto numbers = host_values<int32_t>(ids);
    for (size_t i = 0; i < pairs.size(); ++i) numbers[index_of(i)] = number_of(pairs[i]);
    return ids;
  };
  return {.slot = make([span](const ExpertPair& pair) { return pair.slot - span.first; }),
          .expert = experts.terms ? make([](const ExpertPair& pair) { return pair.expert; }) : nullptr};
}

ExpertCompute::Ids ExpertCompute::place_ids(const LayerExperts& experts, std::span<const ExpertPair> pairs,
                                            SlotSpan span, int64_t n_column) {
  return place_ids(experts, pairs, span, n_column, [](size_t i) { return i; });
}

// What the pairs' experts see: one column for all, or one column for each, of one token [n_embd, n, 1] and of
// several [n_embd, 1, n].
ggml_tensor* ExpertCompute::place_inputs(const ExpertColumns& a, std::span<const ExpertPair> pairs,
                                         bool one_token) {
  ggml_context* ctx = graph_.context();
  if (one_token && !extras_.weigh_input) {
    return ggml_view_3d(ctx, a.input, n_embd_, 1, 1, a.input->nb[1], a.input->nb[1], 0);
  }
  const auto n = std::ssize(pairs);
  ggml_tensor* tokens = place(ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n));
  for (size_t i = 0; i < pairs.size(); ++i) host_values<int32_t>(tokens)[i] = pairs[i].token;
  ggml_tensor* x = place(ggml_get_rows(ctx, a.input, tokens));
  if (extras_.weigh_input) {
    ggml_tensor* weights = place(ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 1, n));
    for (size_t i = 0; i < pairs.size(); ++i) {
      host_values<float>(weights)[i] =
          host_values<float>(a.weight)[static_cast<size_t>(pairs[i].token * n_used_ + pairs[i].rank)];
    }
    ggml_tensor* weighted = ggml_mul(ctx, x, weights);
    place_within(x, weighted);
    x = weighted;
  }
  return one_token ? ggml_reshape_3d(ctx, x, n_embd_, n, 1) : ggml_reshape_3d(ctx, x, n_embd_, 1, n);
}

Status ExpertCompute::run(const LayerExperts& experts, ggml_backend_buffer_t arena, const ExpertColumns& a,
                          int64_t n_token, std::span<const ExpertPair> pairs) {
  assert(!pairs.empty());
  if (n_token > 1 && gains_by_rows(experts)) {
    put_products_first(pairs);
    return run_in_waves(experts, arena, a, Way::kProducts, turn_);
  }
  // ggml's work buffer grows with pairs times slots shown, so slots that lie far apart go the other way.
  // So do inputs that differ by expert.
  const bool all = std::cmp_equal(pairs.size(), n_token * n_used_) && span_of(pairs).count <= 2 * n_expert_ &&
                   !extras_.weigh_input;
  if (all) return run_all(experts, arena, a, n_token, pairs);
  return run_in_waves(experts, arena, a, n_token == 1 ? Way::kOneToken : Way::kRows, pairs);
}

// Into turn_.  The order says nothing but for which are products.
void ExpertCompute::put_products_first(std::span<const ExpertPair> pairs) {
  turn_.clear();
  for (const bool products : {true, false}) {
    for (std::span<const ExpertPair> left = pairs; !left.empty();) {
      const size_t n = pairs_of_first(left);
      if ((n >= kLeastProductRows) == products) std::ranges::copy(left.first(n), std::back_inserter(turn_));
      left = left.subspan(n);
    }
  }
}

void ExpertCompute::find_products(std::span<const ExpertPair> pairs) {
  for (size_t first = 0; first < pairs.size();) {
    const size_t n = pairs_of_first(pairs.subspan(first));
    if (n < kLeastProductRows) return;
    products_.push_back(
        {.first = static_cast<int64_t>(first), .n = static_cast<int64_t>(n), .slot = pairs[first].slot});
    first += n;
  }
}

Status ExpertCompute::run_columns(const LayerExperts& experts, ggml_backend_buffer_t arena,
                                  const ExpertColumns& a, std::span<const ExpertPair> pairs) {
  // In turns: the first exact_rows pairs of each expert, the next, ...
  for (size_t begin = 0;; begin += static_cast<size_t>(experts.exact_rows)) {
    turn_.clear();
    for (size_t i = 0, in_expert = 0; i < pairs.size(); ++i) {
      in_expert = i > 0 && pairs[i].slot == pairs[i - 1].slot ? in_expert + 1 : 0;
      if (in_expert >= begin && in_expert - begin < static_cast<size_t>(experts.exact_rows)) {
        turn_.push_back(pairs[i]);
      }
    }
    if (turn_.empty()) return {};
    ODMOE_RETURN_IF_ERROR(run_in_waves(experts, arena, a, Way::kRows, turn_));
  }
}

Status ExpertCompute::run_in_waves(const LayerExperts& experts, ggml_backend_buffer_t arena,
                                   const ExpertColumns& a, Way way, std::span<const ExpertPair> pairs) {
  while (!pairs.empty()) {
    size_t n = 0;
    for (size_t n_expert = 0; n < pairs.size(); ++n_expert) {
      if (way == Way::kProducts && n_expert == kMostProducts) break;
      const size_t n_with_next = n + pairs_of_first(pairs.subspan(n));
      if (n > 0 && std::cmp_greater(n_with_next, max_pairs_)) break;
      n = n_with_next;
    }
    ODMOE_RETURN_IF_ERROR(run_some(experts, arena, a, way, pairs.first(n)));
    pairs = pairs.subspan(n);
  }
  return {};
}

// Inputs are taken from, and outputs written to, where the activations are: nothing is gathered or scattered.
Status ExpertCompute::run_all(const LayerExperts& experts, ggml_backend_buffer_t arena,
                              const ExpertColumns& a, int64_t n_token, std::span<const ExpertPair> pairs) {
  begin();
  ggml_context* ctx = graph_.context();
  const SlotSpan span = span_of(pairs);
  const Ids ids = place_ids(experts, pairs, span, n_token, [&](size_t i) {
    return static_cast<size_t>(pairs[i].token * n_used_ + pairs[i].rank);
  });
  ggml_tensor* x = ggml_view_3d(ctx, a.input, n_embd_, 1, n_token, a.input->nb[1], a.input->nb[1], 0);
  ggml_tensor* hidden = activate(experts, arena, span, x, ids);
  check_in_graph(experts.down, hidden);
  ggml_tensor* y = product(experts.down, experts, arena, span, hidden, ids.slot);
  place_within(a.output, y);
  graph_.expand(finish_down(experts, y, ids));
  ODMOE_RETURN_IF_ERROR(backend_->compute(graph_.graph()));
  look_at(experts.down, hidden, [&](int64_t row) {
    return ExpertPair{.token = static_cast<int32_t>(row / n_used_),
                      .rank = static_cast<int32_t>(row % n_used_)};
  });
  return {};
}

Status ExpertCompute::run_some(const LayerExperts& experts, ggml_backend_buffer_t arena,
                               const ExpertColumns& a, Way way, std::span<const ExpertPair> pairs) {
  assert(std::cmp_less_equal(pairs.size(), max_pairs_));
  begin();
  if (way == Way::kProducts) find_products(pairs);
  const bool one_token = way == Way::kOneToken;
  ggml_context* ctx = graph_.context();
  const auto n = static_cast<int64_t>(pairs.size());
  const SlotSpan span = span_of(pairs);
  // One token is multiplied by all its experts; of several, each pair is a row of its own.
  const Ids ids = place_ids(experts, pairs, span, one_token ? 1 : n);
  ggml_tensor* rows = place(ggml_new_tensor_1d(ctx, GGML_TYPE_I64, n));
  const auto row_of = host_values<int64_t>(rows);
  for (size_t i = 0; i < pairs.size(); ++i) row_of[i] = pairs[i].token * n_used_ + pairs[i].rank;
  ggml_tensor* x = place_inputs(a, pairs, one_token);
  ggml_tensor* hidden = activate(experts, arena, span, x, ids);
  check_in_graph(experts.down, hidden);
  ggml_tensor* y = placed_product(experts.down, experts, arena, span, hidden, ids.slot);
  y = finish_down(experts, y, ids);
  graph_.expand(ggml_set_rows(ctx, a.output, ggml_reshape_2d(ctx, y, n_embd_, n), rows));
  ODMOE_RETURN_IF_ERROR(backend_->compute(graph_.graph()));
  look_at(experts.down, hidden, [&](int64_t row) { return pairs[static_cast<size_t>(row)]; });
  return {};
}

Status ExpertCompute::run_gate_up(const LayerExperts& experts, ggml_backend_buffer_t arena,
                                  const ExpertColumns& a, std::span<const ExpertPair> pairs) {
  begin();
  const SlotSpan span = span_of(pairs);
  const Ids ids = place_ids(experts, pairs, span, 1);
  ggml_tensor* x = place_inputs(a, pairs, /*one_token=*/true);
  ggml_tensor* hidden = activate(experts, arena, span, x, ids);
  check_in_graph(experts.down, hidden);
  graph_.expand(hidden);
  ODMOE_RETURN_IF_ERROR(backend_->compute(graph_.graph()));
  look_at(experts.down, hidden, [&](int64_t row) { return pairs[static_cast<size_t>(row)]; });
  auto* kept = reinterpret_cast<float*>(memory_.data());
  for (size_t i = 0; i < pairs.size(); ++i) {
    std::copy_n(host_values<float>(hidden).begin() + static_cast<int64_t>(i) * n_ff_, n_ff_,
                kept + pairs[i].rank * n_ff_);
  }
  return {};
}

Status ExpertCompute::run_down(const LayerExperts& experts, ggml_backend_buffer_t arena,
                               const ExpertColumns& a, std::span<const ExpertPair> pairs) {
  begin();
  ggml_context* ctx = graph_.context();
  const auto n = static_cast<int64_t>(pairs.size());
  const SlotSpan span = span_of(pairs);
  const Ids ids = place_ids(experts, pairs, span, 1);
  ggml_tensor* hidden = place(ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_ff_, n, 1));
  const auto* kept = reinterpret_cast<const float*>(memory_.data());
  for (size_t i = 0; i < pairs.size(); ++i) {
    std::copy_n(kept + pairs[i].rank * n_ff_, n_ff_,
                host_values<float>(hidden).begin() + static_cast<int64_t>(i) * n_ff_);
  }
  ggml_tensor* y = placed_product(experts.down, experts, arena, span, hidden, ids.slot);
  y = finish_down(experts, y, ids);
  graph_.expand(y);
  ODMOE_RETURN_IF_ERROR(backend_->compute(graph_.graph()));
  for (size_t i = 0; i < pairs.size(); ++i) {
    std::copy_n(host_values<float>(y).begin() + static_cast<int64_t>(i) * n_embd_, n_embd_,
                host_values<float>(a.output).begin() + pairs[i].rank * n_embd_);
  }
  return {};
}

}  // namespace odmoe
