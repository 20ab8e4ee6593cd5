// The events of an answer, in their order, and the answer as a whole.
#include "server/responses/responses_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "odmoe/format.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr AnswerUsage kUsage = {.prompt = 5, .generated = 9, .reused = 3, .thought = 4};

std::shared_ptr<ResponseSettings> settings_of(const std::string& more = "",
                                              const std::shared_ptr<ResponseStore>& store = nullptr) {
  const std::string body = R"({"input":"x")" + (more.empty() ? "" : "," + more) + "}";
  return std::make_shared<ResponseSettings>(parse_responses_request(body, 1000, store).value().settings);
}

std::unique_ptr<AnswerWriter> writer_of(std::shared_ptr<const ResponseSettings> settings) {
  return responses_writer({.id = "abc", .model = "demo", .created = 17}, std::move(settings));
}

AnswerEvent thought(const std::string& text) { return {.reasoning = text}; }
AnswerEvent content(const std::string& text) { return {.content = text}; }
AnswerEvent call_event(const std::string& id) {
  return {.calls = {{.id = id, .name = "f", .arguments = R"({"a":1})"}}};
}
AnswerEvent finish(AnswerFinish how = AnswerFinish::kStop) { return {.finish = how}; }

// The events of a stream.  Every one has its type twice and the next number.
class Stream {
 public:
  explicit Stream(const std::string& more = "") : writer_(writer_of(settings_of(more))) {
    writer_->begin({}, sink());
  }
  Stream& say(const std::vector<AnswerEvent>& events) {
    for (const AnswerEvent& event : events) EXPECT_TRUE(writer_->write(event, sink()));
    return *this;
  }
  std::vector<Json> end() {
    EXPECT_TRUE(writer_->end(kUsage, sink()));
    return events();
  }
  std::vector<Json> fail(const ApiError& error) {
    EXPECT_TRUE(writer_->fail(error, sink()));
    return events();
  }
  std::vector<Json> events() const {
    std::vector<Json> all;
    std::istringstream lines(text_);
    std::string line, name;
    while (std::getline(lines, line)) {
      if (line.starts_with("event: ")) name = line.substr(7);
      if (!line.starts_with("data: ")) continue;
      all.push_back(Json::parse(line.substr(6)));
      EXPECT_EQ(all.back()["type"], name);
      EXPECT_EQ(all.back()["sequence_number"], all.size() - 1);
    }
    return all;
  }

 private:
  BodySink sink() {
    return [this](std::string_view piece) {
      text_ += piece;
      return true;
    };
  }
  std::unique_ptr<AnswerWriter> writer_;
  std::string text_;
};

// "output_text.delta" of {"type": "response.output_text.delta"}.
std::vector<std::string> types_of(const std::vector<Json>& events) {
  std::vector<std::string> types;
  for (const Json& event : events) {
    const std::string type = event["type"];
    types.push_back(type.starts_with("response.") ? type.substr(9) : type);
  }
  return types;
}
Json last_of(const std::vector<Json>& events, const std::string& type) {
  Json found;
  for (const Json& event : events) {
    if (event["type"] == "response." + type) found = event;
  }
  return found;
}

Json whole_of(const AnswerChoice& choice, const std::string& more = "") {
  const auto writer = writer_of(settings_of(more));
  writer->complete({&choice, 1}, kUsage);
  std::string text;
  const auto write = [&] {
    text.clear();
    return writer->write_whole({&choice, 1}, kUsage, [&](std::string_view piece) {
      text += piece;
      return true;
    });
  };
  EXPECT_TRUE(write());
  const std::string first = text;
  EXPECT_TRUE(write());
  EXPECT_EQ(text, first);
  return Json::parse(text);
}

