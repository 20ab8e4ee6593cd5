#include "hub/quantisation.h"

#include <gtest/gtest.h>

#include "hub/shards.h"

namespace odmoe::hub {
namespace {

TEST(Quantisation, IsWhatAFilesNameEndsIn) {
  EXPECT_EQ(quantisation_of("Qwen3-30B-A3B-Q4_K_M.gguf"), "Q4_K_M");
  EXPECT_EQ(quantisation_of("Qwen3-30B-A3B-UD-Q4_K_XL-00001-of-00003.gguf"), "UD-Q4_K_XL");
  EXPECT_EQ(quantisation_of("UD-IQ1_S/DeepSeek-R1-UD-IQ1_S-00001-of-00004.gguf"), "UD-IQ1_S");
  EXPECT_EQ(quantisation_of("mixtral-8x7b-v0.1.Q5_K_M.gguf"), "Q5_K_M");
  EXPECT_EQ(quantisation_of("olmoe_q8_0.gguf"), "Q8_0");
  EXPECT_EQ(quantisation_of("gpt-oss-20b-mxfp4.gguf"), "MXFP4");
  EXPECT_EQ(quantisation_of("m-BF16.gguf"), "BF16");
  EXPECT_EQ(quantisation_of("Q2_K-00001-of-00002.gguf"), "Q2_K");
  EXPECT_EQ(quantisation_of("m-Q4_K_M-imat.gguf"), "Q4_K_M");
  EXPECT_EQ(quantisation_of("demo.gguf"), "");
  EXPECT_EQ(quantisation_of("Q3-8B.gguf"), "Q3");
  EXPECT_EQ(quantisation_of("Qwen2-57B.gguf"), "");
  EXPECT_EQ(quantisation_of(""), "");
}

TEST(Quantisation, IsAskedForInAnyCase) {
  EXPECT_TRUE(is_quantisation("q4_k_m", "Q4_K_M"));
  EXPECT_FALSE(is_quantisation("Q4_K", "Q4_K_M"));
  EXPECT_FALSE(is_quantisation("Q4_K_XL", "UD-Q4_K_XL"));
  EXPECT_TRUE(is_quantisation("Q4_K_XL", "UD-Q4_K_XL", /*loosely=*/true));
}

TEST(Quantisation, FileTypesHaveTheNamesOfLlamaCpp) {
  EXPECT_EQ(file_type_name(15), "Q4_K_M");
  EXPECT_EQ(file_type_name(38), "MXFP4_MOE");
  EXPECT_EQ(file_type_name(-1), "");
  EXPECT_EQ(file_type_name(4), "");
}

TEST(Shards, AreNumberedAtTheEndOfTheirNames) {
  const Shard shard = shard_of("a/m-00002-of-00010.gguf");
  EXPECT_EQ(shard.stem, "a/m");
  EXPECT_EQ(shard.number, 2);
  EXPECT_EQ(shard.count, 10);
}

TEST(Shards, WhatIsNotNumberedSoIsAWhole) {
  for (const char* path :
       {"m.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-0001-of-0002.gguf",
        "-00001-of-00002.gguf", "m-0000a-of-00002.gguf", "m-00001-of-00002.bin", ".gguf", ""}) {
    const Shard shard = shard_of(path);
    EXPECT_EQ(shard.count, 1) << path;
    EXPECT_EQ(shard.number, 1) << path;
  }
  EXPECT_EQ(shard_of("m.GGUF").stem, "m");
  EXPECT_FALSE(is_gguf(".gguf"));
}

}  // namespace
}  // namespace odmoe::hub
