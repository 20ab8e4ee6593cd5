#include "server/request.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "server/limits.h"

namespace odmoe::server {
namespace {

// Reads the fields of one object.  A field that is null counts as missing, as in OpenAI's API.
class Fields {
 public:
  explicit Fields(const Json& json, std::string prefix = "") : json_(&json), prefix_(std::move(prefix)) {}

  const Json* find(const std::string& key) const {
    const auto found = json_->find(key);
    return found == json_->end() || found->is_null() ? nullptr : &*found;
  }
  bool has(const std::string& key) const { return find(key) != nullptr; }
  std::string path(std::string_view key) const { return prefix_ + std::string(key); }

  ApiStatus read(const std::string& key, bool& value) const {
    const Json* json = find(key);
    if (json == nullptr) return {};
    if (!json->is_boolean()) return bad_request(path(key), "{} must be true or false", path(key));
    value = json->get<bool>();
    return {};
  }
  ApiStatus read(const std::string& key, std::string& value) const {
    const Json* json = find(key);
    if (json == nullptr) return {};
    if (!json->is_string()) return bad_request(path(key), "{} must be a string", path(key));
    value = json->get<std::string>();
    return {};
  }
  ApiStatus read(const std::string& key, float& value, double min, double max) const {
    const Json* json = find(key);
    if (json == nullptr) return {};
    if (!json->is_number() || !(json->get<double>() >= min && json->get<double>() <= max)) {
      return bad_request(path(key), "{} must be a number from {} to {}", path(key), min, max);
    }
    value = static_cast<float>(json->get<double>());
    return {};
  }
  ApiStatus read(const std::string& key, int32_t& value, int64_t min, int64_t max) const {
    const Json* json = find(key);
    if (json == nullptr) return {};
    // A number with a fraction is no count; 5.0 is one that some languages write so.
    const double number = json->is_number() ? json->get<double>() : NAN;
    if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
        std::floor(number) != number) {
      return bad_request(path(key), "{} must be a whole number from {} to {}", path(key), min, max);
    }
    value = static_cast<int32_t>(number);
    return {};
  }

