// Who may ask what: keys, hosts, origins and methods, looked at before a body is read.
#pragma once

#include <httplib.h>

#include <optional>
#include <string_view>

#include "server/api_error.h"
#include "server/server.h"

namespace odmoe::server {

// kUsage when it is no NAME or NAME:PORT.
Status check_allowed_host(std::string_view host);

// The error that the request, whose path is canonical (routes.h), gets for its headers; nothing: it may go on.
std::optional<ApiError> check_access(const ServerOptions& options, const httplib::Request& request);

}  // namespace odmoe::server
