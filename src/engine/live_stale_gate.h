// The stale gate by the model's own routers: those of later layers are asked about what this layer's
// attention left, and before the first one about the token's embedding, each through its own norm and, where
// there are streams, its own mix of them.  Needs no training; predict/stale_gate.h is the same on recorded
// data.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "model/blocks/router.h"
#include "model/decoder.h"
#include "model/graph.h"
#include "predict/predictor.h"

namespace odmoe {

// Asks copies of the routers in Q8_0, a quarter of their size: a token asks each once for every layer of the
// lookahead, and what that costs is reading them.
//
// Computes with the model's own weights on the backend that evaluates, so it must be asked by the thread that
// evaluates.  Nothing is said of the next token's layers.
class LiveStaleGate final : public Predictor {
 public:
  // Both must outlive it; the decoder's weights must have addresses.  Errors: kUnsupported, what the backend
  // cannot compute; kIo, no memory.
  static Result<std::unique_ptr<LiveStaleGate>> create(Backend& backend, const Decoder& decoder,
                                                       int32_t lookahead);

  // Must be called once before it is asked, when the routers are loaded.
  void copy_routers();

  // All that it computes, whatever has it.
  void each_operation(const std::function<void(const ggml_tensor*)>& visit) const;

  std::string_view name() const override { return "stale-gate"; }
  bool calibrated() const override { return false; }
  bool stands_alone() const override { return false; }
  bool remembers() const override { return false; }
  Wants wants() const override {
    return {.residual = !has_streams(), .streams = has_streams(), .embedding = true};
  }
  uint64_t bytes() const override;
  Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) override;
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override;

 private:
  LiveStaleGate(Backend& backend, const Decoder& decoder, int32_t lookahead);
  Status make_room();
  Status build_graphs();
  bool has_streams() const { return decoder_->architecture().streams() != nullptr; }
  // All that is banked, of which `known` are; the others are taken for what would be banked now.
  void bank(std::span<const float> banked, size_t known, std::span<const float> now);
  // What the routers of as many layers from `first` on as there are, at most the lookahead, say of what is
  // between the layers.
  Result<int32_t> ask(size_t first, std::span<float> scores);
  size_t n_ahead(size_t first) const { return std::min(lookahead_, routers_.size() - first); }

  Backend* backend_;
  const Decoder* decoder_;
  size_t lookahead_;
  DeviceMemory memory_;
  ggml_context_ptr context_;
  ggml_gallocr_ptr allocator_;
  Decoder::StateBetween asked_;       // the residual is the embedding alone where there are streams
  std::vector<ggml_tensor*> logits_;  // by layers ahead, [n_expert, 1]
  std::vector<float> said_;           // the logits on the host
  std::vector<ggml_tensor*>
      routers_;                 // by index among the layers with experts; the model's own if not copied
  std::vector<Graph> graphs_;   // by the first layer that is asked
  std::vector<size_t> n_bank_;  // by index among the layers with experts: how many are banked after it
  Router router_;
  std::vector<int32_t> ids_;
  std::vector<float> weights_;
};

}  // namespace odmoe
