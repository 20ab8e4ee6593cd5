#include "server/ollama_dialect.h"

#include <array>
#include <utility>

#include "server/json_guard.h"
#include "server/ollama_answer.h"
#include "server/ollama_models.h"
#include "server/ollama_request.h"
#include "server/served_model.h"

namespace odmoe::server {
namespace {

enum OllamaId : int { kOllamaChat, kOllamaGenerate, kTags, kShow, kVersion, kRunning, kEmbeds, kChanges };

// The version of Ollama whose API it is: clients ask for a least one.
constexpr const char* kSpokenVersion = "0.14.0";

constexpr Route generating(std::string_view path, OllamaId id) {
  return {.method = Route::Method::kPost,
          .path = path,
          .takes_body = true,
          .handler = Route::Handler::kGenerate,
          .id = id};
}
// What there is in Ollama and not here.
constexpr Route missing(Route::Method method, std::string_view path, OllamaId id) {
  return {.method = method, .path = path, .needs_model = false, .id = id};
}

constexpr auto kOllamaRoutes = std::to_array<Route>({
    generating("/api/chat", kOllamaChat),
    generating("/api/generate", kOllamaGenerate),
    {.path = "/api/tags", .needs_model = false, .id = kTags},
    {.method = Route::Method::kPost, .path = "/api/show", .takes_body = true, .id = kShow},
    {.path = "/api/version", .needs_model = false, .id = kVersion},
    {.path = "/api/ps", .needs_model = false, .id = kRunning},
    missing(Route::Method::kPost, "/api/embed", kEmbeds),
    missing(Route::Method::kPost, "/api/embeddings", kEmbeds),
    missing(Route::Method::kPost, "/api/pull", kChanges),
    missing(Route::Method::kPost, "/api/push", kChanges),
    missing(Route::Method::kPost, "/api/create", kChanges),
    missing(Route::Method::kPost, "/api/copy", kChanges),
    missing(Route::Method::kDelete, "/api/delete", kChanges),
});

ApiError not_here(const Route& route) {
  return {.status = 501,
          .fault = Fault::kRequest,
          .message = route.id == kEmbeds
                         ? odmoe::format("{}: this server writes text and makes no embeddings", route.path)
                         : odmoe::format("{}: this server has the one model that it was started with; "
                                         "start another one for another model",
                                         route.path),
          .code = "not_supported"};
}

ParsedRequest with_ollama_writer(OllamaRequest request, OllamaShape shape) {
  if (request.only_loads) {
    return {
        .at_once = [shape](const AnswerStart& start) { return Body{.text = ollama_loaded(start, shape)}; }};
  }
  const bool logprobs =
      std::visit([](const auto& generation) { return generation.top_logprobs >= 0; }, request.generation);
  const OllamaAnswerOptions options{.shape = shape, .logprobs = logprobs};
  return {.request = std::move(request.generation),
          .writer = [options](const AnswerStart& start) { return ollama_writer(start, options); }};
}

}  // namespace

std::span<const Route> OllamaDialect::routes() const { return kOllamaRoutes; }

ApiResult<ParsedRequest> OllamaDialect::parse(const Route& route, std::string_view body, int32_t n_vocab,
                                              RequestWork& work) const {
  const bool chat = route.id == kOllamaChat;
  ODMOE_ASSIGN_OR_RETURN(OllamaRequest request, chat ? parse_ollama_chat(body, n_vocab, &work)
                                                     : parse_ollama_generate(body, n_vocab, &work));
  return with_ollama_writer(std::move(request), chat ? OllamaShape::kChat : OllamaShape::kGenerate);
}

ApiResult<Body> OllamaDialect::answer(const Route& route, PlainRequest request) const {
  switch (route.id) {
    case kTags:
      return ollama_tags(request.model_id, request.model.get());
    case kRunning:
      return ollama_running(request.model_id, request.model.get());
    case kShow:
      return answer_ollama_show(request.model_id, *request.model, request.body, *request.work);
    case kVersion:
      return Body{.text = dump_json({{"version", kSpokenVersion}}) + "\n"};
    default:
      return std::unexpected(not_here(route));
  }
}

Body OllamaDialect::error(const ApiError& error) const { return {.text = ollama_error(error) + "\n"}; }

}  // namespace odmoe::server
