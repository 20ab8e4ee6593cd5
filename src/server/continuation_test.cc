#include "server/continuation.h"

#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

class ContinuationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const EngineOptions options{.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                                .memory = parse_memory_budget("50%").value(),
                                .context = 64,
                                .threads = 1};
    engine_ = Engine::open(options).value();
  }
  std::unique_ptr<Engine> engine_;
};

TEST_F(ContinuationTest, WhereThePromptEndsTheAnswerBegins) {
  using Start = AssistantText::Start;
  const auto start = [&](const char* prompt, Continuation continuation = Continuation::kNone) {
    Conversation conversation;
    conversation.continuation = continuation;
    return start_of(*engine_, conversation, engine_->encode(prompt, false, true));
  };
  EXPECT_EQ(start("Well?"), Start::kAnswer);
  EXPECT_EQ(start("Well?<think>\n"), Start::kThought);
  EXPECT_EQ(start("Well?<think>\n\n</think>\n\n"), Start::kAnswer);
  EXPECT_EQ(start("Well?<think>Hm", Continuation::kThought), Start::kThought);
  EXPECT_EQ(start("I say", Continuation::kAnswer), Start::kContent);
}

}  // namespace
}  // namespace odmoe::server
