// Images described by a second machine: an OpenAI-compatible server with a vision model.
//
// The description takes the image's place in the prompt.  Images are sent on as they come, several at once;
// what was described once is remembered by its bytes.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "server/api_error.h"

namespace odmoe::server {

struct VisionOptions {
  std::string url;  // "http://mac2:8080" or ".../v1"; empty: images are refused
  std::string model = "default";
  std::string api_key;  // sent as a bearer token; empty: none
  std::string prompt =
      "Describe this image for somebody who cannot see it: what it shows, all text in it, word for word, and "
      "details that questions may be about.";
  int32_t max_tokens = 512;
  std::chrono::milliseconds timeout{60'000};  // of one image
  size_t max_image_bytes = 20 << 20;          // decoded
  size_t parallel = 4;                        // images asked about at once, of all requests
  size_t cache_bytes = 16 << 20;              // of descriptions
  bool allow_remote = false;  // http(s) URLs are passed on to the vision server, which fetches them
};

// Thread-safe.
class Vision {
 public:
  explicit Vision(VisionOptions options);
  ~Vision();

  // Checks that the URL of the vision server can be used.
  Status check() const;

  // The descriptions of these images, in order.  400 for one that cannot be read or is not allowed, 502 when
  // the vision server fails, 504 when it takes too long.  `cancelled` is asked now and then.  What is
  // remembered is remembered for this owner.
  ApiResult<std::vector<std::string>> describe(const std::vector<std::string>& urls,
                                               const std::function<bool()>& cancelled,
                                               std::string_view owner = {});

  struct Counters {
    uint64_t asked = 0, cached = 0, failed = 0;
  };
  Counters counters() const;

 private:
  struct Entry {
    std::string key, text;
  };
  ApiStatus check_image(std::string_view url, size_t index) const;
  ApiResult<std::string> ask(const std::string& url, size_t index, std::string_view owner);
  bool find(const std::string& key, std::string& text);
  void remember(const std::string& key, const std::string& text);

  VisionOptions options_;
  class Gate;
  std::unique_ptr<Gate> gate_;
  mutable Mutex mutex_;
  std::list<Entry> recent_ ODMOE_GUARDED_BY(mutex_);  // the latest first
  std::unordered_map<std::string, std::list<Entry>::iterator> entries_ ODMOE_GUARDED_BY(mutex_);
  size_t bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
  Counters counters_ ODMOE_GUARDED_BY(mutex_);
};

}  // namespace odmoe::server
