// The messages of a chat.
#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

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

}  // namespace

ApiStatus read_messages(const Fields& fields, ChatRequest& request) {
  const Json* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty() || messages->size() > kMaxMessages) {
    return bad_request("messages", "messages must be a list of 1 to {} messages", kMaxMessages);
  }
  for (size_t i = 0; i < messages->size(); ++i)
    ODMOE_RETURN_IF_ERROR(read_message((*messages)[i], i, request));
  return {};
}

}  // namespace odmoe::server