TEST(ResponsesWriter, AMessageIsToldFromItsBeginningToItsEnd) {
  const auto events = Stream().say({content("To "), content("be"), finish()}).end();
  EXPECT_THAT(types_of(events),
              ElementsAre("created", "in_progress", "output_item.added", "content_part.added",
                          "output_text.delta", "output_text.delta", "output_text.done", "content_part.done",
                          "output_item.done", "completed"));
  EXPECT_EQ(events[0]["response"]["status"], "in_progress");
  EXPECT_EQ(events[0]["response"]["output"], Json::array());
  EXPECT_EQ(events[0]["response"]["usage"], nullptr);
  EXPECT_EQ(events[2]["item"].dump(),
            R"({"id":"msg_abc_0","type":"message","status":"in_progress","content":[],"role":"assistant"})");
  EXPECT_EQ(
      events[3].dump(),
      R"({"type":"response.content_part.added","sequence_number":3,"item_id":"msg_abc_0","output_index":0,)"
      R"("content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}})");
  EXPECT_EQ(
      events[4].dump(),
      R"({"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_abc_0","output_index":0,)"
      R"("content_index":0,"delta":"To ","logprobs":[]})");
  EXPECT_EQ(events[6]["text"], "To be");
  EXPECT_EQ(events[7]["part"]["text"], "To be");
  EXPECT_EQ(events[8]["item"]["content"][0]["text"], "To be");
  EXPECT_EQ(events[8]["item"]["status"], "completed");
  const Json& response = events[9]["response"];
  EXPECT_EQ(response["id"], "resp_abc");
  EXPECT_EQ(response["object"], "response");
  EXPECT_EQ(response["created_at"], 17);
  EXPECT_EQ(response["model"], "demo");
  EXPECT_EQ(response["status"], "completed");
  EXPECT_EQ(response["error"], nullptr);
  EXPECT_EQ(response["incomplete_details"], nullptr);
  EXPECT_EQ(response["output"], Json::array({events[8]["item"]}));
  EXPECT_EQ(response["usage"].dump(),
            R"({"input_tokens":5,"input_tokens_details":{"cached_tokens":3},"output_tokens":9,)"
            R"("output_tokens_details":{"reasoning_tokens":4},"total_tokens":14})");
}

TEST(ResponsesWriter, AThoughtIsAnItemBeforeTheMessage) {
  const auto events = Stream().say({thought("Hm"), thought("m."), content("Yes."), finish()}).end();
  EXPECT_THAT(
      types_of(events),
      ElementsAre("created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta",
                  "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
                  "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
                  "content_part.done", "output_item.done", "completed"));
  EXPECT_EQ(events[2]["item"].dump(),
            R"({"id":"rs_abc_0","type":"reasoning","status":"in_progress","summary":[],"content":[]})");
  EXPECT_EQ(events[3]["part"].dump(), R"({"type":"reasoning_text","text":""})");
  EXPECT_EQ(events[8]["item"].dump(),
            R"({"id":"rs_abc_0","type":"reasoning","status":"completed","summary":[],)"
            R"("content":[{"type":"reasoning_text","text":"Hmm."}]})");
  EXPECT_EQ(events[9]["output_index"], 1);
  EXPECT_EQ(events[9]["item"]["id"], "msg_abc_1");
}

TEST(ResponsesWriter, ASummaryIsTheThoughtInItsOwnEvents) {
  const auto events = Stream(R"("reasoning":{"summary":"auto"},"include":["reasoning.encrypted_content"])")
                          .say({thought("Hmm."), content("Yes."), finish()})
                          .end();
  EXPECT_THAT(types_of(events),
              ElementsAre("created", "in_progress", "output_item.added", "reasoning_summary_part.added",
                          "reasoning_summary_text.delta", "reasoning_summary_text.done",
                          "reasoning_summary_part.done", "output_item.done", "output_item.added",
                          "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
                          "output_item.done", "completed"));
  EXPECT_EQ(events[4]["summary_index"], 0);
  EXPECT_FALSE(events[4].contains("content_index"));
  EXPECT_FALSE(events[2]["item"].contains("encrypted_content"));
  const Json& item = events[7]["item"];
  EXPECT_EQ(item["summary"].dump(), R"([{"type":"summary_text","text":"Hmm."}])");
  EXPECT_EQ(item["content"], Json::array());
  EXPECT_EQ(item["encrypted_content"], sealed_thought("Hmm."));
}

