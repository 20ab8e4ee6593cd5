// The learned predictor: what predict/shadow_format.h describes, computed by predict/shadow_network.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "predict/predictor.h"
#include "predict/shadow_format.h"
#include "predict/shadow_network.h"

namespace odmoe {

// One owner.  Computes on the thread that calls.
class ShadowModel final : public Predictor {
 public:
  struct Options {
    std::optional<ggml_type> type;  // of the weights in memory; none: suitable_type()
    bool repack = true;
  };

  // Reads the weights and lays them out.  That the file is for the model at hand is the caller's to check
  // (check_shadow_model of spec()).  Errors: those of SafetensorsFile::open() and read_shadow_spec();
  // kUnsupported and kIo as ShadowNetwork::create().
  static Result<std::unique_ptr<ShadowModel>> load(const std::filesystem::path& path, const Options& options);

  const ShadowSpec& spec() const { return spec_; }
  PredictorShape shape() const;
  ShadowNetwork& network() { return *network_; }  // a layer for each place where it predicts

  std::string_view name() const override { return "shadow"; }
  Wants wants() const override;
  bool calibrated() const override { return true; }
  uint64_t bytes() const override { return network_->bytes(); }
  uint64_t bytes_per_prediction() const override;
  void begin_sequence() override;
  Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) override;
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override;
  void learn(const RoutingState& state) override;

 private:
  explicit ShadowModel(ShadowSpec spec);
  size_t part(int32_t source) const {
    const int32_t first = spec_.embedding ? -1 : 0;
    return static_cast<size_t>(source - first);
  }
  Result<int32_t> compute(int32_t source, std::span<float> scores);

  ShadowSpec spec_;
  std::unique_ptr<ShadowNetwork> network_;      // a layer for each source, from spec_.embedding ? -1 : 0
  std::vector<std::vector<int32_t>> previous_;  // per layer, what the last token chose; empty: none
};

}  // namespace odmoe
