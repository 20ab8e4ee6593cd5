#include "server/anthropic_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "odmoe/format.h"
#include "server/limits.h"
#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Treatment = FieldRule::Treatment;

using testing::kVocab;

std::string messages_body(std::string_view messages, std::string_view more = "") {
  return odmoe::format(R"({{"model":"m","max_tokens":9,"messages":{}{}{}}})", messages,
                       more.empty() ? "" : ",", more);
}
// One question and more members.
std::string message_body(std::string_view more = "") {
  return messages_body(R"([{"role":"user","content":"x"}])", more);
}
// One message of these blocks.
std::string blocks_body(std::string_view role, std::string_view blocks) {
  return messages_body(odmoe::format(R"([{{"role":"{}","content":[{}]}}])", role, blocks));
}

AnthropicRequest anthropic_taken(const std::string& body) {
  auto request = parse_anthropic_request(body, kVocab);
  EXPECT_TRUE(request.has_value()) << body << ": " << (request.has_value() ? "" : request.error().message);
  return request.has_value() ? std::move(*request) : AnthropicRequest();
}
ChatRequest anthropic_chat(const std::string& body) { return anthropic_taken(body).chat; }
ApiError anthropic_refused(const std::string& body) {
  const auto request = parse_anthropic_request(body, kVocab);
  return request.has_value() ? ApiError{.status = 200, .message = "", .param = ""} : request.error();
}
std::string anthropic_field(const std::string& body) { return anthropic_refused(body).param; }

TEST(AnthropicRequest, EveryFieldIsRead) {
  const AnthropicRequest request = anthropic_taken(R"({"model":"claude","max_tokens":5,
      "system":[{"type":"text","text":"S","cache_control":{"type":"ephemeral"}},{"type":"text","text":"T"}],
      "messages":[{"role":"user","content":"x"}],"temperature":0.5,"top_k":7,"top_p":0.9,
      "stop_sequences":["a","b"],"stream":true,"metadata":{"user_id":"u"},"service_tier":"auto",
      "thinking":{"type":"enabled","budget_tokens":1024,"display":"omitted"},
      "tools":[{"name":"f","description":"D","input_schema":{"type":"object"},"strict":true,
                "cache_control":{"type":"ephemeral"},"input_examples":[{"a":1}]}],
      "tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true},
      "output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"integer"}}},
      "min_p":0.1,"seed":3})");
  const ChatRequest& chat = request.chat;
  EXPECT_EQ(chat.max_tokens, 5);
  EXPECT_FLOAT_EQ(chat.sampling.temperature, 0.5F);
  EXPECT_EQ(chat.sampling.top_k, 7);
  EXPECT_FLOAT_EQ(chat.sampling.top_p, 0.9F);
  EXPECT_FLOAT_EQ(chat.sampling.min_p, 0.1F);
  EXPECT_EQ(chat.seed, 3);
  EXPECT_THAT(chat.stop, ElementsAre("a", "b"));
  EXPECT_TRUE(chat.stream);
  EXPECT_EQ(chat.conversation.thinking, true);
  EXPECT_EQ(chat.thought_tokens, 1024);
  EXPECT_FALSE(request.shows_thoughts);
  ASSERT_EQ(chat.tools.size(), 1);
  EXPECT_EQ(chat.tools[0].name, "f");
  EXPECT_TRUE(chat.tools[0].strict);
  EXPECT_EQ(chat.tools[0].parameters["type"], "object");
  EXPECT_EQ(
      chat.conversation.tools[0],
      R"({"type":"function","function":{"name":"f","description":"D","parameters":{"type":"object"},"strict":true,"input_examples":[{"a":1}]}})");
  EXPECT_EQ(chat.tool_choice.kind, ToolChoice::Kind::kNamed);
  EXPECT_EQ(chat.tool_choice.name, "f");
  EXPECT_FALSE(chat.parallel_tool_calls);
  EXPECT_EQ(chat.form.kind, AnswerForm::Kind::kSchema);
  EXPECT_EQ(chat.form.schema["type"], "integer");
  EXPECT_EQ(chat.form.param, "output_config.format.schema");
  const auto& turns = chat.conversation.turns;
  ASSERT_EQ(turns.size(), 2);
  EXPECT_EQ(turns[0].role, "system");
  EXPECT_EQ(turns[0].content, "ST");
  EXPECT_EQ(turns[1].content, "x");
}

