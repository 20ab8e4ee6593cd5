// Metadata that passes for a sound GGUF but means nonsense: the engine refuses it with one line or runs; it
// never crashes.  With the sanitizers this is what stands behind "every metadata value fuzzed".
#include <gtest/gtest.h>

#include <cstring>

#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::hostile_metadata_test {
namespace {

using namespace odmoe::testing;

struct Outcome {
  int refused = 0;
  int ran = 0;
};

void expect_a_line(const std::string& message) {
  EXPECT_FALSE(message.empty());
  EXPECT_TRUE(std::ranges::none_of(message, [](unsigned char c) { return c < 0x20; })) << message;
}

void try_model(const TempDir& dir, std::span<const std::byte> bytes, Outcome& outcome) {
  const std::filesystem::path path = dir.write("model.gguf", bytes);
  EngineOptions options = reference_options(path);
  options.context = 16;
  options.chunk = 4;
  const auto engine = EngineImpl::open(options, {});
  if (!engine.has_value()) {
    ++outcome.refused;
    return expect_a_line(engine.error().message);
  }
  auto session = (*engine)->new_session().value();
  const std::vector<Token> tokens = {1, 2, 3, 4, 5};
  for (const std::span<const Token> some : {std::span(tokens), std::span(tokens).first(1)}) {
    const Status status = session->evaluate(some);
    if (status.has_value()) continue;
    // Nothing else goes wrong than that values are not finite.
    ++outcome.refused;
    EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
    return expect_a_line(status.error().message);
  }
  ++outcome.ran;
}

class HostileMetadata : public ::testing::TestWithParam<const char*> {};

TEST_P(HostileMetadata, EveryFieldWithExtremesIsRefusedOrRuns) {
  const TempDir dir;
  RunnableModelOptions model{.architecture = GetParam(), .n_layer = 1, .n_expert = 4, .n_embd = 32};
  const GgufWriter writer = runnable_model(model);
  const std::vector<std::byte> sound = writer.bytes();
  Outcome outcome;
  try_model(dir, sound, outcome);
  ASSERT_EQ(outcome.ran, 1);

  const auto bits = [](float value) { return uint64_t{std::bit_cast<uint32_t>(value)}; };
  const std::vector<uint64_t> extremes = {0,           1,           2,     3,          7,
                                          33,          255,         4097,  0x7FFFFFFF, 0x80000000,
                                          0xFFFFFFFF,  1ULL << 40U, ~0ULL, bits(NAN),  bits(INFINITY),
                                          bits(-1.0F), bits(1e-30F)};
  for (const GgufWriter::Field& field : writer.fields()) {
    if (field.what.find("tokenizer.ggml.") != std::string::npos)
      continue;  // the tokenizer's own fuzzer does these
    for (const uint64_t extreme : extremes) {
      std::vector<std::byte> damaged = sound;
      std::memcpy(damaged.data() + field.offset, &extreme, std::min<uint64_t>(field.bytes, sizeof(extreme)));
      SCOPED_TRACE(field.what + " = " + std::to_string(extreme));
      try_model(dir, damaged, outcome);
    }
  }
  EXPECT_GT(outcome.refused, 500);
  EXPECT_GT(outcome.ran, 50);
}

INSTANTIATE_TEST_SUITE_P(Families, HostileMetadata, ::testing::Values("deepseek2", "qwen2moe", "qwen3moe"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace odmoe::hostile_metadata_test
