#include "server/openai_answer.h"

#include "odmoe/format.h"
#include "server/token_text.h"

namespace odmoe::server {
namespace {

Json json_of(const AnswerUsage& usage) {
  return {{"prompt_tokens", usage.prompt},
          {"completion_tokens", usage.generated},
          {"total_tokens", usage.prompt + usage.generated},
          {"prompt_tokens_details", {{"cached_tokens", usage.reused}}}};
}

const char* error_type(Fault fault) {
  switch (fault) {
    case Fault::kRequest:
      return "invalid_request_error";
    case Fault::kKey:
      return "authentication_error";
    case Fault::kRate:
      return "rate_limit_error";
    case Fault::kServer:
      break;
  }
  return "server_error";
}

bool send_chunks(const std::vector<Json>& chunks, const BodySink& sink) {
  std::string text;
  for (const Json& chunk : chunks) text += "data: " + dump_json(chunk) + "\n\n";
  return text.empty() || sink(text);
}

}  // namespace

std::string openai_error(const ApiError& error) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  return dump_json({{"error",
                     {{"message", error.message},
                      {"type", error_type(error.fault)},
                      {"param", or_null(error.param)},
                      {"code", or_null(error.code)}}}});
}

Json openai_logprob(const Engine& engine, const GeneratedToken& token) {
  const auto one = [&](Token id, float logprob) {
    return Json{
        {"token", token_text(engine, id)}, {"logprob", logprob}, {"bytes", token_byte_list(engine, id)}};
  };
  Json json = one(token.token, token.logprob);
  json["top_logprobs"] = Json::array();
  for (const TokenLogprob& other : token.top) json["top_logprobs"].push_back(one(other.token, other.logprob));
  return json;
}

OpenAiWriter::OpenAiWriter(const AnswerStart& start, const OpenAiAnswerOptions& options, const Names& names)
    : engine_(start.engine),
      id_(names.id_prefix + start.id),
      model_(start.model),
      created_(start.created),
      options_(options),
      names_(names) {}

bool OpenAiWriter::begin(std::span<const AnswerChoice> choices, const BodySink& sink) {
  return send_chunks(begin_chunks(choices), sink);
}

bool OpenAiWriter::write(const AnswerEvent& event, const BodySink& sink) {
  return send_chunks(chunks_of(event), sink);
}

bool OpenAiWriter::end(const AnswerUsage& usage, const BodySink& sink) {
  if (options_.include_usage) {
    Json last = envelope(names_.chunk);
    last["choices"] = Json::array();
    last["usage"] = json_of(usage);
    if (!send_chunks({last}, sink)) return false;
  }
  return sink("data: [DONE]\n\n");
}

bool OpenAiWriter::fail(const ApiError& error, const BodySink& sink) {
  return sink("data: " + openai_error(error) + "\n\n") && sink("data: [DONE]\n\n");
}

bool OpenAiWriter::write_whole(std::span<const AnswerChoice> choices, const AnswerUsage& usage,
                               const BodySink& sink) const {
  std::string head = dump_json(envelope(names_.whole));
  head.pop_back();  // the object goes on
  if (!sink(head + ",\"choices\":[")) return false;
  for (size_t i = 0; i < choices.size(); ++i) {
    if ((i > 0 && !sink(",")) || !write_choice(i, choices[i], sink)) return false;
  }
  return sink(odmoe::format("],\"usage\":{}}}\n", dump_json(json_of(usage))));
}

Json OpenAiWriter::envelope(const char* object) const {
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", model_},
          {"system_fingerprint", nullptr}};
}

Json OpenAiWriter::chunk() const {
  Json json = envelope(names_.chunk);
  json["choices"] = Json::array();
  if (options_.include_usage) json["usage"] = nullptr;
  return json;
}

std::string OpenAiWriter::text_of(Token token) const { return token_text(*engine_, token); }

std::string OpenAiWriter::shown_bytes(Token token) const { return engine_->token_bytes(token); }

const char* OpenAiWriter::finish_reason(AnswerFinish finish) {
  switch (finish) {
    case AnswerFinish::kLength:
      return "length";
    case AnswerFinish::kCalls:
      return "tool_calls";
    case AnswerFinish::kStop:
      break;
  }
  return "stop";
}

}  // namespace odmoe::server
