// A JSON body, looked at before it is parsed so that a small one cannot take much memory or stack.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "server/api_error.h"

namespace odmoe::server {

using Json = nlohmann::ordered_json;

// 400 when it is no JSON, nests deeper than kMaxJsonDepth or has more than kMaxJsonValues.
ApiResult<Json> parse_json(std::string_view body);

// Compact, with U+FFFD for bytes that are no UTF-8: never throws.
std::string dump_json(const Json& json);

}  // namespace odmoe::server