TEST(AnthropicRequest, WithoutMoreTheModelsOwnDistributionIsAskedAndItsTemplateDecidesWhetherItThinks) {
  const ChatRequest chat = anthropic_chat(message_body());
  EXPECT_EQ(chat.sampling.temperature, 1);
  EXPECT_EQ(chat.sampling.top_p, 1);
  EXPECT_EQ(chat.conversation.thinking, std::nullopt);
  EXPECT_EQ(chat.thought_tokens, -1);
  EXPECT_FALSE(chat.stream);
  EXPECT_EQ(chat.form.kind, AnswerForm::Kind::kText);
}

TEST(AnthropicRequest, ResultsOfToolsAreTurnsOfTheirOwn) {
  const auto turns = anthropic_chat(messages_body(R"([
      {"role":"user","content":"Weather?"},
      {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
          {"type":"redacted_thinking","data":"?"},{"type":"text","text":"I look."},
          {"type":"tool_use","id":"t1","name":"f","input":{"city":"Rome"}},
          {"type":"tool_use","id":"t2","name":"f","input":{}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"Rain."},
          {"type":"tool_result","tool_use_id":"t2","is_error":true,
           "content":[{"type":"text","text":"no"},{"type":"text","text":"thing"}]},
          {"type":"text","text":"And?"}]}])"))
                         .conversation.turns;
  ASSERT_EQ(turns.size(), 5);
  EXPECT_EQ(turns[1].reasoning, "hm");
  EXPECT_EQ(turns[1].content, "I look.");
  ASSERT_EQ(turns[1].tool_calls.size(), 2);
  EXPECT_EQ(turns[1].tool_calls[0].id, "t1");
  EXPECT_EQ(turns[1].tool_calls[0].name, "f");
  EXPECT_EQ(turns[1].tool_calls[0].arguments, R"({"city":"Rome"})");
  EXPECT_EQ(turns[2].role, "tool");
  EXPECT_EQ(turns[2].tool_call_id, "t1");
  EXPECT_EQ(turns[2].content, "Rain.");
  EXPECT_EQ(turns[3].tool_call_id, "t2");
  EXPECT_EQ(turns[3].content, "Error: nothing");
  EXPECT_EQ(turns[4].role, "user");
  EXPECT_EQ(turns[4].content, "And?");
}

TEST(AnthropicRequest, MessagesOfOneRoleThatFollowOneAnotherAreOneTurn) {
  const auto turns = anthropic_chat(messages_body(R"([{"role":"user","content":"a"},
      {"role":"user","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]},
      {"role":"assistant","content":"d"},{"role":"assistant","content":[{"type":"text","text":"e"}]},
      {"role":"system","content":"s"},{"role":"system","content":"t"},{"role":"user","content":""}])"))
                         .conversation.turns;
  ASSERT_EQ(turns.size(), 5);
  EXPECT_EQ(turns[0].content, "a\nbc");
  EXPECT_EQ(turns[1].content, "d\ne");
  EXPECT_EQ(turns[2].content, "s");
  EXPECT_EQ(turns[3].content, "t");
  EXPECT_EQ(turns[4].content, "");
}

TEST(AnthropicRequest, ImagesKeepTheirPlaces) {
  const ChatRequest chat = anthropic_chat(messages_body(R"([
      {"role":"user","content":[{"type":"text","text":"see "},
          {"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}]},
      {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[
          {"type":"image","source":{"type":"url","url":"https://example.org/a.png"}}]}]}])"));
  ASSERT_EQ(chat.images.size(), 2);
  EXPECT_EQ(chat.images[0].url, "data:image/png;base64,QUJD");
  EXPECT_EQ(chat.images[0].turn, 0);
  EXPECT_EQ(chat.images[0].at, 4);
  EXPECT_EQ(chat.images[1].url, "https://example.org/a.png");
  EXPECT_EQ(chat.images[1].turn, 2);
}

TEST(AnthropicRequest, ALastMessageOfTheAssistantsIsContinued) {
  const auto continued = [](std::string_view content, std::string_view more = "") {
    return anthropic_chat(
               messages_body(
                   odmoe::format(R"([{{"role":"user","content":"x"}},{{"role":"assistant","content":{}}}])",
                                 content),
                   more))
        .conversation;
  };
  EXPECT_EQ(continued(R"("I am")").continuation, Continuation::kAnswer);
  EXPECT_EQ(continued(R"([{"type":"thinking","thinking":"hm"}])").continuation, Continuation::kThought);
  EXPECT_EQ(continued(R"("<think>hm")").continuation, Continuation::kThought);
  EXPECT_EQ(continued(R"([{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"}])",
                      R"("thinking":{"type":"enabled"})")
                .continuation,
            Continuation::kAnswer);
  for (const char* nothing : {R"("")", "[]", R"([{"type":"redacted_thinking","data":"x"}])"}) {
    EXPECT_EQ(continued(nothing).continuation, Continuation::kNone) << nothing;
    EXPECT_EQ(continued(nothing).turns.size(), 1) << nothing;
  }
  EXPECT_EQ(anthropic_field(messages_body(
                R"([{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}])")),
            "messages[0].tool_calls");
  EXPECT_EQ(anthropic_field(messages_body(R"([{"role":"assistant","content":"a"}])",
                                          R"("thinking":{"type":"enabled","budget_tokens":2000})")),
            "thinking");
  EXPECT_TRUE(anthropic_chat(messages_body(R"([{"role":"assistant","content":[
      {"type":"redacted_thinking","data":"x"}]}])"))
                  .conversation.turns.empty());
}

