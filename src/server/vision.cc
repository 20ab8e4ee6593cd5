#include "server/vision.h"

#include <httplib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <utility>

#include "base/base64.h"
#include "base/fingerprint.h"
#include "base/mutex.h"
#include "odmoe/format.h"
#include "server/json_guard.h"

namespace odmoe::server {
namespace {

constexpr size_t kMaxAnswerBytes = 1 << 20;

// "http://host:port/v1" as the two parts that the client wants.
struct Address {
  std::string origin, path;
};
Address split_url(const std::string& url) {
  const size_t scheme = url.find("://");
  const size_t slash = url.find('/', scheme == std::string::npos ? 0 : scheme + 3);
  Address address{.origin = url.substr(0, slash),
                  .path = slash == std::string::npos ? "" : url.substr(slash)};
  while (address.path.ends_with('/')) address.path.pop_back();
  if (!address.path.ends_with("/v1")) address.path += "/v1";
  return address;
}

}  // namespace

// So many at once.
class Vision::Gate {
 public:
  explicit Gate(size_t free) : free_(free) {}
  bool enter(std::chrono::steady_clock::time_point limit) {
    MutexLock lock(mutex_);
    while (free_ == 0) {
      if (!freed_.wait_until(mutex_, limit)) return false;
    }
    --free_;
    return true;
  }
  void leave() {
    {
      const MutexLock lock(mutex_);
      ++free_;
    }
    freed_.notify_one();
  }

