// DeepSeek-V4's attention: one head that is key and value for all query heads, of the tokens in a window and,
// in the same softmax, of compressed blocks of all tokens before (compressor.h): of every block where they
// are long, and where they are short of those that an indexer with compressed keys of its own chooses.  RoPE
// is on the last dimensions of a head, and turned back on what attention gives, which goes through a matrix
// of low rank for each group of heads.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/compressor.h"
#include "model/blocks/lightning_indexer.h"

namespace odmoe {

struct CompressedAttentionShape {
  int64_t n_embd = 0, n_head = 0, head_dim = 0;
  int64_t q_lora_rank = 0;
  int64_t n_group = 0, output_lora_rank = 0;
  bool joint_output_a = false;  // the file has attn_output_a as one matrix, group after group
  int64_t window = 0;
  float norm_eps = 1e-6F;
  RopeOptions rope;  // of this layer
  // Without blocks: ratio 0.
  CompressorShape compressor;
  // Of overlapping blocks; without an indexer: no heads.
  IndexerShape indexer;
  CompressorShape indexer_compressor;

  bool has_blocks() const { return compressor.ratio > 0; }
  bool has_indexer() const { return indexer.n_head > 0; }
  int64_t group_dim() const { return head_dim * n_head / n_group; }
};

struct CompressedAttentionWeights {
  ggml_tensor *q_a = nullptr, *q_a_norm = nullptr;  // [n_embd, q_lora_rank], [q_lora_rank]
  ggml_tensor* q_b = nullptr;                       // [q_lora_rank, head_dim * n_head]
  ggml_tensor *kv = nullptr, *kv_norm = nullptr;    // [n_embd, head_dim], [head_dim]
  ggml_tensor* sinks = nullptr;                     // [n_head]
  ggml_tensor* output_a = nullptr;                  // [group_dim, output_lora_rank, n_group], or joint
  ggml_tensor* output_b = nullptr;                  // [output_lora_rank * n_group, n_embd]
  CompressorWeights compressor, indexer_compressor;
  IndexerWeights indexer;  // q_b and proj
};

// blk.LAYER.attn_{q_a,q_a_norm,q_b,kv,kv_a_norm,sinks,output_a,output_b}, attn_compressor_*,
// indexer.{attn_q_b,proj}, indexer_compressor_*.
CompressedAttentionWeights declare_compressed_attention(DenseWeights& weights,
                                                        const CompressedAttentionShape& shape, int layer);

std::vector<StateTensor> compressed_attention_state(const CompressedAttentionShape& shape);

// x: [n_embd, n_token], already normalised.  Returns [n_embd, n_token].
ggml_tensor* compressed_attention(const LayerInputs& inputs, const CompressedAttentionShape& shape,
                                  const CompressedAttentionWeights& weights, int layer, ggml_tensor* x);

}  // namespace odmoe
