// Routed experts on the device that computes the dense weights: from the host's arena, which that device can
// read in place, or from an arena in its own memory, which is filled from the host's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/device_slots.h"
#include "engine/device_arena.h"
#include "engine/expert_site.h"
#include "engine/hint_sink.h"
#include "engine/routing_event.h"
#include "engine/warming.h"
#include "format/checkpoint.h"
#include "format/expert_source.h"
#include "model/blocks/device_experts.h"
#include "model/decoder.h"
#include "model/shape.h"
#include "store/expert_store.h"

namespace odmoe {

// One owner.
class DeviceSite final : public ExpertSite, public RoutingSink, public HintSink {
 public:
  struct Options {
    int64_t max_tokens = 512;                        // of one timeline, or single ones of several
    int64_t max_tokens_together = 0;                 // of an evaluation of chunks; 0: there are none
    bool in_place = true;                            // or else it has an arena
    PolicyKind policy = PolicyKind::kForecast;       // of that
    bool fill = false;                               // slots that are free, once nothing is warmed
    const std::atomic<bool>* interrupted = nullptr;  // may be null
  };

  // Allocates what computing needs.  `device` has memory of its own; backends and the decoder's weights,
  // whose terms of experts are the device's, must outlive it.  kUnsupported names what the device cannot
  // compute; kBadFile, experts that do not fit the model; kIo, no memory.
  static Result<std::unique_ptr<DeviceSite>> create(Backend& device, Backend& host, const Decoder& decoder,
                                                    const Checkpoint& file, const Options& options);

  uint64_t device_bytes() const { return compute_->device_bytes(); }
  uint64_t host_bytes() const;
  // What the store's slots have to be like.
  SlotKernels slot_kernels() const { return options_.in_place ? kernels_ : SlotKernels{}; }
  // What the slots of an arena of the device are like.
  SlotPlan arena_plan(const ExpertSource& source) const { return DeviceArena::plan(source, kernels_); }

  // One of them must be called once before begin(), when the weights are loaded.  The store must outlive
  // this. The device is tried out (model/blocks/device_trial.h).  kUnsupported: what it cannot compute, or
  // computes wrongly. The store has slot_kernels() and never resizes its arena: a device may hold its pages.
  Status attach(ExpertStore& store);
  // With an arena of so many bytes, which is taken now.  kIo: the device has none.
  Status attach(ExpertStore& store, const ExpertSource& source, uint64_t arena_bytes);

  // Instead of attach(), where nothing is loaded: what that would say of these slots, which are divided,
  // whatever memory there is.
  Status try_slots(const SlotPlan& plan);

  const DeviceArena* arena() const { return arena_.get(); }  // null: in place

  Status on_routing(const RoutingEvent& event) override;
  Status begin(const ExpertWork& work) override;
  Result<std::optional<DemandPair>> finish() override;
  void abandon() override;
  // Those that are on the device already need no read.
  void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) override;
  // Into the store: what the device has not is brought from there.
  void warm(std::span<const ExpertKey> experts) override;
  Result<Warmth> warmed() override;

 private:
  DeviceSite(Backend& device, Backend& host, const ModelShape& shape, std::span<const int> expert_layers,
             const Options& options);
  const DeviceLayer& layer() const { return layers_[static_cast<size_t>(work_.demand->layer())]; }
  Status check(const DeviceLayer& of, int layer) const;
  Status check_windows(const DeviceSlots& slots, int layer) const;
  Status try_out(int layer, int32_t most_in_window);
  Result<int32_t> lay_out(int layer, uint64_t slot_bytes, int32_t n_slot, const SlotLayout& at);
  Result<std::vector<int32_t>> lay_out_classes(const SlotPlan& plan);
  void lease_pending();
  void read_ahead();
  // An expert whose bytes are where the device computes.
  struct Ready {
    int32_t expert = 0, slot = 0;
  };
  Result<std::optional<DemandPair>> finish_in_place();
  Result<std::optional<DemandPair>> finish_in_arena();
  Result<size_t> wait();
  Result<bool> bring();
  size_t n_pair_of(int32_t expert) const { return work_.demand->pairs(expert).size(); }
  size_t enough_pairs() const;
  Result<std::optional<DemandPair>> compute();
  Status add();
  Status add_timelines();

  Backend* device_;
  Backend* host_;
  ModelShape shape_;
  std::vector<int> expert_layers_;
  Options options_;
  SlotKernels kernels_;
  std::unique_ptr<DeviceExperts> compute_;
  std::vector<DeviceLayer> layers_;  // of all layers; those without experts are empty
  struct SlotsOfClass {
    uint64_t first_offset = 0;
    DeviceSlots slots;
  };
  std::vector<std::unique_ptr<SlotsOfClass>> slots_;
  std::unique_ptr<DeviceArena> arena_;
  std::vector<int> tried_;  // layers; others are like them
  ExpertStore* store_ = nullptr;
  SiteWarming warming_;
  std::string path_;  // for errors

  ExpertWork work_;
  std::vector<int32_t> pending_;  // of its experts, those that are not leased yet
  std::vector<ExpertLease> leases_;
  std::vector<Ready> ready_;
  std::vector<ExpertPair> pairs_, part_;
  std::vector<ExpertKey> ahead_;  // scratch of read_ahead()
  std::vector<ExpertKey> hints_;  // and of hint()
};

}  // namespace odmoe
