// Responses that were kept, as their addresses answer.
#include "server/responses/responses_dialect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/format.h"
#include "server/json_guard.h"
#include "server/limits.h"
#include "server/routes.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ResponsesDialectTest : public ::testing::Test {
 protected:
  // The answer to it is this; the response is kept.
  void respond(const std::string& id, const std::string& body, const std::string& answer,
               const std::string& owner = "") {
    RequestWork work;
    work.belongs_to(owner);
    const Route* route = routes_.find("/v1/responses", "POST");
    auto parsed = dialect_->parse(*route, body, 1000, work);
    ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
    const auto writer = parsed->writer({.id = id, .model = "demo"});
    AnswerChoice choice;
    append(choice, {.content = answer, .finish = AnswerFinish::kStop});
    writer->complete({&choice, 1}, {});
  }

  ApiResult<Json> ask(const char* method, const std::string& path,
                      const std::multimap<std::string, std::string>& query = {},
                      const std::string& owner = "") {
    const Route* route = routes_.find(path, method);
    if (route == nullptr) return std::unexpected(ApiError{.status = 405});
    auto body = dialect_->answer(*route, {.path = path, .owner = owner, .query = query});
    if (!body.has_value()) return std::unexpected(body.error());
    std::string text = body->text;
    if (body->write) {
      body->write([&](std::string_view piece) {
        text += piece;
        return true;
      });
    }
    return Json::parse(text);
  }
  int status(const char* method, const std::string& path,
             const std::multimap<std::string, std::string>& query = {}, const std::string& owner = "") {
    const auto answer = ask(method, path, query, owner);
    return answer.has_value() ? 200 : answer.error().status;
  }
  std::vector<std::string> listed(const std::multimap<std::string, std::string>& query) {
    std::vector<std::string> ids;
    const Json list = ask("GET", "/v1/responses/resp_b/input_items", query).value();
    for (const Json& item : list["data"]) ids.push_back(item["id"]);
    return ids;
  }
  void hold_conversation() {
    respond("a", R"({"input":[{"role":"user","content":"1?"},{"role":"user","content":"2?"}]})", "1.");
    respond("b", R"({"input":"3?","previous_response_id":"resp_a"})", "2.");
  }

  std::shared_ptr<ResponsesDialect> dialect_ = std::make_shared<ResponsesDialect>(1 << 20);
  RouteTable routes_{Dialects{dialect_}};
};

TEST_F(ResponsesDialectTest, AResponseComesAgainUntilItIsDeleted) {
  respond("a", R"({"input":"x","metadata":{"k":"v"}})", "Yes.");
  const Json kept = ask("GET", "/v1/responses/resp_a").value();
  EXPECT_EQ(kept["id"], "resp_a");
  EXPECT_EQ(kept["object"], "response");
  EXPECT_EQ(kept["output"][0]["content"][0]["text"], "Yes.");
  EXPECT_EQ(kept["metadata"]["k"], "v");
  EXPECT_EQ(ask("DELETE", "/v1/responses/resp_a").value().dump(),
            R"({"id":"resp_a","object":"response","deleted":true})");
  const auto gone = ask("GET", "/v1/responses/resp_a");
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().status, 404);
  EXPECT_EQ(gone.error().message, "Response with id 'resp_a' not found.");
  EXPECT_EQ(status("DELETE", "/v1/responses/resp_a"), 404);
  EXPECT_EQ(status("GET", "/v1/responses/resp_a/input_items"), 404);
}

TEST_F(ResponsesDialectTest, WhatIsNotToBeKeptIsNot) {
  respond("a", R"({"input":"x","store":false})", "Yes.");
  EXPECT_EQ(status("GET", "/v1/responses/resp_a"), 404);
}

TEST_F(ResponsesDialectTest, NobodySeesAnothersResponses) {
  respond("a", R"({"input":"x"})", "Yes.", "me");
  EXPECT_EQ(status("GET", "/v1/responses/resp_a", {}, "me"), 200);
  for (const char* path : {"/v1/responses/resp_a", "/v1/responses/resp_a/input_items"}) {
    EXPECT_EQ(status("GET", path, {}, "you"), 404) << path;
  }
  EXPECT_EQ(status("DELETE", "/v1/responses/resp_a", {}, "you"), 404);
  EXPECT_EQ(status("POST", "/v1/responses/resp_a/cancel", {}, "you"), 404);
}

