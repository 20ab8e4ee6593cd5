// Servers and people that tests make up.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "hub/http.h"
#include "hub/watcher.h"
#include "odmoe/format.h"

namespace odmoe::hub::testing {

struct FakeAnswer {
  int status = 200;  // 0: there is none, and the request ends as `end` says
  std::map<std::string, std::string, std::less<>> fields;
  std::string body;
  // How it ends once the body has been sent.
  HttpEnd end = {};
};

// Sends each answer in small pieces, to all requests in turn.  One thread.
class FakeHttp final : public Http {
 public:
  using Server = std::function<FakeAnswer(const HttpRequest&)>;
  explicit FakeHttp(Server server, size_t piece_bytes = 100)
      : server_(std::move(server)), piece_bytes_(piece_bytes) {}

  Id start(HttpRequest request, HttpSink& sink) override {
    requests.push_back(request);
    active_.push_back({.id = ++last_, .answer = server_(request), .sink = &sink});
    most_at_once = std::max(most_at_once, active_.size());
    return last_;
  }
  void cancel(Id id) override {
    std::erase_if(active_, [&](const Active& active) { return active.id == id; });
  }
  std::vector<std::pair<Id, HttpEnd>> run(std::chrono::milliseconds /*patience*/) override {
    std::vector<std::pair<Id, HttpEnd>> ended;
    for (Active& active : active_) {
      if (std::optional<HttpEnd> end = step(active)) ended.emplace_back(active.id, *std::move(end));
    }
    for (const auto& [id, end] : ended) cancel(id);
    return ended;
  }

  std::vector<HttpRequest> requests;
  size_t most_at_once = 0;

 private:
  struct Active {
    Id id = 0;
    FakeAnswer answer = {};
    HttpSink* sink = nullptr;
    bool told_head = false;
    size_t sent = 0;
  };

  std::optional<HttpEnd> step(Active& active) const {
    const HttpEnd stopped{
        .kind = HttpEnd::Kind::kStopped, .why = {}, .retry_after = active.answer.end.retry_after};
    if (active.answer.status == 0) return active.answer.end;
    if (!std::exchange(active.told_head, true) &&
        !active.sink->head({.status = active.answer.status, .fields = active.answer.fields})) {
      return stopped;
    }
    const size_t n = std::min(piece_bytes_, active.answer.body.size() - active.sent);
    if (n > 0 && !active.sink->body(std::as_bytes(std::span(active.answer.body).subspan(active.sent, n)))) {
      return stopped;
    }
    active.sent += n;
    return active.sent == active.answer.body.size() ? std::optional(active.answer.end) : std::nullopt;
  }

  Server server_;
  size_t piece_bytes_;
  Id last_ = 0;
  std::deque<Active> active_;
};

// Of a file that a server has: the bytes that a request asks for, with 206.
inline FakeAnswer range_of(const std::string& file, const HttpRequest& request,
                           const std::string& etag = "\"e\"") {
  const ByteRange range = *request.range;
  return {
      .status = 206,
      .fields = {{"content-range", odmoe::format("bytes {}-{}/{}", range.begin, range.end - 1, file.size())},
                 {"etag", etag}},
      .body = file.substr(range.begin, range.end - range.begin)};
}

// The same, broken off after some of it.
inline FakeAnswer broken(FakeAnswer answer, size_t after_bytes) {
  answer.body.resize(std::min(answer.body.size(), after_bytes));
  answer.end = {.kind = HttpEnd::Kind::kBroken, .why = "the connection was reset"};
  return answer;
}

class FakeClock final : public Clock {
 public:
  int64_t now_us() const override { return now_us_; }
  int64_t now_us_ = 1;
};

// Agrees to everything, and lets time pass at once.
class FakeWatcher : public PullWatcher {
 public:
  bool goes_on() override { return asked_++ < stops_after; }
  bool confirm(const PullPlan& plan) override {
    plans.push_back(plan);
    return agrees;
  }
  void progress(uint64_t done, uint64_t total, bool checking) override {
    last_done = done;
    last_total = total;
    checked = checked || checking;
  }
  bool wait(std::chrono::milliseconds time, std::string_view why) override {
    waits.push_back(odmoe::format("{} ms: {}", time.count(), why));
    clock.now_us_ += std::chrono::microseconds(time).count();
    if (on_wait) on_wait();
    return waits.size() < 100;
  }

  int stops_after = 1'000'000;
  bool agrees = true, checked = false;
  uint64_t last_done = 0, last_total = 0;
  std::vector<PullPlan> plans;
  std::vector<std::string> waits;
  std::function<void()> on_wait;
  FakeClock clock;

 private:
  int asked_ = 0;
};

}  // namespace odmoe::hub::testing
