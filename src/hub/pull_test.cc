#include "hub/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "base/sha256.h"
#include "hub/cache.h"
#include "hub/file_lock.h"
#include "hub/testing_http.h"
#include "temp_dir.h"

namespace odmoe::hub::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string hash_of(const std::string& text) { return sha256_hex(std::as_bytes(std::span(text))); }

// A hub with one repository, o/r, and a CDN.
class PullTest : public ::testing::Test {
 protected:
  PullTest() {
    files_["m-Q4_K_M-00001-of-00002.gguf"] = "GGUF first " + std::string(5000, 'x');
    files_["m-Q4_K_M-00002-of-00002.gguf"] = "GGUF second " + std::string(3000, 'y');
    files_["m-Q8_0.gguf"] = "GGUF large";
    options_.hub.endpoint = "https://hub";
    options_.cache = dir_ / "hub";
    options_.download = {.connections = 3, .range_bytes = 1000, .clock = &watcher_.clock};
  }
  std::string listing() const {
    std::string siblings;
    for (const auto& [path, text] : files_) {
      siblings +=
          odmoe::format(R"({}{{"rfilename": "{}", "size": {}, "lfs": {{"sha256": "{}", "size": {}}}}})",
                        siblings.empty() ? "" : ",", path, text.size(), listed_hash(text), text.size());
    }
    return R"({"sha": ")" + commit_ + R"(", "gguf": {"architecture": "qwen3moe"}, "siblings": [)" + siblings +
           "]}";
  }
  std::string listed_hash(const std::string& text) const {
    return wrong_hash_ ? std::string(64, '0') : hash_of(text);
  }
  FakeAnswer serve(const HttpRequest& request) {
    if (request.url.starts_with("https://hub/api/")) return {.body = listing()};
    for (const auto& [path, text] : files_) {
      if (!request.url.ends_with("/" + path)) continue;
      if (!request.head) return range_of(text, request);
      return {.status = 302,
              .fields = {{"location", "https://cdn/" + path},
                         {"x-linked-etag", "\"" + listed_hash(text) + "\""},
                         {"x-linked-size", std::to_string(text.size())}}};
    }
    return {.status = 404};
  }
  Result<PulledModel> pull_it(const std::string& name = "o/r") {
    FakeHttp api([this](const HttpRequest& request) { return serve(request); });
    FakeHttp data([this](const HttpRequest& request) { return serve(request); });
    auto pulled = pull(*parse_repo_name(name), options_, api, data, watcher_);
    n_request_ = api.requests.size();
    n_data_ = data.requests.size();
    return pulled;
  }
  static std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  CachedRepo repo() const { return {options_.cache, "o/r"}; }

  odmoe::testing::TempDir dir_;
  std::map<std::string, std::string> files_;
  std::string commit_ = std::string(40, 'c');
  bool wrong_hash_ = false;
  FakeWatcher watcher_;
  PullOptions options_;
  size_t n_request_ = 0, n_data_ = 0;
};

TEST_F(PullTest, ASplitModelComesIntoTheHubsCache) {
  const auto pulled = pull_it();
  ASSERT_TRUE(pulled.has_value()) << pulled.error().message;
  EXPECT_EQ(pulled->path,
            options_.cache / "models--o--r/snapshots" / commit_ / "m-Q4_K_M-00001-of-00002.gguf");
  EXPECT_EQ(pulled->bytes, pulled->downloaded);
  EXPECT_EQ(text_of(pulled->path), files_["m-Q4_K_M-00001-of-00002.gguf"]);
  EXPECT_EQ(text_of(pulled->path.parent_path() / "m-Q4_K_M-00002-of-00002.gguf"),
            files_["m-Q4_K_M-00002-of-00002.gguf"]);
  EXPECT_EQ(text_of(options_.cache / "models--o--r/refs/main"), commit_);
  EXPECT_TRUE(fs::exists(repo().blob(hash_of(files_["m-Q4_K_M-00001-of-00002.gguf"]))));
  ASSERT_EQ(watcher_.plans.size(), 1);
  EXPECT_EQ(watcher_.plans[0].architecture, "qwen3moe");
  EXPECT_EQ(watcher_.plans[0].n_file, 2);
  EXPECT_EQ(watcher_.plans[0].quantisation, "Q4_K_M");
  EXPECT_EQ(watcher_.last_done, watcher_.last_total);
}

