// The messages of a chat.
//
// Whatever an answer said may come back: calls with arguments that are no JSON, messages without content.
#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>

#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

// An image in base64 as a URL; URLs as they are.
std::string image_url(const std::string& image) {
  for (const char* scheme : {"data:", "http://", "https://"}) {
    if (image.starts_with(scheme)) return image;
  }
  // As their first bytes are in base64.
  constexpr std::pair<std::string_view, std::string_view> kTypes[] = {
      {"/9j/", "jpeg"}, {"R0lGOD", "gif"}, {"UklGR", "webp"}};
  std::string_view type = "png";
  for (const auto& [begin, name] : kTypes) {
    if (image.starts_with(begin)) type = name;
  }
  return odmoe::format("data:image/{};base64,{}", type, image);
}

ApiStatus read_image(const Fields& part, const std::string& param, size_t index, const ChatTurn& turn,
                     std::vector<Image>& images) {
  if (part.has("file_id")) {
    return bad_request(part.path("file_id"), "{}: no files are kept here; give image_url",
                       part.path("file_id"));
  }
  const Json* image = part.find("image_url");
  std::string url;
  if (image != nullptr && image->is_string()) {
    url = image->get<std::string>();
  } else if (image != nullptr && image->is_object()) {
    ODMOE_RETURN_IF_ERROR(Fields(*image, param + ".image_url.").read("url", url));
  }
  if (url.empty()) return bad_request(param, "{}.image_url.url is missing", param);
  return add_image(std::move(url), param, index, turn, images);
}

// Text as it is; the place of images is kept for what they show.
ApiStatus read_part(const Json& json, const std::string& param, size_t index, ChatTurn& turn,
                    std::vector<Image>& images) {
  if (json.is_string()) {
    turn.content += json.get_ref<const std::string&>();
    return {};
  }
  if (!json.is_object()) return bad_request(param, "{} must be an object", param);
  const Fields part(json, param + ".");
  std::string type = "text";
  ODMOE_RETURN_IF_ERROR(part.read("type", type));
  const auto add = [&](const char* key, std::string& to) -> ApiStatus {
    std::string text;
    ODMOE_RETURN_IF_ERROR(part.read(key, text));
    to += text;
    return {};
  };
  if (type == "text" || type == "input_text" || type == "output_text") return add("text", turn.content);
  if (type == "refusal") return add("refusal", turn.content);
  if (type == "thinking" && turn.role == "assistant") {
    if (!turn.reasoning) turn.reasoning.emplace();
    return add("thinking", *turn.reasoning);
  }
  if (type == "image_url" || type == "input_image") return read_image(part, param, index, turn, images);
  return bad_request(param, "{}: parts of type text and image_url are supported, not \"{}\"", param,
                     type.substr(0, 32));
}

}  // namespace

ApiStatus read_content(const Fields& fields, const char* name, size_t index, ChatTurn& turn,
                       std::vector<Image>& images) {
  const Json* content = fields.find(name);
  if (content == nullptr) return {};
  const std::string param = fields.path(name);
  if (content->is_string()) {
    turn.content = content->get<std::string>();
    return {};
  }
  if (!content->is_array()) return bad_request(param, "{} must be a string or a list of parts", param);
  for (size_t i = 0; i < content->size(); ++i) {
    ODMOE_RETURN_IF_ERROR(read_part((*content)[i], odmoe::format("{}[{}]", param, i), index, turn, images));
  }
  return {};
}

namespace {

// Text as it is, anything else as JSON.
std::string text_of(const Json* json) {
  if (json == nullptr) return {};
  return json->is_string() ? json->get<std::string>() : dump_json(*json);
}

// "name" and "arguments": an object, the text of one, or what a model wrote instead.
ApiStatus read_function(const Json& json, const std::string& where, ChatToolCall& call, RequestWork& work) {
  const Fields function(json, where + ".");
  ODMOE_RETURN_IF_ERROR(function.read("name", call.name));
  return set_arguments(call, text_of(function.find("arguments")), work);
}

ApiStatus read_calls(const Json& calls, const std::string& where, ChatTurn& turn, RequestWork& work) {
  if (!calls.is_array()) return bad_request(where, "{} must be a list of calls", where);
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string param = odmoe::format("{}[{}]", where, i);
    const Json& json = calls[i];
    if (!json.is_object()) return bad_request(param, "{} must be an object", param);
    const Fields fields(json, param + ".");
    std::string type = "function";
    ODMOE_RETURN_IF_ERROR(fields.read("type", type));
    if (type != "function" && !type.empty()) {
      return bad_request(fields.path("type"), "{}: calls of type function are supported, not \"{}\"",
                         fields.path("type"), type.substr(0, 32));
    }
    const Json* function = fields.find("function");
    if (function == nullptr || !function->is_object()) {
      return bad_request(param, "{}: a call is {{\"id\", \"type\": \"function\", \"function\"}}", param);
    }
    ChatToolCall call{.id = text_of(fields.find("id"))};
    ODMOE_RETURN_IF_ERROR(read_function(*function, fields.path("function"), call, work));
    turn.tool_calls.push_back(std::move(call));
  }
  return {};
}

