#include "server/json_guard.h"

#include <algorithm>

#include "server/limits.h"

namespace odmoe::server {

ApiResult<Json> parse_json(std::string_view body) {
  size_t depth = 0, values = 0;
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        break;
      case '{':
      case '[':
        ++values;
        if (++depth > kMaxJsonDepth) return bad_request("", "the body nests deeper than {}", kMaxJsonDepth);
        break;
      case '}':
      case ']':
        depth -= std::min<size_t>(depth, 1);
        break;
      case ',':
        ++values;
        break;
      default:
        break;
    }
    if (values > kMaxJsonValues) return bad_request("", "the body has more than {} values", kMaxJsonValues);
  }
  try {
    return Json::parse(body);
  } catch (const Json::exception& error) {
    // Its text ends in a quotation of the body; where it is wrong is in the beginning.
    std::string what = error.what();
    const size_t at = what.find("parse error");
    if (at != std::string::npos) what.erase(0, at);
    what = what.substr(0, what.find(" - "));
    return bad_request("", "the body is not valid JSON: {}", what);
  }
}

std::string dump_json(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace odmoe::server