TEST_F(PullTest, WhatIsThereIsNotDownloadedAgain) {
  ASSERT_TRUE(pull_it().has_value());
  const auto again = pull_it();
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->downloaded, 0);
  EXPECT_EQ(n_data_, 0);
  EXPECT_EQ(watcher_.plans.size(), 1);
}

TEST_F(PullTest, ANewCommitWithTheSameContentsIsLinked) {
  ASSERT_TRUE(pull_it().has_value());
  commit_ = std::string(40, 'd');
  const auto pulled = pull_it();
  ASSERT_TRUE(pulled.has_value());
  EXPECT_EQ(n_data_, 0);
  EXPECT_EQ(text_of(pulled->path), files_["m-Q4_K_M-00001-of-00002.gguf"]);
  EXPECT_EQ(text_of(options_.cache / "models--o--r/refs/main"), commit_);
}

TEST_F(PullTest, GoesOnFromWhatAnEarlierOneLeft) {
  const std::string& text = files_["m-Q8_0.gguf"] = "GGUF " + std::string(9000, 'z');
  watcher_.stops_after = 15;
  ASSERT_EQ(pull_it("o/r:Q8_0").error().kind, ErrorKind::kInterrupted);
  const uint64_t left = fs::file_size(repo().incomplete(hash_of(text)));
  EXPECT_GT(left, 0);
  EXPECT_LT(left, text.size());
  watcher_.stops_after = 1'000'000;
  const auto pulled = pull_it("o/r:Q8_0");
  ASSERT_TRUE(pulled.has_value()) << pulled.error().message;
  EXPECT_EQ(pulled->downloaded, text.size() - left);
  EXPECT_TRUE(watcher_.checked);
  EXPECT_EQ(watcher_.plans.back().bytes_left, text.size() - left);
  EXPECT_EQ(text_of(pulled->path), text);
  EXPECT_FALSE(fs::exists(repo().incomplete(hash_of(text))));
}

TEST_F(PullTest, ABeginningOfSomethingElseIsReplaced) {
  const std::string& text = files_["m-Q8_0.gguf"];
  fs::create_directories(repo().blobs());
  std::ofstream(repo().incomplete(hash_of(text))) << "oth";
  const auto pulled = pull_it("o/r:Q8_0");
  ASSERT_TRUE(pulled.has_value()) << pulled.error().message;
  EXPECT_EQ(text_of(pulled->path), text);
  EXPECT_THAT(watcher_.waits.back(), HasSubstr("does not go on from what was there; beginning anew"));
  std::ofstream(repo().incomplete(hash_of(text))) << "longer than the whole file";
  fs::remove(repo().blob(hash_of(text)));
  EXPECT_TRUE(pull_it("o/r:Q8_0").has_value());
}

