// Families with Kimi Delta Attention in some layers and multi-head latent attention in the others.
#pragma once

#include <memory>
#include <vector>

#include "model/arch/architecture.h"
#include "model/arch/mla_model.h"
#include "model/blocks/kda.h"

namespace odmoe {

struct KdaMlaModel {
  MlaModel mla;
  KdaShape kda;
  std::vector<bool> recurrent;  // by layer: whether it has KDA
};

// Reads all of it but what sets a family's KDA apart from Kimi Linear's.  `rules` are by_layer.
Result<KdaMlaModel> read_kda_mla_model(const Metadata& metadata, const FamilyRules& rules,
                                       RopePairs pairs = RopePairs::kAdjacent,
                                       MlaPositions positions = MlaPositions::kSome);

// kda.gate_lower_bound: KdaShape::gate_lower_bound.
Status read_gate_bound(const Metadata& metadata, KdaShape& kda);

class KdaMlaArchitecture : public Architecture {
 public:
  explicit KdaMlaArchitecture(KdaMlaModel model, std::unique_ptr<ResidualStreams> streams = {});

  std::vector<StateTensor> state(int layer) const override;
  void declare(DenseWeights& weights, int layer) override;
  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override;

 protected:
  bool is_recurrent(int layer) const { return model_.recurrent[static_cast<size_t>(layer)]; }
  const MlaShape& mla_shape() const { return model_.mla.mla; }
  const MlaWeights& mla_weights(int layer) const { return layers_[static_cast<size_t>(layer)].mla; }

 private:
  struct Layer {
    MlaWeights mla;
    KdaWeights kda;
  };
  KdaMlaModel model_;
  std::vector<Layer> layers_;
};

}  // namespace odmoe
