#include "server/openai_dialect.h"

#include <array>
#include <utility>

#include "server/json_guard.h"
#include "server/llama_routes.h"
#include "server/openai_answer.h"
#include "server/request.h"
#include "server/served_model.h"
#include "server/token_routes.h"

namespace odmoe::server {
namespace {

enum Id : int { kModels, kCompletions, kChat, kTokenize, kDetokenize, kProps, kApplyTemplate };

using Handler = Route::Handler;
using Method = Route::Method;
constexpr std::string_view kModelsPath = "/v1/models";
constexpr auto kRoutes = std::to_array<Route>({
    {.path = kModelsPath, .has_names = true, .needs_model = false, .id = kModels},
    {.method = Method::kPost,
     .path = "/v1/completions",
     .takes_body = true,
     .handler = Handler::kGenerate,
     .id = kCompletions},
    {.method = Method::kPost,
     .path = "/v1/chat/completions",
     .takes_body = true,
     .handler = Handler::kGenerate,
     .id = kChat},
    {.method = Method::kPost, .path = "/tokenize", .takes_body = true, .id = kTokenize},
    {.method = Method::kPost, .path = "/detokenize", .takes_body = true, .id = kDetokenize},
    {.path = "/props", .id = kProps},
    {.method = Method::kPost,
     .path = "/apply-template",
     .takes_body = true,
     .handler = Handler::kPrompt,
     .id = kApplyTemplate},
});

using MakeWriter = std::unique_ptr<AnswerWriter> (*)(const AnswerStart&, const OpenAiAnswerOptions&);

// The request, once it is read, and how its client wants the answer written.
template <typename Request>
ApiResult<ParsedRequest> with_writer(ApiResult<Request> request, MakeWriter make) {
  if (!request.has_value()) return std::unexpected(std::move(request).error());
  const OpenAiAnswerOptions options{.top_logprobs = request->top_logprobs,
                                    .include_usage = request->include_usage};
  return ParsedRequest{.request = *std::move(request),
                       .writer = [make, options](const AnswerStart& start) { return make(start, options); }};
}

// The one that there is, by itself or as a list.
ApiResult<Body> answer_models(const PlainRequest& request) {
  Json model = {{"id", request.model_id}, {"object", "model"}, {"created", 0}, {"owned_by", "odmoe"}};
  if (request.model != nullptr) {
    const ModelInfo& info = request.model->engine->model();
    model["meta"] = {{"architecture", info.architecture},   {"n_vocab", info.n_vocab},
                     {"n_context", request.model->context}, {"n_context_train", info.n_context_train},
                     {"n_expert", info.n_expert},           {"n_expert_used", info.n_expert_used},
                     {"file_bytes", info.file_bytes}};
  }
  if (request.path == kModelsPath) {
    model = Json{{"object", "list"}, {"data", Json::array({model})}};
  } else if (request.path.substr(kModelsPath.size() + 1) != request.model_id) {
    return std::unexpected(
        ApiError{.status = 404,
                 .fault = Fault::kRequest,
                 .message = odmoe::format("there is no such model here, only {}", request.model_id),
                 .param = "model",
                 .code = "model_not_found"});
  }
  return Body{.text = dump_json(model) + "\n"};
}

}  // namespace

std::span<const Route> OpenAiDialect::routes() const { return kRoutes; }

ApiResult<ParsedRequest> OpenAiDialect::parse(const Route& route, std::string_view body, int32_t n_vocab,
                                              RequestWork& work) const {
  if (route.id == kApplyTemplate) {
    ODMOE_ASSIGN_OR_RETURN(ChatRequest request, parse_chat_request(body, n_vocab, &work));
    return ParsedRequest{.request = std::move(request), .prompted = answer_apply_template};
  }
  if (route.id == kChat) return with_writer(parse_chat_request(body, n_vocab, &work), openai_chat_writer);
  return with_writer(parse_completion_request(body, n_vocab, &work), openai_completion_writer);
}

ApiResult<Body> OpenAiDialect::answer(const Route& route, PlainRequest request) const {
  if (route.id == kModels) return answer_models(request);
  if (route.id == kProps) return answer_props(*request.model, request.model_id);
  const Engine& engine = *request.model->engine;
  return route.id == kTokenize ? answer_tokenize(engine, std::move(request.body), *request.work)
                               : answer_detokenize(engine, std::move(request.body), *request.work);
}

Body OpenAiDialect::error(const ApiError& error) const { return {.text = openai_error(error) + "\n"}; }

}  // namespace odmoe::server
