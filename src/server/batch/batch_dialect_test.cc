#include "server/batch/batch_dialect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "server/limits.h"
#include "server/routes.h"
#include "temp_dir.h"

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;

constexpr const char* kAsForm = "multipart/form-data; boundary=xyz";

std::string form_field(const std::string& name, const std::string& value) {
  return "--xyz\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n";
}
std::string form_file(const std::string& text, const std::string& name = "in.jsonl") {
  return "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\n" + text +
         "\r\n";
}

class BatchDialectTest : public ::testing::Test {
 protected:
  ApiResult<Json> ask(const std::string& method, const std::string& path, const std::string& body = "",
                      const std::multimap<std::string, std::string>& query = {},
                      const std::string& owner = "me") {
    const std::string canonical = routes_.canonical(path);
    const Route* route = routes_.find(canonical, method);
    if (route == nullptr) return std::unexpected(from_status(405));
    RequestWork work;
    const auto answer =
        dialect_->answer(*route, {.path = canonical,
                                  .body = route->takes_body ? body : "",
                                  .work = &work,
                                  .model_id = "demo",
                                  .owner = owner,
                                  .query = query,
                                  .content_type = kAsForm,
                                  .read_body = [&](size_t max_bytes, const auto& take) -> ApiStatus {
                                    if (body.size() > std::min(max_bytes, most_))
                                      return std::unexpected(from_status(413));
                                    return take(body);
                                  }});
    if (!answer.has_value()) return std::unexpected(answer.error());
    std::string text = answer->text;
    if (answer->write) {
      answer->write([&](std::string_view piece) {
        text += piece;
        return true;
      });
      EXPECT_EQ(answer->length, text.size());
      return Json(text);
    }
    return Json::parse(text);
  }
  ApiResult<Json> upload(const std::string& form) { return ask("POST", "/v1/files", form + "--xyz--\r\n"); }
  std::string file(const std::string& text = "x", const std::string& owner = "me") {
    return ask("POST", "/v1/files", form_field("purpose", "batch") + form_file(text) + "--xyz--", {}, owner)
        .value()["id"];
  }
  ApiResult<Json> create(Json body) {
    if (!body.contains("input_file_id")) body["input_file_id"] = file();
    if (!body.contains("endpoint")) body["endpoint"] = "/v1/chat/completions";
    if (!body.contains("completion_window")) body["completion_window"] = "24h";
    return ask("POST", "/v1/batches", body.dump());
  }

  size_t most_ = SIZE_MAX;  // that a body may have here
  odmoe::testing::TempDir dir_;
  int64_t now_ = 1000;
  std::shared_ptr<BatchStore> store_ =
      BatchStore::open({.directory = dir_ / "batches", .disk_bytes = kMiB}, [this] { return now_; }).value();
  std::shared_ptr<BatchDialect> dialect_ = std::make_shared<BatchDialect>(store_);
  RouteTable routes_{Dialects{dialect_}};
};

TEST_F(BatchDialectTest, FilesAreTakenShownAndDeleted) {
  const Json file = upload(form_file("{\"a\": 1}\n", "../in.jsonl") + form_field("purpose", "batch")).value();
  EXPECT_EQ(file["object"], "file");
  EXPECT_EQ(file["bytes"], 9);
  EXPECT_EQ(file["filename"], "in.jsonl");
  EXPECT_EQ(file["purpose"], "batch");
  EXPECT_EQ(file["created_at"], 1000);
  const std::string path = "/v1/files/" + file["id"].get<std::string>();
  EXPECT_EQ(ask("GET", path).value(), file);
  EXPECT_EQ(ask("GET", path + "/content").value(), "{\"a\": 1}\n");
  EXPECT_EQ(ask("GET", "/files").value()["data"], Json::array({file}));
  EXPECT_EQ(ask("GET", "/v1/files", "", {{"purpose", "batch_output"}}).value()["data"], Json::array());
  EXPECT_EQ(ask("DELETE", path).value().dump(),
            R"({"id":")" + file["id"].get<std::string>() + R"(","object":"file","deleted":true})");
  for (const char* method : {"GET", "DELETE"}) EXPECT_EQ(ask(method, path).error().status, 404);
  EXPECT_EQ(ask("GET", path + "/content").error().status, 404);
}

