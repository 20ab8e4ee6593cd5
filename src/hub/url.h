// URLs, read and joined by libcurl.
#pragma once

#include <string>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe::hub {

// "https://host:port" in small letters, the port always said.  kUsage for what is not a URL of http or https.
Result<std::string> origin_of(const std::string& url);
// The host alone, for messages; the whole text where there is none.
std::string host_of(const std::string& url);

// Where `location`, absolute or not, leads from `url`.  kBadFile: nowhere, or from https to http.
Result<std::string> join_url(const std::string& url, const std::string& location);

// A path as URLs have it: everything but what is plain in a path becomes %XX; slashes stay, or not.
std::string escaped_path(std::string_view path, bool keep_slashes = true);

}  // namespace odmoe::hub
