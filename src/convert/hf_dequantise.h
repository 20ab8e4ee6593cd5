// Weights as checkpoints of Hugging Face and MLX store them, made float32, or ggml blocks on the same grid.
// Pure functions on memory; a row is one output of a linear layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "ggml.h"
#include "odmoe/result.h"

namespace odmoe {

// FP8 E4M3 as PyTorch's float8_e4m3fn: bias 7, no infinities, 0x7F and 0xFF are NaN (arXiv:2209.05433).
float fp8_e4m3_to_float(uint8_t bits);

// Elements of a plain dtype ("F32", "F16", "BF16", "F64") to float32.  `bytes` has as many as `out`.
// False for another dtype.
bool plain_to_float(std::string_view dtype, std::span<const std::byte> bytes, std::span<float> out);

// Codes of `bits` bits each, the first in the lowest bits, as a stream that runs on across bytes and words:
// MLX's packing for all its widths, and compressed-tensors' for 4 bits.  `packed` has ceil(n * bits / 8)
// bytes or more.  Requires 1 <= bits <= 8.
void unpack_codes(std::span<const std::byte> packed, int bits, std::span<uint8_t> codes);

// A row of codes with one scale and offset per group of `group` elements: scale * code + offset.  The last
// group may be short.  MLX's affine form (scale, bias) as it is; compressed-tensors' symmetric int4 with
// offset = -8 * scale.
void affine_to_float(std::span<const uint8_t> codes, int64_t group, std::span<const float> scale,
                     std::span<const float> offset, std::span<float> out);

// The same row without loss as blocks of ggml, which have one float16 scale (and offset) per 32 elements:
// Q4_0 for symmetric int4 (offset -8 * scale, which is not stored), Q4_1 for up to 4 bits, Q5_1 for 5.
// Exact where scale and offset are float16 numbers; others are rounded to one.  `out` has
// ggml_row_size(type, codes.size()) bytes.  Requires that 32 divides group and row, and a type of the three.
// False when a scale or offset is beyond float16's range.
bool affine_to_blocks(ggml_type type, std::span<const uint8_t> codes, int64_t group,
                      std::span<const float> scale, std::span<const float> offset, std::span<std::byte> out);

// A row of MXFP4 as gpt-oss has it: per 32 elements 16 bytes of two E2M1 codes each, the first in the low
// bits, and a power of two as E8M0 (OCP Microscaling Formats 1.0).  `codes` has out.size() / 2 bytes and
// `scales` out.size() / 32, for which 32 divides the row.  False for a scale that is not a number.
bool mxfp4_to_float(std::span<const std::byte> codes, std::span<const std::byte> scales,
                    std::span<float> out);

// The same row as ggml's blocks: the scale, then bytes with the first 16 codes in their low bits and the
// others in their high ones.  Nothing is computed.  False as above.
bool mxfp4_to_blocks(std::span<const std::byte> codes, std::span<const std::byte> scales,
                     std::span<std::byte> out);

}  // namespace odmoe
