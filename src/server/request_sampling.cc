// How a request wants its tokens chosen, how many, and where they end.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/json_members.h"
#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

ApiStatus read_stop_tokens(const Fields& fields, int32_t n_vocab, std::vector<Token>& stop) {
  const Json* json = fields.find("stop_token_ids");
  if (json == nullptr) return {};
  if (!json->is_array() || json->size() > kMaxStopTokens) {
    return bad_request("stop_token_ids", "stop_token_ids must be a list of at most {} tokens",
                       kMaxStopTokens);
  }
  ODMOE_ASSIGN_OR_RETURN(stop, read_tokens(*json, "stop_token_ids", n_vocab));
  return {};
}

ApiResult<Token> read_biased_token(const Json& key, int32_t n_vocab) {
  std::optional<int64_t> token;
  if (key.is_string()) {
    const auto& text = key.get_ref<const std::string&>();
    int64_t number = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) token = number;
  } else {
    token = json_whole_number(key);
  }
  if (!token || *token < 0 || *token >= n_vocab) {
    return bad_request("logit_bias", "logit_bias: {} is not a token from 0 to {}",
                       dump_json(key).substr(0, 32), n_vocab - 1);
  }
  return static_cast<Token>(*token);
}

// {"15": -100} or, as llama.cpp has it too, [[15, -100]]; false forbids the token.
ApiStatus read_logit_bias(const Fields& fields, int32_t n_vocab, std::vector<std::pair<Token, float>>& bias) {
  const Json* json = fields.find("logit_bias");
  if (json == nullptr) return {};
  if (!json->is_structured() || json->size() > kMaxLogitBias) {
    return bad_request("logit_bias", "logit_bias must be an object of at most {} tokens", kMaxLogitBias);
  }
  const auto add = [&](const Json& key, const Json& value) -> ApiStatus {
    ODMOE_ASSIGN_OR_RETURN(const Token token, read_biased_token(key, n_vocab));
    const bool forbidden = value == false;
    if (!forbidden && (!value.is_number() || !(std::abs(value.get<double>()) <= 100))) {
      return bad_request("logit_bias", "logit_bias: a bias is a number from -100 to 100, or false");
    }
    const float amount = forbidden ? -100 : value.get<float>();
    bias.emplace_back(token, amount <= -100 ? -std::numeric_limits<float>::infinity() : amount);
    return {};
  };
  if (json->is_object()) {
    for (const auto& [key, value] : json->items()) ODMOE_RETURN_IF_ERROR(add(Json(key), value));
    return {};
  }
  for (const Json& pair : *json) {
    if (!pair.is_array() || pair.size() != 2) {
      return bad_request("logit_bias", "logit_bias: a list must be of [token, bias]");
    }
    ODMOE_RETURN_IF_ERROR(add(pair[0], pair[1]));
  }
  return {};
}

// By OpenAI's names or another's: the first of them counts.  -1: as many as fit.
ApiStatus read_max_tokens(const Fields& fields, int32_t& max_tokens) {
  for (const char* name :
       {"max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "n_predict"}) {
    const Json* json = fields.find(name);
    if (json == nullptr) continue;
    const auto number = json_whole_number(*json);
    if (!number || *number < -1) {
      return bad_request(name, "{} must be a whole number from 0 on, or -1 for as many as fit", name);
    }
    max_tokens = static_cast<int32_t>(std::min<int64_t>(*number, std::numeric_limits<int32_t>::max()));
    return {};
  }
  return {};
}

// -1: a new one, as llama.cpp has it.
ApiStatus read_seed(const Fields& fields, std::optional<uint64_t>& seed) {
  for (const char* name : {"seed", "random_seed"}) {
    const Json* json = fields.find(name);
    if (json == nullptr) continue;
    if (json->is_number_unsigned()) {
      seed = json->get<uint64_t>();
      return {};
    }
    const auto number = json_whole_number(*json);
    if (!number) return bad_request(name, "{} must be a whole number", name);
    if (*number != -1) seed = static_cast<uint64_t>(*number);
    return {};
  }
  return {};
}

}  // namespace

