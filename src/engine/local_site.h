// Routed experts in memory of this machine: what the routers chose is leased from a store, and computed as it
// arrives.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "engine/expert_site.h"
#include "engine/routing_event.h"
#include "engine/warming.h"
#include "format/checkpoint.h"
#include "model/blocks/experts.h"
#include "model/decoder.h"
#include "model/shape.h"
#include "store/expert_store.h"

namespace odmoe {

// One owner.
class LocalSite final : public ExpertSite, public RoutingSink {
 public:
  struct Options {
    int64_t max_tokens = 512;                        // of one timeline, or single ones of several
    int64_t max_tokens_together = 0;                 // of an evaluation of chunks; 0: there are none
    int32_t rows_tried = 1;                          // of an expert, where each token is to be by itself
    bool fill = false;                               // slots that are free, once nothing is warmed
    const std::atomic<bool>* interrupted = nullptr;  // may be null
  };

  // Allocates what computing needs; nothing becomes resident yet.  `backend`, which computes on host memory,
  // and the decoder's weights must outlive it.  kUnsupported names what the backend cannot compute, experts
  // that are repacked for another machine among it; kBadFile, experts that do not fit the model; kIo, no
  // memory.
  static Result<std::unique_ptr<LocalSite>> create(Backend& backend, const Decoder& decoder,
                                                   const Checkpoint& file, const Options& options);

  // Memory that computing will make resident.
  uint64_t buffer_bytes() const;

  // Must be called once before begin().  The store must outlive this.  Tries out how many rows of an expert a
  // call may have (model/blocks/exact_rows.h).  kIo: no memory for the trial.
  Status attach(ExpertStore& store);

  // Of what this machine's kernels make of matrices like the experts', of fixed values: the same where all of
  // them round alike (model/blocks/exact_rows.h).  kIo: no memory for the trial.
  Result<Fingerprint::Value> kernel_fingerprint();

  // To be told before begin(): the store keeps what is likely to be wanted again.
  Status on_routing(const RoutingEvent& event) override;

  Status begin(const ExpertWork& work) override;
  Result<std::optional<DemandPair>> finish() override;
  void abandon() override;
  void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) override;
  void warm(std::span<const ExpertKey> experts) override;
  Result<Warmth> warmed() override;

 private:
  LocalSite(Backend& backend, const ModelShape& shape, std::span<const int> expert_layers,
            const Options& options);
  Status find_exact_rows();
  const LayerExperts& experts() const { return layers_[static_cast<size_t>(work_.demand->layer())]; }
  void lease_pending();
  void read_ahead();
  Result<std::optional<DemandPair>> compute_all();
  Result<std::optional<DemandPair>> compute_one_token();
  Result<size_t> compute_some(size_t n_ready);
  Status compute_timelines();
  void collect_pairs(std::span<const ExpertLease> leases);
  void add_pairs(const ExpertLease& lease);
  void note_not_finite(int32_t first_column);

  Backend* backend_;
  ModelShape shape_;
  std::vector<int> expert_layers_;
  Options options_;
  std::unique_ptr<RepackedLayout> layout_;  // of experts that are repacked; null: none is
  std::unique_ptr<ExpertCompute> compute_;
  std::vector<LayerExperts> layers_;  // of all layers; those without experts are empty
  ExpertStore* store_ = nullptr;
  ggml_backend_buffer_ptr arena_;

  ExpertWork work_;
  std::vector<int32_t> pending_;  // of its experts, those that are not leased yet
  std::vector<ExpertLease> leases_;
  std::vector<ExpertPair> pairs_;
  std::vector<ExpertPair> chunk_pairs_;  // scratch of compute_timelines()
  std::optional<DemandPair> not_finite_;
  std::vector<ExpertKey> hints_;
  SiteWarming warming_;
};

}  // namespace odmoe
