#include "server/responses/responses_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/format.h"
#include "server/limits.h"
#include "server/request_fields.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int32_t kVocabSize = 1000;

std::string body(std::string_view input, std::string_view more = "") {
  return odmoe::format(R"({{"input":{}{}{}}})", input, more.empty() ? "" : ",", more);
}

ApiResult<ResponsesRequest> parse_request(const std::string& text,
                                          const std::shared_ptr<ResponseStore>& store = nullptr) {
  return parse_responses_request(text, kVocabSize, store);
}
ResponsesRequest request(const std::string& text, const std::shared_ptr<ResponseStore>& store = nullptr) {
  auto read = parse_request(text, store);
  EXPECT_TRUE(read.has_value()) << text << ": " << (read.has_value() ? "" : read.error().message);
  return read.has_value() ? std::move(*read) : ResponsesRequest();
}
// The field that is named when the request is refused; empty: it is taken.
std::string refused_field(const std::string& text) {
  const auto read = parse_request(text);
  if (read.has_value()) return "";
  EXPECT_EQ(read.error().status, 400) << text;
  EXPECT_FALSE(read.error().message.empty());
  return read.error().param;
}
std::vector<ChatTurn> turns(const std::string& input, std::string_view more = "") {
  return request(body(input, more)).chat.conversation.turns;
}
Json echo(const std::string& text) { return Json::parse("{" + request(text).settings.echo.substr(1) + "}"); }

std::shared_ptr<ResponseStore> store_with(std::vector<StoredResponse> responses) {
  auto store = std::make_shared<ResponseStore>(1 << 20);
  for (StoredResponse& one : responses) EXPECT_TRUE(store->put(std::move(one)));
  return store;
}
StoredResponse said(const std::string& id, const std::string& previous, const std::string& question,
                    const std::string& answer) {
  const auto item = [](const std::string& name, const char* role, const char* type, const std::string& text) {
    return ResponseItemText{
        .id = name,
        .text = odmoe::format(
            R"({{"id":"{}","type":"message","role":"{}","content":[{{"type":"{}","text":"{}"}}]}})", name,
            role, type, text)};
  };
  return {.id = "resp_" + id,
          .owner = "",
          .previous = previous,
          .input = {item("msg_" + id + "_i0", "user", "input_text", question)},
          .output = {item("msg_" + id + "_0", "assistant", "output_text", answer)},
          .head = "{",
          .tail = "}"};
}

TEST(ResponsesRequest, InputMayBeAText) {
  const auto all = turns(R"("Hello")", R"("instructions":"Be brief.")");
  ASSERT_EQ(all.size(), 2);
  EXPECT_EQ(all[0].role, "system");
  EXPECT_EQ(all[0].content, "Be brief.");
  EXPECT_EQ(all[1].role, "user");
  EXPECT_EQ(all[1].content, "Hello");
}

TEST(ResponsesRequest, InputMayBeMessagesWithTextAndImages) {
  const ResponsesRequest read = request(body(R"([
      {"role":"user","content":[{"type":"input_text","text":"see "},
                                {"type":"input_image","image_url":"data:x","detail":"auto"},
                                {"type":"input_text","text":"that"}]},
      {"type":"message","id":"msg_1","status":"completed","role":"assistant",
       "content":[{"type":"output_text","text":"I see.","annotations":[]},{"type":"refusal","refusal":" No."}]},
      {"role":"developer","content":"Go on."}])"));
  const auto& all = read.chat.conversation.turns;
  ASSERT_EQ(all.size(), 3);
  EXPECT_EQ(all[0].content, "see that");
  ASSERT_EQ(read.chat.images.size(), 1);
  EXPECT_EQ(read.chat.images[0].url, "data:x");
  EXPECT_EQ(read.chat.images[0].turn, 0);
  EXPECT_EQ(read.chat.images[0].at, 4);
  EXPECT_EQ(all[1].content, "I see. No.");
  EXPECT_EQ(all[2].role, "system");
}

