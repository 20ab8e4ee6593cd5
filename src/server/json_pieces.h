// Long answers, written in pieces as they go out: what they are made of is smaller than their text.
#pragma once

#include <httplib.h>

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace odmoe::server {

// Takes a part of a text; false: the rest is not wanted.
using PieceSink = std::function<bool(std::string_view piece)>;

// A JSON list of n items, in pieces of some kilobytes.  False when the sink wanted no more.
bool write_json_list(size_t n, const std::function<std::string(size_t)>& item, const PieceSink& sink);

// Answers with what `write` writes, which it is called for twice and must be the same: once to know how long
// it is. It is kept until the answer is out.
void send_pieces(httplib::Response& response, std::function<bool(const PieceSink&)> write);

}  // namespace odmoe::server