TEST_F(BatchDialectTest, WhatAFormLacksIsSaid) {
  const auto param = [&](const std::string& form) { return upload(form).error().param; };
  const std::string purpose = form_field("purpose", "batch");
  EXPECT_EQ(param(form_file("x")), "purpose");
  EXPECT_EQ(param(form_field("purpose", "fine-tune") + form_file("x")), "purpose");
  EXPECT_EQ(param(purpose), "file");
  EXPECT_EQ(param(purpose + form_file("x") + form_file("y")), "file");
  EXPECT_EQ(param(purpose + purpose + form_file("y")), "purpose");
  EXPECT_EQ(param(form_field("note", std::string(kMaxFormFieldBytes + 1, 'x'))), "note");
  EXPECT_EQ(param(purpose + form_file("x") + form_field("expires_after[seconds]", "7200")),
            "expires_after[anchor]");
  const std::string anchor = purpose + form_field("expires_after[anchor]", "created_at") + form_file("x");
  for (const char* wrong : {"10", "x", "", "99999999"}) {
    EXPECT_EQ(param(anchor + form_field("expires_after[seconds]", wrong)), "expires_after[seconds]") << wrong;
  }
  EXPECT_EQ(upload(anchor + form_field("expires_after[seconds]", "7200")).value()["expires_at"], 8200);
  EXPECT_EQ(ask("POST", "/v1/files", "junk").error().status, 400);
  EXPECT_EQ(ask("GET", "/v1/files").value()["data"].size(), 1U) << "nothing of the others is left";
}

TEST_F(BatchDialectTest, ADriveThatIsFullIsSaid) {
  const auto full = upload(form_field("purpose", "batch") + form_file(std::string(2 * kMiB, 'x')));
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().status, 413);
  EXPECT_EQ(full.error().code, "batch_disk_full");
}

TEST_F(BatchDialectTest, ABodyThatIsTooLargeIsAFileThatIs) {
  most_ = 100;
  const auto refused = upload(form_field("purpose", "batch") + form_file(std::string(100, 'x')));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, 413);
  EXPECT_EQ(refused.error().code, "file_too_large");
}

TEST_F(BatchDialectTest, ABatchIsMadeShownAndCancelled) {
  const Json batch = create({{"metadata", {{"k", "v"}}}, {"completion_window", "7d"}}).value();
  EXPECT_EQ(batch["object"], "batch");
  EXPECT_EQ(batch["status"], "validating");
  EXPECT_EQ(batch["endpoint"], "/v1/chat/completions");
  EXPECT_EQ(batch["model"], "demo");
  EXPECT_EQ(batch["created_at"], 1000);
  EXPECT_EQ(batch["expires_at"], 1000 + 7 * 86400);
  EXPECT_EQ(batch["metadata"]["k"], "v");
  EXPECT_EQ(batch["request_counts"]["total"], 0);
  const std::string path = "/v1/batches/" + batch["id"].get<std::string>();
  EXPECT_EQ(ask("GET", path).value(), batch);
  EXPECT_EQ(ask("GET", "/v1/batches").value()["data"], Json::array({batch}));
  EXPECT_EQ(ask("POST", path + "/cancel").value()["status"], "cancelled");
  EXPECT_EQ(ask("POST", path + "/cancel").error().status, 409);
  EXPECT_EQ(ask("POST", path + "/pause").error().status, 404);
  EXPECT_EQ(ask("DELETE", path).error().status, 405);
}