TEST(ResponsesWriter, CallsAreItemsOfTheirOwn) {
  const auto events = Stream().say({content("I look."), call_event("c1"), call_event("c2"), finish()}).end();
  EXPECT_THAT(
      types_of(events),
      ElementsAre("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
                  "output_text.done", "content_part.done", "output_item.done", "output_item.added",
                  "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
                  "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
                  "output_item.done", "completed"));
  EXPECT_EQ(events[8]["item"].dump(),
            R"({"id":"fc_abc_1","type":"function_call","status":"in_progress","arguments":"","call_id":"c1",)"
            R"("name":"f"})");
  EXPECT_EQ(events[9]["delta"], R"({"a":1})");
  EXPECT_EQ(events[10]["arguments"], R"({"a":1})");
  EXPECT_EQ(events[10]["item_id"], "fc_abc_1");
  EXPECT_EQ(events[11]["item"]["arguments"], R"({"a":1})");
  EXPECT_EQ(events[12]["output_index"], 2);
  EXPECT_EQ(events[12]["item"]["call_id"], "c2");
  EXPECT_EQ(events.back()["response"]["output"].size(), 3);
}

TEST(ResponsesWriter, WhatIsSaidBehindACallIsAnotherMessage) {
  const auto events =
      Stream()
          .say({content("a"), call_event("c1"), content("b"), thought("c"), content("d"), finish()})
          .end();
  const Json& output = events.back()["response"]["output"];
  ASSERT_EQ(output.size(), 5);
  EXPECT_EQ(output[0]["content"][0]["text"], "a");
  EXPECT_EQ(output[1]["type"], "function_call");
  EXPECT_EQ(output[2]["content"][0]["text"], "b");
  EXPECT_EQ(output[3]["content"][0]["text"], "c");
  EXPECT_EQ(output[4]["content"][0]["text"], "d");
  EXPECT_EQ(output[4]["id"], "msg_abc_4");
}

