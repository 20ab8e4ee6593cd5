#include "model/blocks/device_trial.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/device_memory.h"
#include "backend/device_slots.h"
#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"
#include "base/units.h"
#include "model/blocks/trial_weights.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr int64_t kTrialTokens = 4;  // all the same; of larger blocks a multiple of these
constexpr int64_t kAlone = 0;        // tokens of a chunk: one that is none of a chunk
// One expert in slots 0 and 2, another one in slots 1 and 3; nobody asks for the last.
constexpr int32_t kSlots = 5;
// Rounding of both sides to quantised or half precision is a few percent; what is wrong is of the order of 1.
constexpr double kMostDifference = 0.2;

class DeviceTrial {
 public:
  DeviceTrial(Backend& device, Backend& host, DeviceExperts& experts, const ModelShape& shape,
              const DeviceLayer& layer)
      : device_(&device), host_(&host), experts_(&experts), shape_(&shape), layer_(layer) {
    layer_.experts.terms = {};
    layer_.slots = &slots_;
    n_used_ = shape.router.n_expert_used;
  }

  Status prepare(int32_t most_in_window, bool in_place) {
    const uint64_t slot_bytes = layer_.experts.slot_bytes;
    ODMOE_ASSIGN_OR_RETURN(memory_, AlignedBuffer::allocate(kSlots * slot_bytes));
    fill();
    const DeviceSlots::Shape shape{
        .slot_bytes = slot_bytes, .n_slot = kSlots, .most_in_window = most_in_window};
    if (in_place) {
      ODMOE_ASSIGN_OR_RETURN(slots_, DeviceSlots::over(*device_, memory_.span(), 0, shape));
    } else {
      ODMOE_ASSIGN_OR_RETURN(slots_, DeviceSlots::allocate(*device_, shape));
      for (int32_t slot = 0; slot < kSlots; ++slot) {
        slots_.send(*device_, slot,
                    memory_.span().subspan(static_cast<uint64_t>(slot) * slot_bytes, slot_bytes));
      }
      ODMOE_RETURN_IF_ERROR(device_->settle());
    }
    return place_activations();
  }

  void fill_no_blocks() { layer_.any_of_token = true; }

  // The sizes of blocks that chunks may have, as tokens that fill one.
  std::vector<int64_t> chunks() const {
    const int64_t most_rows = DeviceExperts::block_rows(*shape_, experts_->chunk());
    int64_t rows = DeviceExperts::block_rows(*shape_, kTrialTokens);
    if (rows > most_rows) return {experts_->chunk()};
    std::vector<int64_t> chunks = {kTrialTokens};
    while ((rows *= 2) <= most_rows) {
      chunks.push_back(rows / n_used_ / kTrialTokens * kTrialTokens);
    }
    return chunks;
  }

  // What the processor makes of the experts, for compute().
  Status compute_wanted() {
    const std::vector<ExpertPair> all = pairs(kTrialTokens, 0);
    ODMOE_ASSIGN_OR_RETURN(const auto compute, ExpertCompute::create(*host_, *shape_, kTrialTokens));
    LayerExperts experts = layer_.experts;
    experts.gate.slot0 = memory_.data() + layer_.gate_offset;
    experts.up.slot0 = memory_.data() + layer_.up_offset;
    experts.down.slot0 = memory_.data() + layer_.down_offset;
    const ggml_backend_buffer_ptr arena = host_->wrap(memory_.span());
    ODMOE_RETURN_IF_ERROR(compute->run(experts, arena.get(), on_host_, kTrialTokens, all));
    const std::span<const float> output = host_values<float>(on_host_.output);
    for (const ExpertPair& pair : all) {
      const auto row = row_of(output, pair);
      wanted_[static_cast<size_t>(pair.slot % 2)].assign(row.begin(), row.end());
    }
    return {};
  }

