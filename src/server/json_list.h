// Long lists, written in pieces as they go out: what they are made of is smaller than their text.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "server/body.h"

namespace odmoe::server {

// A JSON list of n items, in pieces of some kilobytes.  False when the sink wanted no more.
bool write_json_list(size_t n, const std::function<std::string(size_t)>& item, const BodySink& sink);

}  // namespace odmoe::server