TEST_F(ResponsesDialectTest, InputItemsAreAllThatItWasMadeOfTheLatestFirst) {
  hold_conversation();
  const Json list = ask("GET", "/v1/responses/resp_b/input_items").value();
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["has_more"], false);
  EXPECT_EQ(list["first_id"], "msg_b_i0");
  EXPECT_EQ(list["last_id"], "msg_a_i0");
  EXPECT_EQ(list["data"][0]["content"][0]["text"], "3?");
  EXPECT_THAT(listed({}), ElementsAre("msg_b_i0", "msg_a_0", "msg_a_i1", "msg_a_i0"));
  EXPECT_THAT(listed({{"order", "asc"}}), ElementsAre("msg_a_i0", "msg_a_i1", "msg_a_0", "msg_b_i0"));
}

TEST_F(ResponsesDialectTest, InputItemsComeByThePage) {
  hold_conversation();
  EXPECT_THAT(listed({{"limit", "2"}}), ElementsAre("msg_b_i0", "msg_a_0"));
  EXPECT_TRUE(ask("GET", "/v1/responses/resp_b/input_items", {{"limit", "2"}}).value()["has_more"]);
  EXPECT_THAT(listed({{"limit", "2"}, {"after", "msg_a_0"}}), ElementsAre("msg_a_i1", "msg_a_i0"));
  EXPECT_THAT(listed({{"before", "msg_a_i1"}, {"order", "asc"}}), ElementsAre("msg_a_i0"));
  EXPECT_THAT(listed({{"after", "msg_a_i0"}}), ElementsAre());
  const std::string path = "/v1/responses/resp_b/input_items";
  for (const auto& [name, value] : std::map<std::string, std::vector<std::string>>{
           {"limit", {"0", "101", "-1", "x", "", "1x"}}, {"order", {"up", ""}}, {"after", {"msg_z"}}}) {
    for (const std::string& wrong : value) {
      const auto refused = ask("GET", path, {{name, wrong}});
      ASSERT_FALSE(refused.has_value()) << name << "=" << wrong;
      EXPECT_EQ(refused.error().status, 400);
      EXPECT_EQ(refused.error().param, name);
    }
  }
}

TEST_F(ResponsesDialectTest, WhatOnlyBackgroundHasIsRefused) {
  respond("a", R"({"input":"x"})", "Yes.");
  const auto cancel = ask("POST", "/v1/responses/resp_a/cancel");
  ASSERT_FALSE(cancel.has_value());
  EXPECT_EQ(cancel.error().status, 400);
  EXPECT_THAT(cancel.error().message, HasSubstr("Cannot cancel a synchronous response"));
  EXPECT_EQ(status("GET", "/v1/responses/resp_a", {{"stream", "true"}}), 400);
  EXPECT_EQ(status("GET", "/v1/responses/resp_a", {{"stream", "false"}}), 200);
  EXPECT_EQ(status("POST", "/v1/responses/compact"), 404);
  EXPECT_EQ(status("GET", "/v1/responses"), 405);
}

TEST_F(ResponsesDialectTest, MethodsAreToldOfEachAddress) {
  EXPECT_EQ(routes_.allowed_methods("/v1/responses"), "POST, OPTIONS");
  EXPECT_EQ(routes_.allowed_methods("/v1/responses/resp_a"), "GET, HEAD, POST, DELETE, OPTIONS");
  EXPECT_EQ(routes_.canonical("/responses/resp_a/input_items"), "/v1/responses/resp_a/input_items");
  EXPECT_EQ(routes_.label("/v1/responses/resp_a"), "/v1/responses");
}

TEST_F(ResponsesDialectTest, ErrorsHaveOpenAisShape) {
  const Json error = Json::parse(
      dialect_->error({.status = 400, .fault = Fault::kRequest, .message = "m", .param = "p", .code = "c"})
          .text);
  EXPECT_EQ(error.dump(),
            R"({"error":{"message":"m","type":"invalid_request_error","param":"p","code":"c"}})");
}

}  // namespace
}  // namespace odmoe::server