TEST(ResponsesRequest, ThoughtsMessagesAndCallsThatFollowOneAnotherAreOneTurn) {
  const auto all = turns(R"([{"role":"user","content":"Weather?"},
      {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"I ask."}]},
      {"type":"message","role":"assistant","content":"I look."},
      {"type":"function_call","id":"fc_1","call_id":"c1","name":"look","arguments":"{\"at\":1}"},
      {"type":"function_call","call_id":"c2","name":"look","arguments":"{\"at\":"},
      {"type":"function_call_output","call_id":"c1","output":"Rain."},
      {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"Sun."}]},
      {"type":"reasoning","summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":"b"}]},
      {"role":"assistant","content":"Both."},
      {"role":"assistant","content":"Done."}])");
  ASSERT_EQ(all.size(), 6);
  EXPECT_EQ(all[1].reasoning, "I ask.");
  EXPECT_EQ(all[1].content, "I look.");
  ASSERT_EQ(all[1].tool_calls.size(), 2);
  EXPECT_EQ(all[1].tool_calls[0].id, "c1");
  EXPECT_EQ(all[1].tool_calls[0].arguments, R"({"at":1})");
  EXPECT_TRUE(all[1].tool_calls[0].arguments_are_json);
  EXPECT_FALSE(all[1].tool_calls[1].arguments_are_json);
  EXPECT_EQ(all[2].role, "tool");
  EXPECT_EQ(all[2].tool_call_id, "c1");
  EXPECT_EQ(all[3].content, "Sun.");
  EXPECT_EQ(all[4].reasoning, "a\n\nb");
  EXPECT_EQ(all[4].content, "Both.");
  EXPECT_EQ(all[5].content, "Done.");
  EXPECT_EQ(all[5].reasoning, std::nullopt);
}

TEST(ResponsesRequest, CallsWithoutAMessageAreATurn) {
  const auto all = turns(R"([{"role":"user","content":"x"},
      {"type":"function_call","call_id":"c1","name":"f","arguments":""},
      {"type":"function_call_output","call_id":"c1","output":""},
      {"type":"function_call","call_id":"c2","name":"f","arguments":"{}"}])");
  ASSERT_EQ(all.size(), 4);
  EXPECT_EQ(all[1].tool_calls[0].arguments, "{}");
  EXPECT_EQ(all[3].tool_calls[0].id, "c2");
}

TEST(ResponsesRequest, AThoughtIsReadFromWhatOnlyThisServerReads) {
  const std::string sealed = sealed_thought("Why \"not\"?\n");
  const auto all = turns(odmoe::format(
      R"([{{"role":"user","content":"x"}},{{"type":"reasoning","summary":[],"encrypted_content":"{}"}},
          {{"role":"assistant","content":"y"}}])",
      sealed));
  EXPECT_EQ(all[1].reasoning, "Why \"not\"?\n");
  EXPECT_EQ(refused_field(body(R"([{"type":"reasoning","summary":[],"encrypted_content":"gAAAA"}])")),
            "input[0].encrypted_content");
  EXPECT_EQ(turns(R"([{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],
                       "encrypted_content":"gAAAA"},{"role":"user","content":"x"}])")[0]
                .reasoning,
            "s")
      << "what is there of another's is taken";
}

TEST(ResponsesRequest, SystemMessagesAtTheBeginningAreOne) {
  const auto all = turns(R"([{"role":"developer","content":"b"},{"role":"system","content":"c"},
                             {"role":"user","content":"x"},{"role":"developer","content":"d"}])",
                         R"("instructions":"a")");
  ASSERT_EQ(all.size(), 3);
  EXPECT_EQ(all[0].content, "a\n\nb\n\nc");
  EXPECT_EQ(all[2].content, "d");
}

