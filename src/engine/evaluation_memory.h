// The activations of all evaluations, in one piece of memory of the device, and what of them the host needs.
#pragma once

#include <ggml-cpp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "backend/exchange.h"
#include "model/decoder.h"
#include "odmoe/result.h"

namespace odmoe {

// RowActivations with their counterparts on the host.
struct RowColumns {
  Exchange<int64_t> written;
  Exchange<ggml_fp16_t> mask;
  Exchange<int32_t> sources;
  Exchange<float> sources_mask;
  Exchange<int32_t> first_positions;
};

// Activations with their counterparts on the host.  Those that a model has not are empty.  Lanes and places
// are columns of all(), but on a device with memory of its own, whose kernels do not take any address: there
// they have tensors apart, and what goes to and fro is sent and fetched by these.
struct EvaluationColumns {
  Activations device;
  // Written by the host.
  Exchange<int32_t> tokens, positions;
  std::array<RowColumns, StatePlan::kMaxGroups> groups;
  Exchange<float> query_scale;
  // Only the device's.
  Exchange<int32_t> chosen_rows;
  Exchange<float> layer_streams, residual_streams, banked;
  Exchange<float> expert_weight;  // as expert_output is, by sites on the host
  // Written by the device.
  Exchange<float> layer_input, residual, ffn_input, expert_input, router_logits, shared_output;
  // Written by sites, and once summed by the device.
  Exchange<float> expert_output;
};

// One owner.  Memory is reserved at creation, and becomes resident as it is used.
class EvaluationMemory {
 public:
  struct Sizes {
    int64_t tokens = 0;  // of one timeline in one evaluation, at most
    int32_t lanes = 1;
    int32_t places = 0;  // of so many tokens each, beside the lanes
    int64_t logits = 0;  // tokens whose logits are kept at once
    // Columns of the activations.
    int64_t columns() const { return std::max<int64_t>(tokens, lanes + places * tokens); }
  };
  // `host` computes on host memory, and may be the device itself.  kIo: no memory.
  static Result<std::unique_ptr<EvaluationMemory>> create(Backend& device, const Backend& host,
                                                          const Decoder& decoder, const StatePlan& plan,
                                                          const Sizes& sizes);

  uint64_t device_bytes() const { return device_memory_.size(); }
  uint64_t host_bytes() const { return host_memory_.size(); }  // beside them, where that is another memory
  const EvaluationColumns& all() const { return all_; }
  // Tensors of one column each, on the host over the memory of all().
  const EvaluationColumns& lane(int32_t i) const { return lanes_[static_cast<size_t>(i)]; }
  // Tensors of Sizes::tokens columns, on the host over the memory of all() from first_column(i) on; no
  // lane's.
  const EvaluationColumns& place(int32_t i) const { return places_[static_cast<size_t>(i)]; }
  int64_t first_column(int32_t place) const { return std::ssize(lanes_) + place * tokens_; }
  const Exchange<float>& logits() const { return logits_; }  // [n_vocab, Sizes::logits]
  // One column of them, where device and host are one memory.
  ggml_tensor* logits_column(size_t i) const { return logits_columns_[i]; }

 private:
  EvaluationMemory() = default;
  Status place(Backend& device, const Backend& host, const Decoder& decoder, const StatePlan& plan,
               const Sizes& sizes);
  template <typename Visit>
  void each_of_parts(const StatePlan& plan, const Sizes& sizes, int64_t n_expert_used, const Visit& visit);
  Status make_parts(Backend& device, const StatePlan& plan, const Sizes& sizes, int64_t n_expert_used);

  DeviceMemory device_memory_, host_memory_;  // the second is empty where both are one
  ggml_context_ptr context_, lane_context_;
  EvaluationColumns all_;
  std::vector<EvaluationColumns> lanes_, places_;
  int64_t tokens_ = 0;       // of a place
  uint64_t first_part_ = 0;  // where lanes begin in device_memory_, if they are apart
  Exchange<float> logits_;
  std::vector<ggml_tensor*> logits_columns_;
};

}  // namespace odmoe
