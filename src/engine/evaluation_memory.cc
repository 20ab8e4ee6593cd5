#include "engine/evaluation_memory.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/units.h"

namespace odmoe {
namespace {

constexpr size_t kTensors = 16 + 5 * StatePlan::kMaxGroups;  // of the activations and the logits, at most

struct Placed {
  Backend* backend;
  ggml_tensor *on_device, *on_host;
};

template <typename T>
void set(Exchange<T>& exchange, ggml_tensor*& device, const Placed& placed) {
  device = placed.on_device;
  exchange = Exchange<T>(*placed.backend, placed.on_device, placed.on_host);
}

// Calls visit(exchange, device tensor) of a and the same of b, for all that are in columns of tokens.
template <typename Visit>
void each_pair(const EvaluationColumns& a, EvaluationColumns& b, const Visit& visit) {
  visit(a.tokens, b.tokens, b.device.tokens);
  visit(a.positions, b.positions, b.device.positions);
  for (size_t i = 0; i < a.groups.size(); ++i) {
    const RowColumns& from = a.groups[i];
    RowColumns& to = b.groups[i];
    RowActivations& device = b.device.groups[i];
    visit(from.written, to.written, device.written);
    visit(from.mask, to.mask, device.mask);
    visit(from.sources, to.sources, device.sources);
    visit(from.sources_mask, to.sources_mask, device.sources_mask);
    visit(from.first_positions, to.first_positions, device.first_positions);
  }
  visit(a.query_scale, b.query_scale, b.device.query_scale);
  visit(a.chosen_rows, b.chosen_rows, b.device.chosen_rows);
  visit(a.layer_streams, b.layer_streams, b.device.layer_streams);
  visit(a.residual_streams, b.residual_streams, b.device.residual_streams);
  visit(a.banked, b.banked, b.device.banked);
  visit(a.layer_input, b.layer_input, b.device.layer_input);
  visit(a.residual, b.residual, b.device.residual);
  visit(a.ffn_input, b.ffn_input, b.device.ffn_input);
  visit(a.expert_input, b.expert_input, b.device.expert_input);
  visit(a.router_logits, b.router_logits, b.device.router_logits);
  visit(a.expert_output, b.expert_output, b.device.expert_output);
  visit(a.expert_weight, b.expert_weight, b.device.expert_weight);
  visit(a.shared_output, b.shared_output, b.device.shared_output);
}

}  // namespace

Result<std::unique_ptr<EvaluationMemory>> EvaluationMemory::create(Backend& device, const Backend& host,
                                                                   const Decoder& decoder,
                                                                   const StatePlan& plan,
                                                                   const Sizes& sizes) {
  std::unique_ptr<EvaluationMemory> memory(new EvaluationMemory);
  ODMOE_RETURN_IF_ERROR(memory->place(device, host, decoder, plan, sizes));
  ODMOE_RETURN_IF_ERROR(memory->make_parts(device, plan, sizes, decoder.shape().router.n_expert_used));
  return memory;
}

Status EvaluationMemory::place(Backend& device, const Backend& host, const Decoder& decoder,
                               const StatePlan& plan, const Sizes& sizes) {
  const ModelShape& shape = decoder.shape();
  const int64_t n = sizes.columns();
  const int64_t n_used = shape.router.n_expert_used;
  const bool apart = !device.computes_on_host_memory();
  context_.reset(ggml_init(
      {.mem_size = 2 * kTensors * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  uint64_t bytes = 0;
  std::vector<Placed> tensors;
  const auto make = [&](ggml_type type, int64_t ne0, int64_t ne1) {
    ggml_tensor* on_device = ggml_new_tensor_2d(context_.get(), type, ne0, ne1);
    ggml_tensor* on_host = apart ? ggml_new_tensor_2d(context_.get(), type, ne0, ne1) : on_device;
    bytes += round_up(ggml_nbytes(on_device), device.alignment());
    return tensors.emplace_back(&device, on_device, on_host);
  };
  Activations& a = all_.device;
  set(all_.tokens, a.tokens, make(GGML_TYPE_I32, 1, n));
  set(all_.positions, a.positions, make(GGML_TYPE_I32, 1, n));
  for (size_t i = 0; i < plan.groups().size(); ++i) {
    const RowGroup& group = plan.groups()[i];
    RowColumns& columns = all_.groups[i];
    RowActivations& on_device = a.groups[i];
    // Each lane has a column.
    const int64_t of_place = group.max_rows_written(sizes.tokens);
    const int64_t n_written = std::max<int64_t>(of_place, sizes.lanes + sizes.places * of_place);
    set(columns.written, on_device.written, make(GGML_TYPE_I64, 1, n_written));
    set(columns.mask, on_device.mask, make(GGML_TYPE_F16, group.rows(), n));
    if (!group.in_blocks()) continue;
    const int64_t made_from = group.kind().made_from;
    set(columns.sources, on_device.sources, make(GGML_TYPE_I32, made_from, n_written));
    set(columns.sources_mask, on_device.sources_mask, make(GGML_TYPE_F32, made_from, n_written));
    set(columns.first_positions, on_device.first_positions, make(GGML_TYPE_I32, 1, n_written));
  }
  if (decoder.architecture().scales_queries())
    set(all_.query_scale, a.query_scale, make(GGML_TYPE_F32, 1, n));
  if (const int64_t n_chosen = decoder.architecture().chosen_rows(); n_chosen > 0)
    set(all_.chosen_rows, a.chosen_rows, make(GGML_TYPE_I32, n_chosen, n));
  if (const ResidualStreams* streams = decoder.architecture().streams()) {
    const int64_t width = shape.n_embd * streams->n_stream();
    set(all_.layer_streams, a.layer_streams, make(GGML_TYPE_F32, width, n));
    set(all_.residual_streams, a.residual_streams, make(GGML_TYPE_F32, width, n));
    if (const int64_t n_bank = streams->n_bank(); n_bank > 0)
      set(all_.banked, a.banked, make(GGML_TYPE_F32, shape.n_embd * n_bank, n));
  }
  set(all_.layer_input, a.layer_input, make(GGML_TYPE_F32, shape.n_embd, n));
  set(all_.residual, a.residual, make(GGML_TYPE_F32, shape.n_embd, n));
  set(all_.ffn_input, a.ffn_input, make(GGML_TYPE_F32, shape.n_embd, n));
  if (shape.experts_see_another()) {
    set(all_.expert_input, a.expert_input, make(GGML_TYPE_F32, shape.expert_width(), n));
  }
  set(all_.router_logits, a.router_logits, make(GGML_TYPE_F32, shape.router.n_expert, n));
  set(all_.expert_output, a.expert_output, make(GGML_TYPE_F32, shape.expert_width(), n_used * n));
  set(all_.expert_weight, a.expert_weight, make(GGML_TYPE_F32, 1, n_used * n));
  if (decoder.shape().shared.n_ff > 0) {
    set(all_.shared_output, a.shared_output, make(GGML_TYPE_F32, shape.n_embd, n));
  }
  ggml_tensor* logits = nullptr;
  set(logits_, logits, make(GGML_TYPE_F32, shape.n_vocab, sizes.logits));

  if (apart) {
    ODMOE_ASSIGN_OR_RETURN(host_memory_, DeviceMemory::allocate_beside(device, host, bytes));
    first_part_ = bytes;
    each_of_parts(
        plan, sizes, n_used, [&](const auto& whole, auto&, ggml_tensor*&, int64_t, int64_t n_column) {
          bytes += round_up(static_cast<uint64_t>(n_column) * whole.device()->nb[1], device.alignment());
        });
  }
  ODMOE_ASSIGN_OR_RETURN(device_memory_, DeviceMemory::allocate(device, bytes));
  uint64_t offset = 0;
  for (const auto& [backend, on_device, on_host] : tensors) {
    const bool placed =
        device_memory_.place(on_device, offset) && (!apart || host_memory_.place(on_host, offset));
    if (!placed) return fail(ErrorKind::kIo, "{} cannot hold activations", device.description());
    offset += round_up(ggml_nbytes(on_device), device.alignment());
  }
  return {};
}

// visit(exchange of all(), the part's, its device tensor, first column, how many) of all that lanes and
// places have.
template <typename Visit>
void EvaluationMemory::each_of_parts(const StatePlan& plan, const Sizes& sizes, int64_t n_expert_used,
                                     const Visit& visit) {
  tokens_ = sizes.tokens;
  lanes_.resize(static_cast<size_t>(sizes.lanes));
  places_.resize(static_cast<size_t>(sizes.places));
  // `columns` of n tokens from `first` on; `written(group)`: the first column of its rows and how many.
  const auto each = [&](EvaluationColumns& columns, int64_t first, int64_t n, const auto& written) {
    each_pair(all_, columns, [&](const auto& whole, auto& part, ggml_tensor*& device) {
      if (!whole) return;
      int64_t from = first, count = n;
      if (whole.device() == all_.device.expert_output || whole.device() == all_.device.expert_weight) {
        from *= n_expert_used;
        count *= n_expert_used;
      }
      for (size_t i = 0; i < plan.groups().size(); ++i) {
        const RowActivations& rows = all_.device.groups[i];
        for (const ggml_tensor* of_rows :
             {rows.written, rows.sources, rows.sources_mask, rows.first_positions}) {
          if (whole.device() == of_rows) std::tie(from, count) = written(plan.groups()[i]);
        }
      }
      visit(whole, part, device, from, count);
    });
  };
  for (int64_t i = 0; i < sizes.lanes; ++i) {
    each(lanes_[static_cast<size_t>(i)], i, 1, [i](const RowGroup&) { return std::pair(i, int64_t{1}); });
  }
  for (int32_t i = 0; i < sizes.places; ++i) {
    each(places_[static_cast<size_t>(i)], first_column(i), tokens_, [&](const RowGroup& group) {
      const int64_t n = group.max_rows_written(tokens_);
      return std::pair(sizes.lanes + i * n, n);
    });
  }
}

Status EvaluationMemory::make_parts(Backend& device, const StatePlan& plan, const Sizes& sizes,
                                    int64_t n_expert_used) {
  const auto n_part = static_cast<size_t>(sizes.lanes) + static_cast<size_t>(sizes.places);
  lane_context_.reset(ggml_init(
      {.mem_size = (2 * kTensors * n_part + static_cast<size_t>(sizes.logits)) * ggml_tensor_overhead(),
       .mem_buffer = nullptr,
       .no_alloc = true}));
  const auto make = [&](const ggml_tensor* whole, int64_t n) {
    return ggml_new_tensor_2d(lane_context_.get(), whole->type, whole->ne[0], n);
  };
  const auto view = [&](const ggml_tensor* whole, int64_t first, int64_t n) {
    ggml_tensor* tensor = make(whole, n);
    place_within(whole, tensor, static_cast<size_t>(first) * whole->nb[1]);
    return tensor;
  };
  uint64_t offset = first_part_;
  bool placed = true;
  each_of_parts(plan, sizes, n_expert_used,
                [&](const auto& whole, auto& part, ggml_tensor*& on_device, int64_t first, int64_t n) {
                  if (whole.device() == whole.host()) {
                    ggml_tensor* both = view(whole.device(), first, n);
                    return set(part, on_device, {&device, both, both});
                  }
                  ggml_tensor* apart = make(whole.device(), n);
                  placed = device_memory_.place(apart, offset) && placed;
                  offset += round_up(ggml_nbytes(apart), device.alignment());
                  set(part, on_device, {&device, apart, view(whole.host(), first, n)});
                });
  if (!placed) return fail(ErrorKind::kIo, "{} cannot hold activations", device.description());
  if (logits_.device() == logits_.host()) {
    for (int64_t i = 0; i < sizes.logits; ++i) logits_columns_.push_back(view(logits_.device(), i, 1));
  }
  return {};
}

}  // namespace odmoe
