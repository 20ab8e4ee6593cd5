#include "hub/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "hub/testing_http.h"

namespace odmoe::hub::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class MemoryBlob final : public Blob {
 public:
  uint64_t bytes() const override { return text.size(); }
  Status append(std::span<const std::byte> bytes) override {
    if (text.size() + bytes.size() > most) {
      return fail(ErrorKind::kIo, "cannot write it: No space left on device");
    }
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  }
  std::string text;
  size_t most = std::string::npos;
};

class DownloadTest : public ::testing::Test {
 protected:
  DownloadTest() {
    for (int i = 0; file_.size() < 10'000; ++i) file_ += odmoe::format("{} ", i);
    options_ = {.connections = 4, .range_bytes = 1000, .clock = &watcher_.clock};
  }
  Status run(const FakeHttp::Server& server) {
    FakeHttp http(server);
    const RemoteFile remote{
        .name = "m.gguf", .bytes = file_.size(), .content_id = std::string(64, 'a'), .locate = [&] {
          ++n_located_;
          return located_;
        }};
    located_.bytes = file_.size();
    const Status status = download(remote, http, blob_, watcher_, options_, [&](uint64_t bytes) {
      EXPECT_GE(bytes, arrived_);
      arrived_ = bytes;
    });
    most_at_once_ = http.most_at_once;
    requests_ = http.requests;
    return status;
  }

  std::string file_;
  MemoryBlob blob_;
  FakeWatcher watcher_;
  DownloadOptions options_;
  Location located_{.url = "https://cdn/x", .token = {}, .bytes = 0, .content_id = {}};
  int n_located_ = 0;
  uint64_t arrived_ = 0;
  size_t most_at_once_ = 0;
  std::vector<HttpRequest> requests_;
};

TEST_F(DownloadTest, RangesAreAskedForAtOnceAndWrittenInOrder) {
  const Status status = run([&](const HttpRequest& request) { return range_of(file_, request); });
  ASSERT_TRUE(status.has_value()) << status.error().message;
  EXPECT_EQ(blob_.text, file_);
  EXPECT_EQ(most_at_once_, 4);
  EXPECT_EQ(arrived_, file_.size());
  EXPECT_EQ(n_located_, 1);
  EXPECT_EQ(requests_.size(), (file_.size() + 999) / 1000);
}

TEST_F(DownloadTest, GoesOnFromWhatIsThere) {
  blob_.text = file_.substr(0, 4321);
  ASSERT_TRUE(run([&](const HttpRequest& request) { return range_of(file_, request); }).has_value());
  EXPECT_EQ(blob_.text, file_);
  EXPECT_EQ(requests_.front().range->begin, 4321);
}

TEST_F(DownloadTest, WhatIsCompleteIsNotAskedFor) {
  blob_.text = file_;
  ASSERT_TRUE(run([&](const HttpRequest&) { return FakeAnswer{.status = 500}; }).has_value());
  EXPECT_THAT(requests_, IsEmpty());
}

TEST_F(DownloadTest, BreaksAreGoneOnFromWithoutAPauseWhileSomethingComes) {
  int n_break = 0;
  ASSERT_TRUE(run([&](const HttpRequest& request) {
                FakeAnswer answer = range_of(file_, request);
                return ++n_break % 2 == 1 ? broken(std::move(answer), 333) : answer;
              }).has_value());
  EXPECT_EQ(blob_.text, file_);
  EXPECT_THAT(watcher_.waits, IsEmpty());
}

TEST_F(DownloadTest, WhereNothingComesPausesGrowAndEnd) {
  const Status status = run([&](const HttpRequest&) {
    return FakeAnswer{.status = 0, .end = {.kind = HttpEnd::Kind::kBroken, .why = "no route to host"}};
  });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kIo);
  EXPECT_EQ(status.error().message,
            "m.gguf: cdn: no route to host; what came is kept, and the same command goes on from there");
  EXPECT_THAT(watcher_.waits,
              ElementsAre("1000 ms: cdn: no route to host", "2000 ms: cdn: no route to host",
                          "4000 ms: cdn: no route to host", "8000 ms: cdn: no route to host",
                          "16000 ms: cdn: no route to host", "30000 ms: cdn: no route to host"));
}

TEST_F(DownloadTest, AServersErrorsAreTriedAgain) {
  int n = 0;
  ASSERT_TRUE(run([&](const HttpRequest& request) {
                return ++n <= 8 ? FakeAnswer{.status = 503} : range_of(file_, request);
              }).has_value());
  EXPECT_EQ(blob_.text, file_);
  EXPECT_THAT(watcher_.waits, SizeIs(1));
}

TEST_F(DownloadTest, WaitsAsLongAsTheServerAsks) {
  int n = 0;
  ASSERT_TRUE(run([&](const HttpRequest& request) {
                return ++n == 3 ? FakeAnswer{.status = 429, .end = {.retry_after = std::chrono::seconds(17)}}
                                : range_of(file_, request);
              }).has_value());
  EXPECT_EQ(blob_.text, file_);
  EXPECT_THAT(watcher_.waits, ElementsAre("17000 ms: cdn: too many requests (429): it asks to wait 17 s"));
}

TEST_F(DownloadTest, AServerThatAsksForTooLongIsGivenUp) {
  const Status status = run([&](const HttpRequest&) {
    return FakeAnswer{.status = 429, .end = {.retry_after = std::chrono::seconds(86400)}};
  });
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("it asks to wait 86400 s; what came is kept"));
}

