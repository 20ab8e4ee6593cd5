// /v1/files and /v1/batches of a server: whole, killed, cancelled, in company, of several keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "deadline.h"
#include "odmoe/format.h"
#include "server/server_process.h"
#include "temp_dir.h"

namespace odmoe::testing::batches_test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::string line(const std::string& custom_id, Json body, const char* url = "/v1/chat/completions") {
  return Json{{"custom_id", custom_id}, {"method", "POST"}, {"url", url}, {"body", std::move(body)}}.dump() +
         "\n";
}

Json body_of(int i, int tokens) {
  std::string said = "Tell me of the king";
  for (int k = 0; k < i % 5; ++k) said += odmoe::format(" and of number {}", i + k);
  return {{"messages", Json::array({Json{{"role", "user"}, {"content", said}}})},
          {"temperature", 0},
          {"max_tokens", tokens},
          {"ignore_eos", true}};
}

std::string requests(int n, int tokens) {
  std::string text;
  for (int i = 0; i < n; ++i) text += line(odmoe::format("r{}", i), body_of(i, tokens));
  return text;
}

// What each request was answered, by custom_id.
std::map<std::string, std::string> said_in(const std::string& output) {
  std::map<std::string, std::string> said;
  std::istringstream lines(output);
  for (std::string text; std::getline(lines, text);) {
    const Json answer = Json::parse(text);
    EXPECT_TRUE(answer["error"].is_null());
    EXPECT_EQ(answer["response"]["status_code"], 200);
    said[answer["custom_id"]] = answer["response"]["body"]["choices"][0]["message"]["content"];
  }
  return said;
}

class Batches : public ::testing::Test {
 protected:
  void start(const std::vector<std::string>& more = {}) {
    std::vector<std::string> options = {"--batch-dir", (dir_ / "batches").string(),
                                        "--context",   "1024",
                                        "--threads",   "1",
                                        "--memory",    "50%",
                                        "--chunk",     "64"};
    options.insert(options.end(), more.begin(), more.end());
    server_ = std::make_unique<ServerProcess>(std::move(options));
  }
  Json ask(const char* method, const std::string& path, const std::string& body = "", int status = 200,
           const char* type = "application/json") {
    httplib::Client client("127.0.0.1", server_->port());
    client.set_read_timeout(120);
    httplib::Headers headers;
    if (!key_.empty()) headers.emplace("Authorization", "Bearer " + key_);
    httplib::Request request;
    request.method = method;
    request.path = path;
    request.headers = headers;
    request.body = body;
    if (!body.empty()) request.set_header("Content-Type", type);
    const auto answer = client.send(request);
    EXPECT_TRUE(answer && answer->status == status)
        << method << " " << path << ": " << (answer ? answer->body : "none");
    if (!answer) return {};
    const Json json = Json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
    return json.is_discarded() || path.ends_with("/content") ? Json(answer->body) : json;
  }
  Json upload(const std::string& text, int status = 200) {
    return ask("POST", "/v1/files",
               "--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
               "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n" +
                   text + "\r\n--xyz--\r\n",
               status, "multipart/form-data; boundary=xyz");
  }
  std::string begin(const std::string& text, const Json& more = Json::object()) {
    Json body = {{"input_file_id", upload(text)["id"]},
                 {"endpoint", "/v1/chat/completions"},
                 {"completion_window", "24h"}};
    body.update(more);
    return ask("POST", "/v1/batches", body.dump())["id"];
  }
  Json batch(const std::string& id) { return ask("GET", "/v1/batches/" + id); }
  Json until(const std::string& id, const std::function<bool(const Json&)>& done) {
    const auto limit = std::chrono::steady_clock::now() + kDeadline;
    Json now = batch(id);
    while (!done(now) && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      now = batch(id);
    }
    EXPECT_TRUE(done(now)) << now;
    return now;
  }
  static bool is_over(const Json& now) {
    return now["completed_at"].is_number() || now["failed_at"].is_number() ||
           now["cancelled_at"].is_number() || now["expired_at"].is_number();
  }
  Json until_over(const std::string& id) { return until(id, is_over); }
  // Of all that is in the folder.
  uintmax_t bytes_on_drive() const {
    uintmax_t bytes = 0;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator entry(dir_ / "batches", error), end;
         !error && entry != end; entry.increment(error)) {
      std::error_code gone;
      const uintmax_t of_file = entry->file_size(gone);
      if (!gone) bytes += of_file;
    }
    return bytes;
  }
  Json until_answered(const std::string& id, int n) {
    return until(id, [n](const Json& now) { return now["request_counts"]["completed"] >= n; });
  }
  std::string content(const Json& file) {
    return ask("GET", "/v1/files/" + file.get<std::string>() + "/content").get<std::string>();
  }

  TempDir dir_;
  std::string key_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(Batches, AreAnsweredAsTheirRequestsWouldBeAlone) {
  start();
  const std::string wrong = line("wrong", {{"messages", "none"}});
  const std::string id = begin(requests(6, 8) + wrong, {{"metadata", {{"k", "v"}}}});
  const Json done = until_over(id);
  EXPECT_EQ(done["status"], "completed");
  EXPECT_EQ(done["request_counts"].dump(), R"({"total":7,"completed":6,"failed":1})");
  EXPECT_EQ(done["metadata"]["k"], "v");
  EXPECT_TRUE(done["in_progress_at"].is_number() && done["finalizing_at"].is_number());
  const auto said = said_in(content(done["output_file_id"]));
  ASSERT_EQ(said.size(), 6U);
  for (int i = 0; i < 6; ++i) {
    const Json alone = ask("POST", "/v1/chat/completions", body_of(i, 8).dump());
    EXPECT_EQ(said.at(odmoe::format("r{}", i)), alone["choices"][0]["message"]["content"].get<std::string>());
  }
  const Json failed = Json::parse(content(done["error_file_id"]));
  EXPECT_EQ(failed["custom_id"], "wrong");
  EXPECT_EQ(failed["response"]["body"]["error"]["param"], "messages");
  const Json file = ask("GET", "/v1/files/" + done["output_file_id"].get<std::string>());
  EXPECT_EQ(file["purpose"], "batch_output");
  EXPECT_EQ(ask("GET", "/v1/files")["data"].size(), 3U);
}