// An empty string is what forms send for a field that was left open.
ApiStatus read_stop(const Fields& fields, const char* name, std::vector<std::string>& stop) {
  const Json* json = fields.find(name);
  if (json == nullptr) return {};
  const std::string param = fields.path(name);
  const size_t n_stop = json->is_array() ? json->size() : 1;
  if (n_stop > kMaxStops) return bad_request(param, "{} may hold {} strings at most", param, kMaxStops);
  for (size_t i = 0; i < n_stop; ++i) {
    const Json& item = json->is_array() ? (*json)[i] : *json;
    if (!item.is_string()) return bad_request(param, "{} must be a string or a list of strings", param);
    auto text = item.get<std::string>();
    if (text.size() > kMaxStopBytes) {
      return bad_request(param, "a string of {} may have {} bytes at most", param, kMaxStopBytes);
    }
    if (!text.empty()) stop.push_back(std::move(text));
  }
  return {};
}

ApiResult<std::vector<Token>> read_tokens(const Json& list, const std::string& param, int32_t n_vocab) {
  std::vector<Token> tokens;
  tokens.reserve(list.size());
  for (const Json& item : list) {
    const auto token = json_whole_number(item);
    if (!token || *token < 0 || *token >= n_vocab) {
      return bad_request(param, "{} must be tokens from 0 to {}", param, n_vocab - 1);
    }
    tokens.push_back(static_cast<Token>(*token));
  }
  return tokens;
}

ApiStatus read_sampling(const Fields& fields, int32_t n_vocab, CommonRequest& request) {
  std::string model;  // any name will do: there is one model here, and its own name is in the answer
  ODMOE_RETURN_IF_ERROR(fields.read("model", model));
  SamplingOptions& sampling = request.sampling;
  ODMOE_RETURN_IF_ERROR(fields.read("temperature", sampling.temperature, 0, 100));
  ODMOE_RETURN_IF_ERROR(fields.read("top_p", sampling.top_p, 0, 1));
  ODMOE_RETURN_IF_ERROR(fields.read("top_k", sampling.top_k, -1, std::numeric_limits<int32_t>::max()));
  sampling.top_k = std::max(sampling.top_k, 0);  // -1 is off too, with others
  ODMOE_RETURN_IF_ERROR(fields.read("min_p", sampling.min_p, 0, 1));
  ODMOE_RETURN_IF_ERROR(fields.read("presence_penalty", sampling.presence_penalty, -2, 2));
  ODMOE_RETURN_IF_ERROR(fields.read("frequency_penalty", sampling.frequency_penalty, -2, 2));
  for (const char* name : {"repetition_penalty", "repeat_penalty"}) {
    ODMOE_RETURN_IF_ERROR(fields.read(name, sampling.repetition_penalty, 0.01, 100));
  }
  ODMOE_RETURN_IF_ERROR(fields.read("repeat_last_n", sampling.penalty_last_n, -1, kMaxPenaltyLast));
  ODMOE_RETURN_IF_ERROR(read_seed(fields, request.seed));
  ODMOE_RETURN_IF_ERROR(fields.read("n", request.n, 1, kMaxChoices));
  int32_t best_of = request.n;
  ODMOE_RETURN_IF_ERROR(fields.read("best_of", best_of, 1, kMaxChoices));
  if (best_of != request.n) return bad_request("best_of", "best_of must be equal to n");
  ODMOE_RETURN_IF_ERROR(read_max_tokens(fields, request.max_tokens));
  ODMOE_RETURN_IF_ERROR(read_stop(fields, "stop", request.stop));
  ODMOE_RETURN_IF_ERROR(read_stop_tokens(fields, n_vocab, request.stop_tokens));
  ODMOE_RETURN_IF_ERROR(read_logit_bias(fields, n_vocab, request.logit_bias));
  ODMOE_RETURN_IF_ERROR(fields.read("ignore_eos", request.ignore_eos));
  ODMOE_RETURN_IF_ERROR(fields.read("echo", request.echo));
  ODMOE_RETURN_IF_ERROR(fields.read("stream", request.stream));
  if (const Json* options = fields.find("stream_options")) {
    if (!options->is_object()) return bad_request("stream_options", "stream_options must be an object");
    ODMOE_RETURN_IF_ERROR(Fields(*options, "stream_options.").read("include_usage", request.include_usage));
  }
  request.include_usage = request.include_usage && request.stream;
  return {};
}

}  // namespace odmoe::server
