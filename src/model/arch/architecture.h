// One model family: its hyperparameters (create reads the metadata), its dense tensors (declare), what a
// sequence remembers (state) and its graph (attention).  What all families share (embedding, norms, router,
// routed and shared experts, output head) is in model/decoder.h, and how it is put together in ModelShape.
//
// To add a family: write arch/NAME.cc with a create function like those beside it (most are options of
// arch/gqa_model.h), and add a line to the table in arch/registry.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/account.h"
#include "model/graph.h"
#include "model/residual_streams.h"
#include "model/shape.h"
#include "model/state_layout.h"
#include "model/weights.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable once its tensors are declared.
class Architecture {
 public:
  virtual ~Architecture() = default;

  const ModelShape& shape() const { return shape_; }

  // What a sequence remembers in a layer: attention() finds the tensors by their number in this list.
  virtual std::vector<StateTensor> state(int layer) const = 0;

  // Declares the tensors of one layer that attention() needs.
  virtual void declare(DenseWeights& weights, int layer) = 0;

  // x: [n_embd, n_token], after attn_norm.  Returns what is added to the residual stream, [n_embd, n_token].
  virtual ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const = 0;

  // What the experts see, [expert_width(), n_token], where that is not what their router saw
  // (ModelShape::experts_see_another()).  router_input, residual: [n_embd, n_token], the second what
  // attention made of the stream.
  virtual ggml_tensor* expert_input(ggml_context* /*ctx*/, int /*layer*/, ggml_tensor* router_input,
                                    ggml_tensor* /*residual*/) const {
    return router_input;
  }

  // sum: [expert_width(), n_token], of the routed experts; router_logits: [n_expert, n_token], by which they
  // were chosen.  What takes the sum's place, [n_embd, n_token]: the sum itself but for families with another
  // stage behind it.
  virtual ggml_tensor* after_experts(ggml_context* /*ctx*/, int /*layer*/, ggml_tensor* sum,
                                     ggml_tensor* /*router_logits*/) const {
    return sum;
  }

  // x: [n_embd, n_token], what a layer leaves.  What takes its place.
  virtual ggml_tensor* after_layer(ggml_context* /*ctx*/, int /*layer*/, ggml_tensor* x) const { return x; }

  // What is between the layers; null: one vector a token, as ModelShape::layer says.
  ResidualStreams* streams() { return streams_.get(); }
  const ResidualStreams* streams() const { return streams_.get(); }

  // Rows of the state that attention() of some layers chooses for a token, and that of later ones takes over
  // (LayerInputs::chosen_rows); 0: none does.
  virtual int64_t chosen_rows() const { return 0; }

  // Whether attention() wants LayerInputs::query_scale, and what it is at a position.
  virtual bool scales_queries() const { return false; }
  virtual float query_scale(int64_t /*position*/) const { return 1; }

 protected:
  explicit Architecture(ModelShape shape, std::unique_ptr<ResidualStreams> streams = {})
      : shape_(std::move(shape)), streams_(std::move(streams)) {
    if (streams_ != nullptr) shape_.n_stream = static_cast<int32_t>(streams_->n_stream());
  }

 private:
  ModelShape shape_;
  std::unique_ptr<ResidualStreams> streams_;
};

// Makes the family named by general.architecture.  Errors: kUnsupported, naming it and those that are known;
// kBadFile for metadata that is missing or absurd.
Result<std::unique_ptr<Architecture>> make_architecture(Account& account);

// What make_architecture() knows, sorted by name.
struct FamilyInfo {
  std::string_view name;         // general.architecture
  std::string_view models;       // that people know
  std::string_view tested;       // tiny models of models/families and models/arch of the reference data
  std::string_view not_covered;  // of the family's models; empty: nothing that is known
};
std::span<const FamilyInfo> known_families();

}  // namespace odmoe