TEST_F(Batches, GoOnAfterTheServerWasKilledOrEnded) {
  start();
  const std::string text = requests(24, 24);
  const auto wanted = said_in(content(until_over(begin(text))["output_file_id"]));
  ASSERT_EQ(wanted.size(), 24U);
  const std::string id = begin(text);
  int n = 0;
  for (const int signal : {SIGKILL, SIGTERM, SIGKILL}) {
    n += 3;
    until_answered(id, n);
    server_->signal(signal);
    EXPECT_EQ(server_->wait(), signal == SIGTERM ? 0 : 128 + SIGKILL);
    start();
    EXPECT_GE(until_answered(id, 1)["request_counts"]["completed"], 1);
  }
  const Json done = until_over(id);
  EXPECT_EQ(done["status"], "completed");
  EXPECT_EQ(done["request_counts"]["completed"], 24);
  EXPECT_EQ(said_in(content(done["output_file_id"])), wanted);
}

TEST_F(Batches, PeopleWhoWaitAreAnsweredFirst) {
  start();
  const Json asked = body_of(3, 20);
  const Json alone = ask("POST", "/v1/chat/completions", asked.dump());
  const std::string id = begin(requests(40, 600));
  until(id, [](const Json& now) { return now["status"] == "in_progress"; });
  for (int i = 0; i < 5; ++i) {
    const Json beside = ask("POST", "/v1/chat/completions", asked.dump());
    EXPECT_EQ(beside["choices"][0]["message"]["content"], alone["choices"][0]["message"]["content"]);
  }
  const Json now = batch(id);
  EXPECT_EQ(now["status"], "in_progress") << "it would take far longer than those who were answered";
  const Json health = ask("GET", "/health");
  EXPECT_EQ(health["requests"]["running"], 0);
  EXPECT_GT(health["batch_requests"]["running"], 0);
}

TEST_F(Batches, KeepWhatWasAnsweredWhenTheyAreCancelled) {
  start();
  const std::string first = begin(requests(200, 30)), second = begin(requests(1, 1));
  until_answered(first, 3);
  EXPECT_EQ(ask("POST", "/v1/batches/" + second + "/cancel")["status"], "cancelled");
  ask("POST", "/v1/batches/" + first + "/cancel");
  const Json done = until_over(first);
  EXPECT_EQ(done["status"], "cancelled");
  EXPECT_TRUE(done["error_file_id"].is_null());
  const auto said = said_in(content(done["output_file_id"]));
  EXPECT_EQ(said.size(), done["request_counts"]["completed"]);
  EXPECT_GE(said.size(), 3U);
  EXPECT_LT(said.size(), 200U);
  EXPECT_EQ(ask("DELETE", "/v1/files/" + done["input_file_id"].get<std::string>())["deleted"], true);
}

