#include "server/anthropic_dialect.h"

#include <array>
#include <utility>

#include "server/anthropic_answer.h"
#include "server/anthropic_request.h"
#include "server/json_guard.h"

namespace odmoe::server {
namespace {

constexpr auto kAnthropicRoutes = std::to_array<Route>({
    {.method = Route::Method::kPost,
     .path = "/v1/messages",
     .takes_body = true,
     .handler = Route::Handler::kGenerate},
    {.method = Route::Method::kPost,
     .path = "/v1/messages/count_tokens",
     .takes_body = true,
     .handler = Route::Handler::kPrompt},
});

}  // namespace

std::span<const Route> AnthropicDialect::routes() const { return kAnthropicRoutes; }

ApiResult<ParsedRequest> AnthropicDialect::parse(const Route& route, std::string_view body, int32_t n_vocab,
                                                 RequestWork& work) const {
  ODMOE_ASSIGN_OR_RETURN(AnthropicRequest request, parse_anthropic_request(body, n_vocab, &work));
  ParsedRequest parsed{.request = std::move(request.chat)};
  if (route.handler == Route::Handler::kPrompt) {
    parsed.prompted = [](const ServedModel& /*model*/, std::span<const Token> prompt) {
      return Body{.text = dump_json({{"input_tokens", prompt.size()}}) + "\n"};
    };
  } else {
    const AnthropicAnswerOptions options{.shows_thoughts = request.shows_thoughts};
    parsed.writer = [options](const AnswerStart& start) { return anthropic_writer(start, options); };
  }
  return parsed;
}

ApiResult<Body> AnthropicDialect::answer(const Route& /*route*/, PlainRequest /*request*/) const {
  return std::unexpected(from_status(404));  // it has no such routes
}

Body AnthropicDialect::error(const ApiError& error) const { return {.text = anthropic_error(error) + "\n"}; }

}  // namespace odmoe::server
