#include "model/blocks/device_trial.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
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

constexpr int64_t kTrialTokens = 4;  // all the same
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

  // What the device makes of the pairs: [expert_width(), n_used * kTrialTokens].
  Result<std::vector<float>> compute(std::span<const ExpertPair> pairs, bool one_token) {
    std::vector<float> output(static_cast<size_t>(shape_->expert_width() * n_used_ * kTrialTokens));
    write_tensor(on_device_.output, 0, std::as_bytes(std::span(output)));
    ODMOE_RETURN_IF_ERROR(one_token ? experts_->add_token(layer_, on_device_, 0, pairs)
                                    : experts_->add_chunk(layer_, on_device_, 0, kTrialTokens, pairs));
    ODMOE_RETURN_IF_ERROR(experts_->finish());
    read_tensor(on_device_.output, 0, std::as_writable_bytes(std::span(output)));
    return output;
  }

  // The same of the processor.
  Result<std::vector<float>> wanted(std::span<const ExpertPair> pairs) {
    ODMOE_ASSIGN_OR_RETURN(const auto compute, ExpertCompute::create(*host_, *shape_, kTrialTokens));
    LayerExperts experts = layer_.experts;
    experts.gate.slot0 = memory_.data() + layer_.gate_offset;
    experts.up.slot0 = memory_.data() + layer_.up_offset;
    experts.down.slot0 = memory_.data() + layer_.down_offset;
    const ggml_backend_buffer_ptr arena = host_->wrap(memory_.span());
    ODMOE_RETURN_IF_ERROR(compute->run(experts, arena.get(), on_host_, kTrialTokens, pairs));
    const auto values = host_values<float>(on_host_.output);
    return std::vector<float>(values.begin(), values.end());
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

  // Whether the outputs of pairs are those that their experts had before, if they had any.
  bool as_before(std::span<const float> output, std::span<const ExpertPair> pairs, bool one_token) {
    const auto n = static_cast<size_t>(shape_->expert_width());
    return std::ranges::all_of(pairs, [&](const ExpertPair& pair) {
      const auto row = output.subspan(static_cast<size_t>(pair.token * n_used_ + pair.rank) * n, n);
      std::vector<float>& before = before_[one_token ? 1 : 0][static_cast<size_t>(pair.slot % 2)];
      if (before.empty()) before.assign(row.begin(), row.end());
      return std::memcmp(before.data(), row.data(), row.size_bytes()) == 0;
    });
  }

 private:
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
    const uint64_t input_bytes =
        round_up(static_cast<uint64_t>(width * kTrialTokens) * sizeof(float), alignment);
    const uint64_t output_bytes =
        round_up(static_cast<uint64_t>(width * n_used_ * kTrialTokens) * sizeof(float), alignment);
    const uint64_t weight_bytes =
        round_up(static_cast<uint64_t>(n_used_ * kTrialTokens) * sizeof(float), alignment);
    const uint64_t bytes = input_bytes + output_bytes + weight_bytes;
    ODMOE_ASSIGN_OR_RETURN(device_memory_, DeviceMemory::allocate(*device_, bytes));
    ODMOE_ASSIGN_OR_RETURN(host_memory_, DeviceMemory::allocate(*host_, bytes));
    bool placed = true;
    const auto make = [&](const DeviceMemory& memory) {
      ExpertColumns columns;
      columns.input = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, width, kTrialTokens);
      columns.output = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, width, n_used_ * kTrialTokens);
      columns.weight = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 1, n_used_ * kTrialTokens);
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
    for (int64_t token = 0; token < kTrialTokens; ++token) {
      const uint64_t at = static_cast<uint64_t>(token) * on_host_.input->nb[1];
      write_tensor(on_host_.input, at, std::as_bytes(std::span(input)));
      write_tensor(on_device_.input, at, std::as_bytes(std::span(input)));
    }
    return {};
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
  std::array<std::array<std::vector<float>, 2>, 2> before_;  // by kind of block, by expert
};

double relative_difference(std::span<const float> a, std::span<const float> b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

}  // namespace

Result<bool> try_experts(Backend& device, Backend& host, DeviceExperts& experts, const ModelShape& shape,
                         const DeviceLayer& layer, int32_t most_in_window, bool in_place) {
  DeviceTrial trial(device, host, experts, shape, layer);
  ODMOE_RETURN_IF_ERROR(trial.prepare(most_in_window, in_place));
  const auto unlike = [&](double difference) {
    return fail(
        ErrorKind::kUnsupported,
        "{} computes experts in {}, {}, {} otherwise than the processor: by {:.2g} of their size; use "
        "--expert-placement cpu",
        device.description(), ggml_type_name(layer.experts.gate.type), ggml_type_name(layer.experts.up.type),
        ggml_type_name(layer.experts.down.type), difference);
  };
  const std::vector<ExpertPair> all = trial.pairs(kTrialTokens, 0);
  ODMOE_ASSIGN_OR_RETURN(const std::vector<float> wanted, trial.wanted(all));
  ODMOE_ASSIGN_OR_RETURN(const std::vector<float> chunk, trial.compute(all, /*one_token=*/false));
  const double difference = relative_difference(chunk, wanted);
  if (!(difference <= kMostDifference)) return unlike(difference);
  bool same = trial.as_before(chunk, all, false);
  const auto try_again = [&](std::span<const ExpertPair> pairs, bool one_token) -> Status {
    ODMOE_ASSIGN_OR_RETURN(const std::vector<float> output, trial.compute(pairs, one_token));
    same = trial.as_before(output, pairs, one_token) && same;
    return {};
  };
  const std::vector<ExpertPair> one = trial.pairs(1, 0);
  // Of a chunk, the pairs of one slot alone; of a token, each slot first, and each alone.
  for (int32_t slot = 0; slot < kSlots - 1; ++slot) {
    std::vector<ExpertPair> of_slot;
    std::ranges::copy_if(all, std::back_inserter(of_slot),
                         [&](const ExpertPair& pair) { return pair.slot == slot; });
    if (!of_slot.empty()) ODMOE_RETURN_IF_ERROR(try_again(of_slot, /*one_token=*/false));
    const std::vector<ExpertPair> of_token = trial.pairs(1, slot);
    ODMOE_RETURN_IF_ERROR(try_again(of_token, /*one_token=*/true));
    ODMOE_RETURN_IF_ERROR(try_again(std::span(of_token).first(1), /*one_token=*/true));
  }
  if (same) {
    trial.fill_no_blocks();
    for (int32_t n = 1; n <= shape.router.n_expert_used; ++n) {
      ODMOE_RETURN_IF_ERROR(try_again(std::span(one).first(static_cast<size_t>(n)), /*one_token=*/true));
    }
    return same;
  }
  return fail(ErrorKind::kUnsupported,
              "{} rounds experts in {}, {}, {} by where they are and what is computed with them; use "
              "--expert-placement "
              "cpu",
              device.description(), ggml_type_name(layer.experts.gate.type),
              ggml_type_name(layer.experts.up.type), ggml_type_name(layer.experts.down.type));
}

}  // namespace odmoe
