#include "convert/hf_dequantise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

TEST(HfDequantise, Fp8E4m3HasTheValuesOfTheFormat) {
  EXPECT_EQ(fp8_e4m3_to_float(0x00), 0.0F);
  EXPECT_EQ(fp8_e4m3_to_float(0x38), 1.0F);
  EXPECT_EQ(fp8_e4m3_to_float(0xB8), -1.0F);
  EXPECT_EQ(fp8_e4m3_to_float(0x39), 1.125F);
  EXPECT_EQ(fp8_e4m3_to_float(0x7E), 448.0F);  // the largest
  EXPECT_EQ(fp8_e4m3_to_float(0x08), std::ldexp(1.0F, -6));
  EXPECT_EQ(fp8_e4m3_to_float(0x01), std::ldexp(1.0F, -9));  // the smallest
  EXPECT_EQ(fp8_e4m3_to_float(0x87), -7 * std::ldexp(1.0F, -9));
  EXPECT_TRUE(std::isnan(fp8_e4m3_to_float(0x7F)));
  EXPECT_TRUE(std::isnan(fp8_e4m3_to_float(0xFF)));
}

TEST(HfDequantise, PlainTypesKeepTheirValues) {
  const std::array<double, 3> wanted = {1.5, -0.25, 384};
  std::array<float, 3> out = {};
  const std::array<uint16_t, 3> bf16 = {0x3FC0, 0xBE80, 0x43C0};
  const std::array<uint16_t, 3> f16 = {0x3E00, 0xB400, 0x5E00};
  const std::array<float, 3> f32 = {1.5F, -0.25F, 384};
  const auto expect = [&](std::string_view dtype, const auto& values) {
    out = {};
    EXPECT_TRUE(plain_to_float(dtype, std::as_bytes(std::span(values)), out)) << dtype;
    EXPECT_THAT(out, ElementsAre(1.5F, -0.25F, 384.0F)) << dtype;
  };
  expect("BF16", bf16);
  expect("F16", f16);
  expect("F32", f32);
  expect("F64", wanted);
  EXPECT_FALSE(plain_to_float("I32", std::as_bytes(std::span(f32)), out));
}

TEST(HfDequantise, CodesRunLowestBitsFirstAcrossBytes) {
  // Three bits each: 1, 2, 3, 4, 5, 6, 7, 0 in three bytes.
  const std::array packed = {std::byte{0b11010001}, std::byte{0b01011000}, std::byte{0b00011111}};
  std::array<uint8_t, 8> codes = {};
  unpack_codes(packed, 3, codes);
  EXPECT_THAT(codes, ElementsAre(1, 2, 3, 4, 5, 6, 7, 0));
  const uint32_t word = 0x76543210;  // int4, as compressed-tensors has it
  unpack_codes(std::as_bytes(std::span(&word, 1)), 4, codes);
  EXPECT_THAT(codes, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(HfDequantise, EveryWidthGivesBackWhatWasPacked) {
  std::mt19937 random(7);
  for (int bits = 1; bits <= 8; ++bits) {
    std::vector<uint8_t> codes(96);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random() & ((1U << bits) - 1));
    std::vector<std::byte> packed(codes.size() * static_cast<size_t>(bits) / 8);
    for (size_t i = 0; i < codes.size() * static_cast<size_t>(bits); ++i) {
      const auto width = static_cast<size_t>(bits);
      if (((codes[i / width] >> (i % width)) & 1U) != 0) packed[i / 8] |= std::byte{1} << (i % 8);
    }
    std::vector<uint8_t> out(codes.size());
    unpack_codes(packed, bits, out);
    EXPECT_THAT(out, ElementsAreArray(codes)) << bits;
  }
}

TEST(HfDequantise, EachGroupHasItsScaleAndOffset) {
  const std::array<uint8_t, 5> codes = {0, 1, 2, 3, 4};
  const std::array<float, 3> scale = {1, 10, 100};
  const std::array<float, 3> offset = {0, -5, 7};
  std::array<float, 5> out = {};
  affine_to_float(codes, 2, scale, offset, out);
  EXPECT_THAT(out, ElementsAre(0, 1, 15, 25, 407));
}

// The blocks are judged by ggml's own way back to floats.
TEST(HfDequantise, BlocksHoldExactlyWhatTheCodesMean) {
  std::mt19937 random(8);
  struct Case {
    ggml_type type;
    int bits;
    int64_t group;
  };
  for (const auto& [type, bits, group] : {Case{GGML_TYPE_Q4_0, 4, 32}, Case{GGML_TYPE_Q4_1, 4, 64},
                                          Case{GGML_TYPE_Q4_1, 2, 32}, Case{GGML_TYPE_Q5_1, 5, 128}}) {
    std::vector<uint8_t> codes(256);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random() & ((1U << bits) - 1));
    std::vector<float> scale(256 / static_cast<size_t>(group)), offset(scale.size());
    for (size_t i = 0; i < scale.size(); ++i) {
      scale[i] = static_cast<float>(i + 1) / 64;  // float16 has them
      offset[i] = type == GGML_TYPE_Q4_0 ? -8 * scale[i] : -static_cast<float>(i) / 8;
    }
    std::vector<float> wanted(codes.size()), got(codes.size());
    affine_to_float(codes, group, scale, offset, wanted);
    std::vector<std::byte> blocks(ggml_row_size(type, 256));
    ASSERT_TRUE(affine_to_blocks(type, codes, group, scale, offset, blocks));
    ggml_get_type_traits(type)->to_float(blocks.data(), got.data(), 256);
    EXPECT_THAT(got, ElementsAreArray(wanted)) << ggml_type_name(type) << ", " << bits << " bits";
  }
}