 private:
  const Json* json_;
  std::string prefix_;
};

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

ApiStatus read_response_format(const Fields& fields, CommonRequest& request) {
  const Json* json = fields.find("response_format");
  if (json == nullptr) return {};
  if (!json->is_object()) return bad_request("response_format", "response_format must be an object");
  const Fields format(*json, "response_format.");
  std::string type;
  ODMOE_RETURN_IF_ERROR(format.read("type", type));
  if (type == "text") return {};
  if (type == "json_object") {
    request.json_object = true;
    return {};
  }
  if (type != "json_schema") {
    return bad_request("response_format.type",
                       "response_format.type must be text, json_object or json_schema");
  }
  const Json* outer = format.find("json_schema");
  if (outer == nullptr || !outer->is_object() || !outer->contains("schema") || (*outer)["schema"].is_null()) {
    return bad_request("response_format.json_schema", "response_format.json_schema.schema is missing");
  }
  request.schema = (*outer)["schema"];
  return {};
}

ApiResult<Json> parse_object(std::string_view body) {
  ODMOE_ASSIGN_OR_RETURN(Json json, parse_json(body));
  if (!json.is_object()) return bad_request("", "the body must be a JSON object");
  return json;
}

// Fields of OpenAI's that would change the answer and that nobody here can honour.
ApiStatus refuse_unsupported(const Fields& fields,
                             std::initializer_list<std::pair<const char*, const char*>> keys) {
  for (const auto& [key, advice] : keys) {
    const Json* json = fields.find(key);
    if (json == nullptr || (json->is_string() && json->get<std::string>().empty())) continue;
    return bad_request(key, "{} is not supported{}{}", key, *advice != '\0' ? ": " : "", advice);
  }
  return {};
}

ApiStatus read_common(const Fields& fields, int32_t n_vocab, CommonRequest& request) {
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
  return read_response_format(fields, request);
}

ApiStatus read_tools(const Fields& fields, ChatRequest& request) {
  if (const Json* tools = fields.find("tools")) {
    if (!tools->is_array() || tools->size() > kMaxTools) {
      return bad_request("tools", "tools must be a list of at most {} tools", kMaxTools);
    }
    for (size_t i = 0; i < tools->size(); ++i) {
      const Json& tool = (*tools)[i];
      const std::string param = std::format("tools[{}]", i);
      if (!tool.is_object() || tool.value("type", Json()) != "function" || !tool.contains("function") ||
          !tool["function"].is_object()) {
        return bad_request(param, "{} must be {{\"type\": \"function\", \"function\": {{...}}}}", param);
      }
      const Json& function = tool["function"];
      Tool known;
      ODMOE_RETURN_IF_ERROR(Fields(function, param + ".function.").read("name", known.name));
      const bool name_ok = !known.name.empty() && known.name.size() <= 64 &&
                           std::ranges::all_of(known.name, [](unsigned char c) {
                             return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
                           });
      if (!name_ok) {
        return bad_request(param + ".function.name",
                           "{}.function.name must have 1 to 64 letters, digits, _, - or .", param);
      }
      if (std::ranges::contains(request.tools, known.name, &Tool::name)) {
        return bad_request(param + ".function.name", "there are two tools named {}", known.name);
      }
      if (function.contains("parameters")) known.parameters = function["parameters"];
      request.tools.push_back(std::move(known));
      request.conversation.tools.push_back(dump_json(tool));
    }
  }
  ODMOE_RETURN_IF_ERROR(fields.read("parallel_tool_calls", request.parallel_tool_calls));
  ToolChoice& choice = request.tool_choice;
  const Json* given = fields.find("tool_choice");
  if (given == nullptr) return {};
  if (request.tools.empty() && *given != "none") {
    return bad_request("tool_choice", "tool_choice is only allowed with tools");
  }
  if (*given == "none") {
    choice.kind = ToolChoice::Kind::kNone;
  } else if (*given == "auto") {
    choice.kind = ToolChoice::Kind::kAuto;
  } else if (*given == "required") {
    choice.kind = ToolChoice::Kind::kRequired;
  } else if (given->is_object() && given->value("type", Json()) == "function" &&
             given->contains("function") && (*given)["function"].is_object()) {
    choice.kind = ToolChoice::Kind::kNamed;
    ODMOE_RETURN_IF_ERROR(Fields((*given)["function"], "tool_choice.function.").read("name", choice.name));
    if (!std::ranges::contains(request.tools, choice.name, &Tool::name)) {
      return bad_request("tool_choice", "tool_choice names a function that is not among tools");
    }
  } else {
    return bad_request("tool_choice",
                       "tool_choice must be none, auto, required or a function's name in an object");
  }
  return {};
}

// Text as it is; the place of images is kept for what they show.
ApiStatus read_parts(const Json& parts, size_t index, ChatTurn& turn, std::vector<Image>& images) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string param = std::format("messages[{}].content[{}]", index, i);
    if (!parts[i].is_object()) return bad_request(param, "{} must be an object", param);
    const Fields part(parts[i], param + ".");
    std::string type;
    ODMOE_RETURN_IF_ERROR(part.read("type", type));
    if (type == "text") {
      std::string text;
      ODMOE_RETURN_IF_ERROR(part.read("text", text));
      turn.content += text;
    } else if (type == "refusal") {
      std::string text;
      ODMOE_RETURN_IF_ERROR(part.read("refusal", text));
      turn.content += text;
    } else if (type == "image_url") {
      const Json* image = part.find("image_url");
      std::string url;
      if (image != nullptr && image->is_string()) {
        url = image->get<std::string>();
      } else if (image != nullptr && image->is_object()) {
        ODMOE_RETURN_IF_ERROR(Fields(*image, param + ".image_url.").read("url", url));
      }
      if (url.empty()) return bad_request(param, "{}.image_url.url is missing", param);
      if (images.size() == kMaxImages) return bad_request(param, "there are more than {} images", kMaxImages);
      images.push_back({.url = std::move(url), .turn = index, .at = turn.content.size()});
    } else {
      return bad_request(param, "{}: parts of type text and image_url are supported, not \"{}\"", param,
                         type.substr(0, 32));
    }
  }
  return {};
}

