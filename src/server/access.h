// Who may ask what: keys, hosts, origins and methods, looked at before a body is read.
#pragma once

#include <httplib.h>

#include <optional>

#include "server/api_error.h"
#include "server/server.h"

namespace odmoe::server {

// The error that the request gets for its headers; nothing: it may go on.
std::optional<ApiError> check_access(const ServerOptions& options, const httplib::Request& request);

// Headers that allow pages of other origins to read the answer, where they may.
void add_cors(const ServerOptions& options, const httplib::Request& request, httplib::Response& response);

// The methods that the path is there for, "" for a path that is not there.
std::string_view allowed_methods(std::string_view path);

}  // namespace odmoe::server
