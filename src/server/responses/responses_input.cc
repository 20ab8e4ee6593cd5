// The items of a response's input, as the turns of a conversation.
//
// What an answer said may come back as it was: thoughts, messages and calls that follow one another are one
// turn of the assistant's.
#include <algorithm>
#include <optional>
#include <utility>

#include "base/base64.h"
#include "server/limits.h"
#include "server/request_parts.h"
#include "server/responses/responses_request.h"

namespace odmoe::server {
namespace {

constexpr std::string_view kSeal = "odmoe:";

class InputReader {
 public:
  InputReader(ResponseStore* store, const std::string& owner, ChatRequest& request, RequestWork& work)
      : store_(store), owner_(owner), request_(request), work_(work) {}

  ApiStatus read(const Json& item, const std::string& where);
  // An item that was kept.
  ApiStatus read_again(const ResponseItemText& item);
  // What the item that was read last refers to; null: it is not a reference.
  const ResponseItemText* referred() const { return referred_ ? &*referred_ : nullptr; }

 private:
  using Turns = std::vector<ChatTurn>;
  Turns& turns() { return request_.conversation.turns; }
  // The assistant's turn that may go on; a new one where it has said something of what `ends` it.
  ChatTurn& assistant(bool ends);
  ApiStatus read_message_item(const Json& item, const std::string& where);
  ApiStatus read_call(const Json& item, const std::string& where);
  ApiStatus read_result(const Json& item, const std::string& where);
  ApiStatus read_thought(const Json& item, const std::string& where);
  ApiStatus read_reference(const Fields& fields, const std::string& where);