  // Has the device compute pairs, and compares what it makes of them with what the processor does and with
  // what the device made of the same experts in such a block before.
  Status compute(std::span<const ExpertPair> pairs, int64_t n_token) {
    const int64_t n_output = shape_->expert_width() * n_used_ * std::max<int64_t>(n_token, 1);
    std::vector<float> output(static_cast<size_t>(n_output));
    device_->write(on_device_.output, 0, std::as_bytes(std::span(output)));
    ODMOE_RETURN_IF_ERROR(n_token == kAlone ? experts_->add_token(layer_, on_device_, 0, pairs)
                                            : experts_->add_chunk(layer_, on_device_, 0, n_token, pairs));
    ODMOE_RETURN_IF_ERROR(experts_->finish());
    device_->read(on_device_.output, 0, std::as_writable_bytes(std::span(output)));
    ODMOE_RETURN_IF_ERROR(device_->condition());
    const int64_t n_row = n_token == kAlone ? 0 : DeviceExperts::block_rows(*shape_, n_token);
    double difference = 0, norm = 0;
    for (const ExpertPair& pair : pairs) {
      const std::span<const float> row = row_of(output, pair);
      const std::vector<float>& wanted = wanted_[static_cast<size_t>(pair.slot % 2)];
      for (size_t i = 0; i < row.size(); ++i) {
        const double d = static_cast<double>(row[i]) - static_cast<double>(wanted[i]);
        difference += d * d;
        norm += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
      }
      std::vector<float>& before = before_[n_row][static_cast<size_t>(pair.slot % 2)];
      if (before.empty()) before.assign(row.begin(), row.end());
      same_ = same_ && std::memcmp(before.data(), row.data(), row.size_bytes()) == 0;
    }
    const double relative = std::sqrt(difference / std::max(norm, 1e-30));
    if (relative <= kMostDifference) return {};
    return fail(ErrorKind::kUnsupported,
                "{} computes experts in {} otherwise than the processor: by {:.2g} of their size; use "
                "--expert-placement cpu",
                device_->description(), types(), relative);
  }

  // Whether an expert had the same bits each time.
  bool same() const { return same_; }

  std::string types() const {
    const LayerExperts& experts = layer_.experts;
    return odmoe::format("{}, {}, {}", ggml_type_name(experts.gate.type), ggml_type_name(experts.up.type),
                         ggml_type_name(experts.down.type));
  }

  // Pairs of the first n tokens, by slot; the first rank's slot is `first`.
  std::vector<ExpertPair> pairs(int64_t n_token, int32_t first) const {
    std::vector<ExpertPair> pairs;
    for (int32_t slot = 0; slot < kSlots - 1; ++slot) {
      for (int32_t token = 0; token < n_token; ++token) {
        for (int32_t rank = 0; rank < n_used_; ++rank) {
          if ((first + token + rank) % (kSlots - 1) != slot) continue;
          pairs.push_back({.token = token, .rank = rank, .slot = slot, .expert = slot});
        }
      }
    }
    return pairs;
  }

 private:
  std::span<const float> row_of(std::span<const float> output, const ExpertPair& pair) const {
    const auto n = static_cast<size_t>(shape_->expert_width());
    return output.subspan(static_cast<size_t>(pair.token * n_used_ + pair.rank) * n, n);
  }

  void fill() {
    std::mt19937 random(1);
    const LayerExperts& experts = layer_.experts;
    for (int32_t slot = 0; slot < 2; ++slot) {
      const auto make = [&](const ExpertMatrix& matrix, uint64_t offset) {
        const int64_t n = matrix.n_in * matrix.n_out;
        const uint64_t bytes = ggml_row_size(matrix.type, matrix.n_in) * static_cast<uint64_t>(matrix.n_out);
        fill_weights(matrix.type, n, bytes_of(slot).subspan(offset, bytes), random);
      };
      make(experts.up, layer_.up_offset);
      if (layer_.gate_offset != layer_.up_offset) make(experts.gate, layer_.gate_offset);
      make(experts.down, layer_.down_offset);
      std::ranges::copy(bytes_of(slot), bytes_of(slot + 2).begin());
    }
  }

  std::span<std::byte> bytes_of(int32_t slot) const {
    const uint64_t slot_bytes = layer_.experts.slot_bytes;
    return memory_.span().subspan(static_cast<uint64_t>(slot) * slot_bytes, slot_bytes);
  }

  // An input of which gate and up make about 1, so that nothing is too large for half precision.
  std::vector<float> make_input() const {
    const ExpertMatrix& up = layer_.experts.up;
    std::vector<float> row(static_cast<size_t>(up.n_in));
    const auto* from = memory_.data() + layer_.up_offset;
    if (up.type == GGML_TYPE_F32) {
      std::memcpy(row.data(), from, row.size() * sizeof(float));
    } else {
      ggml_get_type_traits(up.type)->to_float(from, row.data(), up.n_in);
    }
    double squares = 0;
    for (const float value : row) squares += static_cast<double>(value) * static_cast<double>(value);
    const auto scale = static_cast<float>(1 / std::sqrt(squares + 1e-6));
    std::mt19937 random(2);
    std::vector<float> input;
    for (size_t i = 0; i < row.size(); ++i) input.push_back(scale * uniform(random));
    return input;
  }