TEST(AnthropicRequest, ThinkingIsSwitchedAndBounded) {
  const auto thinking = [](std::string_view how) {
    return anthropic_chat(message_body(odmoe::format(R"("thinking":{})", how)));
  };
  EXPECT_EQ(thinking(R"({"type":"disabled"})").conversation.thinking, false);
  EXPECT_EQ(thinking(R"({"type":"adaptive","display":"summarized"})").conversation.thinking, std::nullopt);
  EXPECT_EQ(thinking(R"({"type":"enabled","budget_tokens":2000})").thought_tokens, 2000);
  EXPECT_EQ(thinking("null").conversation.thinking, std::nullopt);
  for (const auto& [how, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {"true", "thinking"},
           {R"({"type":"between_tools"})", "thinking.type"},
           {"{}", "thinking.type"},
           {R"({"type":"enabled","budget_tokens":0})", "thinking.budget_tokens"},
           {R"({"type":"enabled","budget_tokens":"many"})", "thinking.budget_tokens"},
           {R"({"type":"enabled","display":"none"})", "thinking.display"}}) {
    EXPECT_EQ(anthropic_field(message_body(odmoe::format(R"("thinking":{})", how))), field) << how;
  }
}

TEST(AnthropicRequest, ChoicesOfToolsAreRead) {
  const auto choice = [](std::string_view how) {
    return anthropic_chat(message_body(odmoe::format(R"("tools":[{{"name":"f"}}],"tool_choice":{})", how)));
  };
  EXPECT_EQ(choice(R"({"type":"auto"})").tool_choice.kind, ToolChoice::Kind::kAuto);
  EXPECT_TRUE(choice(R"({"type":"auto"})").parallel_tool_calls);
  EXPECT_FALSE(choice(R"({"type":"auto","disable_parallel_tool_use":true})").parallel_tool_calls);
  EXPECT_EQ(choice(R"({"type":"any"})").tool_choice.kind, ToolChoice::Kind::kRequired);
  EXPECT_EQ(choice(R"({"type":"none"})").tool_choice.kind, ToolChoice::Kind::kNone);
  EXPECT_EQ(choice("null").tool_choice.kind, ToolChoice::Kind::kAuto);
  EXPECT_EQ(anthropic_field(message_body(R"("tool_choice":{"type":"any"})")), "tool_choice");
  EXPECT_EQ(anthropic_field(message_body(R"("tool_choice":"auto")")), "tool_choice");
  EXPECT_EQ(anthropic_field(message_body(R"("tool_choice":{"type":"required"})")), "tool_choice.type");
  EXPECT_EQ(
      anthropic_field(message_body(R"("tools":[{"name":"f"}],"tool_choice":{"type":"tool","name":"g"})")),
      "tool_choice.name");
}

TEST(AnthropicRequest, ToolsThatAnthropicRunsAreRefusedByName) {
  const auto refuses = [](std::string_view tool) {
    return anthropic_field(message_body(odmoe::format(R"("tools":[{}])", tool)));
  };
  EXPECT_EQ(refuses(R"({"type":"custom","name":"f","description":null,"input_schema":null})"), "");
  EXPECT_EQ(refuses(R"({"name":"f","allowed_callers":["direct"],"defer_loading":false})"), "");
  EXPECT_EQ(refuses(R"({"type":"web_search_20250305","name":"web_search"})"), "tools[0].type");
  EXPECT_EQ(refuses(R"({"name":"f","defer_loading":true})"), "tools[0].defer_loading");
  EXPECT_EQ(refuses(R"({"name":"f","allowed_callers":["code_execution_20250825"]})"),
            "tools[0].allowed_callers");
  EXPECT_EQ(refuses(R"({"name":"f","input_schema":"object"})"), "tools[0].input_schema");
  EXPECT_EQ(refuses(R"({"name":""})"), "tools[0].name");
  EXPECT_EQ(refuses("\"" + std::string(200, 'f') + "\""), "tools[0]");
  EXPECT_EQ(refuses(odmoe::format(R"({{"name":"{}"}})", std::string(128, 'f'))), "");
  EXPECT_EQ(refuses(odmoe::format(R"({{"name":"{}"}})", std::string(129, 'f'))), "tools[0].name");
  EXPECT_EQ(refuses(R"({"name":"f"},{"name":"f"})"), "tools[1].name");
}