TEST_F(Batches, FilesThatAreNotRequestsFailWithTheirLines) {
  start({"--max-body", "1MiB"});
  const auto errors = [&](const std::string& text) {
    const Json over = until_over(begin(text));
    EXPECT_EQ(over["status"], "failed");
    return over["errors"]["data"];
  };
  const std::string good = line("a", body_of(0, 1));
  const Json several = errors(good + "\nnot json\n" + good + line("b", body_of(0, 1), "/v1/completions"));
  ASSERT_EQ(several.size(), 3U);
  EXPECT_EQ(several[0]["code"], "invalid_json_line");
  EXPECT_EQ(several[0]["line"], 3);
  EXPECT_EQ(several[1]["code"], "duplicate_custom_id");
  EXPECT_EQ(several[2]["code"], "mismatched_endpoint");
  EXPECT_EQ(several[2]["line"], 5);
  EXPECT_EQ(errors("")[0]["code"], "empty_file");
  EXPECT_EQ(errors(good + std::string(3 << 20, 'x'))[0]["code"], "line_too_long");
  // Values that take far more than their text.
  std::string values = R"({"custom_id":"a","body":[0)";
  for (int i = 0; i < 450'000; ++i) values += ",0";
  EXPECT_EQ(errors(values + "]}")[0]["code"], "line_too_long")
      << "its values take more memory than a line may";
  std::string many;
  for (int i = 0; i <= 50'000; ++i) many += odmoe::format("{{\"custom_id\":\"{}\"}}\n", i);
  EXPECT_EQ(errors(many)[0]["code"], "too_many_requests");
}

TEST_F(Batches, ThoseOfOneKeyAreNotThereForAnother) {
  start({"--api-key", "mine", "--api-key", "yours"});
  key_ = "mine";
  const std::string id = begin(requests(1, 1));
  const Json done = until_over(id);
  const std::string output = done["output_file_id"];
  key_ = "yours";
  ask("GET", "/v1/batches/" + id, "", 404);
  ask("POST", "/v1/batches/" + id + "/cancel", "", 404);
  ask("GET", "/v1/files/" + output, "", 404);
  ask("GET", "/v1/files/" + output + "/content", "", 404);
  ask("DELETE", "/v1/files/" + output, "", 404);
  EXPECT_EQ(ask("GET", "/v1/batches")["data"].size(), 0U);
  EXPECT_EQ(ask("GET", "/v1/files")["data"].size(), 0U);
  key_ = "mine";
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0);
  start({"--api-key", "yours", "--api-key", "mine"});
  EXPECT_EQ(content(output).size(), ask("GET", "/v1/files/" + output)["bytes"]);
  key_ = "";
  ask("GET", "/v1/files", "", 401);
}

TEST_F(Batches, StopWhereThereIsNoRoomAndSaySo) {
  start({"--batch-disk", "64KiB"});
  const Json refused = upload(std::string(100'000, 'x'), 413);
  EXPECT_EQ(refused["error"]["code"], "batch_disk_full");
  const std::string id = begin(requests(100, 40));
  uintmax_t most = 0;
  const Json over = until(id, [&](const Json& now) {
    most = std::max(most, bytes_on_drive());
    return is_over(now);
  });
  EXPECT_EQ(over["status"], "failed");
  EXPECT_EQ(over["errors"]["data"][0]["code"], "batch_disk_full");
  EXPECT_EQ(said_in(content(over["output_file_id"])).size(), over["request_counts"]["completed"]);
  EXPECT_LT(std::max(most, bytes_on_drive()), 70'000U) << "records apart";
}

TEST(BatchesWithoutAFolder, SayHowToHaveThem) {
  ServerProcess server({"--context", "512"});
  httplib::Client client("127.0.0.1", server.port());
  for (const char* path : {"/v1/files", "/v1/batches", "/v1/files/x/content"}) {
    const auto answer = client.Get(path);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 404);
    EXPECT_THAT(answer->body, HasSubstr("--batch-dir"));
  }
}

}  // namespace
}  // namespace odmoe::testing::batches_test
