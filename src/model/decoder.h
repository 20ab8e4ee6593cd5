// A decoder-only transformer, built as the graphs between which the engine fetches experts.
//
//   segment 0           embedding, attention (and FFN) of the dense lead, attention and router of the first
//                       layer with experts
//   segment i           sum of the experts of the i-th layer with experts, attention and router of the next
//   last segment        sum of the last layer's experts
//   experts             gate, up and down of some experts, on slots of the arena
//   shared expert       of one layer
//   output head         norm and logits
//
// Between the graphs the data is in Activations, which the engine owns and the host can read.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/arch/architecture.h"
#include "model/blocks/experts.h"
#include "model/blocks/ffn.h"
#include "model/blocks/norm.h"
#include "model/blocks/shared_expert.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

// What the rows of one RowGroup ask of the host, for n tokens (RowInputs).
struct RowActivations {
  ggml_tensor* written = nullptr;          // i64 [RowGroup::max_rows_written(n)]
  ggml_tensor* mask = nullptr;             // f16 [rows seen * n], a matrix in use
  ggml_tensor* sources = nullptr;          // i32 [made_from, as many as written]; null unless in blocks
  ggml_tensor* sources_mask = nullptr;     // as sources
  ggml_tensor* first_positions = nullptr;  // i32 [1, as many as written]; null unless in blocks
};

// The tensors that outlive a graph.  n is the number of tokens that they were made for.  All F32 unless said.
struct Activations {
  ggml_tensor* tokens = nullptr;     // i32 [n]
  ggml_tensor* positions = nullptr;  // i32 [n]
  std::array<RowActivations, StatePlan::kMaxGroups> groups;
  ggml_tensor* query_scale = nullptr;  // [n]; null unless Architecture::scales_queries()
  ggml_tensor* chosen_rows = nullptr;  // i32 [Architecture::chosen_rows(), n]; null where that is 0
  // Of models that have them (Architecture::streams()): after a layer, and after its attention.
  // [n_embd * n_stream, n].
  ggml_tensor* layer_streams = nullptr;
  ggml_tensor* residual_streams = nullptr;
  ggml_tensor* banked = nullptr;  // [n_embd * n_bank, n]; null where nothing is
  // What a layer begins with: the embedding or what the layer before left, with streams what of them its
  // attention begins with; after the last, what the output head begins with.
  ggml_tensor* layer_input = nullptr;  // [n_embd, n]
  // [n_embd, n], after the layer's attention; with streams what of them its MLP begins with
  ggml_tensor* residual = nullptr;
  ggml_tensor* ffn_input = nullptr;      // [n_embd, n], what the router sees, and the experts as a rule
  ggml_tensor* expert_input = nullptr;   // [expert_width(), n], what they see; null where it is the same
  ggml_tensor* router_logits = nullptr;  // [n_expert, n]
  ggml_tensor* expert_output = nullptr;  // [expert_width(), n_expert_used * n], rank within token
  ggml_tensor* expert_weight = nullptr;  // [1, n_expert_used * n]
  ggml_tensor* shared_output = nullptr;  // [n_embd, n]; null where there is no shared expert
};

// Immutable after read_biases(); graphs are built into the caller's.
class Decoder {
 public:
  // Reads the metadata and declares all dense tensors in `weights`, which was made for the same account. Uses
  // the routed experts' tensors too; what is left over then is nobody's (model/left_over.h).
  using MakeArchitecture = std::function<Result<std::unique_ptr<Architecture>>(Account& account)>;
  static Result<std::unique_ptr<Decoder>> create(Account& account, DenseWeights& weights,
                                                 const MakeArchitecture& make = make_architecture);

  const ModelShape& shape() const { return architecture_->shape(); }
  const Architecture& architecture() const { return *architecture_; }

  // What a sequence remembers, layer by layer.
  StateLayout state_layout() const;

  // Layers with experts, in order; segment i ends with the router of expert_layers()[i].
  const std::vector<int>& expert_layers() const { return expert_layers_; }
  int n_segment() const { return static_cast<int>(expert_layers_.size()) + 1; }

  // Nodes that a segment may need: the size of its Graph.
  int max_segment_nodes(int segment) const;

  // Builds a segment that reads and writes `a`.
  void build_segment(const LayerInputs& inputs, const Activations& a, int segment) const;

