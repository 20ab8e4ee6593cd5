#include "convert/hf_dequantise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

namespace odmoe {

float fp8_e4m3_to_float(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80U) << 24U;
  const uint32_t exponent = (bits >> 3U) & 0xFU;
  const uint32_t mantissa = bits & 7U;
  if (exponent == 0xF && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) / 512.0F;  // 2^-6 * mantissa / 8
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((exponent + 120U) << 23U) | (mantissa << 20U));  // bias 127 for 7
}

bool plain_to_float(std::string_view dtype, std::span<const std::byte> bytes, std::span<float> out) {
  const auto n = static_cast<int64_t>(out.size());
  if (dtype == "F32") {
    assert(bytes.size() == out.size_bytes());
    if (n > 0) std::memcpy(out.data(), bytes.data(), out.size_bytes());
  } else if (dtype == "F16") {
    assert(bytes.size() == 2 * out.size());
    ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(bytes.data()), out.data(), n);
  } else if (dtype == "BF16") {
    assert(bytes.size() == 2 * out.size());
    ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t*>(bytes.data()), out.data(), n);
  } else if (dtype == "F64") {
    assert(bytes.size() == 8 * out.size());
    for (size_t i = 0; i < out.size(); ++i) {
      double value = 0;
      std::memcpy(&value, bytes.data() + 8 * i, sizeof(value));
      out[i] = static_cast<float>(value);
    }
  } else {
    return false;
  }
  return true;
}

void unpack_codes(std::span<const std::byte> packed, int bits, std::span<uint8_t> codes) {
  assert(bits >= 1 && bits <= 8 && packed.size() * 8 >= codes.size() * static_cast<size_t>(bits));
  const auto width = static_cast<unsigned>(bits);
  const uint32_t mask = (1U << width) - 1;
  uint32_t window = 0;  // what has been read and not given out, lowest bits first
  unsigned have = 0;
  size_t at = 0;
  for (uint8_t& code : codes) {
    if (have < width) {
      window |= static_cast<uint32_t>(packed[at++]) << have;
      have += 8;
    }
    code = static_cast<uint8_t>(window & mask);
    window >>= width;
    have -= width;
  }
}

void affine_to_float(std::span<const uint8_t> codes, int64_t group, std::span<const float> scale,
                     std::span<const float> offset, std::span<float> out) {
  const auto step = static_cast<size_t>(group);
  for (size_t begin = 0, g = 0; begin < codes.size(); begin += step, ++g) {
    const size_t end = std::min(begin + step, codes.size());
    for (size_t i = begin; i < end; ++i) out[i] = scale[g] * static_cast<float>(codes[i]) + offset[g];
  }
}

bool affine_to_blocks(ggml_type type, std::span<const uint8_t> codes, int64_t group,
                      std::span<const float> scale, std::span<const float> offset, std::span<std::byte> out) {
  constexpr size_t kBlock = 32;
  assert(type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1);
  assert(ggml_blck_size(type) == static_cast<int64_t>(kBlock) && group % 32 == 0 &&
         codes.size() % kBlock == 0);
  std::byte* to = out.data();
  const auto put = [&to](const auto& value) {
    std::memcpy(to, &value, sizeof(value));
    to += sizeof(value);
  };
  for (size_t begin = 0; begin < codes.size(); begin += kBlock) {
    const size_t g = begin / static_cast<size_t>(group);
    const uint8_t* code = codes.data() + begin;
    const ggml_fp16_t d = ggml_fp32_to_fp16(scale[g]);
    const ggml_fp16_t m = ggml_fp32_to_fp16(offset[g]);
    if (!std::isfinite(ggml_fp16_to_fp32(d)) || !std::isfinite(ggml_fp16_to_fp32(m))) return false;
    put(d);
    if (type != GGML_TYPE_Q4_0) put(m);
    if (type == GGML_TYPE_Q5_1) {
      uint32_t high = 0;
      for (size_t i = 0; i < kBlock; ++i) high |= static_cast<uint32_t>(code[i] >> 4U) << i;
      put(high);
    }
    for (size_t i = 0; i < kBlock / 2; ++i) {
      put(static_cast<uint8_t>((code[i] & 0xFU) | ((code[i + kBlock / 2] & 0xFU) << 4U)));
    }
  }
  return true;
}

namespace {

constexpr size_t kMxfp4Block = 32;
constexpr auto kNoScale = std::byte{0xFF};  // E8M0's NaN

// Code `i` of those in `codes`.
uint8_t mxfp4_code(std::span<const std::byte> codes, size_t i) {
  const auto pair = static_cast<unsigned>(codes[i / 2]);
  return static_cast<uint8_t>(i % 2 == 0 ? pair & 0xFU : pair >> 4U);
}

}  // namespace

bool mxfp4_to_float(std::span<const std::byte> codes, std::span<const std::byte> scales,
                    std::span<float> out) {
  constexpr std::array kMagnitudes = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  assert(out.size() % kMxfp4Block == 0 && codes.size() * 2 == out.size() &&
         scales.size() * kMxfp4Block == out.size());
  if (std::ranges::contains(scales, kNoScale)) return false;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint8_t code = mxfp4_code(codes, i);
    const float magnitude = kMagnitudes.at(code & 7U);
    out[i] = std::ldexp(code < 8 ? magnitude : -magnitude, static_cast<int>(scales[i / kMxfp4Block]) - 127);
  }
  return true;
}

bool mxfp4_to_blocks(std::span<const std::byte> codes, std::span<const std::byte> scales,
                     std::span<std::byte> out) {
  constexpr size_t kHalf = kMxfp4Block / 2;
  assert(codes.size() == scales.size() * kHalf && out.size() == codes.size() + scales.size());
  if (std::ranges::contains(scales, kNoScale)) return false;
  std::byte* to = out.data();
  for (size_t block = 0; block < scales.size(); ++block) {
    *to++ = scales[block];
    const std::span<const std::byte> of_block = codes.subspan(block * kHalf, kHalf);
    for (size_t i = 0; i < kHalf; ++i) {
      *to++ = static_cast<std::byte>(mxfp4_code(of_block, i) | mxfp4_code(of_block, i + kHalf) << 4U);
    }
  }
  return true;
}

}  // namespace odmoe
