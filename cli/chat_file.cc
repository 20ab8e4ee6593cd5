#include "cli/chat_file.h"

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/ordered_json.h"
#include "cli/input.h"
#include "cli/output.h"

namespace odmoe::cli {
namespace {

using Json = nlohmann::ordered_json;

Result<std::string> text_of(const Json& message, const char* key, const std::string& path) {
  const auto found = message.find(key);
  if (found == message.end() || !found->is_string()) {
    return fail(ErrorKind::kBadFile, "{}: a message has no text as its \"{}\"", path, key);
  }
  return found->get<std::string>();
}

// What a shell would have made of it.
std::string with_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  return path.starts_with("~/") && home != nullptr ? home + path.substr(1) : path;
}

}  // namespace

Status save_conversation(const std::string& name, const std::vector<ChatTurn>& turns) {
  const std::string path = with_home(name);
  std::error_code error;
  if (std::filesystem::exists(path, error) && !load_conversation(path).has_value()) {
    return fail(ErrorKind::kUsage, "{} is there and is no conversation: choose another name", path);
  }
  Json messages = Json::array();
  for (const ChatTurn& turn : turns) {
    Json message{{"role", turn.role}, {"content", turn.content}};
    if (turn.reasoning) message["reasoning_content"] = *turn.reasoning;
    messages.push_back(std::move(message));
  }
  const Json file{{"messages", std::move(messages)}};
  ODMOE_ASSIGN_OR_RETURN(Output output, Output::create(path));
  ODMOE_RETURN_IF_ERROR(output.write(file.dump(1, ' ', false, Json::error_handler_t::replace) + "\n"));
  return output.close();
}

Result<std::vector<ChatTurn>> load_conversation(const std::string& name) {
  const std::string path = with_home(name);
  ODMOE_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  const auto json = read_ordered_json(text);
  if (!json.has_value()) return fail(ErrorKind::kBadFile, "{} is no JSON: {}", path, json.error().message);
  const auto messages = json->is_object() ? json->find("messages") : json->end();
  if (!json->is_object() || messages == json->end() || !messages->is_array()) {
    return fail(ErrorKind::kBadFile, "{} must be an object with \"messages\"", path);
  }
  std::vector<ChatTurn> turns;
  for (const Json& message : *messages) {
    if (!message.is_object()) return fail(ErrorKind::kBadFile, "{}: a message is no object", path);
    ChatTurn& turn = turns.emplace_back();
    ODMOE_ASSIGN_OR_RETURN(turn.role, text_of(message, "role", path));
    ODMOE_ASSIGN_OR_RETURN(turn.content, text_of(message, "content", path));
    if (turn.role != "system" && turn.role != "user" && turn.role != "assistant") {
      return fail(ErrorKind::kBadFile,
                  "{}: a message is of role \"{}\"; known are system, user and assistant{}", path, turn.role,
                  turn.role == "tool" ? ", tools are for odmoe serve" : "");
    }
    if (message.contains("reasoning_content")) {
      ODMOE_ASSIGN_OR_RETURN(turn.reasoning, text_of(message, "reasoning_content", path));
    }
    if (message.contains("tool_calls")) {
      return fail(ErrorKind::kBadFile, "{}: conversations with calls of tools are for odmoe serve", path);
    }
  }
  return turns;
}

}  // namespace odmoe::cli
