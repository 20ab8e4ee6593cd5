// HTTP by libcurl.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "hub/http.h"
#include "odmoe/result.h"

namespace odmoe::hub {

struct CurlOptions {
  std::string user_agent = "odmoe";
  // Certificates of authorities that are trusted; empty: the system's.
  std::filesystem::path certificates;
  // Proxies are those that libcurl finds in the environment (https_proxy, all_proxy, no_proxy, ...).

  // A connection that brings nothing for so long is broken.
  std::chrono::seconds stall = std::chrono::seconds(30);
};

// Servers' certificates are verified.  kIo when libcurl cannot begin.
Result<std::unique_ptr<Http>> make_curl_http(const CurlOptions& options);

}  // namespace odmoe::hub
