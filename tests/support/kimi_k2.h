// The header of a GGUF with Kimi-K2's real shapes (moonshotai/Kimi-K2-Instruct's config.json) and no weights.
#pragma once

#include "gguf_writer.h"

namespace odmoe::testing {

struct KimiK2 {
  static constexpr int64_t kLayers = 61;
  static constexpr int64_t kVocabulary = 163840;
  static constexpr int64_t kEmbedding = 7168;
  static constexpr int64_t kHeads = 64;
  static constexpr int64_t kKvRank = 512;
  static constexpr int64_t kRope = 64;
  static constexpr int64_t kExperts = 384;
  static constexpr int64_t kExpertWidth = 2048;
};

// Experts in Q2_K, the rest in Q8_0: a file of 350 GiB that takes a few MiB on the drive.
GgufWriter kimi_k2_header();

}  // namespace odmoe::testing
