// odmoe batch as a user runs it: wide and narrow, interrupted, killed, on a full drive.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/process.h"
#include "odmoe/format.h"
#include "temp_dir.h"

namespace odmoe::testing::batch_cli_test {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Arguments = std::vector<std::string>;
using Json = nlohmann::ordered_json;

const std::string kBatchModel = ODMOE_SOURCE_DIR "/models/demo.gguf";

std::string text_in(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<Json> lines_in(const fs::path& path) {
  std::ifstream file(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  return lines;
}

Json asked(const std::string& custom_id, const char* url, Json body) {
  return {{"custom_id", custom_id}, {"method", "POST"}, {"url", url}, {"body", std::move(body)}};
}

// Of every kind, long and short, greedy, seeded and neither, with schemas and tools, and some that are wrong.
std::string mixed_requests(size_t n) {
  const Json schema = {{"type", "object"},
                       {"properties", {{"name", {{"type", "string"}, {"maxLength", 6}}}}},
                       {"required", {"name"}},
                       {"additionalProperties", false}};
  const Json tool = {{"type", "function"}, {"function", {{"name", "look"}, {"parameters", schema}}}};
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    std::string said = "Tell me of the king";
    for (size_t k = 0; k < i * 7 % 40; ++k) said += odmoe::format(" and of number {}", i + k);
    const Json messages = Json::array({Json{{"role", "user"}, {"content", said}}});
    Json body = {{"max_tokens", 3 + i * 5 % 14}};
    const char* url = "/v1/chat/completions";
    switch (i % 8) {
      case 0:
        body["messages"] = messages;
        body["temperature"] = 0;
        break;
      case 1:
        url = "/v1/completions";
        body["prompt"] = said;
        body["seed"] = i;
        body["n"] = 2;
        break;
      case 2:
        body["messages"] = messages;  // drawn with a seed that the line gives
        break;
      case 3:
        url = "/v1/responses";
        body = {{"input", said}, {"max_output_tokens", 9}, {"temperature", 0.7}};
        break;
      case 4:
        body["messages"] = messages;
        body["response_format"] = {{"type", "json_schema"},
                                   {"json_schema", {{"name", "n"}, {"schema", schema}, {"strict", true}}}};
        body["max_tokens"] = 60;
        break;
      case 5:
        body["messages"] = messages;
        body["tools"] = Json::array({tool});
        body["tool_choice"] = "required";
        body["max_tokens"] = 90;
        break;
      case 6:
        url = "/v1/completions";
        body["prompt"] = said;
        body["temperature"] = 0;
        body["logprobs"] = 2;
        break;
      default:
        body["messages"] = i % 16 == 7 ? Json("none") : messages;
        body["stream"] = i % 16 == 15;
    }
    text += asked(odmoe::format("r{}", i), url, std::move(body)).dump() + "\n";
  }
  return text;
}

Arguments batch_of(const fs::path& in, const fs::path& out, const Arguments& more = {}) {
  Arguments all = {"batch",   kBatchModel, in.string(), "-o", out.string(), "-c",        "1024",
                   "--chunk", "64",        "-t",        "1",  "--no-probe", "--created", "1700000000"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(BatchCommand, AnswersComeInOrderInOpenAisShape) {
  const TempDir dir;
  const fs::path in = dir.write("in.jsonl", mixed_requests(16) + "not json\n" +
                                                R"({"custom_id":"r0"})"
                                                "\n" +
                                                asked("last", "/v1/embeddings", Json::object()).dump());
  const fs::path out = dir / "out.jsonl";
  const Outcome outcome = odmoe(batch_of(in, out, {"--width", "5"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, HasSubstr("19 requests, 5 with an error"));
  EXPECT_FALSE(fs::exists(dir / "out.jsonl.progress"));
  const std::vector<Json> lines = lines_in(out);
  ASSERT_EQ(lines.size(), 19U);
  for (size_t i = 0; i < 16; ++i) {
    SCOPED_TRACE(lines[i].dump());
    EXPECT_EQ(lines[i]["custom_id"], odmoe::format("r{}", i));
    EXPECT_TRUE(lines[i]["error"].is_null());
    const Json& response = lines[i]["response"];
    EXPECT_EQ(response["status_code"], i == 7 || i == 15 ? 400 : 200);
    EXPECT_EQ(lines[i]["id"], "batch_req_" + response["request_id"].get<std::string>());
  }
  const auto body = [&](size_t i) { return lines[i]["response"]["body"]; };
  EXPECT_EQ(body(0)["object"], "chat.completion");
  EXPECT_EQ(body(0)["created"], 1700000000);
  EXPECT_EQ(body(0)["model"], "demo");
  EXPECT_EQ(body(1)["object"], "text_completion");
  EXPECT_EQ(body(1)["choices"].size(), 2U);
  EXPECT_EQ(body(3)["object"], "response");
  EXPECT_TRUE(Json::parse(body(4)["choices"][0]["message"]["content"].get<std::string>()).contains("name"));
  EXPECT_EQ(body(5)["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "look");
  EXPECT_EQ(body(7)["error"]["param"], "messages");
  EXPECT_EQ(body(15)["error"]["param"], "stream");
  EXPECT_EQ(lines[16]["error"]["code"], "invalid_json_line");
  EXPECT_TRUE(lines[16]["custom_id"].is_null());
  EXPECT_EQ(lines[17]["error"]["code"], "duplicate_custom_id");
  EXPECT_EQ(lines[18]["response"]["body"]["error"]["param"], "url");
  // Once more there is nothing to do.
  const Outcome again = odmoe(batch_of(in, out));
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.err, HasSubstr("answered already"));
}

TEST(BatchCommand, NoAnswerDependsOnWidthOrBudget) {
  const TempDir dir;
  const fs::path in = dir.write("in.jsonl", mixed_requests(24));
  ASSERT_EQ(odmoe(batch_of(in, dir / "alone", {"--width", "1"})).exit_code, 0);
  const std::string wanted = text_in(dir / "alone");
  ASSERT_THAT(wanted, EndsWith("}\n"));
  int n = 0;
  for (const Arguments& how : {Arguments{"--width", "7", "--memory", "100%"},
                               {"--width", "24", "--memory", "20%"},
                               {"--width", "3", "--memory", "1%", "--prompt-cache", "8MiB"}}) {
    const fs::path out = dir / odmoe::format("out{}", n++);
    const Outcome outcome = odmoe(batch_of(in, out, how));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(text_in(out) == wanted) << how[1];
  }
}

// Starts a batch that may write files of `most_bytes` (0: of any size), and sends it a signal, unless that is
// 0, once it is time; its exit code as a shell says it, 0 when it was faster.
int signalled_when(const Arguments& arguments, const std::function<bool()>& is_time, int signal,
                   rlim_t most_bytes = 0) {
  std::string program = ODMOE_PROGRAM;
  Arguments words = arguments;
  std::vector<char*> argv{program.data()};
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    const rlimit limit{.rlim_cur = most_bytes, .rlim_max = most_bytes};
    if (most_bytes > 0) setrlimit(RLIMIT_FSIZE, &limit);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (signal != 0 && is_time()) kill(child, std::exchange(signal, 0));
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The same once OUT and what is ahead have so many bytes.
int signalled_batch(const Arguments& arguments, const fs::path& out, int signal, uintmax_t at_bytes,
                    rlim_t most_bytes = 0) {
  const auto is_time = [&] {
    std::error_code none_out, none_ahead;
    const uintmax_t bytes = fs::file_size(out, none_out);
    const uintmax_t ahead = fs::file_size(out.string() + ".progress", none_ahead);
    return !none_ahead && (none_out ? 0 : bytes) + ahead >= at_bytes;
  };
  return signalled_when(arguments, is_time, signal, most_bytes);
}

// Tokens of requests that are under way, as they are kept; the file may be written meanwhile.
size_t kept_tokens(const fs::path& out) {
  std::ifstream file(out.string() + ".under-way/written");
  size_t n = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    std::istringstream words(line);
    std::vector<std::string> of_line{std::istream_iterator<std::string>(words), {}};
    // A checksum, the place, the choice and which of its tokens is the first; or what batch it is of.
    if (of_line.size() > 4 && of_line[4] != "end") n += of_line.size() - 4;
  }
  return n;
}

class InterruptedBatch : public ::testing::Test {
 protected:
  void SetUp() override {
    in_ = dir_.write("in.jsonl", mixed_requests(24));
    ASSERT_EQ(odmoe(batch_of(in_, dir_ / "whole", {"--width", "4"})).exit_code, 0);
    wanted_ = text_in(dir_ / "whole");
  }
  // Only whole lines, of which those that are there are right.
  void expect_beginning() {
    const std::string so_far = text_in(out_);
    const std::string whole = so_far.substr(0, so_far.rfind('\n') + 1);
    EXPECT_TRUE(wanted_.starts_with(whole));
  }
  TempDir dir_;
  fs::path in_, out_ = dir_ / "out.jsonl";
  std::string wanted_;
};

TEST_F(InterruptedBatch, GoesOnAfterKillsAtAnyPointWithTheSameBytes) {
  std::minstd_rand random(5);
  int kills = 0;
  for (int round = 0; round < 3; ++round) {
    fs::remove(out_);
    int code = 1;
    for (int run = 0; code != 0 && run < 12; ++run) {
      const char* width = run % 2 == 0 ? "6" : "3";
      const uintmax_t there = text_in(out_).size() + text_in(dir_ / "out.jsonl.progress").size();
      // The last of them goes on to the end.
      code =
          signalled_batch(batch_of(in_, out_, {"--width", width, "--memory", run % 3 == 0 ? "10%" : "60%"}),
                          out_, run < 11 ? SIGKILL : 0, there + 100 + random() % (wanted_.size() / 3));
      kills += code == 128 + SIGKILL ? 1 : 0;
      expect_beginning();
    }
    EXPECT_EQ(code, 0);
    EXPECT_TRUE(text_in(out_) == wanted_);
    EXPECT_FALSE(fs::exists(dir_ / "out.jsonl.progress"));
  }
  EXPECT_GE(kills, 3);
}

// Of which none begins as another one, and each is read and written to its end.
std::string long_requests(size_t n, size_t tokens) {
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    std::string said = odmoe::format("{} kings", i + 2);
    for (size_t k = 0; k < 25; ++k) said += odmoe::format(" and {} of number {}", i * k, i + k);
    Json body = {{"prompt", said}, {"max_tokens", tokens}, {"ignore_eos", true}, {"seed", i}};
    if (i % 3 == 0) body["logprobs"] = 3;
    text += asked(odmoe::format("r{}", i), "/v1/completions", std::move(body)).dump() + "\n";
  }
  return text;
}

uint64_t evaluated_tokens(const fs::path& stats) {
  const Json json = Json::parse(text_in(stats));
  return json["prefill"]["tokens"].get<uint64_t>() + json["decode"]["tokens"].get<uint64_t>();
}

class UnderWay : public ::testing::Test {
 protected:
  static constexpr size_t kRequests = 6, kTokens = 60;
  void SetUp() override {
    in_ = dir_.write("in.jsonl", long_requests(kRequests, kTokens));
    ASSERT_EQ(odmoe(batch(dir_ / "whole")).exit_code, 0);
    wanted_ = text_in(dir_ / "whole");
    evaluated_ = evaluated_tokens(stats_);
  }
  Arguments batch(const fs::path& out, const Arguments& more = {}) const {
    Arguments all = batch_of(in_, out, {"--width", "6", "--stats", stats_.string()});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Ends it somewhere in the middle of all of its answers.
  void interrupt(int signal, const Arguments& more = {}) {
    int code = 0;
    for (int attempt = 0; attempt < 20 && code == 0; ++attempt) {
      fs::remove(out_);
      const auto is_time = [&] { return kept_tokens(out_) >= kRequests * kTokens / 2; };
      code = signalled_when(batch(out_, more), is_time, signal);
    }
    ASSERT_EQ(code, signal == SIGKILL ? 128 + SIGKILL : 130);
    ASSERT_EQ(text_in(out_), "") << "none was done";
  }
  void expect_the_same_bytes(const Outcome& outcome) {
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(text_in(out_) == wanted_);
    EXPECT_FALSE(fs::exists(out_.string() + ".under-way"));
  }
  TempDir dir_;
  fs::path in_, out_ = dir_ / "out.jsonl", stats_ = dir_ / "stats.json";
  std::string wanted_;
  uint64_t evaluated_ = 0;
};

TEST_F(UnderWay, EvaluatesNothingAgainAfterCtrlC) {
  interrupt(SIGINT);
  const uint64_t before = evaluated_tokens(stats_);
  EXPECT_GT(before, evaluated_ / 2);
  expect_the_same_bytes(odmoe(batch(out_)));
  EXPECT_EQ(before + evaluated_tokens(stats_), evaluated_);
}

TEST_F(UnderWay, WritesNothingAgainAfterAKill) {
  for (const int signal : {SIGKILL, SIGTERM}) {
    interrupt(signal, {"--state-disk", "0"});
    const size_t kept = kept_tokens(out_);
    ASSERT_GE(kept, kRequests * kTokens / 2);
    const Outcome outcome = odmoe(batch(out_));
    expect_the_same_bytes(outcome);
    EXPECT_THAT(outcome.err, HasSubstr(odmoe::format(", {} tokens at ", kRequests * kTokens - kept)));
    EXPECT_GE(evaluated_tokens(stats_), evaluated_ - kRequests);
    // What was written is read as a text, but for the last of each; steps are for what is missing.
    const Json stats = Json::parse(text_in(stats_));
    EXPECT_LE(stats["decode"]["tokens"].get<size_t>(), kRequests * kTokens - kept + kRequests);
  }
}

TEST_F(InterruptedBatch, EndsWith130OnCtrlCAndGoesOn) {
  int code = 0;
  for (int attempt = 0; attempt < 20 && code == 0; ++attempt) {
    fs::remove(out_);
    code = signalled_batch(batch_of(in_, out_, {"--width", "4"}), out_, SIGINT, 1000);
  }
  EXPECT_EQ(code, 130);
  expect_beginning();
  const Outcome outcome = odmoe(batch_of(in_, out_, {"--width", "4"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("of them before"));
  EXPECT_TRUE(text_in(out_) == wanted_);
}

TEST_F(InterruptedBatch, SurvivesAFullDriveAndGoesOn) {
  ASSERT_GT(wanted_.size(), 5000U);
  EXPECT_EQ(signalled_batch(batch_of(in_, out_, {"--width", "4"}), out_, 0, 0, 5000), 1);
  const std::string so_far = text_in(out_);
  EXPECT_THAT(so_far, EndsWith("\n"));
  EXPECT_TRUE(wanted_.starts_with(so_far));
  ASSERT_EQ(odmoe(batch_of(in_, out_, {"--width", "4"})).exit_code, 0);
  EXPECT_TRUE(text_in(out_) == wanted_);
}

TEST_F(InterruptedBatch, OtherRequestsOrOptionsAreRefused) {
  int code = 0;
  for (int attempt = 0; attempt < 20 && code == 0; ++attempt) {
    fs::remove(out_);
    code = signalled_batch(batch_of(in_, out_), out_, SIGKILL, 500);
  }
  ASSERT_EQ(code, 128 + SIGKILL);
  const auto expect_refused = [](const Outcome& outcome) {
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("out.jsonl.progress is of a batch with other requests"));
  };
  expect_refused(odmoe(batch_of(in_, out_, {"--cache-type", "f32"})));
  expect_refused(odmoe(batch_of(in_, out_, {"--name", "other"})));
  expect_refused(odmoe(batch_of(dir_.write("other.jsonl", mixed_requests(23)), out_)));
  expect_beginning();
}

TEST(BatchCommand, WhatMakesNoSenseIsRefusedBeforeTheModelIsRead) {
  const TempDir dir;
  const fs::path in = dir.write("in.jsonl", mixed_requests(1));
  const auto expect_error = [](const Outcome& outcome, int exit_code, const std::string& message) {
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  };
  expect_error(odmoe({"batch", kBatchModel, in.string()}), 2, "--output");
  expect_error(odmoe({"batch", kBatchModel, in.string(), "-o", (dir / "o").string(), "--width", "0"}), 2,
               "--width");
  expect_error(odmoe({"batch", kBatchModel, (dir / "none").string(), "-o", (dir / "o").string()}), 1, "none");
  const fs::path there = dir.write("there", "precious\n");
  expect_error(odmoe({"batch", (dir / "no.gguf").string(), in.string(), "-o", there.string()}), 2,
               "nothing is overwritten");
  EXPECT_EQ(text_in(there), "precious\n");
}

}  // namespace
}  // namespace odmoe::testing::batch_cli_test
