// JSON from outside, within bounds of depth, keys, memory and time.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "server/api_error.h"
#include "server/request_memory.h"

namespace odmoe::server {

using Json = nlohmann::ordered_json;

// 400 when it is not JSON, nests deeper than kMaxJsonDepth, has an object of more than kMaxJsonKeys, or a
// string of more than kMaxJsonStringBytes.  Its memory is taken from `work`, which may end it
// (RequestWork::take()): what the value takes stays taken, what reading it takes besides is given back.
ApiResult<Json> parse_json(std::string_view body, RequestWork& work);
// The same for what is small.
ApiResult<Json> parse_json(std::string_view body);

// Compact, with U+FFFD for bytes that are not UTF-8: never throws.
std::string dump_json(const Json& json);

}  // namespace odmoe::server