TEST(ResponsesRequest, WhatIsNotAnItemIsRefusedByItsPlace) {
  EXPECT_EQ(refused_field("{}"), "input");
  EXPECT_EQ(refused_field(body("null")), "input");
  EXPECT_EQ(refused_field(body("[]")), "input");
  EXPECT_EQ(refused_field(body("5")), "input");
  EXPECT_EQ(refused_field(body(R"(["x"])")), "input[0]");
  EXPECT_EQ(refused_field(body(R"([{"role":"king","content":"x"}])")), "input[0].role");
  EXPECT_EQ(refused_field(body(R"([{"role":"tool","content":"x"}])")), "input[0].role");
  EXPECT_EQ(refused_field(body(R"([{"role":"user","content":5}])")), "input[0].content");
  EXPECT_EQ(refused_field(body(R"([{"role":"user","content":[{"type":"input_file","file_id":"f"}]}])")),
            "input[0].content[0]");
  EXPECT_EQ(refused_field(body(R"([{"role":"user","content":[{"type":"input_audio"}]}])")),
            "input[0].content[0]");
  EXPECT_EQ(refused_field(body(R"([{"role":"user","content":[{"type":"input_image","file_id":"f"}]}])")),
            "input[0].content[0].file_id");
  EXPECT_EQ(refused_field(body(R"([{"type":"function_call","name":"f","arguments":"{}"}])")),
            "input[0].call_id");
  EXPECT_EQ(refused_field(body(R"([{"type":"function_call","call_id":"c","arguments":"{}"}])")),
            "input[0].name");
  EXPECT_EQ(refused_field(body(R"([{"type":"function_call_output","output":"x"}])")), "input[0].call_id");
  EXPECT_EQ(refused_field(body(R"([{"type":"function_call_output","call_id":"c","output":{}}])")),
            "input[0].output");
  EXPECT_EQ(refused_field(body(R"([{"type":"reasoning","summary":"x"}])")), "input[0].summary");
  EXPECT_EQ(refused_field(body(R"([{"type":"reasoning","content":[{"type":"text","text":"x"}]}])")),
            "input[0].content[0]");
  EXPECT_EQ(refused_field(body(R"([{"type":"reasoning","content":[5]}])")), "input[0].content[0]");
  for (const char* type : {"web_search_call", "computer_call", "custom_tool_call", "image_generation_call",
                           "local_shell_call", "mcp_call", "compaction"}) {
    EXPECT_EQ(refused_field(body(odmoe::format(R"([{{"type":"{}"}}])", type))), "input[0].type");
  }
}

TEST(ResponsesRequest, ThereAreNoMoreItemsThanMayBe) {
  std::string items;
  for (size_t i = 0; i < kMaxMessages; ++i) items += R"({"role":"user","content":"x"},)";
  EXPECT_EQ(refused_field(body("[" + items + R"({"role":"user","content":"x"}])")), "input");
  items.pop_back();
  EXPECT_EQ(turns("[" + items + "]").size(), kMaxMessages);
}

TEST(ResponsesRequest, EveryFieldIsHonoured) {
  const ResponsesRequest read = request(body(R"("x")", R"("model":"m","temperature":0.5,"top_p":0.9,"seed":4,
      "max_output_tokens":7,"stream":true,"parallel_tool_calls":false,
      "tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true},
               {"type":"function","name":"g","description":"d"}],
      "tool_choice":{"type":"function","name":"g"},
      "reasoning":{"effort":"none","summary":"auto"},
      "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}},
      "include":["message.output_text.logprobs","reasoning.encrypted_content","file_search_call.results"],
      "top_logprobs":3,"truncation":"disabled","metadata":{"a":"b"},"background":false,"max_tool_calls":3)"));
  const ChatRequest& chat = read.chat;
  EXPECT_EQ(chat.sampling.temperature, 0.5F);
  EXPECT_EQ(chat.sampling.top_p, 0.9F);
  EXPECT_EQ(chat.seed, 4);
  EXPECT_EQ(chat.max_tokens, 7);
  EXPECT_TRUE(chat.stream);
  EXPECT_FALSE(chat.parallel_tool_calls);
  ASSERT_EQ(chat.tools.size(), 2);
  EXPECT_TRUE(chat.tools[0].strict);
  EXPECT_FALSE(chat.tools[1].strict);
  EXPECT_EQ(chat.tool_choice.kind, ToolChoice::Kind::kNamed);
  EXPECT_EQ(chat.tool_choice.name, "g");
  EXPECT_EQ(chat.conversation.thinking, false);
  EXPECT_EQ(chat.form.kind, AnswerForm::Kind::kSchema);
  EXPECT_EQ(chat.form.param, "text.format.schema");
  EXPECT_EQ(chat.top_logprobs, 3);
  EXPECT_EQ(read.settings.top_logprobs, 3);
  EXPECT_TRUE(read.settings.encrypted && read.settings.summarize);
}

TEST(ResponsesRequest, ChoicesOfToolsAreTheChats) {
  const std::string tools = R"("tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}],)";
  const auto chosen = [&](const std::string& choice) {
    return request(body(R"("x")", tools + "\"tool_choice\":" + choice)).chat;
  };
  EXPECT_EQ(chosen("\"none\"").tool_choice.kind, ToolChoice::Kind::kNone);
  EXPECT_EQ(chosen("\"auto\"").tool_choice.kind, ToolChoice::Kind::kAuto);
  EXPECT_EQ(chosen("\"required\"").tool_choice.kind, ToolChoice::Kind::kRequired);
  const ChatRequest allowed =
      chosen(R"({"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"g"}]})");
  EXPECT_EQ(allowed.tool_choice.kind, ToolChoice::Kind::kRequired);
  ASSERT_EQ(allowed.tools.size(), 1);
  EXPECT_EQ(allowed.tools[0].name, "g");
  EXPECT_EQ(refused_field(body(R"("x")", tools + R"("tool_choice":{"type":"function","name":"h"})")),
            "tool_choice");
  EXPECT_EQ(refused_field(body(R"("x")", tools + R"("tool_choice":{"type":"file_search"})")), "tool_choice");
}