  // ffn_input, or where experts have a norm of their own the residual, -> shared_output.
  void build_shared_expert(ggml_context* ctx, ggml_cgraph* graph, const Activations& a, int layer,
                           int64_t n_token) const;

  // Of a layer with experts.
  const ExpertTerms& expert_terms(int layer) const { return layers_[static_cast<size_t>(layer)].terms; }

  // The weights of the router of expert_layers()[target], [n_embd, n_expert].
  ggml_tensor* router(size_t target) const;
  // One column each of what is between the layers: the residual, or of a model with streams those, after the
  // attention of a layer, and what is banked (null where nothing ever is).  Streams that are null begin with
  // the residual, as they do with the embedding.
  struct StateBetween {
    ggml_tensor *residual = nullptr, *streams = nullptr, *banked = nullptr;
  };
  // What `router`, those weights or a copy of them, with all that expert_layers()[target] has before it,
  // makes of what the router of an earlier layer saw, or the target's own -> `logits` [n_expert, 1].
  void build_stale_gate(ggml_context* ctx, ggml_cgraph* graph, const StateBetween& state, size_t target,
                        ggml_tensor* router, ggml_tensor* logits) const;

  // Columns [first, first + n) of layer_input -> logits [n_vocab, n].
  void build_head(ggml_context* ctx, ggml_cgraph* graph, const Activations& a, int64_t first, int64_t n,
                  ggml_tensor* logits) const;

  // What a token begins with, F32 [n_embd].
  void embedding(int32_t token, std::span<float> values) const;

  // What the host needs of the weights is read from where they are.  To be called once they are loaded.
  void read_biases();
  // Of layers whose experts the token alone says (ModelShape::n_layer_by_token), [n_expert_used]; else empty.
  std::span<const int32_t> experts_of(int layer, int32_t token) const;
  // kBadFile: a token has an expert that there is not, or one twice.  Once the weights are loaded.
  Status check_experts_of_tokens(const std::string& model) const;
  // F32 [n_expert], for choosing only; empty: none.
  std::span<const float> selection_bias(int layer) const { return layers_[static_cast<size_t>(layer)].bias; }

 private:
  struct Layer {
    NormWeights attn_norm, ffn_norm;             // [n_embd]
    NormWeights expert_norm;                     // of a layer with experts: before the router
    NormWeights attention_post_norm, post_norm;  // LayerOptions; no weight: none
    ggml_tensor* router = nullptr;               // [n_embd, n_expert]
    ggml_tensor* logit_bias = nullptr;           // [n_expert]; null: none
    ggml_tensor* selection_bias = nullptr;       // [n_expert]
    ggml_tensor* experts_of_token = nullptr;     // i32 [n_expert_used, n_vocab], on the host; null: none
    std::vector<float> bias;                     // its values, once they are read
    ExpertTerms terms;
    SharedExpertWeights shared;    // of a layer with experts, where the model has one
    NormWeights shared_post_norm;  // SharedExpertShape::post_norm; no weight: none
    FfnWeights ffn;                // of a dense layer
  };
  void declare_norms(DenseWeights& weights, int number);
  void declare_experts(DenseWeights& weights, int number);
  // x itself where there is no such norm.
  ggml_tensor* normed(ggml_context* ctx, ggml_tensor* x, const NormWeights& weights) const;
  // A tensor of its own.
  ggml_tensor* router_input(ggml_context* ctx, ggml_tensor* x, const Layer& layer) const;
  void route(const LayerInputs& inputs, const Activations& a, int layer, ggml_tensor* seen,
             ggml_tensor* residual) const;
  ggml_tensor* add_branch(ggml_context* ctx, ggml_tensor* stream, ggml_tensor* x, ggml_tensor* branch,
                          const NormWeights& post_norm) const;
  ggml_tensor* sum_experts(ggml_context* ctx, const Activations& a, int layer, int64_t n_token) const;
  void build_streams_segment(const LayerInputs& inputs, const Activations& a, int segment) const;

  std::unique_ptr<Architecture> architecture_;
  ggml_tensor* token_embd_ = nullptr;   // [n_embd, n_vocab]
  NormWeights output_norm_;             // [n_embd]
  ggml_tensor* output_ = nullptr;       // [n_embd, n_vocab]; token_embd_ where tied
  ggml_tensor* output_bias_ = nullptr;  // [n_vocab]; null: none
  std::vector<Layer> layers_;
  std::vector<int> expert_layers_;
};

}  // namespace odmoe