ApiStatus read_calls(const Json& calls, const std::string& where, ChatTurn& turn) {
  if (!calls.is_array() || calls.size() > kMaxTools) {
    return bad_request(where, "{} must be a list of at most {} calls", where, kMaxTools);
  }
  for (const Json& json : calls) {
    ChatToolCall call;
    if (!json.is_object() || !json.contains("function") || !json["function"].is_object()) {
      return bad_request(where, "{}: a call is {{\"id\", \"type\": \"function\", \"function\"}}", where);
    }
    ODMOE_RETURN_IF_ERROR(Fields(json, where + ".").read("id", call.id));
    const Fields function(json["function"], where + ".function.");
    ODMOE_RETURN_IF_ERROR(function.read("name", call.name));
    const Json* arguments = function.find("arguments");
    if (arguments == nullptr) {
      call.arguments = "{}";
    } else if (arguments->is_string()) {
      call.arguments = arguments->get<std::string>();
      if (call.arguments.empty()) call.arguments = "{}";
      // It is shown to the model, and parsed on the way: the same bounds as for the body.
      const auto parsed = parse_json(call.arguments);
      if (!parsed.has_value()) return bad_request(where, "{}: arguments: {}", where, parsed.error().message);
    } else {
      call.arguments = dump_json(*arguments);
    }
    turn.tool_calls.push_back(std::move(call));
  }
  return {};
}

ApiStatus read_message(const Json& json, size_t index, ChatRequest& request) {
  const std::string where = std::format("messages[{}]", index);
  if (!json.is_object()) return bad_request(where, "{} must be an object", where);
  const Fields fields(json, where + ".");
  ChatTurn turn;
  ODMOE_RETURN_IF_ERROR(fields.read("role", turn.role));
  if (turn.role == "developer") turn.role = "system";  // OpenAI's later word for it
  if (turn.role != "system" && turn.role != "user" && turn.role != "assistant" && turn.role != "tool") {
    return bad_request(where + ".role", "{}.role must be system, developer, user, assistant or tool", where);
  }
  ODMOE_RETURN_IF_ERROR(fields.read("name", turn.name));
  if (const Json* content = fields.find("content")) {
    if (content->is_string()) {
      turn.content = content->get<std::string>();
    } else if (content->is_array()) {
      ODMOE_RETURN_IF_ERROR(read_parts(*content, index, turn, request.images));
    } else {
      return bad_request(where + ".content", "{}.content must be a string or a list of parts", where);
    }
  } else if (turn.role != "assistant") {
    return bad_request(where + ".content", "{}.content is missing", where);
  }
  if (turn.role == "assistant") {
    for (const char* name : {"reasoning", "reasoning_content"}) {
      if (!fields.has(name)) continue;
      turn.reasoning.emplace();
      ODMOE_RETURN_IF_ERROR(fields.read(name, *turn.reasoning));
    }
    if (const Json* calls = fields.find("tool_calls")) {
      ODMOE_RETURN_IF_ERROR(read_calls(*calls, where + ".tool_calls", turn));
    }
  }
  if (turn.role == "tool") {
    ODMOE_RETURN_IF_ERROR(fields.read("tool_call_id", turn.tool_call_id));
    if (turn.tool_call_id.empty()) return bad_request(where, "{}.tool_call_id is missing", where);
  }
  request.conversation.turns.push_back(std::move(turn));
  return {};
}

// The switch that templates have, by the names that they and their users give it.
ApiStatus read_thinking(const Fields& fields, Conversation& conversation) {
  const auto read = [&](const Fields& from, const char* name) -> ApiStatus {
    if (!from.has(name)) return {};
    bool thinking = true;
    ODMOE_RETURN_IF_ERROR(from.read(name, thinking));
    conversation.thinking = thinking;
    return {};
  };
  ODMOE_RETURN_IF_ERROR(read(fields, "enable_thinking"));
  if (const Json* options = fields.find("chat_template_kwargs"); options != nullptr && options->is_object()) {
    const Fields inner(*options, "chat_template_kwargs.");
    ODMOE_RETURN_IF_ERROR(read(inner, "enable_thinking"));
    ODMOE_RETURN_IF_ERROR(read(inner, "thinking"));
  }
  return {};
}

}  // namespace