TEST(ResponsesRequest, WhatIsNotThereIsRefusedByName) {
  for (const char* type : {"web_search", "web_search_preview", "file_search", "computer_use_preview",
                           "code_interpreter", "image_generation", "mcp", "local_shell", "custom"}) {
    EXPECT_EQ(refused_field(body(R"("x")", odmoe::format(R"("tools":[{{"type":"{}","name":"n"}}])", type))),
              "tools[0].type");
  }
  EXPECT_EQ(refused_field(body(R"("x")", R"("tools":[{"type":"function","name":"a b"}])")), "tools[0].name");
  for (const auto& [member, param] : std::vector<std::pair<std::string, std::string>>{
           {R"("background":true)", "background"},
           {R"("conversation":"conv_1")", "conversation"},
           {R"("prompt":{"id":"p"})", "prompt"},
           {R"("messages":[{"role":"user","content":"x"}])", "messages"},
           {R"("context_management":[{"type":"compaction"}])", "context_management"},
           {R"("truncation":"auto")", "truncation"},
           {R"("n":2)", "n"},
           {R"("n":2,"best_of":2)", "n"},
           {R"("echo":true)", "echo"},
           {R"("logprobs":true)", "logprobs"},
           {R"("moderation":{"model":"m"})", "moderation"},
           {R"("continue_final_message":true)", "continue_final_message"},
           {R"("add_generation_prompt":false)", "add_generation_prompt"},
           {R"("text":{"verbosity":"low"})", "text.verbosity"},
           {R"("text":5)", "text"},
           {R"("text":{"format":5})", "text.format"},
           {R"("text":{"format":{"type":"grammar"}})", "text.format.type"},
           {R"("text":{"format":{"type":"json_schema"}})", "text.format.schema"},
           {R"("reasoning":{"summary":"concise"})", "reasoning.summary"},
           {R"("reasoning":5)", "reasoning"},
           {R"("include":"x")", "include"},
           {R"("include":["message.unknown"])", "include"},
           {R"("top_logprobs":21)", "top_logprobs"},
           {R"("metadata":[1])", "metadata"},
           {R"("metadata":{"a":1})", "metadata"},
           {R"("temperature":-1)", "temperature"},
           {R"("max_output_tokens":"x")", "max_output_tokens"},
           {R"("store":1)", "store"},
           {R"("store":true)", "store"},
           {R"("previous_response_id":"resp_x")", "previous_response_id"},
           {R"("verbosity":"low")", "verbosity"},
           {R"("max_tokens":5)", "max_tokens"},
           {R"("reasoning_effort":"low")", "reasoning_effort"},
           {R"("response_format":{"type":"json_object"})", "response_format"},
           {R"("guided_json":{})", "guided_json"},
           {R"("include_reasoning":false)", "include_reasoning"},
           {R"("cfg_scale":3)", "cfg_scale"},
           {R"("stop":5)", "stop"}}) {
    EXPECT_EQ(refused_field(body(R"("x")", member)), param) << member;
  }
}

TEST(ResponsesRequest, EveryRuleHoldsOfItsField) {
  for (const FieldRule& rule : responses_field_rules()) {
    if (rule.treatment == FieldRule::Treatment::kHonoured) continue;
    const std::string meant = odmoe::format(R"("{}":{{"a":1}})", rule.name);
    const bool refused = rule.treatment == FieldRule::Treatment::kRefused;
    EXPECT_EQ(refused_field(body(R"("x")", meant)), refused ? rule.name : "") << rule.name;
    EXPECT_EQ(refused_field(body(R"("x")", odmoe::format(R"("{}":null)", rule.name))), "") << rule.name;
    if (rule.off.empty()) continue;
    for (const Json& off : Json::parse(rule.off)) {
      EXPECT_EQ(refused_field(body(R"("x")", odmoe::format(R"("{}":{})", rule.name, off.dump()))), "")
          << rule.name;
    }
  }
}

