// A weight of a checkpoint, whichever way it is stored: plain, FP8 with a scale per block, int4 with a scale
// per group, MXFP4, or MLX's affine codes; read by rows as float32 or, where ggml has the same grid, as its
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "convert/hf_checkpoint.h"
#include "ggml.h"
#include "odmoe/result.h"

namespace odmoe {

enum class HfEncoding : uint8_t {
  kPlain,   // F32, F16, BF16, F64
  kFp8,     // F8_E4M3 and "_scale_inv": one factor per block of rows and columns (DeepSeek-V3)
  kInt4,    // "_packed" I32, "_scale", "_shape": compressed-tensors pack-quantized, symmetric (Kimi-K2.5)
  kAffine,  // U32 codes, ".scales", ".biases": MLX
  kMxfp4,   // "_blocks" U8 [experts, rows, columns / 32, 16], "_scales" U8 (gpt-oss)
};

// What config.json says of the quantisation, checked against what is read here.
struct HfQuantisation {
  // Of FP8: rows and columns that share a factor.
  int64_t block_rows = 128, block_columns = 128;

  // kUnsupported for a method that is not read, with those that are.
  static Result<HfQuantisation> parse(const HfConfig& config);
};

// A matrix; a stack of matrices has its rows one after another.  Refers to the checkpoint.
struct HfWeight {
  std::string name;  // without ".weight": what errors call it
  HfEncoding encoding = HfEncoding::kPlain;
  int64_t rows = 0, columns = 0;
  int bits = 0;                               // of a code: kInt4, kAffine
  int64_t group = 0;                          // columns that share a scale: kInt4, kAffine, kMxfp4
  int64_t block_rows = 0, block_columns = 0;  // kFp8
  HfCheckpoint::Tensor data, scale, offset;   // those that the encoding has
  std::string_view dtype() const { return data.info->dtype; }

  // The ggml type that holds these weights without loss or nearly so, in about the same space: what a
  // conversion makes of them unless told otherwise.
  ggml_type natural_type() const;
  // Whether read_blocks() can make `type` of it: the bytes are copied or the codes repacked, nothing is
  // computed anew.
  bool has_grid_of(ggml_type type) const;
};

// Finds NAME.weight and what belongs to it ("model.layers.0.mlp.down_proj"), and checks that dtypes and
// shapes agree.  `dimensions`: how many the weight must have, 2 or 3 (stacked).  Nothing when there is none.
// Errors: kBadFile, kUnsupported, naming file and tensor.
Result<std::optional<HfWeight>> find_hf_weight(const HfCheckpoint& checkpoint,
                                               const HfQuantisation& quantisation, const std::string& name,
                                               size_t dimensions = 2);

// Rows [first, first + n) as float32; `out` has n * columns elements.  Reads in pieces, so memory beyond
// `out` is a few rows'.  Thread-safe.  Errors: kIo, kBadFile.
Status read_rows(const HfCheckpoint& checkpoint, const HfWeight& weight, int64_t first, int64_t n,
                 std::span<float> out);

// The same as blocks of a type that has_grid_of() has said yes to.  kUnsupported when a scale is beyond
// float16's range, kBadFile for one that is not a number.
Status read_blocks(const HfCheckpoint& checkpoint, const HfWeight& weight, ggml_type type, int64_t first,
                   int64_t n, std::span<std::byte> out);

}  // namespace odmoe
