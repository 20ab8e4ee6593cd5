#include "hub/download.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "format/printable.h"
#include "hub/url.h"

namespace odmoe::hub {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kReadTick{100};
// In a row that bring nothing:
constexpr int kMaxCdnRedirects = 10, kMaxRefusals = 3;

// "bytes 0-99/1000": which bytes, of how many; 0: the server does not tell.
struct ContentRange {
  uint64_t begin = 0, end = 0, total = 0;
};

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  const auto number = [&text](char ending) -> std::optional<uint64_t> {
    uint64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(stop - text.data()));
    if (ending == '\0') return text.empty() ? std::optional(value) : std::nullopt;
    if (!text.starts_with(ending)) return std::nullopt;
    text.remove_prefix(1);
    return value;
  };
  const auto first = number('-'), last = number('/');
  if (!first || !last || *last < *first || *last == UINT64_MAX) return std::nullopt;
  if (text == "*") return ContentRange{.begin = *first, .end = *last + 1};
  const auto total = number('\0');
  if (!total) return std::nullopt;
  return ContentRange{.begin = *first, .end = *last + 1, .total = *total};
}

// A range of the file, and who takes the answer that brings it.
class Range final : public HttpSink {
 public:
  Range(uint64_t begin, uint64_t end, uint64_t file_bytes)
      : begin_(begin), end_(end), file_bytes_(file_bytes) {}

  ByteRange missing() const { return {.begin = begin_ + bytes_.size(), .end = end_}; }
  bool complete() const { return bytes_.size() == end_ - begin_; }
  uint64_t size() const { return bytes_.size(); }

  bool head(const HttpHead& head) override {
    head_ = head;
    if (head.status != 206) return false;
    const auto range = parse_content_range(head.field("content-range"));
    const ByteRange wanted = missing();
    if (!range || range->begin != wanted.begin || range->end > wanted.end ||
        (range->total != 0 && range->total != file_bytes_)) {
      wrong_ =
          odmoe::format("it sends '{}' where bytes {}-{}/{} were asked for",
                        printable(head.field("content-range")), wanted.begin, wanted.end - 1, file_bytes_);
    }
    if (wrong_.empty()) bytes_.reserve(end_ - begin_);
    return wrong_.empty();
  }
  bool body(std::span<const std::byte> bytes) override {
    if (bytes.size() > end_ - begin_ - bytes_.size()) {
      wrong_ = "it sends more than was asked for";
      return false;
    }
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return true;
  }

  // What has come and was not taken yet.
  std::span<const std::byte> take() {
    return std::span(bytes_).subspan(std::exchange(taken_, bytes_.size()));
  }

  Http::Id id = 0;  // 0: it is not on its way
  std::string url;  // that was asked last
  HttpHead head_;   // of the last answer
  std::string wrong_;

 private:
  uint64_t begin_, end_, file_bytes_;
  std::vector<std::byte> bytes_;
  size_t taken_ = 0;
};

// The whole file from its beginning, of a server that gives no ranges: what is there already is passed over.
class Whole final : public HttpSink {
 public:
  Whole(Blob& blob, uint64_t file_bytes) : blob_(&blob), skip_(blob.bytes()), file_bytes_(file_bytes) {}

  bool head(const HttpHead& head) override {
    head_ = head;
    return head.status == 200;
  }
  bool body(std::span<const std::byte> bytes) override {
    const size_t passed = static_cast<size_t>(std::min<uint64_t>(skip_, bytes.size()));
    skip_ -= passed;
    bytes = bytes.subspan(passed);
    if (bytes.size() > file_bytes_ - blob_->bytes()) {
      wrong_ = "it sends more than the file has";
      return false;
    }
    if (!bytes.empty()) status_ = blob_->append(bytes);
    return status_.has_value();
  }

  HttpHead head_;
  std::string wrong_;
  Status status_;

 private:
  Blob* blob_;
  uint64_t skip_, file_bytes_;
};

class Download {
 public:
  Download(const RemoteFile& file, Http& http, Blob& blob, PullWatcher& watcher,
           const DownloadOptions& options, const std::function<void(uint64_t)>& arrived)
      : file_(file),
        http_(http),
        blob_(blob),
        watcher_(watcher),
        options_(options),
        arrived_(arrived),
        patience_(options.patience),
        next_(blob.bytes()) {}

  Status run() {
    Status status = move_to(file_.locate());
    while (status.has_value() && blob_.bytes() < file_.bytes) status = whole_ ? all_at_once() : in_ranges();
    for (const auto& range : ranges_) {
      if (range->id != 0) http_.cancel(range->id);
    }
    // What came in order is kept, whatever happened; the first error is the one to tell.
    if (!status.has_value() && !disk_failed_ && !whole_) (void)write_what_came();
    return status;
  }

