#include "server/responses/responses_dialect.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/json_guard.h"
#include "server/json_list.h"
#include "server/limits.h"
#include "server/openai_answer.h"
#include "server/responses/responses_request.h"
#include "server/responses/responses_writer.h"

namespace odmoe::server {
namespace {

enum ResponsesRoute : int { kCreate, kGet, kDelete, kPostBelow };

constexpr std::string_view kResponsesPath = "/v1/responses";
constexpr auto kResponsesRoutes = std::to_array<Route>({
    {.method = Route::Method::kPost,
     .path = kResponsesPath,
     .takes_body = true,
     .handler = Route::Handler::kGenerate,
     .id = kCreate},
    {.path = kResponsesPath, .has_names = true, .only_names = true, .needs_model = false, .id = kGet},
    {.method = Route::Method::kDelete,
     .path = kResponsesPath,
     .has_names = true,
     .only_names = true,
     .needs_model = false,
     .id = kDelete},
    {.method = Route::Method::kPost,
     .path = kResponsesPath,
     .has_names = true,
     .only_names = true,
     .needs_model = false,
     .id = kPostBelow},
});

ApiError not_found(std::string_view id) {
  return {.status = 404,
          .fault = Fault::kRequest,
          .message = odmoe::format("Response with id '{}' not found.", id.substr(0, 128))};
}

// A parameter of the address; nothing: it is not there.
std::optional<std::string> query_of(const PlainRequest& request, const char* name) {
  const auto found = request.query.find(name);
  if (found == request.query.end()) return std::nullopt;
  return found->second;
}

Body body_of(SharedResponse response) {
  return {.write = [response = std::move(response)](const BodySink& sink) {
    if (!sink(response->head)) return false;
    for (size_t i = 0; i < response->output.size(); ++i) {
      if ((i > 0 && !sink(",")) || !sink(response->output[i].text)) return false;
    }
    return sink(response->tail) && sink("\n");
  }};
}

// What of the items is listed, and in what order.
struct ItemPage {
  size_t limit = 20;
  bool descending = true;
  std::string after, before;
};

ApiResult<ItemPage> page_of(const PlainRequest& request) {
  ItemPage page;
  if (const auto limit = query_of(request, "limit")) {
    const auto [end, error] = std::from_chars(limit->data(), limit->data() + limit->size(), page.limit);
    if (error != std::errc() || end != limit->data() + limit->size() || page.limit < 1 ||
        page.limit > kMaxListedItems) {
      return bad_request("limit", "limit must be a whole number from 1 to {}", kMaxListedItems);
    }
  }
  if (const auto order = query_of(request, "order")) {
    if (*order != "asc" && *order != "desc") return bad_request("order", "order must be asc or desc");
    page.descending = *order == "desc";
  }
  page.after = query_of(request, "after").value_or("");
  page.before = query_of(request, "before").value_or("");
  return page;
}

// All that the response was made of: what it goes on from, and its input.
ApiResult<Body> list_items(ResponseStore::History history, const ItemPage& page) {
  struct Listed {
    ResponseStore::History history;
    std::vector<const ResponseItemText*> items;
    bool more = false;
  };
  auto listed = std::make_shared<Listed>();
  std::vector<const ResponseItemText*>& items = listed->items;
  for (const SharedResponse& response : history.responses) {
    for (const ResponseItemText& item : response->input) items.push_back(&item);
    if (response == history.responses.back()) break;
    for (const ResponseItemText& item : response->output) items.push_back(&item);
  }
  if (page.descending) std::ranges::reverse(items);
  const auto place_of = [&](const char* name, const std::string& id) -> ApiResult<size_t> {
    const auto found = std::ranges::find_if(items, [&](const auto* item) { return item->id == id; });
    if (found == items.end()) return bad_request(name, "{} names no item of this response", name);
    return static_cast<size_t>(found - items.begin());
  };
  if (!page.before.empty()) {
    ODMOE_ASSIGN_OR_RETURN(const size_t place, place_of("before", page.before));
    items.resize(place);
  }
  if (!page.after.empty()) {
    ODMOE_ASSIGN_OR_RETURN(const size_t place, place_of("after", page.after));
    items.erase(items.begin(), items.begin() + static_cast<ptrdiff_t>(place) + 1);
  }
  listed->more = items.size() > page.limit;
  items.resize(std::min(items.size(), page.limit));
  listed->history = std::move(history);
  return Body{.write = [listed](const BodySink& sink) {
    const auto& shown = listed->items;
    const auto id = [](const ResponseItemText& item) { return dump_json(item.id); };
    const auto text = [&](size_t i) { return shown[i]->text; };
    return sink("{\"object\":\"list\",\"data\":") && write_json_list(shown.size(), text, sink) &&
           sink(odmoe::format(",\"first_id\":{},\"last_id\":{},\"has_more\":{}}}\n",
                              shown.empty() ? "null" : id(*shown.front()),
                              shown.empty() ? "null" : id(*shown.back()), listed->more));
  }};
}

}  // namespace

std::span<const Route> ResponsesDialect::routes() const { return kResponsesRoutes; }

ApiResult<ParsedRequest> ResponsesDialect::parse(const Route& /*route*/, std::string_view body,
                                                 int32_t n_vocab, RequestWork& work) const {
  ODMOE_ASSIGN_OR_RETURN(ResponsesRequest request, parse_responses_request(body, n_vocab, store_, &work));
  const uint64_t bytes = request.settings.bytes();
  auto settings = std::make_shared<const ResponseSettings>(std::move(request.settings));
  return ParsedRequest{
      .request = std::move(request.chat),
      .writer = [settings](const AnswerStart& start) { return responses_writer(start, settings); },
      .writer_bytes = bytes,
      .writer_keeps_answer = true};
}

ApiResult<Body> ResponsesDialect::answer(const Route& route, PlainRequest request) const {
  constexpr std::string_view kItems = "/input_items", kCancel = "/cancel";
  std::string_view id = request.path.substr(kResponsesPath.size() + 1);
  const auto is_below = [&](std::string_view end) {
    if (!id.ends_with(end)) return false;
    id.remove_suffix(end.size());
    return true;
  };
  const bool items = route.id == kGet && is_below(kItems);
  const bool cancel = route.id == kPostBelow && is_below(kCancel);
  if (route.id == kPostBelow && !cancel) return std::unexpected(from_status(404));
  const std::string name(id);
  if (route.id == kDelete) {
    if (!store_->remove(name, request.owner)) return std::unexpected(not_found(id));
    return Body{.text = dump_json({{"id", name}, {"object", "response"}, {"deleted", true}}) + "\n"};
  }
  if (items) {
    ODMOE_ASSIGN_OR_RETURN(const ItemPage page, page_of(request));
    ResponseStore::History history = store_->history(name, request.owner);
    if (history.responses.empty()) return std::unexpected(not_found(id));
    return list_items(std::move(history), page);
  }
  SharedResponse response = store_->find(name, request.owner);
  if (response == nullptr) return std::unexpected(not_found(id));
  if (cancel) {
    return bad_request("", "Cannot cancel a synchronous response: close the connection that it comes on.");
  }
  if (query_of(request, "stream").value_or("false") == "true") {
    return bad_request("stream", "stream is not supported here: what was kept comes whole");
  }
  return body_of(std::move(response));
}

Body ResponsesDialect::error(const ApiError& error) const { return {.text = openai_error(error) + "\n"}; }

}  // namespace odmoe::server