ApiStatus read_assistant(const Fields& fields, ChatTurn& turn, RequestWork& work) {
  for (const char* name : {"thinking", "reasoning", "reasoning_content"}) {
    if (!fields.has(name)) continue;
    turn.reasoning.emplace();
    ODMOE_RETURN_IF_ERROR(fields.read(name, *turn.reasoning));
  }
  if (turn.content.empty()) ODMOE_RETURN_IF_ERROR(fields.read("refusal", turn.content));
  if (const Json* calls = fields.find("tool_calls")) {
    ODMOE_RETURN_IF_ERROR(read_calls(*calls, fields.path("tool_calls"), turn, work));
  }
  const Json* call = fields.find("function_call");  // before there were tools
  if (call == nullptr) return {};
  const std::string where = fields.path("function_call");
  if (!call->is_object()) return bad_request(where, "{} must be an object", where);
  turn.tool_calls.emplace_back();
  return read_function(*call, where, turn.tool_calls.back(), work);
}

// The name of a role as templates have it; empty: there is no such role.
std::string_view known_role(std::string_view role) {
  if (role == "developer") return "system";  // OpenAI's later word for it
  if (role == "function") return "tool";     // and its earlier one
  for (const std::string_view known : {"system", "user", "assistant", "tool"}) {
    if (role == known) return known;
  }
  return {};
}

// Members that would change what is said and cannot be honoured.
ApiStatus check_members(const Fields& fields, std::string_view role) {
  if (fields.has("audio")) {
    return bad_request(fields.path("audio"), "{} is not supported: give its text as content",
                       fields.path("audio"));
  }
  const Json* calls = fields.find("tool_calls");
  if (role != "assistant" && calls != nullptr && !(calls->is_array() && calls->empty())) {
    return bad_request(fields.path("tool_calls"), "{}: only messages of role assistant have calls",
                       fields.path("tool_calls"));
  }
  return {};
}

}  // namespace

ApiStatus read_message(const Json& json, const std::string& where, ChatRequest& request, RequestWork& work) {
  const size_t index = request.conversation.turns.size();
  if (!json.is_object()) return bad_request(where, "{} must be an object", where);
  const Fields fields(json, where + ".");
  ChatTurn turn;
  ODMOE_RETURN_IF_ERROR(fields.read("role", turn.role));
  turn.role = known_role(turn.role);
  if (turn.role.empty()) {
    return bad_request(where + ".role",
                       "{}.role must be system, developer, user, assistant, tool or function", where);
  }
  ODMOE_RETURN_IF_ERROR(check_members(fields, turn.role));
  ODMOE_RETURN_IF_ERROR(fields.read("name", turn.name));
  if (turn.role == "tool" && turn.name.empty()) ODMOE_RETURN_IF_ERROR(fields.read("tool_name", turn.name));
  ODMOE_RETURN_IF_ERROR(read_images(fields, "images", index, turn, request.images));
  ODMOE_RETURN_IF_ERROR(read_content(fields, "content", index, turn, request.images));
  if (turn.role == "assistant") ODMOE_RETURN_IF_ERROR(read_assistant(fields, turn, work));
  if (turn.role == "tool") turn.tool_call_id = text_of(fields.find("tool_call_id"));
  request.conversation.turns.push_back(std::move(turn));
  return {};
}

namespace {

// An answer's thought that stands in its content, as models write it, is taken apart: who goes on with it
// must know whether it is still being thought.
Continuation split_thought(ChatTurn& turn) {
  constexpr std::string_view kBegin = "<think>", kEnd = "</think>";
  if (!turn.content.starts_with(kBegin)) {
    return turn.content.empty() && turn.reasoning ? Continuation::kThought : Continuation::kAnswer;
  }
  turn.content.erase(0, kBegin.size());
  const size_t end = turn.content.find(kEnd);
  if (end == std::string::npos) {
    turn.reasoning = std::exchange(turn.content, "");
    return Continuation::kThought;
  }
  turn.reasoning = turn.content.substr(0, end);
  turn.content.erase(0, end + kEnd.size());
  turn.content.erase(0, turn.content.find_first_not_of('\n'));
  return Continuation::kAnswer;
}

// Whether the last message is one that the model is to go on with: the request says so (vLLM, Transformers),
// or the message does (Mistral's and DeepSeek's "prefix", Moonshot's "partial").
ApiStatus read_continuation(const Fields& fields, const Json& messages, ChatRequest& request) {
  Conversation& conversation = request.conversation;
  bool goes_on = false;
  const char* said = "continue_final_message";
  ODMOE_RETURN_IF_ERROR(fields.read(said, goes_on));
  for (size_t i = 0; i < messages.size(); ++i) {
    for (const char* name : {"prefix", "partial"}) {
      bool marked = false;
      const Fields message(messages[i], odmoe::format("messages[{}].", i));
      ODMOE_RETURN_IF_ERROR(message.read(name, marked));
      if (!marked) continue;
      if (i + 1 < messages.size()) {
        return bad_request(message.path(name), "{} is only allowed in the last message", message.path(name));
      }
      goes_on = true;
      said = name;
    }
  }
  bool prompts = !goes_on;
  ODMOE_RETURN_IF_ERROR(fields.read("add_generation_prompt", prompts));
  if (!goes_on) {
    conversation.add_generation_prompt = prompts;
    return {};
  }
  if (prompts) {
    return bad_request("add_generation_prompt", "add_generation_prompt and {} cannot both be true", said);
  }
  const std::string where = odmoe::format("messages[{}]", conversation.turns.size() - 1);
  return continue_last_turn(request, where, said);
}

}  // namespace

