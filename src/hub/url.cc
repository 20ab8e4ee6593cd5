#include "hub/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "format/printable.h"

namespace odmoe::hub {
namespace {

using Url = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

Url new_url() { return {curl_url(), &curl_url_cleanup}; }

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string copy = text;
  curl_free(text);
  std::ranges::transform(copy, copy.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return copy;
}

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

}  // namespace

Result<std::string> origin_of(const std::string& url) {
  const Url parsed = new_url();
  if (parsed != nullptr && curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK) {
    const std::string scheme = part_of(parsed.get(), CURLUPART_SCHEME),
                      host = part_of(parsed.get(), CURLUPART_HOST);
    if ((scheme == "https" || scheme == "http") && !host.empty()) {
      return scheme + "://" + host + ":" + part_of(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
    }
  }
  return fail(ErrorKind::kUsage, "'{}' is not a URL of http or https", printable(url));
}

std::string host_of(const std::string& url) {
  const Url parsed = new_url();
  if (parsed != nullptr && curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK) {
    const std::string host = part_of(parsed.get(), CURLUPART_HOST);
    if (!host.empty()) return printable(host);
  }
  return printable(url);
}

Result<std::string> join_url(const std::string& url, const std::string& location) {
  const Url parsed = new_url();
  char* joined = nullptr;
  if (parsed == nullptr || curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK ||
      curl_url_set(parsed.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK ||
      curl_url_get(parsed.get(), CURLUPART_URL, &joined, 0) != CURLUE_OK) {
    return fail(ErrorKind::kBadFile, "{} sends on to '{}', which is not a URL", host_of(url),
                printable(location));
  }
  std::string target = joined;
  curl_free(joined);
  ODMOE_ASSIGN_OR_RETURN(const std::string from, origin_of(url));
  ODMOE_ASSIGN_OR_RETURN(const std::string to, origin_of(target));
  if (from.starts_with("https:") && !to.starts_with("https:")) {
    return fail(ErrorKind::kBadFile, "{} sends on to {} without encryption, which is refused", host_of(url),
                host_of(target));
  }
  return target;
}

std::string escaped_path(std::string_view path, bool keep_slashes) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    if (is_plain(c) || (keep_slashes && c == '/')) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 15U];
    }
  }
  return out;
}

}  // namespace odmoe::hub
