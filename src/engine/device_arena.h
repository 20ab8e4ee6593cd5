// Routed experts in a device's own memory, of which the host's arena is the second tier: what is evicted here
// may still be there, and is copied again without a read from the drive.
//
// Bytes come through staging buffers of the host, page-locked where the device has such memory, by copies
// that it makes by itself: they go on while the drive reads.
#pragma once

#include <ggml-cpp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "backend/device_slots.h"
#include "format/expert_source.h"
#include "odmoe/options.h"
#include "odmoe/result.h"
#include "store/residency_policy.h"
#include "store/slot_arena.h"

namespace odmoe {

// One owner, but for what says otherwise.
class DeviceArena {
 public:
  // Slots as they are in it: records without gaps but what kernels ask.
  static SlotPlan plan(const ExpertSource& source, const SlotKernels& kernels);

  // Whether the host's arena has an expert now.
  using OnHost = std::function<bool(ExpertKey key)>;

  // `plan` is divided.  `most_in_window` of each of its classes as DeviceSlots::Shape has it.  `on_host` is
  // asked when an expert is evicted.  Takes the memory; kIo, the device has none.  The source must outlive
  // it.
  static Result<std::unique_ptr<DeviceArena>> create(Backend& device, const Backend& host,
                                                     const ExpertSource& source, SlotPlan plan,
                                                     std::span<const int32_t> most_in_window,
                                                     PolicyKind policy, OnHost on_host);
  ~DeviceArena();
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;
  // Of the host, for staging.
  static uint64_t staging_bytes(const SlotPlan& plan);

  const SlotPlan& slots() const { return plan_; }
  const DeviceSlots& slots_of(int layer) const;

  // As ExpertStore::observe().
  void observe(int layer, std::span<const int32_t> experts, std::span<const float> weights);

  // Slots are numbered within their class.  Of an expert that is there, which is held from now on; none: it
  // is not.
  std::optional<int32_t> hold(ExpertKey key);
  // A slot for an expert that is not there, whose bytes are queued to be copied to it, for what the device is
  // given afterwards; held too.  `record`: where gate, up and down are on the host, of as many bytes as the
  // source says; they may change once this returns.  None: all slots within reach are held.
  Result<std::optional<int32_t>> bring(ExpertKey key, const std::byte* gate, const std::byte* up,
                                       const std::byte* down);
  // All holds end.
  void release();

  // Whether the expert is there.  Any thread.
  bool resident(ExpertKey key) const { return resident_[index_of(key)].load(std::memory_order_relaxed); }

  struct Figures {
    uint64_t hits = 0, copies = 0, copied_bytes = 0, evictions = 0;
    uint64_t evicted_to_host = 0;  // of the evictions, those of experts that the host's arena had
    int32_t resident = 0;
  };
  Figures figures() const;  // any thread

 private:
  struct Class {
    DeviceSlots slots;
    std::unique_ptr<ResidencyPolicy> policy;
    std::vector<int32_t> free;
  };
  DeviceArena(Backend& device, const ExpertSource& source, SlotPlan plan, OnHost on_host);
  Class& class_of(int layer) { return classes_[static_cast<size_t>(plan_.class_of(layer))]; }
  size_t index_of(ExpertKey key) const {
    return static_cast<size_t>(key.layer) * n_expert_ + static_cast<size_t>(key.expert);
  }
  std::optional<int32_t> take(ExpertKey key);
  Result<std::span<std::byte>> stage();

  Backend* device_;
  const ExpertSource* source_;
  OnHost on_host_;
  SlotPlan plan_;
  size_t n_expert_ = 0;  // of a layer, at most
  std::vector<Class> classes_;
  std::vector<int32_t> slot_of_;  // by index_of(); -1: not there
  std::unique_ptr<std::atomic<bool>[]> resident_;
  std::vector<ExpertKey> held_;

  DeviceMemory staging_;
  ggml_context_ptr context_;
  ggml_tensor* staged_ = nullptr;  // the bytes of staging_
  uint64_t staged_bytes_ = 0;      // of one record
  size_t n_staged_ = 0;            // that copies may still read
  std::atomic<uint64_t> hits_ = 0, copies_ = 0, copied_bytes_ = 0, evictions_ = 0, evicted_to_host_ = 0;
  std::atomic<int32_t> n_resident_ = 0;
};

}  // namespace odmoe