TEST_F(BatchDialectTest, WhatABatchLacksIsSaid) {
  const auto param = [&](const Json& body) { return create(body).error().param; };
  EXPECT_EQ(param({{"input_file_id", "file-none"}}), "input_file_id");
  EXPECT_EQ(param({{"input_file_id", "../../etc/passwd"}}), "input_file_id");
  EXPECT_EQ(param({{"input_file_id", nullptr}}), "input_file_id");
  EXPECT_EQ(param({{"input_file_id", 7}}), "input_file_id");
  EXPECT_EQ(param({{"input_file_id", file("x", "you")}}), "input_file_id") << "another's";
  EXPECT_EQ(param({{"endpoint", "/v1/embeddings"}}), "endpoint");
  for (const char* window : {"", "24", "h", "0h", "-1h", "24hours", "31d", "99999999999999999999h"}) {
    EXPECT_EQ(param({{"completion_window", window}}), "completion_window") << window;
  }
  EXPECT_EQ(param({{"metadata", {{"k", 7}}}}), "metadata");
  EXPECT_EQ(param({{"output_expires_after", {{"anchor", "now"}}}}), "output_expires_after.anchor");
  EXPECT_EQ(param({{"output_expires_after", {{"anchor", "created_at"}, {"seconds", 1}}}}),
            "output_expires_after.seconds");
  EXPECT_EQ(ask("POST", "/v1/batches", "[]").error().status, 400);
  EXPECT_EQ(ask("POST", "/v1/batches", "{").error().status, 400);
}

TEST_F(BatchDialectTest, BatchesComeByThePage) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(create(Json::object()).value()["id"]);
  const Json page = ask("GET", "/v1/batches", "", {{"limit", "2"}}).value();
  EXPECT_EQ(page["data"].size(), 2U);
  EXPECT_EQ(page["first_id"], ids[2]);
  EXPECT_EQ(page["last_id"], ids[1]);
  EXPECT_EQ(page["has_more"], true);
  EXPECT_EQ(ask("GET", "/v1/batches", "", {{"after", ids[1]}}).value()["first_id"], ids[0]);
  for (const char* wrong : {"0", "101", "x", ""}) {
    EXPECT_EQ(ask("GET", "/v1/batches", "", {{"limit", wrong}}).error().param, "limit") << wrong;
  }
  EXPECT_EQ(ask("GET", "/v1/files", "", {{"limit", "10000"}, {"order", "asc"}}).value()["data"].size(), 3U);
}

TEST_F(BatchDialectTest, NamesThatArePathsAreNames) {
  for (const char* name : {"..", "../lock", "%2e%2e%2flock", "file-x/../../lock", "content", "x/content"}) {
    EXPECT_EQ(ask("GET", std::string("/v1/files/") + name).error().status, 404) << name;
    EXPECT_EQ(ask("DELETE", std::string("/v1/files/") + name).error().status, 404) << name;
    EXPECT_EQ(ask("GET", std::string("/v1/batches/") + name).error().status, 404) << name;
    EXPECT_EQ(ask("POST", std::string("/v1/batches/") + name + "/cancel").error().status, 404) << name;
  }
}

TEST_F(BatchDialectTest, WithoutAFolderItSaysHowToHaveOne) {
  const BatchDialect none(nullptr);
  const auto refused = none.answer(none.routes().front(), {.path = "/v1/files"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, 404);
  EXPECT_THAT(refused.error().message, HasSubstr("--batch-dir"));
}

TEST(BatchWindow, IsANumberAndAUnit) {
  EXPECT_EQ(window_seconds("24h"), 86400);
  EXPECT_EQ(window_seconds("30d"), 30 * 86400);
  EXPECT_EQ(window_seconds("5m"), 300);
  for (const char* wrong : {"", "h", "24", "24s", "1.5h", " 24h", "31d"})
    EXPECT_EQ(window_seconds(wrong), 0) << wrong;
}

}  // namespace
}  // namespace odmoe::server
