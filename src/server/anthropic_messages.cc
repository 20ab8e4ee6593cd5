// The conversation of a request in Anthropic's words: messages of content blocks, of which results of tools
// are the user's, and each kind becomes a turn of its own.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/anthropic_request.h"
#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

// Puts a conversation together.
class BlockReader {
 public:
  BlockReader(ChatRequest& request, RequestWork& work) : request_(&request), work_(&work) {}

  ApiStatus read_system(const Json& json);
  ApiStatus read_message(const Json& json, const std::string& where);

 private:
  ApiStatus read_blocks(const Json& content, const std::string& where, std::string_view role);
  ApiStatus read_block(const Fields& block, const std::string& where, std::string_view role);
  ApiStatus read_result(const Fields& block, const std::string& where);
  ApiStatus read_use(const Fields& block, ChatTurn& turn);
  ApiStatus read_picture(const Fields& block, const std::string& where, const ChatTurn& turn);
  // Text, or an image, within a turn.
  ApiStatus read_shown(const Json& json, const std::string& where, ChatTurn& turn);

  // The turn that a message of the role goes on with: what follows in the same role is one turn.
  ChatTurn& turn_of(std::string_view role);
  ChatTurn& new_turn(std::string_view role) {
    return turns().emplace_back(ChatTurn{.role = std::string(role), .content = {}});
  }
  std::vector<ChatTurn>& turns() { return request_->conversation.turns; }

  ChatRequest* request_;
  RequestWork* work_;
  bool begins_ = false;  // nothing of the message was read yet
};

ApiStatus wrong_block(const std::string& where, std::string_view supported, const std::string& type) {
  return bad_request(where, "{}: blocks of type {} are supported here, not \"{}\"", where, supported,
                     type.substr(0, 64));
}

ApiResult<std::string> type_of(const Json& json, const std::string& where) {
  if (!json.is_object()) return bad_request(where, "{} must be an object", where);
  std::string type;
  ODMOE_RETURN_IF_ERROR(Fields(json, where + ".").read("type", type));
  return type;
}

ChatTurn& BlockReader::turn_of(std::string_view role) {
  const bool begins = std::exchange(begins_, false);
  const bool goes_on = !turns().empty() && turns().back().role == role;
  if (!goes_on || (begins && role == "system")) return new_turn(role);
  ChatTurn& turn = turns().back();
  if (begins && !turn.content.empty()) turn.content += '\n';
  return turn;
}

ApiStatus BlockReader::read_picture(const Fields& block, const std::string& where, const ChatTurn& turn) {
  const Json* source = block.find("source");
  const std::string param = where + ".source";
  if (source == nullptr || !source->is_object()) return bad_request(param, "{} must be an object", param);
  const Fields fields(*source, param + ".");
  std::string type, url;
  ODMOE_RETURN_IF_ERROR(fields.read("type", type));
  if (type == "url") {
    ODMOE_RETURN_IF_ERROR(fields.read("url", url));
  } else if (type == "base64") {
    std::string media_type, data;
    ODMOE_RETURN_IF_ERROR(fields.read("media_type", media_type));
    ODMOE_RETURN_IF_ERROR(fields.read("data", data));
    url = odmoe::format("data:{};base64,{}", media_type, data);
  } else {
    return bad_request(param, "{}: sources of type base64 and url are supported, not \"{}\"", param,
                       type.substr(0, 64));
  }
  if (url.empty()) return bad_request(param, "{}.url is missing", param);
  return add_image(std::move(url), where, turns().size() - 1, turn, request_->images);
}

ApiStatus BlockReader::read_shown(const Json& json, const std::string& where, ChatTurn& turn) {
  ODMOE_ASSIGN_OR_RETURN(const std::string type, type_of(json, where));
  const Fields block(json, where + ".");
  if (type == "image") return read_picture(block, where, turn);
  if (type != "text") return wrong_block(where, "text and image", type);
  std::string text;
  ODMOE_RETURN_IF_ERROR(block.read("text", text));
  turn.content += text;
  return {};
}

