// Invariant 5: a drive that fails is tried again, then reported; it never changes a token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "io/fake_reader.h"
#include "tests/engine/test_models.h"

namespace odmoe::faulty_drive_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

constexpr std::string_view kPrompt = "And God said unto the king,";

EngineOptions small_arena() {
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = 20;
  return options;
}

EngineDependencies on(const std::shared_ptr<FakeDisk>& disk) {
  EngineDependencies dependencies;
  dependencies.make_reader = [disk](const ReaderOptions& options) -> Result<std::unique_ptr<AsyncReader>> {
    return std::make_unique<FakeReader>(disk, options.depth,
                                        ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
  };
  return dependencies;
}

Result<GenerateResult> generate(EngineImpl& engine, std::string& streamed, Session& session) {
  GenerateOptions options;
  options.sampling.temperature = 0;
  options.max_tokens = 40;
  options.ignore_eos = true;
  const std::vector<Token> prompt = engine.encode(kPrompt, true, true);
  return engine.generate(session, prompt, options, [&](std::string_view text) {
    streamed += text;
    return true;
  });
}

std::string right_text() {
  const auto engine = open_or_fail(small_arena());
  if (engine == nullptr) return {};
  std::string streamed;
  auto session = engine->new_session().value();
  EXPECT_TRUE(generate(*engine, streamed, *session).has_value());
  EXPECT_FALSE(streamed.empty());
  return streamed;
}

TEST(FaultyDrive, ShortReadsAndPassingErrorsDoNotChangeTheText) {
  const auto disk = std::make_shared<FakeDisk>();
  const auto engine = open_or_fail(small_arena(), on(disk));
  ASSERT_NE(engine, nullptr);
  // Three in a row on one read would be reported: at these rates that does not happen in this many reads.
  disk->randomise(/*seed=*/7, /*short_percent=*/5, /*error_percent=*/1);
  std::string streamed;
  auto session = engine->new_session().value();
  const auto result = generate(*engine, streamed, *session);
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(streamed, right_text());
  EXPECT_GT(engine->stats().io.read_retries, 0U);
}

TEST(FaultyDrive, AnErrorThatStaysIsReportedNamingFileAndExpertAndNothingWrongIsShown) {
  const auto disk = std::make_shared<FakeDisk>();
  const auto engine = open_or_fail(small_arena(), on(disk));
  ASSERT_NE(engine, nullptr);
  auto session = engine->new_session().value();
  std::string streamed;
  GenerateOptions options;
  options.sampling.temperature = 0;
  options.max_tokens = 40;
  options.ignore_eos = true;
  const std::vector<Token> prompt = engine->encode(kPrompt, true, true);
  int pieces = 0;
  const auto result = engine->generate(*session, prompt, options, [&](std::string_view text) {
    streamed += text;
    // In the middle of decoding the drive dies.
    if (++pieces == 5) disk->inject({.path = {}, .error = EIO, .times = -1});
    return true;
  });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kIo);
  EXPECT_THAT(result.error().message, HasSubstr("demo.gguf"));
  EXPECT_THAT(result.error().message, HasSubstr("expert"));
  EXPECT_EQ(result.error().message.find('\n'), std::string::npos);
  EXPECT_TRUE(right_text().starts_with(streamed)) << streamed;
}

TEST(FaultyDrive, AFailedEvaluationLeavesTheTimelineAsItWasAndCanBeTriedAgain) {
  const auto disk = std::make_shared<FakeDisk>();
  const auto engine = open_or_fail(small_arena(), on(disk));
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> tokens = engine->encode(kPrompt, true, true);
  auto session = engine->new_session().value();
  // More errors than one evaluation survives, but an end to them.
  disk->inject({.path = {}, .error = EIO, .times = 300});
  int failures = 0;
  while (failures < 300 && !session->evaluate(tokens).has_value()) {
    ++failures;
    ASSERT_TRUE(session->tokens().empty());
  }
  EXPECT_GT(failures, 0);
  ASSERT_EQ(session->tokens().size(), tokens.size());
  const std::vector<float> logits(session->logits().begin(), session->logits().end());

  const auto sound = open_or_fail(small_arena());
  ASSERT_NE(sound, nullptr);
  auto other = sound->new_session().value();
  ASSERT_TRUE(other->evaluate(tokens).has_value());
  EXPECT_TRUE(std::ranges::equal(logits, other->logits()));
}

TEST(FaultyDrive, AFileThatShrinksWhileRunningIsAnErrorNotWrongBytes) {
  const auto disk = std::make_shared<FakeDisk>();
  const std::string bytes = read_text(bundled_model());
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  const std::filesystem::path path = bundled_model();
  disk->add(path, {begin, begin + bytes.size()});
  const auto engine = open_or_fail(small_arena(), on(disk));
  ASSERT_NE(engine, nullptr);
  disk->truncate(path, bytes.size() / 2);
  std::string streamed;
  auto session = engine->new_session().value();
  const auto result = generate(*engine, streamed, *session);
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr("demo.gguf"));
  EXPECT_TRUE(right_text().starts_with(streamed));
}

}  // namespace
}  // namespace odmoe::faulty_drive_test