  ResponseStore* store_;
  const std::string& owner_;
  ChatRequest& request_;
  RequestWork& work_;
  size_t n_item_ = 0;
  std::optional<ResponseItemText> referred_;
  bool open_ = false;  // the last turn is the assistant's and may go on
};

ChatTurn& InputReader::assistant(bool ends) {
  if (!open_ || ends) turns().push_back({.role = "assistant"});
  open_ = true;
  return turns().back();
}

ApiStatus InputReader::read(const Json& item, const std::string& where) {
  if (!item.is_object()) return bad_request(where, "{} must be an object", where);
  if (++n_item_ > kMaxMessages) {
    return bad_request("input", "there may be {} items at most, with those it goes on from", kMaxMessages);
  }
  referred_.reset();
  const Fields fields(item, where + ".");
  std::string type;
  ODMOE_RETURN_IF_ERROR(fields.read("type", type));
  if (type.empty()) type = !fields.has("role") && fields.has("id") ? "item_reference" : "message";
  if (type == "message") return read_message_item(item, where);
  if (type == "function_call") return read_call(item, where);
  if (type == "function_call_output") return read_result(item, where);
  if (type == "reasoning") return read_thought(item, where);
  if (type == "item_reference") return read_reference(fields, where);
  return bad_request(fields.path("type"),
                     "{}: items of type message, function_call, function_call_output, reasoning and "
                     "item_reference are supported, not \"{}\"",
                     fields.path("type"), type.substr(0, 32));
}

ApiStatus InputReader::read_message_item(const Json& item, const std::string& where) {
  const Fields fields(item, where + ".");
  std::string role;
  ODMOE_RETURN_IF_ERROR(fields.read("role", role));
  if (role != "user" && role != "assistant" && role != "system" && role != "developer") {
    return bad_request(fields.path("role"), "{} must be user, assistant, system or developer",
                       fields.path("role"));
  }
  ODMOE_RETURN_IF_ERROR(read_message(item, where, request_, work_));
  if (role != "assistant") {
    open_ = false;
    return {};
  }
  // What was thought before it belongs to it.
  if (open_ && turns().size() > 1) {
    ChatTurn& before = turns()[turns().size() - 2];
    if (before.content.empty() && before.tool_calls.empty()) {
      ChatTurn said = std::move(turns().back());
      turns().pop_back();
      if (!said.reasoning) said.reasoning = std::move(before.reasoning);
      before = std::move(said);
      for (Image& image : request_.images) {
        if (image.turn == turns().size()) --image.turn;
      }
    }
  }
  open_ = true;
  return {};
}

ApiStatus InputReader::read_call(const Json& item, const std::string& where) {
  const Fields fields(item, where + ".");
  ChatToolCall call;
  ODMOE_RETURN_IF_ERROR(fields.read("call_id", call.id));
  if (call.id.empty()) return bad_request(fields.path("call_id"), "{} is missing", fields.path("call_id"));
  ODMOE_RETURN_IF_ERROR(fields.read("name", call.name));
  std::string arguments;
  ODMOE_RETURN_IF_ERROR(fields.read("arguments", arguments));
  ODMOE_RETURN_IF_ERROR(set_arguments(call, std::move(arguments), work_));
  if (call.name.empty()) return bad_request(fields.path("name"), "{} is missing", fields.path("name"));
  assistant(false).tool_calls.push_back(std::move(call));
  return {};
}

ApiStatus InputReader::read_result(const Json& item, const std::string& where) {
  const Fields fields(item, where + ".");
  ChatTurn turn{.role = "tool"};
  ODMOE_RETURN_IF_ERROR(fields.read("call_id", turn.tool_call_id));
  if (turn.tool_call_id.empty()) {
    return bad_request(fields.path("call_id"), "{} is missing", fields.path("call_id"));
  }
  ODMOE_RETURN_IF_ERROR(read_content(fields, "output", turns().size(), turn, request_.images));
  turns().push_back(std::move(turn));
  open_ = false;
  return {};
}

// The texts of a list of parts of this type.
ApiStatus read_parts(const Fields& fields, const char* name, std::string_view type, std::string& to) {
  const Json* parts = fields.find(name);
  if (parts == nullptr) return {};
  const std::string param = fields.path(name);
  if (!parts->is_array()) return bad_request(param, "{} must be a list of parts", param);
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string where = odmoe::format("{}[{}]", param, i);
    const Json& part = (*parts)[i];
    if (!part.is_object()) return bad_request(where, "{} must be an object of type {}", where, type);
    const Fields inner(part, where + ".");
    std::string its_type, text;
    ODMOE_RETURN_IF_ERROR(inner.read("type", its_type));
    if (its_type != type) return bad_request(where, "{} must be an object of type {}", where, type);
    ODMOE_RETURN_IF_ERROR(inner.read("text", text));
    if (!to.empty() && !text.empty()) to += "\n\n";
    to += text;
  }
  return {};
}

// What was thought, by its whole text where that is there.
ApiStatus InputReader::read_thought(const Json& item, const std::string& where) {
  const Fields fields(item, where + ".");
  std::string thought, summary, sealed;
  ODMOE_RETURN_IF_ERROR(read_parts(fields, "content", "reasoning_text", thought));
  ODMOE_RETURN_IF_ERROR(read_parts(fields, "summary", "summary_text", summary));
  ODMOE_RETURN_IF_ERROR(fields.read("encrypted_content", sealed));
  if (thought.empty() && sealed.starts_with(kSeal)) {
    auto opened = decode_base64(std::string_view(sealed).substr(kSeal.size()), kMaxJsonStringBytes);
    if (opened) thought = std::move(*opened);
  }
  if (thought.empty()) thought = std::move(summary);
  if (thought.empty() && !sealed.empty()) {
    return bad_request(fields.path("encrypted_content"),
                       "{} was not written by this server: leave the item out, or send its text",
                       fields.path("encrypted_content"));
  }
  const bool said = open_ && (!turns().back().content.empty() || !turns().back().tool_calls.empty());
  ChatTurn& turn = assistant(said);
  if (turn.reasoning && !turn.reasoning->empty()) thought = *turn.reasoning + "\n\n" + thought;
  turn.reasoning = std::move(thought);
  return {};
}

ApiStatus InputReader::read_reference(const Fields& fields, const std::string& where) {
  std::string id;
  ODMOE_RETURN_IF_ERROR(fields.read("id", id));
  // An id of ours has that of its response within: msg_RESPONSE_2.
  const size_t first = id.find('_'), last = id.rfind('_');
  SharedResponse response;
  if (store_ != nullptr && first != last) {
    response = store_->find("resp_" + id.substr(first + 1, last - first - 1), owner_);
  }
  for (const auto* items : {response ? &response->output : nullptr, response ? &response->input : nullptr}) {
    if (items == nullptr) continue;
    const auto item = std::ranges::find(*items, id, &ResponseItemText::id);
    if (item == items->end()) continue;
    ODMOE_RETURN_IF_ERROR(work_.take(item->text.size()));
    ResponseItemText found = *item;
    ODMOE_RETURN_IF_ERROR(read_again(found));
    referred_ = std::move(found);
    return {};
  }
  return bad_request(where + ".id", "Item with id '{}' not found: it was not stored, or is not any more",
                     id.substr(0, 128));
}

ApiStatus InputReader::read_again(const ResponseItemText& item) {
  ODMOE_RETURN_IF_ERROR(work_.take(item.text.size()));  // what is read of it
  const uint64_t kept = work_.bytes();
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_json(item.text, work_));
  auto status = read(json, "previous_response_id");
  work_.give_back_to(kept);
  return status;
}

