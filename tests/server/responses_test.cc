// /v1/responses as clients see it: over sockets, with the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "odmoe/format.h"
#include "server/server_process.h"

namespace odmoe::testing::responses_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

const Json kWeather = {{"type", "function"},
                       {"name", "get_weather"},
                       {"parameters",
                        {{"type", "object"},
                         {"properties", {{"city", {{"enum", {"Verona", "Venice"}}}}}},
                         {"required", {"city"}},
                         {"additionalProperties", false}}}};

class ResponsesClient {
 public:
  explicit ResponsesClient(const ServerProcess& server, const std::string& key = "")
      : client_("127.0.0.1", server.port()) {
    client_.set_read_timeout(60);
    if (!key.empty()) client_.set_bearer_token_auth(key);
  }
  Json create(const Json& body, int status = 200) {
    const auto answer = client_.Post("/v1/responses", body.dump(), "application/json");
    EXPECT_TRUE(answer);
    if (!answer) return {};
    EXPECT_EQ(answer->status, status) << answer->body;
    return Json::parse(answer->body);
  }
  Json get(const std::string& path, int status = 200) {
    const auto answer = client_.Get(path);
    EXPECT_TRUE(answer && answer->status == status) << path << (answer ? answer->body : "");
    return answer ? Json::parse(answer->body) : Json();
  }
  Json remove(const std::string& id, int status = 200) {
    const auto answer = client_.Delete("/v1/responses/" + id);
    EXPECT_TRUE(answer && answer->status == status) << (answer ? answer->body : "");
    return answer ? Json::parse(answer->body) : Json();
  }
  // The events of a stream, whose names and numbers must be right.
  std::vector<Json> stream(Json body) {
    body["stream"] = true;
    const auto answer = client_.Post("/v1/responses", body.dump(), "application/json");
    EXPECT_TRUE(answer && answer->status == 200) << (answer ? answer->body : "");
    if (!answer) return {};
    EXPECT_EQ(answer->get_header_value("Content-Type"), "text/event-stream");
    std::vector<Json> events;
    std::istringstream lines(answer->body);
    std::string line, name;
    while (std::getline(lines, line)) {
      if (line.starts_with("event: ")) name = line.substr(7);
      if (!line.starts_with("data: ")) continue;
      events.push_back(Json::parse(line.substr(6)));
      EXPECT_EQ(events.back()["type"], name);
      EXPECT_EQ(events.back()["sequence_number"], events.size() - 1);
    }
    return events;
  }

 private:
  httplib::Client client_;
};

std::string text_of(const Json& response) {
  std::string text;
  for (const Json& item : response["output"]) {
    if (item["type"] != "message") continue;
    for (const Json& part : item["content"]) text += part["text"].get<std::string>();
  }
  return text;
}

// Without what is new each time.
Json comparable(Json response) {
  for (const char* name : {"id", "created_at", "usage"}) response.erase(name);
  for (Json& item : response["output"]) {
    item.erase("id");
    item.erase("call_id");
  }
  return response;
}