TEST(AnthropicRequest, FormsOfTheAnswerAreRead) {
  EXPECT_EQ(anthropic_chat(message_body(R"("output_format":{"type":"json_schema","schema":{}})")).form.kind,
            AnswerForm::Kind::kSchema);
  EXPECT_EQ(anthropic_chat(message_body(R"("output_config":{"effort":null,"format":null})")).form.kind,
            AnswerForm::Kind::kText);
  for (const auto& [more, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"("output_config":{"effort":"most"})", "output_config.effort"},
           {R"("output_config":{"task_budget":{"total":5}})", "output_config.task_budget"},
           {R"("output_config":{"format":{"type":"json_object"}})", "output_config.format"},
           {R"("output_config":{"format":{"type":"json_schema","schema":5}})", "output_config.format.schema"},
           {R"("output_config":"json")", "output_config"},
           {R"("output_format":"json")", "output_format"},
           {R"("output_format":{"type":"json_schema","schema":{}},
               "output_config":{"format":{"type":"json_schema","schema":{}}})",
            "output_config.format"}}) {
    EXPECT_EQ(anthropic_field(message_body(more)), field) << more;
  }
}

TEST(AnthropicRequest, EditsOfTheConversationAreTakenWhereTheyClearNothing) {
  EXPECT_EQ(anthropic_field(message_body(
                R"("context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]})")),
            "");
  EXPECT_EQ(anthropic_field(message_body(R"("context_management":{"edits":[]})")), "");
  EXPECT_EQ(anthropic_field(message_body(R"("context_management":null)")), "");
  for (const char* edits : {R"({"edits":[{"type":"clear_tool_uses_20250919"}]})",
                            R"({"edits":[{"type":"clear_thinking_20251015"}]})", R"({"edits":[5]})",
                            R"({"edits":5})", R"({"more":1})", "5"}) {
    EXPECT_EQ(anthropic_field(message_body(odmoe::format(R"("context_management":{})", edits))),
              "context_management")
        << edits;
  }
}

TEST(AnthropicRequest, WhatIsWrongIsNamedWithItsPlace) {
  for (const auto& [body, field] : std::initializer_list<std::pair<std::string, std::string>>{
           {"{}", "messages"},
           {messages_body("[]"), "messages"},
           {messages_body("{}"), "messages"},
           {messages_body("[5]"), "messages[0]"},
           {messages_body(R"([{"role":"tool","content":"x"}])"), "messages[0].role"},
           {messages_body(R"([{"role":"user"}])"), "messages[0].content"},
           {messages_body(R"([{"role":"user","content":5}])"), "messages[0].content"},
           {blocks_body("user", "5"), "messages[0].content[0]"},
           {blocks_body("user", R"({"type":5})"), "messages[0].content[0].type"},
           {blocks_body("user", R"({"type":"text","text":5})"), "messages[0].content[0].text"},
           {blocks_body("user", R"({"type":"document","source":{"type":"text","data":"x"}})"),
            "messages[0].content[0]"},
           {blocks_body("user", R"({"type":"thinking","thinking":"x"})"), "messages[0].content[0]"},
           {blocks_body("assistant", R"({"type":"tool_result","tool_use_id":"x"})"),
            "messages[0].content[0]"},
           {blocks_body("assistant", R"({"type":"server_tool_use","id":"x"})"), "messages[0].content[0]"},
           {blocks_body("system", R"({"type":"image"})"), "messages[0].content[0]"},
           {blocks_body("user", R"({"type":"image"})"), "messages[0].content[0].source"},
           {blocks_body("user", R"({"type":"image","source":{"type":"file","file_id":"f"}})"),
            "messages[0].content[0].source"},
           {blocks_body("user", R"({"type":"image","source":{"type":"url"}})"),
            "messages[0].content[0].source"},
           {blocks_body("user", R"({"type":"tool_result","content":{}})"), "messages[0].content[0].content"},
           {blocks_body("user", R"({"type":"tool_result","content":["x"]})"),
            "messages[0].content[0].content[0]"},
           {blocks_body("user", R"({"type":"tool_result","content":[{"type":"tool_reference"}]})"),
            "messages[0].content[0].content[0]"},
           {blocks_body("user", R"({"type":"tool_result","is_error":"yes"})"),
            "messages[0].content[0].is_error"},
           {message_body(R"("system":5)"), "system"},
           {message_body(R"("system":[{"type":"image"}])"), "system[0]"},
           {message_body(R"("stop_sequences":[5])"), "stop_sequences"},
           {message_body(R"("temperature":-1)"), "temperature"},
           {message_body(R"("max_tokens":"9")"), "max_tokens"}}) {
    const ApiError error = anthropic_refused(body);
    EXPECT_EQ(error.status, 400) << body;
    EXPECT_EQ(error.param, field) << body << ": " << error.message;
  }
}