 private:
  std::unexpected<Error> interrupted() const { return fail(ErrorKind::kInterrupted, "interrupted"); }

  std::unexpected<Error> give_up(std::string_view why) const {
    return fail(ErrorKind::kIo, "{}: {}: {}; what came is kept, and the same command goes on from there",
                file_.name, host_of(location_.url), why);
  }

  Status move_to(Result<Location> location) {
    if (!location.has_value()) return std::unexpected(std::move(location).error());
    if (location->bytes != file_.bytes || (!location->content_id.empty() && !file_.content_id.empty() &&
                                           location->content_id != file_.content_id)) {
      return fail(ErrorKind::kBadFile, "{} has changed at {} in the meantime; run the same command again",
                  file_.name, host_of(location->url));
    }
    location_ = *std::move(location);
    etag_.clear();
    return {};
  }

  // ---------------------------------------------------------------- ranges

  Status in_ranges() {
    if (!watcher_.goes_on()) return interrupted();
    const milliseconds pause = pause_left();
    if (pause > milliseconds(0) && running() == 0)
      return watcher_.wait(pause, why_) ? Status() : interrupted();
    if (pause == milliseconds(0)) start();
    for (const auto& [id, end] : http_.run(kReadTick)) {
      const auto range = std::ranges::find(ranges_, id, [](const auto& r) { return r->id; });
      if (range == ranges_.end()) continue;
      (*range)->id = 0;
      ODMOE_RETURN_IF_ERROR(ended(**range, end));
      if (whole_) return {};
    }
    return write_what_came();
  }

  int running() const {
    return static_cast<int>(std::ranges::count_if(ranges_, [](const auto& range) { return range->id != 0; }));
  }

  void start() {
    const uint64_t most = static_cast<uint64_t>(options_.connections) * DownloadOptions::kWindow;
    int free = options_.connections - running();
    for (auto range = ranges_.begin(); free > 0; ++range) {
      if (range == ranges_.end()) {
        if (next_ >= file_.bytes || ranges_.size() >= most) return;
        const uint64_t end = std::min(file_.bytes, next_ + options_.range_bytes);
        ranges_.push_back(std::make_unique<Range>(std::exchange(next_, end), end, file_.bytes));
        range = std::prev(ranges_.end());
      }
      if ((*range)->id != 0 || (*range)->complete()) continue;
      (*range)->head_ = {};
      (*range)->url = location_.url;
      failing_ = false;
      (*range)->id = http_.start(
          {.url = location_.url, .token = location_.token, .range = (*range)->missing()}, **range);
      --free;
    }
  }

  Status write_what_came() {
    uint64_t waiting = 0;
    for (const auto& range : ranges_) waiting += range->size();
    if (const uint64_t seen = next_before() + waiting; seen > seen_) {
      seen_ = seen;
      something_came();
    }
    while (!ranges_.empty()) {
      Range& first = *ranges_.front();
      if (const auto bytes = first.take(); !bytes.empty()) {
        if (const Status status = blob_.append(bytes); !status.has_value()) {
          disk_failed_ = true;
          return status;
        }
      }
      if (!first.complete() || first.id != 0) break;
      ranges_.pop_front();
    }
    arrived_(seen_);
    return {};
  }

  // Where the first range begins.
  uint64_t next_before() const {
    return ranges_.empty() ? next_ : ranges_.front()->missing().begin - ranges_.front()->size();
  }

  void something_came() {
    redirects_ = refusals_ = 0;
    patience_.succeed();
  }

  Status ended(Range& range, const HttpEnd& end) {
    if (range.complete() && range.wrong_.empty()) return same_as_before(range);
    if (!range.wrong_.empty()) {
      return fail(ErrorKind::kBadFile, "{}: {} cannot be used: {}", file_.name, host_of(location_.url),
                  range.wrong_);
    }
    if (range.head_.status == 206) ODMOE_RETURN_IF_ERROR(same_as_before(range));
    // What an earlier location said is of no interest once there is another.
    if (range.head_.status >= 300 && range.url != location_.url) return {};
    return failed(range.head_, end);
  }

  // All ranges have to be of one version of the file.
  Status same_as_before(const Range& range) {
    const std::string_view etag = range.head_.field("etag");
    if (etag.empty() || range.url != location_.url) return {};
    if (etag_.empty()) etag_ = etag;
    if (etag == etag_) return {};
    return fail(ErrorKind::kBadFile,
                "{} was changed at {} in the middle (its ETag is another): run the same command again",
                file_.name, host_of(location_.url));
  }

  // ---------------------------------------------------------------- without ranges