TEST(Responses, AStreamIsTheWholeInEvents) {
  const ServerProcess server({"--chunk", "2"});
  ResponsesClient client(server);
  const Json body = {{"input", "Who are you?"}, {"temperature", 0}, {"max_output_tokens", 12}};
  const Json whole = client.create(body);
  EXPECT_EQ(whole["object"], "response");
  EXPECT_EQ(whole["status"], "incomplete");
  EXPECT_EQ(whole["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(whole["model"], "demo");
  EXPECT_EQ(whole["usage"]["output_tokens"], 12);
  EXPECT_EQ(whole["usage"]["output_tokens_details"]["reasoning_tokens"], 0);
  EXPECT_NE(text_of(whole), "");
  const auto events = client.stream(body);
  std::string text;
  int pieces = 0;
  for (const Json& event : events) {
    if (event["type"] != "response.output_text.delta") continue;
    text += event["delta"].get<std::string>();
    ++pieces;
  }
  EXPECT_EQ(text, text_of(whole));
  EXPECT_GT(pieces, 3);
  EXPECT_EQ(events.back()["type"], "response.incomplete");
  EXPECT_EQ(comparable(events.back()["response"]), comparable(whole));
  EXPECT_GT(events.back()["response"]["usage"]["input_tokens_details"]["cached_tokens"].get<int>(), 0);
}

TEST(Responses, AConversationGoesOnFromTheResponseBefore) {
  const ServerProcess server({});
  ResponsesClient client(server);
  const Json first = client.create(
      {{"input", "Who are you?"}, {"instructions", "Speak."}, {"temperature", 0}, {"max_output_tokens", 6}});
  const std::string id = first["id"];
  const Json second = client.create(
      {{"input", "And then?"}, {"previous_response_id", id}, {"temperature", 0}, {"max_output_tokens", 6}});
  EXPECT_EQ(second["previous_response_id"], id);
  // The same conversation, told as messages.
  const Json told = client.create({{"input",
                                    {{{"role", "user"}, {"content", "Who are you?"}},
                                     first["output"][0],
                                     {{"role", "user"}, {"content", "And then?"}}}},
                                   {"temperature", 0},
                                   {"max_output_tokens", 6},
                                   {"store", false}});
  EXPECT_EQ(second["usage"]["input_tokens"], told["usage"]["input_tokens"]);
  EXPECT_EQ(text_of(second), text_of(told));

  EXPECT_EQ(client.get("/v1/responses/" + id), first);
  const Json items =
      client.get("/v1/responses/" + second["id"].get<std::string>() + "/input_items?order=asc");
  ASSERT_EQ(items["data"].size(), 3);
  EXPECT_EQ(items["data"][0]["content"][0]["text"], "Who are you?");
  EXPECT_EQ(items["data"][1]["id"], first["output"][0]["id"]);
  EXPECT_EQ(items["data"][2]["content"][0]["text"], "And then?");
  client.get("/v1/responses/" + told["id"].get<std::string>(), 404);

  EXPECT_EQ(client.remove(id)["deleted"], true);
  client.remove(id, 404);
  const Json gone = client.create({{"input", "x"}, {"previous_response_id", id}}, 400);
  EXPECT_EQ(gone["error"]["code"], "previous_response_not_found");
  EXPECT_EQ(gone["error"]["param"], "previous_response_id");
  EXPECT_EQ(client.create({{"input", "x"},
                           {"previous_response_id", second["id"]},
                           {"max_output_tokens", 1}})["previous_response_id"],
            second["id"])
      << "what goes on from it keeps it";
}

TEST(Responses, CallsComeWholeAndTheirResultsGoBack) {
  const ServerProcess server({});
  ResponsesClient client(server);
  const Json body = {{"input", "Weather?"},          {"tools", {kWeather}},      {"tool_choice", "required"},
                     {"parallel_tool_calls", false}, {"max_output_tokens", 200}, {"seed", 3}};
  const Json whole = client.create(body);
  EXPECT_EQ(whole["status"], "completed");
  ASSERT_EQ(whole["output"].size(), 1) << whole;
  const Json& call = whole["output"][0];
  EXPECT_EQ(call["type"], "function_call");
  EXPECT_EQ(call["name"], "get_weather");
  EXPECT_TRUE(Json::parse(call["arguments"].get<std::string>()).contains("city"));
  const auto events = client.stream(body);
  std::vector<std::string> types;
  for (const Json& event : events) types.push_back(event["type"]);
  EXPECT_THAT(types,
              ElementsAre("response.created", "response.in_progress", "response.output_item.added",
                          "response.function_call_arguments.delta", "response.function_call_arguments.done",
                          "response.output_item.done", "response.completed"));
  EXPECT_EQ(comparable(events.back()["response"]), comparable(whole));
  const Json after = client.create(
      {{"input", {{{"type", "function_call_output"}, {"call_id", call["call_id"]}, {"output", "Rain."}}}},
       {"previous_response_id", whole["id"]},
       {"tools", {kWeather}},
       {"max_output_tokens", 3}});
  EXPECT_GT(after["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
}

TEST(Responses, AFormIsHeld) {
  const ServerProcess server({});
  ResponsesClient client(server);
  const Json schema = {{"type", "object"},
                       {"properties", {{"kind", {{"enum", {"king", "queen"}}}}}},
                       {"required", {"kind"}},
                       {"additionalProperties", false}};
  const Json answer = client.create(
      {{"input", "Who?"},
       {"seed", 1},
       {"max_output_tokens", 200},
       {"text",
        {{"format", {{"type", "json_schema"}, {"name", "k"}, {"schema", schema}, {"strict", true}}}}}});
  EXPECT_TRUE(Json::parse(text_of(answer)).contains("kind"));
  EXPECT_EQ(answer["text"]["format"]["schema"], schema);
  const Json refused = client.create(
      {{"input", "Who?"},
       {"text",
        {{"format", {{"type", "json_schema"}, {"schema", {{"type", "string"}, {"pattern", "(a)\\1"}}}}}}}},
      400);
  EXPECT_EQ(refused["error"]["param"], "text.format.schema");
}

TEST(Responses, ProbabilitiesComeWhereTheyAreAskedFor) {
  const ServerProcess server({});
  ResponsesClient client(server);
  const Json body = {{"input", "Who are you?"},
                     {"temperature", 0},
                     {"max_output_tokens", 5},
                     {"top_logprobs", 2},
                     {"include", {"message.output_text.logprobs"}}};
  const Json part = client.create(body)["output"][0]["content"][0];
  ASSERT_EQ(part["logprobs"].size(), 5) << part;
  std::string text;
  for (const Json& one : part["logprobs"]) {
    text += one["token"].get<std::string>();
    EXPECT_LE(one["logprob"].get<double>(), 0);
    EXPECT_EQ(one["top_logprobs"].size(), 2);
  }
  EXPECT_EQ(text, part["text"].get<std::string>());
  const auto events = client.stream(body);
  EXPECT_EQ(events.back()["response"]["output"][0]["content"][0]["logprobs"], part["logprobs"]);
  size_t n = 0;
  for (const Json& event : events) {
    if (event["type"] == "response.output_text.delta") n += event["logprobs"].size();
  }
  EXPECT_EQ(n, 5);
}

TEST(Responses, TheStoreCanBeSwitchedOff) {
  const ServerProcess server({"--response-store", "0"});
  ResponsesClient client(server);
  const Json answer = client.create({{"input", "x"}, {"max_output_tokens", 1}});
  EXPECT_EQ(answer["store"], false);
  client.get("/v1/responses/" + answer["id"].get<std::string>(), 404);
  EXPECT_EQ(client.create({{"input", "x"}, {"store", true}}, 400)["error"]["param"], "store");
  EXPECT_EQ(client.create({{"input", "x"}, {"previous_response_id", answer["id"]}}, 400)["error"]["code"],
            "previous_response_not_found");
}

TEST(Responses, AKeySeesItsOwnAlsoWherePromptsAreShared) {
  const ServerProcess server({"--api-key", "alpha", "--api-key", "beta", "--share-prompts"});
  ResponsesClient alpha(server, "alpha"), beta(server, "beta");
  const Json answer = alpha.create({{"input", "x"}, {"max_output_tokens", 1}});
  const std::string id = answer["id"];
  alpha.get("/v1/responses/" + id);
  beta.get("/v1/responses/" + id, 404);
  beta.remove(id, 404);
  EXPECT_EQ(beta.create({{"input", "x"}, {"previous_response_id", id}}, 400)["error"]["code"],
            "previous_response_not_found");
  ResponsesClient nobody(server);
  nobody.get("/v1/responses/" + id, 401);
}

TEST(Responses, ErrorsAreOpenAis) {
  const ServerProcess server({"--context", "512", "--timeout", "1"});
  ResponsesClient client(server);
  EXPECT_EQ(client.create({{"input", "x"}, {"background", true}}, 400)["error"]["param"], "background");
  std::string long_text;
  for (int i = 0; i < 2000; ++i) long_text += "long ";
  EXPECT_EQ(client.create({{"input", long_text}}, 400)["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(client.create(
                {{"input",
                  {{{"role", "user"},
                    {"content", {{{"type", "input_image"}, {"image_url", "data:image/png;base64,aGk="}}}}}}}},
                400)["error"]["type"],
            "invalid_request_error");
  const auto check_405 = [&](const char* path, const char* allowed) {
    httplib::Client plain("127.0.0.1", server.port());
    const auto answer = plain.Put(path, "{}", "application/json");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 405);
    EXPECT_EQ(answer->get_header_value("Allow"), allowed);
  };
  check_405("/v1/responses", "POST, OPTIONS");
  check_405("/v1/responses/resp_x", "GET, HEAD, POST, DELETE, OPTIONS");
}

TEST(Responses, AFailureInAStreamIsAnErrorAndAFailedResponse) {
  const ServerProcess server({"--context", "32768", "--timeout", "1"});
  ResponsesClient client(server);
  const auto events =
      client.stream({{"input", "Speak."}, {"max_output_tokens", 30000}, {"ignore_eos", true}});
  ASSERT_GE(events.size(), 4);
  const Json& error = events[events.size() - 2];
  EXPECT_EQ(error["type"], "error");
  EXPECT_EQ(error["code"], "timeout");
  EXPECT_EQ(events.back()["type"], "response.failed");
  const Json& response = events.back()["response"];
  EXPECT_EQ(response["status"], "failed");
  EXPECT_THAT(response["error"]["message"].get<std::string>(), HasSubstr("--timeout"));
  client.get("/v1/responses/" + response["id"].get<std::string>(), 404);
}

}  // namespace
}  // namespace odmoe::testing::responses_test
