#include "server/api_error.h"

namespace odmoe::server {
namespace {

constexpr int kRestartSeconds = 10;  // after which to ask whether the server has been started again

}  // namespace

ApiError from_engine(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kUsage:
    case ErrorKind::kUnsupported:
      return {.status = 400, .fault = Fault::kRequest, .message = error.message};
    case ErrorKind::kInterrupted:
      return {.status = 503, .fault = Fault::kServer, .message = error.message, .retry_after_s = 1};
    case ErrorKind::kDeviceLost:
      return {.status = 503,
              .fault = Fault::kServer,
              .message = error.message,
              .code = "device_lost",
              .retry_after_s = kRestartSeconds};
    default:
      return {.status = 500, .fault = Fault::kServer, .message = error.message};
  }
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
          .fault = status >= 500 ? Fault::kServer : Fault::kRequest,
          .message = message,
          .code = status == 404 ? "not_found" : ""};
}

}  // namespace odmoe::server