TEST_F(DownloadTest, AServerWithoutRangesIsReadFromTheBeginning) {
  blob_.text = file_.substr(0, 1234);
  int n = 0;
  ASSERT_TRUE(run([&](const HttpRequest& request) {
                FakeAnswer answer{.status = 200, .body = file_};
                if (!request.range && ++n < 3)
                  return broken(std::move(answer), static_cast<size_t>(n) * 3000);
                return answer;
              }).has_value());
  EXPECT_EQ(blob_.text, file_);
  EXPECT_FALSE(requests_.back().range.has_value());
}

TEST_F(DownloadTest, AnExpiredLocationIsAskedForAgain) {
  int n = 0;
  ASSERT_TRUE(run([&](const HttpRequest& request) {
                if (++n == 6) located_.url = "https://cdn/y";
                return n == 6 || (n > 6 && request.url == "https://cdn/x") ? FakeAnswer{.status = 403}
                                                                           : range_of(file_, request);
              }).has_value());
  EXPECT_EQ(blob_.text, file_);
  EXPECT_EQ(n_located_, 2);
}

TEST_F(DownloadTest, ALocationThatIsRefusedForGoodIsGivenUp) {
  const Status status = run([&](const HttpRequest&) { return FakeAnswer{.status = 403}; });
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("status 403"));
  EXPECT_LE(n_located_, 5);
}

TEST_F(DownloadTest, TheTokenDoesNotFollowToAnotherHost) {
  located_.url = "https://hub/x";
  located_.token = "secret";
  ASSERT_TRUE(run([&](const HttpRequest& request) {
                if (request.url == "https://hub/x")
                  return FakeAnswer{.status = 302, .fields = {{"location", "/y"}}};
                if (request.url == "https://hub/y")
                  return FakeAnswer{.status = 302, .fields = {{"location", "https://cdn/z"}}};
                return range_of(file_, request);
              }).has_value());
  EXPECT_EQ(blob_.text, file_);
  for (const HttpRequest& request : requests_) {
    EXPECT_EQ(request.token, request.url.starts_with("https://hub/") ? "secret" : "") << request.url;
  }
}

TEST_F(DownloadTest, CirclesOfRedirectsEnd) {
  const Status status = run([&](const HttpRequest&) {
    return FakeAnswer{.status = 302, .fields = {{"location", "https://cdn/x?again"}}};
  });
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("sends in circles"));
}

TEST_F(DownloadTest, AFileThatChangesInTheMiddleIsNoticed) {
  int n = 0;
  const Status status = run(
      [&](const HttpRequest& request) { return range_of(file_, request, ++n < 5 ? "\"one\"" : "\"two\""); });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(status.error().message, HasSubstr("was changed at cdn in the middle"));
}

TEST_F(DownloadTest, AnotherLengthOrHashThanListedIsNoticed) {
  const auto server = [&](const HttpRequest& request) { return range_of(file_ + "more", request); };
  EXPECT_THAT(run(server).error().message, HasSubstr("cannot be used: it sends 'bytes 0-999/"));
  located_.content_id = std::string(64, 'b');
  EXPECT_THAT(run(server).error().message, HasSubstr("has changed at cdn in the meantime"));
}

TEST_F(DownloadTest, OtherBytesThanAskedForAreNotTaken) {
  const Status status = run([&](const HttpRequest& request) {
    HttpRequest other = request;
    other.range->begin += 1;
    other.range->end += 1;
    return range_of(file_, other);
  });
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("cannot be used"));
  EXPECT_EQ(blob_.text, "");
  EXPECT_THAT(run([&](const HttpRequest& request) {
                FakeAnswer answer = range_of(file_, request);
                answer.body += "x";
                return answer;
              })
                  .error()
                  .message,
              HasSubstr("it sends more than was asked for"));
}

TEST_F(DownloadTest, ShortAnswersAreGoneOnFrom) {
  ASSERT_TRUE(run([&](const HttpRequest& request) {
                FakeAnswer answer = range_of(file_, request);
                answer.body.resize((answer.body.size() + 1) / 2);
                return answer;
              }).has_value());
  EXPECT_EQ(blob_.text, file_);
}

TEST_F(DownloadTest, AFullDiskEndsItWithItsOwnError) {
  blob_.most = 5000;
  const Status status = run([&](const HttpRequest& request) { return range_of(file_, request); });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "cannot write it: No space left on device");
  EXPECT_EQ(blob_.text, file_.substr(0, blob_.text.size()));
}

TEST_F(DownloadTest, AFullDiskEndsItWithoutRangesToo) {
  blob_.most = 5000;
  const Status status = run([&](const HttpRequest&) { return FakeAnswer{.status = 200, .body = file_}; });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "cannot write it: No space left on device");
}

TEST_F(DownloadTest, StoppingKeepsWhatCameInOrder) {
  watcher_.stops_after = 12;
  const Status status = run([&](const HttpRequest& request) { return range_of(file_, request); });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kInterrupted);
  EXPECT_GE(blob_.text.size(), 1000);
  EXPECT_EQ(blob_.text, file_.substr(0, blob_.text.size()));
}

TEST_F(DownloadTest, AnEmptyFileIsThereAtOnce) {
  file_.clear();
  EXPECT_TRUE(run([&](const HttpRequest&) { return FakeAnswer{.status = 500}; }).has_value());
}

}  // namespace
}  // namespace odmoe::hub::testing