TEST_F(PullTest, AWrongChecksumRemovesWhatCame) {
  wrong_hash_ = true;
  const auto pulled = pull_it("o/r:Q8_0");
  ASSERT_FALSE(pulled.has_value());
  EXPECT_EQ(pulled.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(pulled.error().message, HasSubstr("m-Q8_0.gguf has a wrong checksum ("));
  EXPECT_THAT(pulled.error().message, HasSubstr("what came is removed"));
  EXPECT_TRUE(fs::is_empty(repo().blobs()));
  EXPECT_FALSE(fs::exists(options_.cache / "models--o--r/snapshots"));
}

TEST_F(PullTest, ASmallFileIsCheckedByGitsHash) {
  files_ = {{"small.gguf", "hello\n"}};
  FakeHttp api([this](const HttpRequest& request) {
    if (request.url.contains("/api/")) {
      return FakeAnswer{
          .body =
              R"({"sha": ")" + commit_ +
              R"(", "siblings": [{"rfilename": "small.gguf", "size": 6, "blobId": "ce013625030ba8dba906f756967f9e9ca394464a"}]})"};
    }
    return FakeAnswer{
        .fields = {{"etag", "\"ce013625030ba8dba906f756967f9e9ca394464a\""}, {"content-length", "6"}}};
  });
  FakeHttp data([this](const HttpRequest& request) { return range_of(files_["small.gguf"], request); });
  const auto pulled = pull(*parse_repo_name("o/r"), options_, api, data, watcher_);
  ASSERT_TRUE(pulled.has_value()) << pulled.error().message;
  EXPECT_EQ(text_of(pulled->path), "hello\n");
}

TEST_F(PullTest, WhatDoesNotFitIsRefusedBeforeAnybodyIsAsked) {
  options_.free_bytes = [](const fs::path&) { return 1000; };
  const auto pulled = pull_it();
  ASSERT_FALSE(pulled.has_value());
  EXPECT_THAT(pulled.error().message, HasSubstr("hf:o/r: 7.83 KiB are to be downloaded, and "));
  EXPECT_THAT(pulled.error().message,
              HasSubstr("has 1000 B free: make room, or name another folder with HF_HUB_CACHE"));
  EXPECT_TRUE(watcher_.plans.empty());
}

TEST_F(PullTest, WhatIsNotWantedIsNotDownloaded) {
  watcher_.agrees = false;
  EXPECT_EQ(pull_it().error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(n_data_, 0);
}

TEST_F(PullTest, WaitsForAnotherProcessAndTakesWhatItBrought) {
  const std::string text = files_["m-Q8_0.gguf"], id = hash_of(text);
  auto lock = FileLock::try_take(repo().lock(id));
  ASSERT_TRUE(lock.has_value() && lock->has_value());
  watcher_.on_wait = [&] {
    if (watcher_.waits.size() < 3) return;
    std::ofstream(repo().blob(id)) << text;
    lock->reset();
  };
  const auto pulled = pull_it("o/r:Q8_0");
  ASSERT_TRUE(pulled.has_value()) << pulled.error().message;
  EXPECT_EQ(pulled->downloaded, 0);
  EXPECT_EQ(watcher_.waits.size(), 3);
  EXPECT_THAT(watcher_.waits[0], HasSubstr("another process is downloading m-Q8_0.gguf"));
}

TEST_F(PullTest, TheCacheIsEnoughWithoutTheHub) {
  EXPECT_FALSE(find_in_cache(*parse_repo_name("o/r"), options_.cache).value().has_value());
  ASSERT_TRUE(pull_it("o/r:Q8_0").has_value());
  options_.offline = true;
  const auto found = pull_it("o/r");
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(text_of(found->path), files_["m-Q8_0.gguf"]);
  EXPECT_EQ(n_request_, 0);
  EXPECT_THAT(pull_it("o/r:Q4_K_M").error().message, HasSubstr("HF_HUB_OFFLINE forbids asking the hub"));
  EXPECT_TRUE(find_in_cache(*parse_repo_name("o/r@" + commit_), options_.cache).value().has_value());
}

TEST_F(PullTest, ASetThatIsNotWholeIsNotTakenFromTheCache) {
  ASSERT_TRUE(pull_it().has_value());
  fs::remove(repo().file(commit_, "m-Q4_K_M-00002-of-00002.gguf"));
  EXPECT_FALSE(find_in_cache(*parse_repo_name("o/r"), options_.cache).value().has_value());
  ASSERT_TRUE(pull_it().has_value());
  EXPECT_EQ(n_data_, 0);
  EXPECT_TRUE(find_in_cache(*parse_repo_name("o/r"), options_.cache).value().has_value());
}

}  // namespace
}  // namespace odmoe::hub::testing