TEST(HfDequantise, AScaleBeyondFloat16IsNotHidden) {
  const std::vector<uint8_t> codes(32, 1);
  std::vector<std::byte> blocks(ggml_row_size(GGML_TYPE_Q4_0, 32));
  const float huge = 1e6F, offset = 0;
  EXPECT_FALSE(affine_to_blocks(GGML_TYPE_Q4_0, codes, 32, {&huge, 1}, {&offset, 1}, blocks));
}

// Two blocks of all codes, in orders that tell halves and pairs apart.
TEST(HfMxfp4, BlocksAreGgmlsOfTheSameNumbers) {
  std::vector<std::byte> codes;
  for (unsigned i = 0; i < 32; ++i) codes.push_back(static_cast<std::byte>((i * 37U + 11U) & 0xFFU));
  const std::vector<std::byte> scales = {std::byte{120}, std::byte{131}};
  std::vector<float> values(64);
  ASSERT_TRUE(mxfp4_to_float(codes, scales, values));
  // 2^-7 * 0xB, 0x0: the first byte is 11.
  EXPECT_EQ(values[0], -1.5F / 128);
  EXPECT_EQ(values[1], 0.0F);
  std::vector<std::byte> blocks(2 * 17);
  ASSERT_TRUE(mxfp4_to_blocks(codes, scales, blocks));
  EXPECT_EQ(blocks[0], scales[0]);
  EXPECT_EQ(blocks[17], scales[1]);
  std::vector<float> of_ggml(64);
  ggml_get_type_traits(GGML_TYPE_MXFP4)->to_float(blocks.data(), of_ggml.data(), 64);
  EXPECT_EQ(of_ggml, values);
}

TEST(HfMxfp4, AScaleThatIsNoNumberIsRefused) {
  const std::vector<std::byte> codes(16);
  const std::vector<std::byte> scales = {std::byte{255}};
  std::vector<float> values(32);
  std::vector<std::byte> blocks(17);
  EXPECT_FALSE(mxfp4_to_float(codes, scales, values));
  EXPECT_FALSE(mxfp4_to_blocks(codes, scales, blocks));
}

}  // namespace
}  // namespace odmoe
