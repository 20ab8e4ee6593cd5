// Requests as a hostile client would write them, up to where their bodies end.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/authority.h"
#include "server/chunked_body.h"
#include "server/cors.h"
#include "server/http_head.h"
#include "server/routes.h"

namespace {

using namespace odmoe;
using namespace odmoe::server;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

struct Read {
  int status = 0;  // of the error, 0: none
  size_t head_bytes = 0, body_bytes = 0;
  HttpHead head;
  std::string body;
  bool operator==(const Read& other) const {
    return status == other.status && head_bytes == other.head_bytes && body_bytes == other.body_bytes &&
           head.method == other.head.method && head.target == other.head.target &&
           head.fields == other.head.fields && head.body == other.head.body &&
           head.content_length == other.head.content_length && body == other.body;
  }
};

Read read(std::string_view bytes, size_t piece) {
  Read read;
  HeadParser parser;
  while (!parser.done()) {
    if (read.head_bytes == bytes.size()) return read;
    const auto used = parser.take(bytes.substr(read.head_bytes, piece));
    if (!used.has_value()) {
      read.status = used.error().status;
      read.head_bytes = 0;
      return read;
    }
    read.head_bytes += *used;
  }
  read.head = std::move(parser).head();
  if (read.head.body != HttpHead::Body::kChunked) return read;
  bytes.remove_prefix(read.head_bytes);
  ChunkedBody chunks;
  while (!chunks.done() && read.body_bytes < bytes.size()) {
    const auto used = chunks.take(bytes.substr(read.body_bytes, piece), read.body, 1 << 20);
    if (!used.has_value()) {
      read.status = used.error().status;
      read.body_bytes = 0;
      read.body.clear();
      return read;
    }
    read.body_bytes += *used;
  }
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Read whole = read(bytes, std::string_view::npos);
  require(whole == read(bytes, 1));  // however they come
  (void)check_cors_origin(bytes.substr(0, 300));
  if (whole.head.method.empty()) return 0;

  // What the library is shown is a head without a body, and means the same.
  const std::string_view target = whole.head.target;
  static const RouteTable routes(all_dialects());
  const std::string path = routes.canonical(target.substr(0, target.find('?')));
  require(routes.canonical(path) == path);
  const std::string shown = head_for_library(whole.head, path);
  const Read again = read(shown, std::string_view::npos);
  require(again.status == 0 || again.status == 414 || again.status == 431);  // it may have grown
  if (again.status == 0) {
    require(again.head_bytes == shown.size() && again.head.body == HttpHead::Body::kNone);
    require(again.head.method == whole.head.method && again.head.close == whole.head.close);
  }
  if (const std::string* host = whole.head.find("Host"); host != nullptr) {
    const auto authority = parse_authority(*host);
    require(authority &&
            parse_authority(authority->host) == (Authority{.host = authority->host, .port = std::nullopt}));
  }
  return 0;
}