ApiStatus read_images(const Fields& fields, const char* name, size_t index, const ChatTurn& turn,
                      std::vector<Image>& images) {
  const Json* json = fields.find(name);
  if (json == nullptr) return {};
  const std::string param = fields.path(name);
  if (!json->is_array()) return bad_request(param, "{} must be a list of images", param);
  for (size_t i = 0; i < json->size(); ++i) {
    const Json& image = (*json)[i];
    const std::string where = odmoe::format("{}[{}]", param, i);
    if (!image.is_string()) return bad_request(where, "{} must be an image in base64", where);
    ODMOE_RETURN_IF_ERROR(
        add_image(image_url(image.get_ref<const std::string&>()), where, index, turn, images));
  }
  return {};
}

ApiStatus add_image(std::string url, const std::string& param, size_t index, const ChatTurn& turn,
                    std::vector<Image>& images) {
  if (images.size() == kMaxImages) return bad_request(param, "there are more than {} images", kMaxImages);
  images.push_back({.url = std::move(url), .turn = index, .at = turn.content.size()});
  return {};
}

ApiStatus set_arguments(ChatToolCall& call, std::string arguments, RequestWork& work) {
  call.arguments = std::move(arguments);
  if (call.arguments.empty()) call.arguments = "{}";
  // It is parsed on its way to the model: within the same bounds as the body, or not at all.
  const uint64_t before = work.bytes();
  const auto parsed = parse_json(call.arguments, work);
  work.give_back_to(before);
  if (!parsed.has_value() && parsed.error().status != 400) return std::unexpected(parsed.error());
  call.arguments_are_json = parsed.has_value();
  return {};
}

void give_ids(std::vector<ChatTurn>& turns) {
  struct AnsweredCall {
    std::string id;
    bool open = true;
  };
  std::deque<AnsweredCall> calls;
  size_t next = 0;                                                // of calls: none before it is open
  std::unordered_map<std::string, std::deque<size_t>> open_ones;  // by their ids, in order
  const auto close = [&](size_t place) {
    calls[place].open = false;
    open_ones[calls[place].id].pop_front();  // of those with one id the first is always the next
    while (next < calls.size() && !calls[next].open) ++next;
  };
  for (ChatTurn& turn : turns) {
    for (const ChatToolCall& call : turn.tool_calls) {
      open_ones[call.id].push_back(calls.size());
      calls.push_back({.id = call.id});
    }
    if (turn.role != "tool") continue;
    if (!turn.tool_call_id.empty()) {
      const auto own = open_ones.find(turn.tool_call_id);
      if (own != open_ones.end() && !own->second.empty()) close(own->second.front());
    } else if (next < calls.size()) {
      turn.tool_call_id = calls[next].id;
      close(next);
    }
  }
}

ApiStatus continue_last_turn(ChatRequest& request, const std::string& where, std::string_view said) {
  Conversation& conversation = request.conversation;
  ChatTurn& last = conversation.turns.back();
  if (last.role != "assistant") {
    return bad_request(where + ".role", "{}: only a last message of the assistant can be continued", said);
  }
  if (!last.tool_calls.empty()) {
    return bad_request(where + ".tool_calls", "{}: a message with calls cannot be continued", said);
  }
  if (!request.images.empty() && request.images.back().turn + 1 == conversation.turns.size()) {
    return bad_request(where + ".content", "{}: a message with images cannot be continued", said);
  }
  if (last.content.empty() && last.reasoning.value_or("").empty()) {  // nothing was said yet
    conversation.turns.pop_back();
    return {};
  }
  conversation.continuation = split_thought(last);
  return {};
}

ApiStatus read_messages(const Fields& fields, ChatRequest& request, RequestWork& work) {
  const Json* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty() || messages->size() > kMaxMessages) {
    return bad_request("messages", "messages must be a list of 1 to {} messages", kMaxMessages);
  }
  for (size_t i = 0; i < messages->size(); ++i)
    ODMOE_RETURN_IF_ERROR(read_message((*messages)[i], odmoe::format("messages[{}]", i), request, work));
  give_ids(request.conversation.turns);
  return read_continuation(fields, *messages, request);
}

}  // namespace odmoe::server