TEST(AnthropicRequest, HostileBodiesAreRefused) {
  EXPECT_THAT(anthropic_refused(std::string(100, '[')).message, HasSubstr("nests deeper"));
  EXPECT_EQ(anthropic_refused("[]").status, 400);
  EXPECT_EQ(anthropic_refused("{\"messages\":").status, 400);
  std::string results;
  for (size_t i = 0; i <= kMaxMessages; ++i) results += R"({"type":"tool_result"},)";
  results.pop_back();
  EXPECT_THAT(anthropic_refused(blocks_body("user", results)).message,
              HasSubstr("messages and results at most"));
  std::string images;
  for (size_t i = 0; i <= kMaxImages; ++i) {
    images += R"({"type":"image","source":{"type":"url","url":"http://x"}},)";
  }
  images.pop_back();
  EXPECT_THAT(anthropic_refused(blocks_body("user", images)).message, HasSubstr("more than"));
  // Arguments that are no JSON are shown as they are.
  const auto turns = anthropic_chat(messages_body(R"([{"role":"assistant","content":[
      {"type":"tool_use","id":"t","name":"f","input":"[[[["},{"type":"tool_use"}]},
      {"role":"user","content":"x"}])"))
                         .conversation.turns;
  EXPECT_FALSE(turns[0].tool_calls[0].arguments_are_json);
  EXPECT_EQ(turns[0].tool_calls[1].arguments, "{}");
}

TEST(AnthropicRequest, FieldsAreHonouredOrRefusedByNameOrChangeNothing) {
  const Json meant[] = {0.37, 5, true, "a", Json{{"a", 1}}, Json::array({1}), Json::array({"a"})};
  for (const FieldRule& rule : anthropic_field_rules()) {
    for (const Json& value : meant) {
      const std::string more = odmoe::format("\"{}\":{}", rule.name, value.dump());
      if (rule.treatment == Treatment::kRefused) {
        EXPECT_EQ(anthropic_field(message_body(more)), rule.name) << more;
      } else if (rule.treatment == Treatment::kHarmless) {
        EXPECT_EQ(anthropic_field(message_body(more)), "") << more;
      }
    }
  }
  for (const char* off : {R"("n":1)", R"("echo":false)", R"("mcp_servers":[])", R"("container":null)"}) {
    EXPECT_EQ(anthropic_field(message_body(off)), "") << off;
  }
  // What another API has: as there, and what only that honours is not passed over.
  for (const char* name : {"mirostat", "grammar", "response_format", "logprobs", "guided_json", "format",
                           "reasoning_effort", "chat_template_kwargs", "continue_final_message"}) {
    const ApiError error = anthropic_refused(message_body(odmoe::format(R"("{}":2)", name)));
    EXPECT_EQ(error.param, name);
    EXPECT_THAT(error.message, HasSubstr(name));
  }
  EXPECT_EQ(anthropic_field(message_body(R"("user":"u","logprobs":false,"unheard_of":[1])")), "");
}

TEST(AnthropicRequest, TheDocumentationShowsEveryField) {
  std::ifstream file(std::filesystem::path(ODMOE_SOURCE_DIR) / "docs/server.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const FieldRule& rule : anthropic_field_rules()) {
    EXPECT_TRUE(text.contains(odmoe::format("`{}`", rule.name))) << rule.name;
  }
}

TEST(AnthropicRequest, WhatABodysValuesTakeIsTakenFromTheAccount) {
  const auto memory = std::make_shared<RequestMemory>(uint64_t{8} << 20);
  std::string blocks = R"({"type":"text","text":"x"})";
  for (int i = 0; i < 100'000; ++i) blocks += R"(,{"type":"text","text":"x"})";
  RequestWork work(memory, std::nullopt, nullptr, {});
  const auto request = parse_anthropic_request(blocks_body("user", blocks), kVocab, &work);
  ASSERT_FALSE(request.has_value());
  EXPECT_EQ(request.error().status, 413);
}

}  // namespace
}  // namespace odmoe::server
