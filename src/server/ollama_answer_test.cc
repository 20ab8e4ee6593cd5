#include "server/ollama_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "server/json_guard.h"
#include "server/ollama_dialect.h"
#include "server/testing_writer.h"

namespace odmoe::server {
namespace {

using namespace testing;
using ::testing::ElementsAre;

const AnswerStart kOllamaStart{.id = "1f", .model = "demo", .created = 1'700'000'000};
const AnswerUsage kOllamaUsage{
    .prompt = 12, .generated = 7, .reused = 4, .queue_ms = 1, .ttft_ms = 3.5, .decode_ms = 20};
constexpr const char* kOllamaHead = R"({"model":"demo","created_at":"2023-11-14T22:13:20Z",)";
constexpr const char* kOllamaFigures =
    R"("total_duration":23500000,"load_duration":1000000,"prompt_eval_count":12,)"
    R"("prompt_eval_duration":2500000,"eval_count":7,"eval_duration":20000000})";

std::unique_ptr<AnswerWriter> ollama_test_writer(OllamaShape shape) {
  return ollama_writer(kOllamaStart, {.shape = shape});
}
std::vector<std::string> ollama_lines(const std::string& stream) {
  std::vector<std::string> lines;
  std::istringstream text(stream);
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  EXPECT_TRUE(stream.ends_with("\n"));
  return lines;
}
std::string ollama_line(const std::string& rest) { return kOllamaHead + rest; }

ChatToolCall ollama_call(const std::string& name) {
  return {.id = "call_" + name, .name = name, .arguments = "{\n\"city\": \"Rome\"}"};
}

TEST(OllamaAnswer, AStreamOfAChatIsALineForEachNewPieceAndOneWithTheFigures) {
  const std::string text = streamed(*ollama_test_writer(OllamaShape::kChat),
                                    {{.reasoning = "h"},
                                     {.reasoning = "m", .content = "I"},
                                     {},
                                     {.content = "!\n"},
                                     {.calls = {ollama_call("f")}},
                                     {.calls = {ollama_call("g")}, .finish = AnswerFinish::kCalls}},
                                    kOllamaUsage);
  EXPECT_THAT(
      ollama_lines(text),
      ElementsAre(
          ollama_line(R"("message":{"role":"assistant","content":"","thinking":"h"},"done":false})"),
          ollama_line(R"("message":{"role":"assistant","content":"I","thinking":"m"},"done":false})"),
          ollama_line(R"("message":{"role":"assistant","content":"!\n"},"done":false})"),
          ollama_line(
              R"("message":{"role":"assistant","content":"","tool_calls":[{"id":"call_f","function":{"index":0,"name":"f","arguments":{"city":"Rome"}}}]},"done":false})"),
          ollama_line(
              R"("message":{"role":"assistant","content":"","tool_calls":[{"id":"call_g","function":{"index":1,"name":"g","arguments":{"city":"Rome"}}}]},"done":false})"),
          ollama_line(R"("message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",)") +
              kOllamaFigures));
}

TEST(OllamaAnswer, AStreamOfTextHasResponses) {
  EXPECT_THAT(
      ollama_lines(streamed(*ollama_test_writer(OllamaShape::kGenerate),
                            {{.reasoning = "hm"}, {.content = "I", .finish = AnswerFinish::kLength}},
                            kOllamaUsage)),
      ElementsAre(ollama_line(R"("response":"","thinking":"hm","done":false})"),
                  ollama_line(R"("response":"I","done":false})"),
                  ollama_line(R"("response":"","done":true,"done_reason":"length",)") + kOllamaFigures));
}

TEST(OllamaAnswer, AWholeIsOneObject) {
  EXPECT_EQ(
      whole(*ollama_test_writer(OllamaShape::kGenerate), {.reasoning = "hm", .content = "I"}, kOllamaUsage),
      ollama_line(R"("response":"I","thinking":"hm","done":true,"done_reason":"stop",)") + kOllamaFigures +
          "\n");
  EXPECT_EQ(
      whole(*ollama_test_writer(OllamaShape::kChat),
            {.calls = {ollama_call("f")}, .finish = AnswerFinish::kCalls}, kOllamaUsage),
      ollama_line(
          R"("message":{"role":"assistant","content":"","tool_calls":[{"id":"call_f","function":{"index":0,"name":"f","arguments":{"city":"Rome"}}}]},"done":true,"done_reason":"stop",)") +
          kOllamaFigures + "\n");
}

TEST(OllamaAnswer, AFailureInAStreamIsItsLastLine) {
  const auto lines = ollama_lines(streamed(*ollama_test_writer(OllamaShape::kChat), {{.content = "a"}},
                                           kOllamaUsage, ApiError{.status = 504, .message = "too \"long\""}));
  ASSERT_EQ(lines.size(), 2);
  EXPECT_EQ(lines[1], R"({"error":"too \"long\""})");
  EXPECT_EQ(OllamaDialect().error({.status = 404, .message = "no"}).text, "{\"error\":\"no\"}\n");
}

TEST(OllamaAnswer, NothingKeepsAStreamAliveForEmptyLinesAreNoJson) {
  EXPECT_EQ(ollama_test_writer(OllamaShape::kChat)->keep_alive(), "");
}

TEST(OllamaAnswer, AModelThatIsAskedForIsThere) {
  EXPECT_EQ(ollama_loaded(kOllamaStart, OllamaShape::kChat),
            ollama_line(R"("message":{"role":"assistant","content":""},"done":true,"done_reason":"load"})"
                        "\n"));
  EXPECT_EQ(ollama_loaded(kOllamaStart, OllamaShape::kGenerate),
            ollama_line(R"("response":"","done":true,"done_reason":"load"})"
                        "\n"));
}

TEST(OllamaAnswer, DurationsAreNeverNegative) {
  const Json json = Json::parse(whole(*ollama_test_writer(OllamaShape::kChat), {}, {.queue_ms = 5}));
  EXPECT_EQ(json["total_duration"], 5'000'000);
  EXPECT_EQ(json["prompt_eval_duration"], 0);
}

}  // namespace
}  // namespace odmoe::server
