// Who may ask what: keys, hosts, origins and methods, looked at before a body is read.
#pragma once

#include <httplib.h>

#include <optional>
#include <string>
#include <string_view>

#include "server/api_error.h"
#include "server/routes.h"
#include "server/server.h"

namespace odmoe::server {

// kUsage when it is not NAME or NAME:PORT.
Status check_allowed_host(std::string_view host);

// Whose earlier texts the request may use again: of those who know its key alone, unless prompts are shared
// or there are no keys.  For PromptCache; the key cannot be told from it.
std::string owner_of(const ServerOptions& options, const httplib::Request& request);
// Whose answers the request may ask for again: of those who know its key, alone wherever there are keys.
std::string key_owner_of(const ServerOptions& options, const httplib::Request& request);

// The error that the request, whose path is canonical (routes.h), gets for its headers; nothing: it may go
// on, with the route that it has, if it is not OPTIONS.
std::optional<ApiError> check_access(const ServerOptions& options, const RouteTable& routes,
                                     const httplib::Request& request);

}  // namespace odmoe::server
