#include "server/api_error.h"

#include <nlohmann/json.hpp>

namespace odmoe::server {

ApiError from_engine(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kUsage:
    case ErrorKind::kUnsupported:
      return {.status = 400, .type = "invalid_request_error", .message = error.message};
    case ErrorKind::kInterrupted:
      return {.status = 503, .type = "server_error", .message = error.message, .retry_after_s = 1};
    default:
      return {.status = 500, .type = "server_error", .message = error.message};
  }
}

std::string error_json(const ApiError& error) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
  };
  const nlohmann::ordered_json json = {{"error",
                                        {{"message", error.message},
                                         {"type", error.type},
                                         {"param", or_null(error.param)},
                                         {"code", or_null(error.code)}}}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ApiError from_status(int status) {
  const char* message = nullptr;
  switch (status) {
    case 404:
      message = "there is nothing at this address: see docs/server.md for what there is";
      break;
    case 413:
      message = "the request's body is too large: send less, or start the server with a larger --max-body";
      break;
    case 414:
      message = "the request's address is too long";
      break;
    case 431:
      message = "the request's headers are too large";
      break;
    case 500:
      message = "the server failed to answer: its log says why";
      break;
    default:
      message = "the request is not one that this server understands";
  }
  return {.status = status,
          .type = status >= 500 ? "server_error" : "invalid_request_error",
          .message = message,
          .code = status == 404 ? "not_found" : ""};
}

}  // namespace odmoe::server
