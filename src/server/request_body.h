// Reads the body of a request within what it may take.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "server/api_error.h"
#include "server/json_guard.h"
#include "server/request_memory.h"

namespace odmoe::server {

// Reads the body's JSON, an object, and what it asks for, which takes no more than the JSON did: so much
// stays taken, with what `read` took besides.  `given` null: without bounds.
template <typename Request>
ApiResult<Request> read_body(std::string_view body, RequestWork* given,
                             const std::function<ApiResult<Request>(const Json&, RequestWork&)>& read) {
  RequestWork without;
  RequestWork& work = given != nullptr ? *given : without;
  const uint64_t before = work.bytes();
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_json(body, work));
  if (!json.is_object()) return bad_request("", "the body must be a JSON object");
  const uint64_t bytes = work.bytes() - before;
  ODMOE_RETURN_IF_ERROR(work.take(bytes));
  auto request = read(json, work);
  work.give_back_to(work.bytes() - bytes);
  return request;
}

}  // namespace odmoe::server
