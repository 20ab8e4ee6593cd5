// What is sent to a client: bytes and what they are.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace odmoe::server {

// Takes a body, one piece after another; false: the rest is not wanted.
using BodySink = std::function<bool(std::string_view piece)>;

struct Body {
  std::string type = "application/json";  // Content-Type
  std::string text;
  // In place of `text`, where that would take much: writes it in pieces as it goes out (json_list.h), the
  // same ones however often it is called.  False when the sink wanted no more.  Kept until the answer is out.
  std::function<bool(const BodySink&)> write;
  std::optional<uint64_t> length;  // of what is written, where it is known
};

}  // namespace odmoe::server