// Templates know one system message, at the beginning.
void join_system_turns(ChatRequest& request) {
  std::vector<ChatTurn>& turns = request.conversation.turns;
  size_t n = 0;
  while (n < turns.size() && turns[n].role == "system") ++n;
  const bool with_images =
      std::ranges::any_of(request.images, [&](const Image& image) { return image.turn < n; });
  if (n < 2 || with_images) return;
  for (size_t i = 1; i < n; ++i) turns[0].content += "\n\n" + turns[i].content;
  turns.erase(turns.begin() + 1, turns.begin() + static_cast<ptrdiff_t>(n));
  for (Image& image : request.images) image.turn -= n - 1;
}

// As it is kept and listed: with its type, with text as parts, and without its id.
std::string listed(const Json& item) {
  const Json given = item.value("type", Json());
  std::string type = given.is_string() ? given.get<std::string>() : "";
  if (type.empty()) type = "message";
  const bool message = type == "message";
  Json head = {{"type", type}};
  if (message) head["status"] = "completed";
  std::string text = dump_json(head);
  text.pop_back();
  for (const auto& [name, value] : item.items()) {
    if (name == "id" || head.contains(name)) continue;
    text += "," + dump_json(name) + ":";
    if (message && name == "content" && value.is_string()) {
      const char* part = item.value("role", Json()) == "assistant" ? "output_text" : "input_text";
      text += odmoe::format("[{{\"type\":\"{}\",\"text\":{}}}]", part, dump_json(value));
    } else {
      text += dump_json(value);
    }
  }
  return text + "}";
}

ApiError previous_not_found(const std::string& id) {
  return {.status = 400,
          .fault = Fault::kRequest,
          .message = odmoe::format("Previous response with id '{}' not found.", id.substr(0, 128)),
          .param = "previous_response_id",
          .code = "previous_response_not_found"};
}

}  // namespace

std::string sealed_thought(std::string_view thought) { return std::string(kSeal) + encode_base64(thought); }

ApiStatus read_responses_input(const Json& body, const std::shared_ptr<ResponseStore>& store,
                               ResponsesRequest& request, RequestWork& work) {
  const Fields fields(body);
  ResponseSettings& settings = request.settings;
  settings.owner = work.owner();
  std::string instructions;
  ODMOE_RETURN_IF_ERROR(fields.read("instructions", instructions));
  if (!instructions.empty()) {
    request.chat.conversation.turns.push_back({.role = "system", .content = std::move(instructions)});
  }
  InputReader reader(store.get(), settings.owner, request.chat, work);
  ODMOE_RETURN_IF_ERROR(fields.read("previous_response_id", settings.previous));
  if (!settings.previous.empty()) {
    ResponseStore::History history;
    if (store) history = store->history(settings.previous, settings.owner);
    if (history.responses.empty()) return std::unexpected(previous_not_found(settings.previous));
    for (const SharedResponse& response : history.responses) {
      for (const ResponseItemText& item : response->input) ODMOE_RETURN_IF_ERROR(reader.read_again(item));
      for (const ResponseItemText& item : response->output) ODMOE_RETURN_IF_ERROR(reader.read_again(item));
    }
    settings.hold = std::move(history.hold);
  }
  const Json* input = fields.find("input");
  const bool is_text = input != nullptr && input->is_string();
  const bool may_be_empty = !settings.previous.empty();
  if (input == nullptr ? !may_be_empty
                       : !is_text && (!input->is_array() || (input->empty() && !may_be_empty))) {
    return bad_request("input", "input must be a text or a list of 1 to {} items", kMaxMessages);
  }
  Json as_item;
  if (is_text) as_item = {{"type", "message"}, {"role", "user"}, {"content", *input}};
  const size_t n_item = input == nullptr ? 0 : is_text ? 1 : input->size();
  for (size_t i = 0; i < n_item; ++i) {
    const Json& item = is_text ? as_item : (*input)[i];
    ODMOE_RETURN_IF_ERROR(reader.read(item, is_text ? "input" : odmoe::format("input[{}]", i)));
    if (!settings.store) continue;
    if (const ResponseItemText* referred = reader.referred()) {
      settings.input.push_back(*referred);
      continue;
    }
    ResponseItemText kept;
    ODMOE_RETURN_IF_ERROR(Fields(item, odmoe::format("input[{}].", i)).read("id", kept.id));
    kept.text = listed(item);
    ODMOE_RETURN_IF_ERROR(work.take(kept.text.size()));
    settings.input.push_back(std::move(kept));
  }
  join_system_turns(request.chat);
  return {};
}

}  // namespace odmoe::server