  Status all_at_once() {
    if (const milliseconds pause = pause_left(); pause > milliseconds(0)) {
      return watcher_.wait(pause, why_) ? Status() : interrupted();
    }
    const uint64_t before = blob_.bytes();
    Whole whole(blob_, file_.bytes);
    failing_ = false;
    const Http::Id id = http_.start({.url = location_.url, .token = location_.token}, whole);
    std::optional<HttpEnd> end;
    while (!end) {
      for (auto& [ended, how] : http_.run(kReadTick)) {
        if (ended == id) end = std::move(how);
      }
      arrived_(blob_.bytes());
      if (!end && !watcher_.goes_on()) {
        http_.cancel(id);
        return interrupted();
      }
    }
    ODMOE_RETURN_IF_ERROR(whole.status_);
    if (!whole.wrong_.empty()) {
      return fail(ErrorKind::kBadFile, "{}: {} cannot be used: {}", file_.name, host_of(location_.url),
                  whole.wrong_);
    }
    if (blob_.bytes() == file_.bytes) return {};
    if (blob_.bytes() > before) something_came();
    return failed(whole.head_, *end);
  }

  // ---------------------------------------------------------------- what fails

  Status failed(const HttpHead& head, const HttpEnd& end) {
    const int status = head.status;
    if (status >= 300 && status < 400 && !head.field("location").empty()) return redirected(head);
    if (end.kind == HttpEnd::Kind::kRefused) return give_up(end.why);
    if (status == 200 && !whole_) {
      // The range that this answer was for says nothing of the others: all are dropped.
      for (const auto& range : ranges_) {
        if (range->id != 0) http_.cancel(std::exchange(range->id, 0));
      }
      ODMOE_RETURN_IF_ERROR(write_what_came());
      ranges_.clear();
      whole_ = true;
      return {};
    }
    if (status == 429) {
      return pause_for(end.retry_after ? odmoe::format("too many requests (429): it asks to wait {} s",
                                                       end.retry_after->count())
                                       : "too many requests (429)",
                       [&] { return patience_.be_told_to_wait(end.retry_after); });
    }
    if (status == 408 || status >= 500) {
      return pause_for(odmoe::format("status {}", status), [&] { return patience_.fail(end.retry_after); });
    }
    if (status >= 400) {
      // The URL of a CDN holds for a while only.
      if (++refusals_ > kMaxRefusals) return give_up(odmoe::format("status {}", status));
      return move_to(file_.locate());
    }
    return pause_for(end.kind == HttpEnd::Kind::kWhole ? "the answer was shorter than promised" : end.why,
                     [&] { return patience_.fail(); });
  }

  Status redirected(const HttpHead& head) {
    if (++redirects_ > kMaxCdnRedirects) return give_up("it sends in circles");
    ODMOE_ASSIGN_OR_RETURN(std::string target, join_url(location_.url, std::string(head.field("location"))));
    ODMOE_ASSIGN_OR_RETURN(const std::string from, origin_of(location_.url));
    ODMOE_ASSIGN_OR_RETURN(const std::string to, origin_of(target));
    if (from != to) location_.token.clear();
    location_.url = std::move(target);
    etag_.clear();
    return {};
  }

  // Of several ranges that fail at once only the first counts.
  template <typename HowLong>
  Status pause_for(std::string why, const HowLong& how_long) {
    if (std::exchange(failing_, true)) return {};
    const std::optional<milliseconds> pause = how_long();
    if (!pause) return give_up(why);
    why_ = odmoe::format("{}: {}", host_of(location_.url), why);
    resume_us_ = options_.clock->now_us() + std::chrono::microseconds(*pause).count();
    return {};
  }

  milliseconds pause_left() const {
    const int64_t left_us = resume_us_ - options_.clock->now_us();
    return left_us <= 0 ? milliseconds(0) : milliseconds((left_us + 999) / 1000);
  }

  const RemoteFile& file_;
  Http& http_;
  Blob& blob_;
  PullWatcher& watcher_;
  const DownloadOptions& options_;
  const std::function<void(uint64_t)>& arrived_;
  Patience patience_;
  Location location_;
  std::string etag_;                           // of the answers from location_
  uint64_t next_;                              // the first byte that no range has
  std::deque<std::unique_ptr<Range>> ranges_;  // from the first that is not written on
  uint64_t seen_ = 0;                          // bytes that have come
  bool whole_ = false;                         // the server gives no ranges
  bool disk_failed_ = false;
  bool failing_ = false;  // since the last request was started
  int redirects_ = 0, refusals_ = 0;
  int64_t resume_us_ = 0;
  std::string why_;
};

}  // namespace

Status download(const RemoteFile& file, Http& http, Blob& blob, PullWatcher& watcher,
                const DownloadOptions& options, const std::function<void(uint64_t)>& arrived) {
  return Download(file, http, blob, watcher, options, arrived).run();
}

}  // namespace odmoe::hub
