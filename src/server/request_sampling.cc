// How a request wants its tokens chosen, how many, and where they end.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

ApiStatus read_stop(const Fields& fields, std::vector<std::string>& stop) {
  const Json* json = fields.find("stop");
  if (json == nullptr) return {};
  const Json list = json->is_array() ? *json : Json::array({*json});
  if (list.size() > kMaxStops) return bad_request("stop", "stop may hold {} strings at most", kMaxStops);
  for (const Json& item : list) {
    if (!item.is_string()) return bad_request("stop", "stop must be a string or a list of strings");
    auto text = item.get<std::string>();
    if (text.empty() || text.size() > kMaxStopBytes) {
      return bad_request("stop", "a stop string must have 1 to {} bytes", kMaxStopBytes);
    }
    stop.push_back(std::move(text));
  }
  return {};
}

ApiStatus read_logit_bias(const Fields& fields, int32_t n_vocab, std::vector<std::pair<Token, float>>& bias) {
  const Json* json = fields.find("logit_bias");
  if (json == nullptr) return {};
  if (!json->is_object() || json->size() > kMaxLogitBias) {
    return bad_request("logit_bias", "logit_bias must be an object of at most {} tokens", kMaxLogitBias);
  }
  for (const auto& [key, value] : json->items()) {
    Token token = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || token < 0 || token >= n_vocab) {
      return bad_request("logit_bias", "logit_bias: \"{}\" is no token from 0 to {}", key.substr(0, 32),
                         n_vocab - 1);
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100)) {
      return bad_request("logit_bias", "logit_bias: a bias is a number from -100 to 100");
    }
    const auto amount = value.get<float>();
    bias.emplace_back(token, amount <= -100 ? -std::numeric_limits<float>::infinity() : amount);
  }
  return {};
}

}  // namespace

ApiResult<std::vector<Token>> read_tokens(const Json& list, const std::string& param, int32_t n_vocab) {
  std::vector<Token> tokens;
  tokens.reserve(list.size());
  for (const Json& item : list) {
    if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() >= n_vocab) {
      return bad_request(param, "{} must be tokens from 0 to {}", param, n_vocab - 1);
    }
    tokens.push_back(item.get<Token>());
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
  if (const Json* seed = fields.find("seed")) {
    if (!seed->is_number_integer()) return bad_request("seed", "seed must be a whole number");
    request.seed =
        seed->is_number_unsigned() ? seed->get<uint64_t>() : static_cast<uint64_t>(seed->get<int64_t>());
  }
  ODMOE_RETURN_IF_ERROR(fields.read("n", request.n, 1, kMaxChoices));
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  ODMOE_RETURN_IF_ERROR(fields.read("max_tokens", request.max_tokens, 0, kMost));
  ODMOE_RETURN_IF_ERROR(fields.read("max_completion_tokens", request.max_tokens, 0, kMost));
  ODMOE_RETURN_IF_ERROR(read_stop(fields, request.stop));
  ODMOE_RETURN_IF_ERROR(read_logit_bias(fields, n_vocab, request.logit_bias));
  ODMOE_RETURN_IF_ERROR(fields.read("ignore_eos", request.ignore_eos));
  ODMOE_RETURN_IF_ERROR(fields.read("stream", request.stream));
  if (const Json* options = fields.find("stream_options")) {
    if (!options->is_object()) return bad_request("stream_options", "stream_options must be an object");
    if (!request.stream) return bad_request("stream_options", "stream_options is only allowed with stream");
    ODMOE_RETURN_IF_ERROR(Fields(*options, "stream_options.").read("include_usage", request.include_usage));
  }
  return {};
}

}  // namespace odmoe::server
