// What form the answer is to have.
#include "server/request_parts.h"

namespace odmoe::server {

ApiStatus read_response_format(const Fields& fields, CommonRequest& request) {
  const Json* json = fields.find("response_format");
  if (json == nullptr) return {};
  if (!json->is_object()) return bad_request("response_format", "response_format must be an object");
  const Fields format(*json, "response_format.");
  std::string type;
  ODMOE_RETURN_IF_ERROR(format.read("type", type));
  if (type == "text") return {};
  if (type == "json_object") {
    request.json_object = true;
    return {};
  }
  if (type != "json_schema") {
    return bad_request("response_format.type",
                       "response_format.type must be text, json_object or json_schema");
  }
  const Json* outer = format.find("json_schema");
  if (outer == nullptr || !outer->is_object() || !outer->contains("schema") || (*outer)["schema"].is_null()) {
    return bad_request("response_format.json_schema", "response_format.json_schema.schema is missing");
  }
  request.schema = (*outer)["schema"];
  return {};
}

}  // namespace odmoe::server