TEST(ResponsesRequest, TheAnswerSaysAgainWhatWasAsked) {
  const Json plain = echo(body(R"("x")"));
  EXPECT_EQ(plain["temperature"], 1.0);
  EXPECT_EQ(plain["tools"], Json::array());
  EXPECT_EQ(plain["tool_choice"], "auto");
  EXPECT_EQ(plain["text"]["format"]["type"], "text");
  EXPECT_EQ(plain["metadata"], Json::object());
  EXPECT_EQ(plain["store"], false);
  EXPECT_EQ(plain["instructions"], nullptr);
  const Json full = echo(body(R"("x")", R"("instructions":"say \"x\"","temperature":0,"user":"u",
      "tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"tool_choice":"required",
      "reasoning":{"effort":"low","summary":"auto"},"metadata":{"k":"v"},"max_output_tokens":5)"));
  EXPECT_EQ(full["instructions"], "say \"x\"");
  EXPECT_EQ(full["temperature"], 0);
  EXPECT_EQ(full["tools"][0]["name"], "f");
  EXPECT_EQ(full["tools"][0]["strict"], false);
  EXPECT_EQ(full["tool_choice"], "required");
  EXPECT_EQ(full["reasoning"]["effort"], "low");
  EXPECT_EQ(full["reasoning"]["summary"], "detailed");
  EXPECT_EQ(full["metadata"]["k"], "v");
  EXPECT_EQ(full["max_output_tokens"], 5);
  EXPECT_EQ(full["user"], "u");
}

TEST(ResponsesRequest, AnEarlierResponseIsGoneOnFromWithoutItsInstructions) {
  const auto store = store_with({said("a", "", "1?", "1."), said("b", "resp_a", "2?", "2.")});
  const ResponsesRequest read =
      request(R"({"input":"3?","previous_response_id":"resp_b","instructions":"Now."})", store);
  const auto& all = read.chat.conversation.turns;
  ASSERT_EQ(all.size(), 6);
  EXPECT_EQ(all[0].content, "Now.");
  EXPECT_EQ(all[1].content, "1?");
  EXPECT_EQ(all[2].role, "assistant");
  EXPECT_EQ(all[2].content, "1.");
  EXPECT_EQ(all[4].content, "2.");
  EXPECT_EQ(all[5].content, "3?");
  EXPECT_EQ(read.settings.previous, "resp_b");
  EXPECT_NE(read.settings.hold, nullptr);
  EXPECT_EQ(request(R"({"input":[],"previous_response_id":"resp_b"})", store).chat.conversation.turns.size(),
            4)
      << "and nothing may be added";
  EXPECT_EQ(request(R"({"previous_response_id":"resp_b"})", store).chat.conversation.turns.size(), 4);
}

TEST(ResponsesRequest, AResponseThatIsNotThereIsToldByItsCode) {
  const auto store = store_with({said("a", "", "1?", "1.")});
  const auto missing = parse_request(R"({"input":"x","previous_response_id":"resp_z"})", store);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().status, 400);
  EXPECT_EQ(missing.error().code, "previous_response_not_found");
  EXPECT_EQ(missing.error().param, "previous_response_id");
  EXPECT_EQ(missing.error().message, "Previous response with id 'resp_z' not found.");
  RequestWork work;
  work.belongs_to("another");
  const auto other =
      parse_responses_request(R"({"input":"x","previous_response_id":"resp_a"})", kVocabSize, store, &work);
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, "previous_response_not_found");
}

TEST(ResponsesRequest, AReferenceIsTheItemThatWasKept) {
  const auto store = store_with({said("a", "", "1?", "1.")});
  const ResponsesRequest read = request(
      R"({"input":[{"type":"item_reference","id":"msg_a_i0"},{"id":"msg_a_0"},{"role":"user","content":"2?"}]})",
      store);
  const auto& all = read.chat.conversation.turns;
  ASSERT_EQ(all.size(), 3);
  EXPECT_EQ(all[0].content, "1?");
  EXPECT_EQ(all[1].content, "1.");
  ASSERT_EQ(read.settings.input.size(), 3);
  EXPECT_EQ(read.settings.input[1].id, "msg_a_0") << "what is kept is the item itself";
  EXPECT_THAT(read.settings.input[1].text, HasSubstr("\"1.\""));
  for (const char* id : {"msg_a_7", "msg_z_0", "msg", "_", "__", ""}) {
    const auto missing =
        parse_request(body(odmoe::format(R"([{{"type":"item_reference","id":"{}"}}])", id)), store);
    ASSERT_FALSE(missing.has_value());
    EXPECT_EQ(missing.error().param, "input[0].id");
  }
  EXPECT_EQ(refused_field(body(R"([{"type":"item_reference","id":"msg_a_0"}])")), "input[0].id");
}

