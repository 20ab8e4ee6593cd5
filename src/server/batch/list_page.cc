#include "server/batch/list_page.h"

#include <charconv>
#include <utility>

namespace odmoe::server {

ApiResult<PageQuery> page_query(const std::multimap<std::string, std::string>& query, size_t default_limit,
                                size_t most) {
  PageQuery page{.limit = default_limit};
  if (const auto limit = query.find("limit"); limit != query.end()) {
    const std::string& text = limit->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), page.limit);
    if (error != std::errc() || end != text.data() + text.size() || page.limit < 1 || page.limit > most) {
      return bad_request("limit", "limit must be a whole number from 1 to {}", most);
    }
  }
  if (const auto order = query.find("order"); order != query.end()) {
    if (order->second != "asc" && order->second != "desc") {
      return bad_request("order", "order must be asc or desc");
    }
    page.descending = order->second == "desc";
  }
  if (const auto after = query.find("after"); after != query.end()) page.after = after->second;
  return page;
}

Json list_json(Json data, bool more) {
  const Json first = data.empty() ? Json(nullptr) : data.front()["id"];
  const Json last = data.empty() ? Json(nullptr) : data.back()["id"];
  return {{"object", "list"},
          {"data", std::move(data)},
          {"first_id", first},
          {"last_id", last},
          {"has_more", more}};
}

}  // namespace odmoe::server