 private:
  Mutex mutex_;
  Condition freed_;
  size_t free_ ODMOE_GUARDED_BY(mutex_);
};

Vision::Vision(VisionOptions options)
    : options_(std::move(options)), gate_(std::make_unique<Gate>(options_.parallel)) {}
Vision::~Vision() = default;

Status Vision::check() const {
  if (options_.url.empty()) return {};
  if (!options_.url.starts_with("http://") && !options_.url.starts_with("https://")) {
    return fail(ErrorKind::kUsage, "--vision-url {}: it must begin with http:// or https://", options_.url);
  }
  if (!httplib::Client(split_url(options_.url).origin).is_valid()) {
    return fail(ErrorKind::kUsage, "--vision-url {}: this is not the address of a server", options_.url);
  }
  return {};
}

ApiStatus Vision::check_image(std::string_view url, size_t index) const {
  const std::string which = odmoe::format("image {}", index + 1);
  if (options_.url.empty()) {
    return bad_request("messages",
                       "{}: this model reads text only; start the server with --vision-url URL of an "
                       "OpenAI-compatible server with a vision model, whose description then takes its place",
                       which);
  }
  if (url.starts_with("http://") || url.starts_with("https://")) {
    if (options_.allow_remote) return {};
    return bad_request("messages",
                       "{}: addresses of images are not followed; send it as a data: URL, or start the "
                       "server with --vision-allow-urls",
                       which);
  }
  const size_t comma = url.find(',');
  const std::string_view head = url.substr(0, comma);
  if (!url.starts_with("data:image/") || comma == std::string_view::npos || !head.ends_with(";base64")) {
    return bad_request("messages", "{}: it must be a URL of the form data:image/png;base64,...", which);
  }
  const std::string_view data = url.substr(comma + 1);
  if (data.size() / 4 * 3 > options_.max_image_bytes + 3) {
    return bad_request("messages", "{}: it is larger than {} bytes", which, options_.max_image_bytes);
  }
  const auto bytes = decode_base64(data, options_.max_image_bytes);
  if (!bytes || bytes->empty()) return bad_request("messages", "{}: its base64 is damaged", which);
  return {};
}

bool Vision::find(const std::string& key, std::string& text) {
  const MutexLock lock(mutex_);
  const auto entry = entries_.find(key);
  if (entry == entries_.end()) return false;
  recent_.splice(recent_.begin(), recent_, entry->second);
  text = entry->second->text;
  ++counters_.cached;
  return true;
}

void Vision::remember(const std::string& key, const std::string& text) {
  const MutexLock lock(mutex_);
  if (entries_.contains(key) || text.size() > options_.cache_bytes) return;
  recent_.push_front({.key = key, .text = text});
  entries_[key] = recent_.begin();
  bytes_ += text.size();
  while (bytes_ > options_.cache_bytes) {
    bytes_ -= recent_.back().text.size();
    entries_.erase(recent_.back().key);
    recent_.pop_back();
  }
}

ApiResult<std::string> Vision::ask(const std::string& url, size_t index, std::string_view owner) {
  const auto failed = [&](int status, std::string_view why) {
    {
      const MutexLock lock(mutex_);
      ++counters_.failed;
    }
    return std::unexpected(
        ApiError{.status = status,
                 .fault = Fault::kServer,
                 .message = odmoe::format("image {}: the vision server {} {}", index + 1, options_.url, why),
                 .param = "messages",
                 .code = "vision_failed"});
  };
  // What is remembered is the picture, whatever URL it came in; how long the answer takes would tell others
  // that it was here.
  const size_t comma = url.find(',');
  const bool data = url.starts_with("data:");
  Fingerprint fingerprint;
  fingerprint.add(owner);
  fingerprint.add(data ? std::string_view(url).substr(comma + 1) : std::string_view(url));
  const std::string key = fingerprint.value().hex();
  std::string text;
  if (data && find(key, text)) return text;

  const auto limit = std::chrono::steady_clock::now() + options_.timeout;
  if (!gate_->enter(limit)) return failed(504, "is busy with other images; try again later");
  struct Leave {
    Gate* gate;
    ~Leave() { gate->leave(); }
  } leave{gate_.get()};
  {
    const MutexLock lock(mutex_);
    ++counters_.asked;
  }
  const Address address = split_url(options_.url);
  httplib::Client client(address.origin);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(limit - std::chrono::steady_clock::now());
  client.set_connection_timeout(std::min<std::chrono::milliseconds>(left, std::chrono::seconds(10)));
  client.set_read_timeout(left);
  client.set_write_timeout(left);
  client.set_max_timeout(left);
  if (!options_.api_key.empty()) client.set_bearer_token_auth(options_.api_key);
  const Json body = {{"model", options_.model},
                     {"max_tokens", options_.max_tokens},
                     {"temperature", 0},
                     {"messages",
                      {{{"role", "user"},
                        {"content",
                         {{{"type", "text"}, {"text", options_.prompt}},
                          {{"type", "image_url"}, {"image_url", {{"url", url}}}}}}}}}};
  httplib::Result answer =
      client.Post(address.path + "/chat/completions", dump_json(body), "application/json");
  if (!answer) {
    const bool late = std::chrono::steady_clock::now() >= limit || answer.error() == httplib::Error::Timeout;
    if (late)
      return failed(504, odmoe::format("did not answer within {}",
                                       std::chrono::duration_cast<std::chrono::seconds>(options_.timeout)));
    return failed(502, odmoe::format("cannot be reached: {}", httplib::to_string(answer.error())));
  }
  if (answer->status != 200) return failed(502, odmoe::format("answered with status {}", answer->status));
  if (answer->body.size() > kMaxAnswerBytes) return failed(502, "answered with too much");
  const auto json = parse_json(answer->body);
  const auto content = json.has_value() ? [&]() -> std::optional<std::string> {
    const Json::json_pointer at("/choices/0/message/content");
    if (!json->contains(at) || !json->at(at).is_string()) return std::nullopt;
    return json->at(at).get<std::string>();
  }()
      : std::nullopt;
  if (!content || content->empty()) return failed(502, "gave no description");
  if (data) remember(key, *content);
  return *content;
}

ApiResult<std::vector<std::string>> Vision::describe(const std::vector<std::string>& urls,
                                                     const std::function<bool()>& cancelled,
                                                     std::string_view owner) {
  for (size_t i = 0; i < urls.size(); ++i) ODMOE_RETURN_IF_ERROR(check_image(urls[i], i));
  // As many threads as may ask at once, each taking the next image; none begins once one has failed or the
  // client has gone.
  std::vector<ApiResult<std::string>> texts(urls.size(), std::string());
  std::atomic<size_t> next = 0;
  std::atomic<bool> stop = false;
  const auto work = [&] {
    for (size_t i = next++; i < urls.size() && !stop; i = next++) {
      texts[i] = ask(urls[i], i, owner);
      if (!texts[i].has_value()) stop = true;
    }
  };
  std::vector<std::future<void>> workers;
  for (size_t i = 0; i < std::min(urls.size(), options_.parallel); ++i) {
    workers.push_back(std::async(std::launch::async, work));
  }
  bool gone = false;
  for (const auto& worker : workers) {
    while (worker.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready) {
      gone = gone || cancelled();
      if (gone) stop = true;
    }
  }
  if (gone) {
    return std::unexpected(
        ApiError{.status = 499, .fault = Fault::kServer, .message = "the client went away"});
  }
  std::vector<std::string> described;
  for (auto& text : texts) {
    if (!text.has_value()) return std::unexpected(text.error());
    described.push_back(std::move(*text));
  }
  return described;
}

Vision::Counters Vision::counters() const {
  const MutexLock lock(mutex_);
  return counters_;
}

}  // namespace odmoe::server
