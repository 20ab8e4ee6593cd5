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
  using Start = OutputStart;
  const auto place = [&](const char* prompt, Continuation continuation = Continuation::kNone,
                         const char* format = "hermes") {
    Conversation conversation;
    conversation.continuation = continuation;
    return place_of_answer(*engine_, *find_output_format(format), conversation,
                           engine_->encode(prompt, false, true));
  };
  const auto start = [&](auto... what) { return place(what...).start; };
  EXPECT_EQ(start("Well?"), Start::kAnswer);
  EXPECT_EQ(start("Well?<think>\n"), Start::kThought);
  EXPECT_EQ(start("Well?<think>\n\n</think>\n\n"), Start::kAnswer);
  EXPECT_EQ(start("Well?<think>Hm", Continuation::kThought), Start::kThought);
  EXPECT_EQ(start("I say", Continuation::kAnswer), Start::kContent);
  EXPECT_TRUE(place("Well?<think>\n\n</think>\n\n").thought_ended);
  EXPECT_FALSE(place("Well?").thought_ended);
  EXPECT_FALSE(place("Well?<|end|><|start|>assistant", Continuation::kNone, "gpt-oss").thought_ended);
  EXPECT_EQ(start("Well?[THINK]", Continuation::kNone, "mistral-v11"), Start::kThought);
  EXPECT_EQ(start("Well?\nHere are my reasoning steps:\n", Continuation::kNone, "apriel"), Start::kThought);
  EXPECT_EQ(start("Well?<|open|>response<|sep|>", Continuation::kNone, "kimi-k3"), Start::kContent);
}

}  // namespace
}  // namespace odmoe::server
