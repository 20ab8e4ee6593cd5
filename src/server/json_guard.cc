#include "server/json_guard.h"

#include <algorithm>
#include <utility>

#include "base/json_surrogates.h"
#include "base/ordered_json.h"
#include "base/units.h"
#include "server/limits.h"

namespace odmoe::server {

ApiResult<Json> parse_json(std::string_view body, RequestWork& work) {
  const size_t longest = longest_json_string(body);
  if (longest > kMaxJsonStringBytes) {
    return bad_request("", "the body has a string of {}; the limit is {}", format_bytes(longest),
                       format_bytes(kMaxJsonStringBytes));
  }
  uint64_t reading = longest * kJsonReaderBytesPerByte;
  // A client cut a text in the middle of a character: no reason to refuse all that was said.
  const auto mended = without_lone_surrogates(body);
  if (mended) {
    body = *mended;
    reading += body.size();
  }
  ODMOE_RETURN_IF_ERROR(work.take(reading));
  ApiStatus taken;
  const auto take = [&](size_t bytes) {
    if (!work.hurries_on()) taken = work.goes_on();
    if (taken.has_value()) taken = work.take(bytes);
    return taken.has_value();
  };
  auto json = read_ordered_json(body, {.depth = kMaxJsonDepth, .keys = kMaxJsonKeys, .take = take});
  work.give_back_to(work.bytes() - std::min(work.bytes(), reading));
  if (json.has_value()) return std::move(*json);
  switch (json.error().kind) {
    case JsonError::Kind::kDepth:
      return bad_request("", "the body nests deeper than {}", kMaxJsonDepth);
    case JsonError::Kind::kKeys:
      return bad_request("", "the body has an object of more than {} keys", kMaxJsonKeys);
    case JsonError::Kind::kEnded:
      return std::unexpected(taken.error());
    default:
      return bad_request("", "the body is not valid JSON: {}", json.error().message);
  }
}

ApiResult<Json> parse_json(std::string_view body) {
  RequestWork work;
  return parse_json(body, work);
}

std::string dump_json(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace odmoe::server
