#include "server/assistant_text.h"

#include <algorithm>
#include <utility>

#include "odmoe/format.h"
#include "server/json_guard.h"

namespace odmoe::server {
namespace {

constexpr std::string_view kThinkBegin = "<think>";
constexpr std::string_view kThinkEnd = "</think>";
constexpr std::string_view kSpaces = " \t\r\n";

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

// How many bytes at the end of `text` may be the beginning of `mark`.
size_t partial(std::string_view text, std::string_view mark) {
  for (size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n) {
    if (text.ends_with(mark.substr(0, n))) return n;
  }
  return 0;
}

std::optional<ChatToolCall> parse_hermes(std::string_view body) {
  const auto json = parse_json(trim(body));
  if (!json.has_value() || !json->is_object() || !json->contains("name") || !(*json)["name"].is_string()) {
    return std::nullopt;
  }
  const Json arguments = json->value("arguments", json->value("parameters", Json::object()));
  return ChatToolCall{
      .name = (*json)["name"],
      .arguments = arguments.is_string() ? arguments.get<std::string>() : dump_json(arguments)};
}

// functions.NAME:INDEX<|tool_call_argument_begin|>{...}
std::optional<ChatToolCall> parse_kimi(std::string_view body) {
  constexpr std::string_view kArguments = "<|tool_call_argument_begin|>";
  const size_t at = body.find(kArguments);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view id = trim(body.substr(0, at));
  std::string_view name = id;
  if (name.starts_with("functions.")) name.remove_prefix(10);
  name = name.substr(0, name.rfind(':'));
  return ChatToolCall{.id = std::string(id),
                      .name = std::string(name),
                      .arguments = std::string(trim(body.substr(at + kArguments.size())))};
}

std::optional<ChatToolCall> parse_deepseek(std::string_view body, bool v3) {
  constexpr std::string_view kSeparator = "<｜tool▁sep｜>";
  const size_t at = body.find(kSeparator);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = body.substr(at + kSeparator.size());
  if (!v3) {
    return ChatToolCall{.name = std::string(trim(body.substr(0, at))), .arguments = std::string(trim(rest))};
  }
  const size_t line = rest.find('\n');
  if (line == std::string_view::npos) return std::nullopt;
  const std::string_view name = trim(rest.substr(0, line));
  rest = trim(rest.substr(line));
  if (rest.starts_with("```json")) rest.remove_prefix(7);
  if (rest.ends_with("```")) rest.remove_suffix(3);
  return ChatToolCall{.name = std::string(name), .arguments = std::string(trim(rest))};
}

// `key="value"` of a tag.
std::optional<std::string_view> attribute(std::string_view tag, std::string_view key) {
  const std::string begin = odmoe::format("{}=\"", key);
  const size_t at = tag.find(begin);
  if (at == std::string_view::npos) return std::nullopt;
  const size_t from = at + begin.size(), to = tag.find('"', from);
  if (to == std::string_view::npos) return std::nullopt;
  return tag.substr(from, to - from);
}

// ' name="NAME">\n<｜DSML｜parameter name="x" string="true">...</｜DSML｜parameter>\n...'
std::optional<ChatToolCall> parse_dsml(std::string_view body) {
  constexpr std::string_view kOpen = "<｜DSML｜parameter", kClose = "</｜DSML｜parameter>";
  const auto name = attribute(body.substr(0, body.find('>')), "name");
  if (!name) return std::nullopt;
  Json arguments = Json::object();
  for (size_t at = body.find(kOpen); at != std::string_view::npos; at = body.find(kOpen, at)) {
    const size_t from = body.find('>', at), to = body.find(kClose, at);
    if (from == std::string_view::npos || to == std::string_view::npos || to < from) return std::nullopt;
    const std::string_view tag = body.substr(at, from - at), value = body.substr(from + 1, to - from - 1);
    const auto key = attribute(tag, "name");
    if (!key) return std::nullopt;
    Json parsed = std::string(value);
    if (attribute(tag, "string") == "false") {
      if (auto json = parse_json(value); json.has_value()) parsed = std::move(*json);
    }
    arguments[std::string(*key)] = std::move(parsed);
    at = to;
  }
  return ChatToolCall{.name = std::string(*name), .arguments = dump_json(arguments)};
}

}  // namespace

CallMarks call_marks(ToolCallSyntax syntax) {
  switch (syntax) {
    case ToolCallSyntax::kHermes:
      return {.open = "<tool_call>", .close = "</tool_call>", .list_open = "", .list_close = ""};
    case ToolCallSyntax::kKimi:
      return {.open = "<|tool_call_begin|>",
              .close = "<|tool_call_end|>",
              .list_open = "<|tool_calls_section_begin|>",
              .list_close = "<|tool_calls_section_end|>"};
    case ToolCallSyntax::kDeepSeekV3:
    case ToolCallSyntax::kDeepSeekV31:
      return {.open = "<｜tool▁call▁begin｜>",
              .close = "<｜tool▁call▁end｜>",
              .list_open = "<｜tool▁calls▁begin｜>",
              .list_close = "<｜tool▁calls▁end｜>"};
    case ToolCallSyntax::kDeepSeekV32:
      return {.open = "<｜DSML｜invoke",
              .close = "</｜DSML｜invoke>",
              .list_open = "<｜DSML｜function_calls>",
              .list_close = "</｜DSML｜function_calls>"};
  }
  std::unreachable();
}

std::optional<ChatToolCall> parse_tool_call(ToolCallSyntax syntax, std::string_view body) {
  std::optional<ChatToolCall> call;
  switch (syntax) {
    case ToolCallSyntax::kHermes:
      call = parse_hermes(body);
      break;
    case ToolCallSyntax::kKimi:
      call = parse_kimi(body);
      break;
    case ToolCallSyntax::kDeepSeekV3:
      call = parse_deepseek(body, true);
      break;
    case ToolCallSyntax::kDeepSeekV31:
      call = parse_deepseek(body, false);
      break;
    case ToolCallSyntax::kDeepSeekV32:
      call = parse_dsml(body);
      break;
  }
  if (!call || call->name.empty()) return std::nullopt;
  if (call->arguments.empty()) call->arguments = "{}";
  return call;
}

AssistantText::AssistantText(std::optional<ToolCallSyntax> syntax, Start start, std::string id_prefix)
    : syntax_(syntax),
      id_prefix_(std::move(id_prefix)),
      state_(start == Start::kThought   ? State::kThought
             : start == Start::kContent ? State::kContent
                                        : State::kStart) {}

AssistantDelta AssistantText::push(std::string_view text) {
  pending_ += text;
  AssistantDelta delta;
  read(delta, false);
  return delta;
}

AssistantDelta AssistantText::finish() {
  AssistantDelta delta;
  read(delta, true);
  return delta;
}

void AssistantText::read(AssistantDelta& delta, bool last) {
  bool moved = true;
  while (moved) {
    switch (state_) {
      case State::kStart:
        moved = read_start(last);
        break;
      case State::kThought:
        moved = read_thought(delta, last);
        break;
      case State::kContent:
        moved = read_content(delta, last);
        break;
      case State::kCall:
        moved = read_call(delta, last);
        break;
    }
  }
}

// Whether it begins with a thought.
bool AssistantText::read_start(bool last) {
  const std::string_view text =
      std::string_view(pending_).substr(std::min(pending_.find_first_not_of(kSpaces), pending_.size()));
  if (text.starts_with(kThinkBegin)) {
    pending_.erase(0, pending_.size() - text.size() + kThinkBegin.size());
    state_ = State::kThought;
    return true;
  }
  if (kThinkBegin.starts_with(text) && !last) return false;  // it may still become one
  state_ = State::kContent;
  return true;
}

bool AssistantText::read_thought(AssistantDelta& delta, bool last) {
  const size_t end = pending_.find(kThinkEnd);
  const size_t tell =
      end != std::string::npos ? end : pending_.size() - (last ? 0 : partial(pending_, kThinkEnd));
  delta.reasoning += pending_.substr(0, tell);
  pending_.erase(0, tell);
  if (end == std::string::npos) return false;
  pending_.erase(0, kThinkEnd.size());
  state_ = State::kContent;
  after_thought_ = true;
  return true;
}

void AssistantText::add_content(std::string_view text, AssistantDelta& delta) {
  if (after_thought_) {
    // The lines between a thought and what follows it belong to neither.
    text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
    if (text.empty()) return;
    after_thought_ = false;
  }
  if (!syntax_) {
    delta.content += text;
    return;
  }
  const size_t end = text.find_last_not_of(kSpaces);
  if (end != std::string_view::npos) {
    delta.content += std::exchange(spaces_, {});
    delta.content += text.substr(0, end + 1);
    text.remove_prefix(end + 1);
  }
  spaces_ += text;
}

bool AssistantText::read_content(AssistantDelta& delta, bool last) {
  if (!syntax_) {
    add_content(pending_, delta);
    pending_.clear();
    return false;
  }
  const CallMarks marks = call_marks(*syntax_);
  size_t first = std::string::npos, hold = 0;
  std::string_view found;
  for (const std::string_view mark : {marks.open, marks.list_open, marks.list_close}) {
    if (mark.empty()) continue;
    const size_t at = pending_.find(mark);
    if (at < first) {
      first = at;
      found = mark;
    }
    hold = std::max(hold, partial(pending_, mark));
  }
  if (found.empty()) {
    const size_t tell = pending_.size() - (last ? 0 : hold);
    add_content(std::string_view(pending_).substr(0, tell), delta);
    pending_.erase(0, tell);
    if (last && n_call_ == 0) delta.content += std::exchange(spaces_, "");
    return false;
  }
  add_content(std::string_view(pending_).substr(0, first), delta);
  spaces_.clear();
  pending_.erase(0, first + found.size());
  if (found == marks.open) state_ = State::kCall;
  return true;
}

bool AssistantText::read_call(AssistantDelta& delta, bool last) {
  const CallMarks marks = call_marks(*syntax_);
  // What was looked at before cannot hold more of the mark than its beginning.
  const size_t end = pending_.find(marks.close, seen_ - std::min(seen_, marks.close.size() - 1));
  seen_ = end == std::string::npos ? pending_.size() : 0;
  if (end == std::string::npos) {
    if (!last) return false;
    seen_ = 0;
    delta.content += marks.open;
    delta.content += std::exchange(pending_, "");
    state_ = State::kContent;
    return false;
  }
  const std::string body = pending_.substr(0, end);
  pending_.erase(0, end + marks.close.size());
  state_ = State::kContent;
  if (auto call = parse_tool_call(*syntax_, body)) {
    if (call->id.empty()) call->id = odmoe::format("{}{}", id_prefix_, n_call_);
    ++n_call_;
    delta.calls.push_back(std::move(*call));
  } else {
    delta.content += marks.open;
    delta.content += body;
    delta.content += marks.close;
  }
  return true;
}

}  // namespace odmoe::server
