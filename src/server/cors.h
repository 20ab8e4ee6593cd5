// Pages of other origins: which may ask, and what their browsers are told.
#pragma once

#include <httplib.h>

#include <string_view>
#include <vector>

#include "odmoe/result.h"
#include "server/server.h"

namespace odmoe::server {

// kUsage when it is neither "*", "null" nor SCHEME://HOST[:PORT].
Status check_cors_origin(std::string_view origin);

// Whether the request is of a page of this server, or of one that --cors names, or of none.
bool may_ask(const ServerOptions& options, const httplib::Request& request);

// Whether a browser asks what a page may send, which it does without a key.
bool is_preflight(const httplib::Request& request);

// Headers that allow a page of another origin to read the answer, where it may; and, for a browser that asks,
// what it may send: what it asked for, since a header that nobody here reads does no harm.
void add_cors(const ServerOptions& options, const httplib::Request& request, httplib::Response& response);

}  // namespace odmoe::server