ApiResult<CompletionRequest> parse_completion_request(std::string_view body, int32_t n_vocab) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Fields fields(json);
  CompletionRequest request;
  request.max_tokens = 16;  // as OpenAI's
  ODMOE_RETURN_IF_ERROR(read_common(fields, n_vocab, request));
  ODMOE_RETURN_IF_ERROR(
      refuse_unsupported(fields, {{"suffix", "write the text so that it ends where to go on"}}));
  int32_t best_of = request.n;
  ODMOE_RETURN_IF_ERROR(fields.read("best_of", best_of, 1, kMaxChoices));
  if (best_of != request.n) return bad_request("best_of", "best_of must be equal to n");
  ODMOE_RETURN_IF_ERROR(fields.read("echo", request.echo));
  ODMOE_RETURN_IF_ERROR(fields.read("logprobs", request.top_logprobs, 0, kMaxTopLogprobs));

  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) return bad_request("prompt", "prompt is missing");
  const bool list_of_many = prompt->is_array() && !prompt->empty() && !(*prompt)[0].is_number();
  const Json prompts = list_of_many ? *prompt : Json::array({*prompt});
  if (prompts.size() > kMaxPrompts)
    return bad_request("prompt", "there may be {} prompts at most", kMaxPrompts);
  for (const Json& one : prompts) {
    if (one.is_string()) {
      request.prompts.emplace_back(one.get<std::string>());
    } else if (one.is_array()) {
      ODMOE_ASSIGN_OR_RETURN(auto tokens, read_tokens(one, "prompt", n_vocab));
      request.prompts.emplace_back(std::move(tokens));
    } else {
      return bad_request("prompt", "prompt must be a string, tokens, or a list of such");
    }
  }
  if (request.prompts.size() * static_cast<size_t>(request.n) > kMaxGenerations) {
    return bad_request("n", "prompts times n may be {} at most", kMaxGenerations);
  }
  return request;
}

ApiResult<ChatRequest> parse_chat_request(std::string_view body, int32_t n_vocab) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Fields fields(json);
  ChatRequest request;
  ODMOE_RETURN_IF_ERROR(read_common(fields, n_vocab, request));
  if (request.max_tokens == 0) return bad_request("max_tokens", "max_tokens must be 1 or more");
  ODMOE_RETURN_IF_ERROR(refuse_unsupported(fields, {{"functions", "use tools"},
                                                    {"function_call", "use tool_choice"},
                                                    {"audio", ""},
                                                    {"prediction", ""},
                                                    {"web_search_options", ""}}));
  if (const Json* modalities = fields.find("modalities");
      modalities != nullptr && *modalities != Json::array({"text"})) {
    return bad_request("modalities", "modalities may only be [\"text\"]");
  }
  bool logprobs = false;
  ODMOE_RETURN_IF_ERROR(fields.read("logprobs", logprobs));
  if (logprobs) request.top_logprobs = 0;
  if (fields.has("top_logprobs")) {
    if (!logprobs) return bad_request("top_logprobs", "top_logprobs is only allowed with logprobs: true");
    ODMOE_RETURN_IF_ERROR(fields.read("top_logprobs", request.top_logprobs, 0, kMaxTopLogprobs));
  }
  ODMOE_RETURN_IF_ERROR(read_tools(fields, request));
  ODMOE_RETURN_IF_ERROR(read_thinking(fields, request.conversation));

  const Json* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty() || messages->size() > kMaxMessages) {
    return bad_request("messages", "messages must be a list of 1 to {} messages", kMaxMessages);
  }
  for (size_t i = 0; i < messages->size(); ++i)
    ODMOE_RETURN_IF_ERROR(read_message((*messages)[i], i, request));
  return request;
}

ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Fields fields(json);
  TokenizeRequest request;
  if (!fields.has("content") && !fields.has("prompt")) return bad_request("content", "content is missing");
  ODMOE_RETURN_IF_ERROR(fields.read(fields.has("content") ? "content" : "prompt", request.content));
  ODMOE_RETURN_IF_ERROR(fields.read("add_special", request.add_special));
  ODMOE_RETURN_IF_ERROR(fields.read("parse_special", request.parse_special));
  ODMOE_RETURN_IF_ERROR(fields.read("with_pieces", request.with_pieces));
  return request;
}

ApiResult<std::vector<Token>> parse_detokenize_request(std::string_view body, int32_t n_vocab) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Json* tokens = Fields(json).find("tokens");
  if (tokens == nullptr || !tokens->is_array())
    return bad_request("tokens", "tokens must be a list of tokens");
  return read_tokens(*tokens, "tokens", n_vocab);
}

}  // namespace odmoe::server
