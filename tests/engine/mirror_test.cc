// Other copies of the model change where bytes come from, and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>

#include "io/fake_reader.h"
#include "tests/engine/test_models.h"
#include "tests/support/temp_dir.h"

namespace odmoe::mirror_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

class Mirrors : public ::testing::Test {
 protected:
  Mirrors() { std::filesystem::copy_file(bundled_model(), mirror_); }

  static EngineOptions small_arena() {
    EngineOptions options = reference_options(bundled_model());
    options.memory.percent = 15;
    return options;
  }
  EngineOptions mirrored() const {
    EngineOptions options = small_arena();
    options.mirrors = {mirror_};
    return options;
  }
  EngineDependencies fakes() const {
    EngineDependencies dependencies;
    dependencies.make_reader = [this](const ReaderOptions& options) -> Result<std::unique_ptr<AsyncReader>> {
      return std::make_unique<FakeReader>(disk_, options.depth,
                                          ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
    };
    return dependencies;
  }
  static std::vector<float> logits(EngineImpl& engine) {
    return all_logits(engine, engine.encode("And God said unto the king, What is the matter?", true, true));
  }
  static std::vector<float> right_logits() {
    const auto engine = open_or_fail(small_arena());
    return engine == nullptr ? std::vector<float>() : logits(*engine);
  }

  TempDir dir_;
  std::filesystem::path mirror_ = dir_ / "mirror.gguf";
  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
};

TEST_F(Mirrors, LogitsAreBitIdenticalAndEveryCopyIsRead) {
  const std::vector<float> wanted = right_logits();
  ASSERT_FALSE(wanted.empty());
  for (const ReaderChoice reader : {ReaderChoice::kPread, ReaderChoice::kAuto}) {
    EngineOptions options = mirrored();
    options.reader = reader;
    const auto engine = open_or_fail(options);
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(logits(*engine), wanted);
    const Stats::Io io = engine->stats().io;
    ASSERT_EQ(io.copies.size(), 2U);
    EXPECT_GT(io.copies[0].read_bytes, 0U);
    EXPECT_GT(io.copies[1].read_bytes, 0U);
    EXPECT_EQ(io.copies[1].path, mirror_.string());
  }
}

TEST_F(Mirrors, ThatFailAreLeftOutAndTheLogitsAreTheSame) {
  disk_->inject({.path = mirror_, .error = EIO, .times = -1});
  const auto engine = open_or_fail(mirrored(), fakes());
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(logits(*engine), right_logits());
  const Stats::Io io = engine->stats().io;
  EXPECT_FALSE(io.copies[0].failed);
  EXPECT_TRUE(io.copies[1].failed);
}

TEST_F(Mirrors, StandInForTheModelsOwnFileWhenItsDriveFails) {
  const auto engine = open_or_fail(mirrored(), fakes());
  ASSERT_NE(engine, nullptr);
  disk_->inject({.path = bundled_model(), .error = EIO, .times = -1});
  EXPECT_EQ(logits(*engine), right_logits());
  EXPECT_TRUE(engine->stats().io.copies[0].failed);
}

TEST_F(Mirrors, OfAnotherModelAreRefused) {
  std::ofstream(mirror_, std::ios::app | std::ios::binary) << "more";
  const auto engine = EngineImpl::open(mirrored(), {});
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(engine.error().message, HasSubstr(mirror_.string() + " is not a mirror of"));
}

}  // namespace
}  // namespace odmoe::mirror_test
