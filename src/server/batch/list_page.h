// Lists that come by the page, as OpenAI's API asks for them: limit, order, after.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "server/api_error.h"
#include "server/json_guard.h"
#include "server/limits.h"

namespace odmoe::server {

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct PageQuery {
  size_t limit = 0;
  bool descending = true;
  std::string after = {};  // the id of the one before the page; empty: from the first on
};
// NOLINTEND(readability-redundant-member-init)

// 400 for what it cannot be.
ApiResult<PageQuery> page_query(const std::multimap<std::string, std::string>& query, size_t default_limit,
                                size_t most);

template <typename T>
struct ListPage {
  std::vector<T> items;
  bool more = false;
};

// One of a list, which has an id, and about how long its text is.
template <typename T>
struct Listed {
  const T* item = nullptr;
  size_t bytes = 0;
};

// A page of `items`, all that there are, the first one first: shorter than it was asked for where it would be
// longer than kMaxListBytes.  400 when none has the id after which it begins.
template <typename T>
ApiResult<ListPage<T>> page_of_list(const std::vector<Listed<T>>& items, const PageQuery& query) {
  ListPage<T> page;
  const size_t n = items.size();
  size_t first = 0, bytes = 0;
  const auto at = [&](size_t i) -> const Listed<T>& { return items[query.descending ? n - 1 - i : i]; };
  if (!query.after.empty()) {
    while (first < n && at(first).item->id != query.after) ++first;
    if (first == n) return bad_request("after", "after names none of this list");
    ++first;
  }
  for (size_t i = first; i < n && page.items.size() < query.limit; ++i) {
    bytes += at(i).bytes;
    if (!page.items.empty() && bytes > kMaxListBytes) break;
    page.items.push_back(*at(i).item);
  }
  page.more = n - first > page.items.size();
  return page;
}

// {"object": "list", "data", "first_id", "last_id", "has_more"}
Json list_json(Json data, bool more);

}  // namespace odmoe::server
