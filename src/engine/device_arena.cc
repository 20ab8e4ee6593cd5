#include "engine/device_arena.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "backend/tensor_memory.h"
#include "base/units.h"

namespace odmoe {
namespace {

constexpr uint64_t kStaging = 4;  // records on their way to the device at once

uint64_t largest_slot(const SlotPlan& plan) {
  uint64_t bytes = 0;
  for (const SlotClass& c : plan.classes()) bytes = std::max(bytes, c.slot_bytes);
  return round_up(bytes, kTensorAlignment);
}

}  // namespace

SlotPlan DeviceArena::plan(const ExpertSource& source, const SlotKernels& kernels) {
  return SlotPlan(source, {.offset_bytes = 1, .memory_bytes = 1}, kernels);
}

uint64_t DeviceArena::staging_bytes(const SlotPlan& plan) { return kStaging * largest_slot(plan); }

DeviceArena::DeviceArena(Backend& device, const ExpertSource& source, SlotPlan plan, OnHost on_host)
    : device_(&device), source_(&source), on_host_(std::move(on_host)), plan_(std::move(plan)) {
  for (int layer = 0; layer < source.n_layer(); ++layer) {
    n_expert_ = std::max(n_expert_, static_cast<size_t>(source.n_expert(layer)));
  }
  const size_t n = n_expert_ * static_cast<size_t>(source.n_layer());
  slot_of_.resize(n, -1);
  resident_ = std::make_unique<std::atomic<bool>[]>(n);
  held_.reserve(n_expert_);
}

// Copies may be under way, of memory that goes.
DeviceArena::~DeviceArena() { static_cast<void>(device_->settle()); }

Result<std::unique_ptr<DeviceArena>> DeviceArena::create(Backend& device, const Backend& host,
                                                         const ExpertSource& source, SlotPlan plan,
                                                         std::span<const int32_t> most_in_window,
                                                         PolicyKind policy, OnHost on_host) {
  std::unique_ptr<DeviceArena> arena(new DeviceArena(device, source, std::move(plan), std::move(on_host)));
  for (size_t i = 0; i < arena->plan_.classes().size(); ++i) {
    const SlotClass& of = arena->plan_.classes()[i];
    Class made;
    ODMOE_ASSIGN_OR_RETURN(made.slots, DeviceSlots::allocate(device, {.slot_bytes = of.slot_bytes,
                                                                      .n_slot = of.n_slot,
                                                                      .most_in_window = most_in_window[i]}));
    std::vector<PolicyLayer> layers;
    for (const int layer : of.layers) layers.push_back({.layer = layer, .n_expert = source.n_expert(layer)});
    made.policy = make_policy(policy, layers, of.n_slot, source.n_expert_used());
    for (int32_t slot = of.n_slot; slot-- > 0;) made.free.push_back(slot);
    arena->classes_.push_back(std::move(made));
  }
  arena->staged_bytes_ = largest_slot(arena->plan_);
  const uint64_t bytes = staging_bytes(arena->plan_);
  ODMOE_ASSIGN_OR_RETURN(arena->staging_, DeviceMemory::allocate_beside(device, host, bytes));
  arena->context_.reset(
      ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  arena->staged_ = ggml_new_tensor_1d(arena->context_.get(), GGML_TYPE_I8, static_cast<int64_t>(bytes));
  if (arena->staging_.place(arena->staged_, 0)) return arena;
  return fail(ErrorKind::kIo, "{} cannot hold experts on their way", device.description());
}

const DeviceSlots& DeviceArena::slots_of(int layer) const {
  return classes_[static_cast<size_t>(plan_.class_of(layer))].slots;
}

void DeviceArena::observe(int layer, std::span<const int32_t> experts, std::span<const float> weights) {
  class_of(layer).policy->observe(layer, experts, weights);
}

std::optional<int32_t> DeviceArena::hold(ExpertKey key) {
  const int32_t slot = slot_of_[index_of(key)];
  if (slot < 0) return std::nullopt;
  ResidencyPolicy& policy = *class_of(key.layer).policy;
  policy.use(key);
  policy.set_held(key, true);
  held_.push_back(key);
  hits_.fetch_add(1, std::memory_order_relaxed);
  return slot;
}

// A free slot, or that of an expert that goes.
std::optional<int32_t> DeviceArena::take(ExpertKey key) {
  Class& of = class_of(key.layer);
  const bool takes_free = takes_free_slot(*of.policy, key.layer, Reach::kBorrow, source_->n_expert_used());
  if (!of.free.empty() && takes_free) {
    const int32_t slot = of.free.back();
    of.free.pop_back();
    return slot;
  }
  const auto victim = of.policy->victim(key.layer, Reach::kBorrow);
  if (!victim) {
    if (of.free.empty()) return std::nullopt;
    const int32_t slot = of.free.back();
    of.free.pop_back();
    return slot;
  }
  of.policy->remove(*victim);
  resident_[index_of(*victim)].store(false, std::memory_order_relaxed);
  n_resident_.fetch_sub(1, std::memory_order_relaxed);
  evictions_.fetch_add(1, std::memory_order_relaxed);
  if (on_host_(*victim)) evicted_to_host_.fetch_add(1, std::memory_order_relaxed);
  return std::exchange(slot_of_[index_of(*victim)], -1);
}

// Where a record is put before it goes to the device.
Result<std::span<std::byte>> DeviceArena::stage() {
  if (n_staged_ == kStaging) {
    ODMOE_RETURN_IF_ERROR(device_->settle());
    n_staged_ = 0;
  }
  return host_bytes(staged_).subspan(n_staged_ * staged_bytes_, staged_bytes_);
}

Result<std::optional<int32_t>> DeviceArena::bring(ExpertKey key, const std::byte* gate, const std::byte* up,
                                                  const std::byte* down) {
  assert(slot_of_[index_of(key)] < 0);
  ODMOE_ASSIGN_OR_RETURN(const std::span<std::byte> staged, stage());
  const auto slot = take(key);
  if (!slot) return std::nullopt;
  ++n_staged_;
  Class& of = class_of(key.layer);
  of.policy->admit(key);
  slot_of_[index_of(key)] = *slot;
  held_.push_back(key);
  resident_[index_of(key)].store(true, std::memory_order_relaxed);
  n_resident_.fetch_add(1, std::memory_order_relaxed);

  const RecordLayout& record = source_->layout(key.layer);
  const SlotLayout& layout = plan_.layout(key.layer);
  uint64_t end = 0;
  const auto put = [&](const std::byte* from, const RecordLayout::Projection& projection, uint64_t offset) {
    std::memcpy(staged.data() + offset, from, projection.bytes);
    end = std::max(end, offset + projection.bytes);
  };
  put(gate, record.gate, layout.gate_offset);
  if (layout.up_offset != layout.gate_offset) put(up, record.up, layout.up_offset);
  put(down, record.down, layout.down_offset);
  of.slots.send(*device_, *slot, staged.first(end));
  copies_.fetch_add(1, std::memory_order_relaxed);
  copied_bytes_.fetch_add(end, std::memory_order_relaxed);
  return slot;
}

void DeviceArena::release() {
  for (const ExpertKey key : held_) class_of(key.layer).policy->set_held(key, false);
  held_.clear();
}

DeviceArena::Figures DeviceArena::figures() const {
  return {.hits = hits_.load(std::memory_order_relaxed),
          .copies = copies_.load(std::memory_order_relaxed),
          .copied_bytes = copied_bytes_.load(std::memory_order_relaxed),
          .evictions = evictions_.load(std::memory_order_relaxed),
          .evicted_to_host = evicted_to_host_.load(std::memory_order_relaxed),
          .resident = n_resident_.load(std::memory_order_relaxed)};
}

}  // namespace odmoe
