// HTTP as this folder needs it: several answers at once, each to a sink as it comes, all in one thread.
// Redirects are not followed: who asks decides who may see the token.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace odmoe::hub {

struct ByteRange {
  uint64_t begin = 0, end = 0;  // the end is the first that is not wanted
};

struct HttpRequest {
  std::string url;
  std::string token;  // sent as Authorization: Bearer; empty: none
  bool head = false;  // only the header fields are wanted
  std::optional<ByteRange> range;
};

struct HttpHead {
  int status = 0;
  std::map<std::string, std::string, std::less<>> fields;  // names in small letters

  std::string_view field(std::string_view name) const {  // empty: it has none
    const auto found = fields.find(name);
    return found == fields.end() ? std::string_view() : found->second;
  }
};

// What takes an answer.  Called in Http::run() and in the thread that calls it.
class HttpSink {
 public:
  virtual ~HttpSink() = default;
  // False: no more of this answer is wanted.
  virtual bool head(const HttpHead& head) = 0;
  virtual bool body(std::span<const std::byte> bytes) = 0;
};

struct HttpEnd {
  enum class Kind {
    kWhole,        // all that was to come has come
    kStopped,      // the sink wanted no more
    kBroken,       // the connection could not be made, or broke: another try may go better
    kUnreachable,  // there is no such host
    kRefused,      // no try will go better: a certificate that is not trusted, a protocol that is not allowed
  };
  Kind kind = Kind::kWhole;
  std::string why;                                  // of the last three, for people
  std::optional<std::chrono::seconds> retry_after;  // what the server said
};

// One owner.
class Http {
 public:
  using Id = uint64_t;

  virtual ~Http() = default;
  // Begins; the sink has to live until the end or cancel().
  virtual Id start(HttpRequest request, HttpSink& sink) = 0;
  virtual void cancel(Id id) = 0;
  // Moves bytes, waiting up to so long for some; returns the requests that have ended.
  virtual std::vector<std::pair<Id, HttpEnd>> run(std::chrono::milliseconds patience) = 0;
};

}  // namespace odmoe::hub