TEST(ResponsesRequest, WhatIsKeptOfTheInputHasTypesAndParts) {
  const auto store = std::make_shared<ResponseStore>(1 << 20);
  const ResponsesRequest read = request(body(R"([{"role":"user","content":"a"},
      {"id":"msg_9","role":"assistant","content":"b"},
      {"type":"function_call","call_id":"c","name":"f","arguments":"{}"}])"),
                                        store);
  const auto& kept = read.settings.input;
  ASSERT_EQ(kept.size(), 3);
  EXPECT_EQ(kept[0].id, "");
  EXPECT_EQ(
      kept[0].text,
      R"({"type":"message","status":"completed","role":"user","content":[{"type":"input_text","text":"a"}]})");
  EXPECT_EQ(kept[1].id, "msg_9");
  EXPECT_THAT(kept[1].text, HasSubstr("output_text"));
  EXPECT_EQ(kept[2].text, R"({"type":"function_call","call_id":"c","name":"f","arguments":"{}"})");
  EXPECT_THAT(request(body(R"("x")", R"("store":false)"), store).settings.input, IsEmpty());
  EXPECT_EQ(request(body(R"("x")", R"("store":false)"), store).settings.store, nullptr);
}

TEST(ResponsesRequest, WhatIsReadStaysWithinTheMemoryOfTheRequest) {
  const auto account = std::make_shared<RequestMemory>(1 << 20);
  const std::string text = body(R"("x")", R"("tools":[{"type":"function","name":"f"}])");
  const auto store = store_with({said("a", "", std::string(100000, 'q'), "1.")});
  {
    RequestWork work(account, std::nullopt, nullptr, nullptr);
    const auto read = parse_responses_request(text, kVocabSize, store, &work);
    ASSERT_TRUE(read.has_value());
    EXPECT_GE(work.bytes(), read->settings.bytes());
    EXPECT_LE(work.bytes(), 20000);
    RequestWork more(account, std::nullopt, nullptr, nullptr);
    const auto long_one =
        parse_responses_request(R"({"input":"x","previous_response_id":"resp_a"})", kVocabSize, store, &more);
    ASSERT_TRUE(long_one.has_value());
    EXPECT_GE(more.bytes(), 100000) << "what it goes on from counts";
  }
  EXPECT_EQ(account->taken(), 0);
  const auto small = std::make_shared<RequestMemory>(64 << 10);
  RequestWork little(small, std::nullopt, nullptr, nullptr);
  const auto refused =
      parse_responses_request(R"({"input":"x","previous_response_id":"resp_a"})", kVocabSize, store, &little);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, 413);
}

TEST(ResponsesRequest, RubbishIsRefused) {
  for (const char* text : {"", "[]", "{", R"({"input":)", R"({"input":[{"type":["message"]}]})",
                           R"({"input":[{"type":"message","role":["user"]}]})",
                           R"({"input":[{"type":"reasoning","summary":[{"type":5}]}]})",
                           R"({"input":[{"type":"function_call","call_id":5}]})",
                           R"({"input":"x","instructions":[]})", R"({"input":"x","metadata":{"a":{}}})",
                           R"({"input":"x","reasoning":{"effort":5}})", R"({"input":"x","tools":{}})"}) {
    EXPECT_FALSE(parse_request(text).has_value()) << text;
  }
  EXPECT_EQ(turns(R"([{"role":"user","content":"\ud83d"}])")[0].content, "\xEF\xBF\xBD")
      << "half a character is one that is not known";
}

TEST(ResponsesRequest, MembersThatTheApiDoesNotHaveAreRefused) {
  const auto param = [](const char* more) {
    const auto store = std::make_shared<ResponseStore>(1 << 20);
    const auto request =
        parse_responses_request(odmoe::format(R"({{"input":"x",{}}})", more), kVocabSize, store);
    return request.has_value() ? std::string() : request.error().param;
  };
  EXPECT_EQ(param(R"("text":{"type":"json_schema","schema":{}})"), "text.type");
  EXPECT_EQ(param(R"("reasoning":{"effrt":"low"})"), "reasoning.effrt");
  EXPECT_EQ(param(R"("text":{"format":{"type":"text"}},"reasoning":{"effort":"low"})"), "");
}

}  // namespace
}  // namespace odmoe::server