  Status place_activations() {
    context_.reset(
        ggml_init({.mem_size = 8 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    const int64_t width = shape_->expert_width();
    const uint64_t alignment = device_->alignment();
    const int64_t n_token = std::max(kTrialTokens, chunks().back());
    const auto bytes_for = [&](int64_t n) {
      return round_up(static_cast<uint64_t>(n) * sizeof(float), alignment);
    };
    const uint64_t input_bytes = bytes_for(width * n_token);
    const uint64_t output_bytes = bytes_for(width * n_used_ * n_token);
    const uint64_t weight_bytes = bytes_for(n_used_ * n_token);
    const uint64_t bytes = input_bytes + output_bytes + weight_bytes;
    ODMOE_ASSIGN_OR_RETURN(device_memory_, DeviceMemory::allocate(*device_, bytes));
    ODMOE_ASSIGN_OR_RETURN(host_memory_, DeviceMemory::allocate(*host_, bytes));
    bool placed = true;
    const auto make = [&](const DeviceMemory& memory) {
      ExpertColumns columns;
      columns.input = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, width, n_token);
      columns.output = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, width, n_used_ * n_token);
      columns.weight = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 1, n_used_ * n_token);
      placed = memory.place(columns.input, 0) && memory.place(columns.output, input_bytes) &&
               memory.place(columns.weight, input_bytes + output_bytes) && placed;
      return columns;
    };
    on_device_ = make(device_memory_);
    on_host_ = make(host_memory_);
    if (!placed) return fail(ErrorKind::kIo, "{} cannot hold a trial", device_->description());
    on_device_.weight = on_host_.weight;
    std::ranges::fill(host_values<float>(on_host_.weight), 1.0F);
    const std::vector<float> input = make_input();
    for (int64_t token = 0; token < n_token; ++token) {
      const uint64_t at = static_cast<uint64_t>(token) * on_host_.input->nb[1];
      host_->write(on_host_.input, at, std::as_bytes(std::span(input)));
      device_->write(on_device_.input, at, std::as_bytes(std::span(input)));
    }
    return device_->condition();
  }

  Backend* device_;
  Backend* host_;
  DeviceExperts* experts_;
  const ModelShape* shape_;
  DeviceLayer layer_;
  int64_t n_used_ = 1;
  AlignedBuffer memory_;  // all slots
  DeviceSlots slots_;
  DeviceMemory device_memory_, host_memory_;
  ggml_context_ptr context_;
  ExpertColumns on_device_, on_host_;
  // Of both experts: what the processor makes of them, and the device, by the block's rows; 0: of a token.
  std::array<std::vector<float>, 2> wanted_;
  std::map<int64_t, std::array<std::vector<float>, 2>> before_;
  bool same_ = true;
};

}  // namespace

Result<bool> try_experts(Backend& device, Backend& host, DeviceExperts& experts, const ModelShape& shape,
                         const DeviceLayer& layer, int32_t most_in_window, bool in_place) {
  DeviceTrial trial(device, host, experts, shape, layer);
  ODMOE_RETURN_IF_ERROR(trial.prepare(most_in_window, in_place));
  ODMOE_RETURN_IF_ERROR(trial.compute_wanted());
  for (const int64_t n_token : trial.chunks()) {
    const std::vector<ExpertPair> all = trial.pairs(n_token, 0);
    ODMOE_RETURN_IF_ERROR(trial.compute(all, n_token));
    // The pairs of one slot alone.
    for (int32_t slot = 0; slot < kSlots - 1; ++slot) {
      std::vector<ExpertPair> of_slot;
      std::ranges::copy_if(all, std::back_inserter(of_slot),
                           [&](const ExpertPair& pair) { return pair.slot == slot; });
      if (!of_slot.empty()) ODMOE_RETURN_IF_ERROR(trial.compute(of_slot, n_token));
    }
  }
  // Of a token, each slot first, and each alone.
  for (int32_t slot = 0; slot < kSlots - 1; ++slot) {
    const std::vector<ExpertPair> of_token = trial.pairs(1, slot);
    ODMOE_RETURN_IF_ERROR(trial.compute(of_token, kAlone));
    ODMOE_RETURN_IF_ERROR(trial.compute(std::span(of_token).first(1), kAlone));
  }
  if (trial.same()) {
    trial.fill_no_blocks();
    const std::vector<ExpertPair> one = trial.pairs(1, 0);
    for (int32_t n = 1; n <= shape.router.n_expert_used; ++n) {
      ODMOE_RETURN_IF_ERROR(trial.compute(std::span(one).first(static_cast<size_t>(n)), kAlone));
    }
    return trial.same();
  }
  return fail(ErrorKind::kUnsupported,
              "{} rounds experts in {} by where they are and what is computed with them; use "
              "--expert-placement cpu",
              device.description(), trial.types());
}

}  // namespace odmoe
