#include "server/llama_routes.h"

#include <vector>

#include "server/generation_request.h"
#include "server/json_guard.h"

namespace odmoe::server {
namespace {

std::string text_of_token(const Engine& engine, Token token) {
  return token < 0 ? std::string() : engine.token_bytes(token, /*special=*/true);
}

// What a request has that says nothing.
Json default_params() {
  const CommonRequest request;
  const SamplingOptions& sampling = request.sampling;
  return {{"n_predict", request.max_tokens},
          {"max_tokens", request.max_tokens},
          {"seed", 4294967295U},  // a new one each time
          {"temperature", sampling.temperature},
          {"dynatemp_range", 0.0},
          {"top_k", sampling.top_k},
          {"top_p", sampling.top_p},
          {"min_p", sampling.min_p},
          {"xtc_probability", 0.0},
          {"typical_p", 1.0},
          {"repeat_last_n", sampling.penalty_last_n},
          {"repeat_penalty", sampling.repetition_penalty},
          {"presence_penalty", sampling.presence_penalty},
          {"frequency_penalty", sampling.frequency_penalty},
          {"dry_multiplier", 0.0},
          {"mirostat", 0},
          {"stop", Json::array()},
          {"n_keep", 0},
          {"n_discard", 0},
          {"ignore_eos", request.ignore_eos},
          {"stream", request.stream},
          {"n_probs", 0},
          {"grammar", ""},
          {"samplers", {"penalties", "top_k", "top_p", "min_p", "temperature"}}};
}

}  // namespace

Body answer_props(const ServedModel& model, std::string_view model_id) {
  const Engine& engine = *model.engine;
  const Json props = {
      {"default_generation_settings",
       {{"n_ctx", model.context}, {"speculative", false}, {"params", default_params()}}},
      {"total_slots", model.sessions},
      {"model_alias", model_id},
      {"model_path", model.model_path},
      {"modalities", {{"vision", model.sees_images}, {"audio", false}}},
      {"chat_template", model.chat_template.has_value() ? (*model.chat_template)->source() : ""},
      {"bos_token", text_of_token(engine, engine.bos())},
      {"eos_token", text_of_token(engine, engine.eos())},
      {"build_info", "odmoe " ODMOE_VERSION},
      {"is_sleeping", false}};
  return {.text = dump_json(props) + "\n"};
}

Body answer_apply_template(const ServedModel& model, std::span<const Token> prompt) {
  const Engine& engine = *model.engine;
  std::string text = engine.decode(prompt, /*special=*/true);
  // Who gives it to /v1/completions gets the BOS there.
  const Token bos = engine.bos();
  const std::vector<Token> added = engine.encode("", /*add_special=*/true);
  if (bos >= 0 && !added.empty() && added.front() == bos && !prompt.empty() && prompt.front() == bos) {
    text.erase(0, text_of_token(engine, bos).size());
  }
  return {.text = dump_json({{"prompt", text}}) + "\n"};
}

}  // namespace odmoe::server