ApiStatus BlockReader::read_result(const Fields& block, const std::string& where) {
  if (turns().size() >= kMaxMessages) {
    return bad_request(where, "{}: there may be {} messages and results at most", where, kMaxMessages);
  }
  ChatTurn& turn = new_turn("tool");
  ODMOE_RETURN_IF_ERROR(block.read("tool_use_id", turn.tool_call_id));
  bool failed = false;
  ODMOE_RETURN_IF_ERROR(block.read("is_error", failed));
  // Templates have no field for it: the model is told as people would be.
  if (failed) turn.content = "Error: ";
  const Json* content = block.find("content");
  if (content == nullptr) return {};
  const std::string param = where + ".content";
  if (content->is_string()) {
    turn.content += content->get_ref<const std::string&>();
    return {};
  }
  if (!content->is_array()) return bad_request(param, "{} must be a string or a list of blocks", param);
  for (size_t i = 0; i < content->size(); ++i) {
    ODMOE_RETURN_IF_ERROR(read_shown((*content)[i], odmoe::format("{}[{}]", param, i), turn));
  }
  return {};
}

ApiStatus BlockReader::read_use(const Fields& block, ChatTurn& turn) {
  ChatToolCall& call = turn.tool_calls.emplace_back();
  ODMOE_RETURN_IF_ERROR(block.read("id", call.id));
  ODMOE_RETURN_IF_ERROR(block.read("name", call.name));
  const Json* input = block.find("input");
  if (input == nullptr) return set_arguments(call, "", *work_);
  return set_arguments(call, input->is_string() ? input->get<std::string>() : dump_json(*input), *work_);
}

ApiStatus BlockReader::read_block(const Fields& block, const std::string& where, std::string_view role) {
  std::string type;
  ODMOE_RETURN_IF_ERROR(block.read("type", type));
  const auto add = [&](const char* key, std::string& to) -> ApiStatus {
    std::string text;
    ODMOE_RETURN_IF_ERROR(block.read(key, text));
    to += text;
    return {};
  };
  if (type == "text") return add("text", turn_of(role).content);
  if (role == "system") return wrong_block(where, "text", type);
  if (role == "user") {
    if (type == "image") return read_picture(block, where, turn_of(role));
    if (type == "tool_result") return read_result(block, where);
    return wrong_block(where, "text, image and tool_result", type);
  }
  if (type == "thinking") {
    ChatTurn& turn = turn_of(role);
    if (!turn.reasoning) turn.reasoning.emplace();
    return add("thinking", *turn.reasoning);
  }
  if (type == "tool_use") return read_use(block, turn_of(role));
  // Encrypted: no model here can read it.
  if (type == "redacted_thinking") return {};
  return wrong_block(where, "text, thinking, redacted_thinking and tool_use", type);
}

ApiStatus BlockReader::read_blocks(const Json& content, const std::string& where, std::string_view role) {
  begins_ = true;
  if (content.is_string()) {
    turn_of(role).content += content.get_ref<const std::string&>();
    return {};
  }
  if (!content.is_array()) return bad_request(where, "{} must be a string or a list of blocks", where);
  if (content.empty()) turn_of(role);
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string param = odmoe::format("{}[{}]", where, i);
    if (!content[i].is_object()) return bad_request(param, "{} must be an object", param);
    ODMOE_RETURN_IF_ERROR(read_block(Fields(content[i], param + "."), param, role));
  }
  return {};
}

ApiStatus BlockReader::read_system(const Json& json) {
  if (json == "" || json == Json::array()) return {};
  return read_blocks(json, "system", "system");
}

ApiStatus BlockReader::read_message(const Json& json, const std::string& where) {
  if (!json.is_object()) return bad_request(where, "{} must be an object", where);
  const Fields fields(json, where + ".");
  std::string role;
  ODMOE_RETURN_IF_ERROR(fields.read("role", role));
  if (role != "user" && role != "assistant" && role != "system") {
    return bad_request(where + ".role", "{}.role must be user, assistant or system", where);
  }
  const Json* content = fields.find("content");
  if (content == nullptr) return bad_request(where + ".content", "{}.content is missing", where);
  return read_blocks(*content, where + ".content", role);
}

}  // namespace

ApiStatus read_anthropic_messages(const Fields& fields, ChatRequest& request, RequestWork& work) {
  BlockReader reader(request, work);
  if (const Json* system = fields.find("system")) ODMOE_RETURN_IF_ERROR(reader.read_system(*system));
  const Json* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty() || messages->size() > kMaxMessages) {
    return bad_request("messages", "messages must be a list of 1 to {} messages", kMaxMessages);
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    ODMOE_RETURN_IF_ERROR(reader.read_message((*messages)[i], odmoe::format("messages[{}]", i)));
  }
  give_ids(request.conversation.turns);
  const std::vector<ChatTurn>& turns = request.conversation.turns;
  if (turns.empty() || turns.back().role != "assistant") return {};
  const std::string last = odmoe::format("messages[{}]", messages->size() - 1);
  return continue_last_turn(request, last, last);
}

}  // namespace odmoe::server
