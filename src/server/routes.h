// The addresses that there are, and what else they are called.
#pragma once

#include <string>
#include <string_view>

namespace odmoe::server {

// The address as the others know it.  Clients have base addresses with and without /v1, with and without a
// slash at their ends, and put one of their own between or not: all mean the same here.  What is no address
// of the server stays as it is.  `path` is still percent-encoded and has no query.
std::string canonical_path(std::string_view path);

// The rest are of canonical paths.
// The methods that the path is there for, for a header Allow; "" for a path that is not there.
std::string_view allowed_methods(std::string_view path);
bool takes_body(std::string_view path);
// As the figures name it: "other" for a path that is not there.
std::string_view route_label(std::string_view path);
// Needs no key.  The page itself says nothing of the model; what it shows it asks for with the key.
bool is_open(std::string_view path);

}  // namespace odmoe::server