TEST(ResponsesWriter, AnAnswerThatWasCutOffIsIncomplete) {
  const auto events = Stream().say({thought("Hm"), finish(AnswerFinish::kLength)}).end();
  EXPECT_EQ(events.back()["type"], "response.incomplete");
  const Json& response = events.back()["response"];
  EXPECT_EQ(response["status"], "incomplete");
  EXPECT_EQ(response["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(response["output"][0]["status"], "incomplete");
  EXPECT_EQ(last_of(events, "output_item.done")["item"]["status"], "incomplete");
}

TEST(ResponsesWriter, WhatWasSaidBeforeAnAnswerWasCutOffIsComplete) {
  const auto events = Stream().say({thought("Hm"), content("Y"), finish(AnswerFinish::kLength)}).end();
  const Json& output = events.back()["response"]["output"];
  EXPECT_EQ(output[0]["status"], "completed");
  EXPECT_EQ(output[1]["status"], "incomplete");
}

TEST(ResponsesWriter, AnAnswerThatSaysNothingHasNoItems) {
  const auto events = Stream().say({finish()}).end();
  EXPECT_THAT(types_of(events), ElementsAre("created", "in_progress", "completed"));
  EXPECT_EQ(events.back()["response"]["output"], Json::array());
}

TEST(ResponsesWriter, WhatFailsIsAnErrorAndThenAFailedResponse) {
  const auto events =
      Stream()
          .say({content("To b")})
          .fail({.status = 504, .fault = Fault::kServer, .message = "it took too long", .code = "timeout"});
  EXPECT_THAT(types_of(events), ElementsAre("created", "in_progress", "output_item.added",
                                            "content_part.added", "output_text.delta", "error", "failed"));
  const Json& error = events[5];
  EXPECT_EQ(error["code"], "timeout");
  EXPECT_EQ(error["message"], "it took too long");
  EXPECT_EQ(error["param"], nullptr);
  EXPECT_EQ(error["error"]["message"], "it took too long");
  EXPECT_EQ(error["error"]["type"], "server_error");
  const Json& response = events[6]["response"];
  EXPECT_EQ(response["status"], "failed");
  EXPECT_EQ(response["error"].dump(), R"({"code":"server_error","message":"it took too long"})");
  EXPECT_EQ(response["output"][0]["status"], "incomplete");
  EXPECT_EQ(response["output"][0]["content"][0]["text"], "To b");
}

TEST(ResponsesWriter, AWholeIsTheResponseThatAStreamEndsWith) {
  const std::vector<AnswerEvent> said = {thought("Hm"), content("a\n"), call_event("c1"), content("\"b\""),
                                         finish(AnswerFinish::kLength)};
  AnswerChoice choice;
  for (const AnswerEvent& event : said) append(choice, event);
  const std::string more = R"("instructions":"i","metadata":{"a":"b"})";
  EXPECT_EQ(whole_of(choice, more), Stream(more).say(said).end().back()["response"]);
}

TEST(ResponsesWriter, AStreamEndsWhereItsClientTakesNothing) {
  const auto writer = writer_of(settings_of());
  int pieces = 0;
  const BodySink none = [&](std::string_view) { return ++pieces < 3; };
  EXPECT_FALSE(writer->begin({}, none));
  EXPECT_FALSE(writer->write(content("x"), none));
  EXPECT_FALSE(writer->end(kUsage, none));
  EXPECT_FALSE(writer->fail({}, none));
}

TEST(ResponsesWriter, AnAnswerIsKeptOnceWithIdsForItsInput) {
  const auto store = std::make_shared<ResponseStore>(1 << 20);
  const auto writer = writer_of(settings_of(R"("metadata":{"a":"b"})", store));
  AnswerChoice choice;
  append(choice, content("Yes."));
  EXPECT_EQ(store->size(), 0);
  writer->complete({&choice, 1}, kUsage);
  const SharedResponse kept = store->find("resp_abc", "");
  ASSERT_NE(kept, nullptr);
  ASSERT_EQ(kept->input.size(), 1);
  EXPECT_EQ(kept->input[0].id, "msg_abc_i0");
  EXPECT_EQ(Json::parse(kept->input[0].text)["id"], "msg_abc_i0");
  ASSERT_EQ(kept->output.size(), 1);
  const Json whole = Json::parse(kept->head + kept->output[0].text + kept->tail);
  EXPECT_EQ(whole["status"], "completed");
  EXPECT_EQ(whole["output"][0]["content"][0]["text"], "Yes.");
  EXPECT_EQ(whole["metadata"]["a"], "b");
  EXPECT_EQ(whole["store"], true);
}

TEST(ResponsesWriter, AStreamIsKeptWhenItEndsAndNotWhenItFails) {
  const auto store = std::make_shared<ResponseStore>(1 << 20);
  const BodySink all = [](std::string_view) { return true; };
  {
    const auto writer = writer_of(settings_of("", store));
    writer->begin({}, all);
    writer->write(content("Y"), all);
    writer->fail({}, all);
    EXPECT_EQ(store->size(), 0);
  }
  const auto writer = writer_of(settings_of("", store));
  writer->begin({}, all);
  writer->write(content("Yes."), all);
  writer->write(finish(), all);
  writer->end(kUsage, all);
  EXPECT_EQ(store->size(), 1);
}

TEST(AnswerParts, TokensBelongToWhatIsSaidWithThemOrNext) {
  const auto token = [](Token id) { return GeneratedToken{.token = id}; };
  AnswerChoice choice;
  append(choice, {.tokens = {token(1)}});  // a mark
  append(choice, {.reasoning = "a", .tokens = {token(2)}});
  append(choice, {.tokens = {token(3)}});  // a mark
  append(choice, {.reasoning = "b", .content = "c", .tokens = {token(4)}});
  append(choice, {.tokens = {token(5)}, .finish = AnswerFinish::kStop});
  ASSERT_EQ(choice.order.size(), 2);
  EXPECT_EQ(choice.order[0].end, 2);
  EXPECT_EQ(choice.order[0].tokens_end, 3);
  EXPECT_EQ(choice.order[1].end, 1);
  EXPECT_EQ(choice.order[1].tokens_end, 4);
  EXPECT_EQ(choice.tokens.size(), 5);
}

}  // namespace
}  // namespace odmoe::server
