#include "server/responses/responses_writer.h"

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "odmoe/format.h"
#include "server/responses/response_items.h"

namespace odmoe::server {
namespace {

using ItemKind = ResponseItem::Kind;
using PartKind = AnswerPart::Kind;
using Write = std::function<bool(const BodySink&)>;

Json usage_json(const AnswerUsage& usage) {
  return {{"input_tokens", usage.prompt},
          {"input_tokens_details", {{"cached_tokens", usage.reused}}},
          {"output_tokens", usage.generated},
          {"output_tokens_details", {{"reasoning_tokens", usage.thought}}},
          {"total_tokens", usage.prompt + usage.generated}};
}

const char* error_code(Fault fault) {
  switch (fault) {
    case Fault::kRequest:
      return "invalid_prompt";
    case Fault::kRate:
      return "rate_limit_exceeded";
    default:
      return "server_error";
  }
}

// Of an item of the input, whose text begins with its type.
const char* id_prefix(std::string_view text) {
  if (text.starts_with(R"({"type":"message")")) return "msg";
  return text.starts_with(R"({"type":"reasoning")") ? "rs" : "fc";
}

class ResponsesWriter final : public AnswerWriter {
 public:
  ResponsesWriter(const AnswerStart& start, std::shared_ptr<const ResponseSettings> settings)
      : settings_(std::move(settings)),
        response_(start.id),
        model_(start.model),
        created_(start.created),
        style_{.engine = start.engine,
               .response = response_,
               .logprobs = settings_->top_logprobs >= 0,
               .summarize = settings_->summarize,
               .encrypted = settings_->encrypted} {}

  std::string_view stream_type() const override { return "text/event-stream"; }
  std::string_view whole_type() const override { return "application/json"; }
  std::string_view keep_alive() const override { return ": still here\n\n"; }

  bool begin(std::span<const AnswerChoice> /*choices*/, const BodySink& sink) override {
    const Write response = [this](const BodySink& out) { return write_response({"in_progress"}, out); };
    return send("response.created", {}, sink, {{"response", response}}) &&
           send("response.in_progress", {}, sink, {{"response", response}});
  }
  bool write(const AnswerEvent& event, const BodySink& sink) override {
    append(choice_, event);
    return tell(sink) && (!event.finish || end_item(sink));
  }
  bool end(const AnswerUsage& usage, const BodySink& sink) override {
    keep(choice_, usage);
    const Told told = told_of(choice_, usage);
    return send("response." + std::string(told.status), {}, sink,
                {{"response", [&](const BodySink& out) { return write_response(told, out); }}});
  }
  bool fail(const ApiError& error, const BodySink& sink) override {
    choice_.finish = AnswerFinish::kLength;  // what it said last is not complete
    const auto or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
    const Json code = error.code.empty() ? Json(error_code(error.fault)) : Json(error.code);
    const Json words = {{"code", code}, {"message", error.message}, {"param", or_null(error.param)}};
    Json event = words;
    event["error"] = words;
    event["error"]["type"] = error.fault == Fault::kRequest ? "invalid_request_error" : "server_error";
    const Told told = {.status = "failed", .choice = &choice_, .error = &error};
    return send("error", event, sink) &&
           send("response.failed", {}, sink,
                {{"response", [&](const BodySink& out) { return write_response(told, out); }}});
  }

  void complete(std::span<const AnswerChoice> choices, const AnswerUsage& usage) override {
    keep(choices[0], usage);
  }
  bool write_whole(std::span<const AnswerChoice> choices, const AnswerUsage& usage,
                   const BodySink& sink) const override {
    return write_response(told_of(choices[0], usage), sink) && sink("\n");
  }

 private:
  // What of a response is there.
  struct Told {
    std::string_view status;
    const AnswerChoice* choice = nullptr;
    const AnswerUsage* usage = nullptr;
    const ApiError* error = nullptr;
  };
  static Told told_of(const AnswerChoice& choice, const AnswerUsage& usage) {
    return {.status = choice.finish == AnswerFinish::kLength ? "incomplete" : "completed",
            .choice = &choice,
            .usage = &usage};
  }

  std::string head_of(const Told& told) const;
  std::string tail_of(const Told& told) const;
  bool write_response(const Told& told, const BodySink& sink) const;
  void keep(const AnswerChoice& choice, const AnswerUsage& usage) const;

  // One event: its type, its number, these members, and those that are written in pieces.
  bool send(std::string_view type, const Json& members, const BodySink& sink,
            const std::vector<std::pair<const char*, Write>>& written = {});
  // What is there of the answer and was not told.
  bool tell(const BodySink& sink);
  bool begin_item(const BodySink& sink);
  bool tell_text(const BodySink& sink);
  bool end_item(const BodySink& sink);
  bool tell_call(const ChatToolCall& call, const BodySink& sink);
  // The item that is being told, as far as it is there.
  ResponseItem item() const;
  // Members of events about its text.
  Json place() const;

  std::shared_ptr<const ResponseSettings> settings_;
  std::string response_, model_;
  int64_t created_;
  ResponseItemStyle style_;

  // A stream's:
  AnswerChoice choice_;  // what came so far
  uint64_t sequence_ = 0;
  size_t part_ = 0;   // of choice_.order: the one that is told
  size_t index_ = 0;  // of the item that is told, in the output
  bool open_ = false;
  std::array<size_t, 3> begun_ = {}, told_ = {};  // of each kind: where the item begins, how far it was told
  size_t tokens_begun_ = 0, tokens_told_ = 0;
};

std::string ResponsesWriter::head_of(const Told& told) const {
  Json head = {{"id", "resp_" + response_},
               {"object", "response"},
               {"created_at", created_},
               {"status", told.status},
               {"error", nullptr},
               {"incomplete_details", nullptr},
               {"model", model_}};
  if (told.error != nullptr) {
    head["error"] = {{"code", error_code(told.error->fault)}, {"message", told.error->message}};
  }
  if (told.status == "incomplete") head["incomplete_details"] = {{"reason", "max_output_tokens"}};
  std::string text = dump_json(head);
  text.pop_back();
  return text + ",\"output\":[";
}

std::string ResponsesWriter::tail_of(const Told& told) const {
  return odmoe::format("],\"usage\":{}{}}}",
                       told.usage == nullptr ? "null" : dump_json(usage_json(*told.usage)), settings_->echo);
}

bool ResponsesWriter::write_response(const Told& told, const BodySink& sink) const {
  if (!sink(head_of(told))) return false;
  const auto write = [&](const ResponseItem& item) {
    return (item.index == 0 || sink(",")) && write_item(style_, item, status_of(item), sink);
  };
  if (told.choice != nullptr && !for_each_item(*told.choice, write)) return false;
  return sink(tail_of(told));
}

// Without the tokens, which would take ten times as much as the text.
void ResponsesWriter::keep(const AnswerChoice& choice, const AnswerUsage& usage) const {
  if (settings_->store == nullptr) return;
  const Told told = told_of(choice, usage);
  StoredResponse kept = {.id = "resp_" + response_,
                         .owner = settings_->owner,
                         .previous = settings_->previous,
                         .input = {},
                         .output = {},
                         .head = head_of(told),
                         .tail = tail_of(told)};
  kept.input.reserve(settings_->input.size());
  for (const ResponseItemText& item : settings_->input) {
    const std::string id =
        item.id.empty() ? odmoe::format("{}_{}_i{}", id_prefix(item.text), response_, kept.input.size())
                        : item.id;
    kept.input.push_back(
        {.id = id,
         .text = odmoe::format("{{\"id\":{},{}", dump_json(id), std::string_view(item.text).substr(1))});
  }
  ResponseItemStyle style = style_;
  style.logprobs = false;
  for_each_item(choice, [&](const ResponseItem& item) {
    ResponseItemText& text = kept.output.emplace_back();
    text.id = item_id(style, item.kind, item.index);
    return write_item(style, item, status_of(item), [&](std::string_view piece) {
      text.text += piece;
      return true;
    });
  });
  (void)settings_->store->put(std::move(kept));
}

bool ResponsesWriter::send(std::string_view type, const Json& members, const BodySink& sink,
                           const std::vector<std::pair<const char*, Write>>& written) {
  Json event = {{"type", type}, {"sequence_number", sequence_++}};
  if (members.is_object()) event.update(members);
  std::string text = odmoe::format("event: {}\ndata: {}", type, dump_json(event));
  if (written.empty()) return sink(text + "\n\n");
  text.pop_back();
  for (const auto& [name, write] : written) {
    if (!sink(odmoe::format("{},\"{}\":", text, name)) || !write(sink)) return false;
    text.clear();
  }
  return sink("}\n\n");
}

ResponseItem ResponsesWriter::item() const {
  const AnswerPart& part = choice_.order[part_];
  const size_t kind = static_cast<size_t>(part.kind);
  const bool thought = part.kind == PartKind::kReasoning;
  const std::string_view all = thought ? choice_.reasoning : choice_.content;
  return {.kind = thought ? ItemKind::kReasoning : ItemKind::kMessage,
          .index = index_,
          .text = all.substr(begun_[kind], told_[kind] - begun_[kind]),
          .tokens = std::span(choice_.tokens).subspan(tokens_begun_, tokens_told_ - tokens_begun_),
          .complete = part_ + 1 < choice_.order.size() || choice_.finish != AnswerFinish::kLength};
}

Json ResponsesWriter::place() const {
  const ItemKind kind = item().kind;
  const bool summary = kind == ItemKind::kReasoning && settings_->summarize;
  return {{"item_id", item_id(style_, kind, index_)},
          {"output_index", index_},
          {summary ? "summary_index" : "content_index", 0}};
}

bool ResponsesWriter::tell(const BodySink& sink) {
  while (part_ < choice_.order.size()) {
    const AnswerPart& part = choice_.order[part_];
    if (part.kind == PartKind::kCalls) {
      size_t& told = told_[static_cast<size_t>(part.kind)];
      while (told < part.end) {
        if (!tell_call(choice_.calls[told++], sink)) return false;
      }
      tokens_told_ = part.tokens_end;
    } else if ((!open_ && !begin_item(sink)) || !tell_text(sink)) {
      return false;
    }
    if (part_ + 1 == choice_.order.size()) return true;  // it may go on
    if (!end_item(sink)) return false;
    ++part_;
  }
  return true;
}

bool ResponsesWriter::begin_item(const BodySink& sink) {
  const size_t kind = static_cast<size_t>(choice_.order[part_].kind);
  open_ = true;
  begun_[kind] = told_[kind];
  tokens_begun_ = tokens_told_;
  const ResponseItem begun = item();
  const bool summary = begun.kind == ItemKind::kReasoning && settings_->summarize;
  return send("response.output_item.added", {{"output_index", index_}}, sink,
              {{"item",
                [&](const BodySink& out) { return write_item(style_, begun, "in_progress", out); }}}) &&
         send(summary ? "response.reasoning_summary_part.added" : "response.content_part.added", place(),
              sink, {{"part", [&](const BodySink& out) { return write_part(style_, begun, out); }}});
}

bool ResponsesWriter::tell_text(const BodySink& sink) {
  const AnswerPart& part = choice_.order[part_];
  size_t& told = told_[static_cast<size_t>(part.kind)];
  const bool thought = part.kind == PartKind::kReasoning;
  const std::string& all = thought ? choice_.reasoning : choice_.content;
  const std::string_view text = std::string_view(all).substr(told, part.end - told);
  const auto tokens = std::span(choice_.tokens).subspan(tokens_told_, part.tokens_end - tokens_told_);
  told = part.end;
  tokens_told_ = part.tokens_end;
  if (text.empty()) return true;
  Json delta = place();
  delta["delta"] = text;
  if (thought) {
    return send(
        settings_->summarize ? "response.reasoning_summary_text.delta" : "response.reasoning_text.delta",
        delta, sink);
  }
  return send("response.output_text.delta", delta, sink,
              {{"logprobs", [&](const BodySink& out) { return write_logprobs(style_, tokens, out); }}});
}

bool ResponsesWriter::end_item(const BodySink& sink) {
  if (!std::exchange(open_, false)) return true;
  const ResponseItem done = item();
  const bool thought = done.kind == ItemKind::kReasoning, summary = thought && settings_->summarize;
  const Write part = [&](const BodySink& out) { return write_part(style_, done, out); };
  const Write whole = [&](const BodySink& out) { return write_item(style_, done, status_of(done), out); };
  const Write tokens = [&](const BodySink& out) { return write_logprobs(style_, done.tokens, out); };
  Json text = place();
  text["text"] = done.text;
  const bool told =
      (thought ? send(summary ? "response.reasoning_summary_text.done" : "response.reasoning_text.done", text,
                      sink)
               : send("response.output_text.done", text, sink, {{"logprobs", tokens}})) &&
      send(summary ? "response.reasoning_summary_part.done" : "response.content_part.done", place(), sink,
           {{"part", part}}) &&
      send("response.output_item.done", {{"output_index", index_}}, sink, {{"item", whole}});
  ++index_;
  return told;
}

bool ResponsesWriter::tell_call(const ChatToolCall& call, const BodySink& sink) {
  const ResponseItem item = {.kind = ItemKind::kCall, .index = index_++, .call = &call};
  const std::string id = item_id(style_, item.kind, item.index);
  const auto whole = [&](std::string_view status) -> Write {
    return [&, status](const BodySink& out) { return write_item(style_, item, status, out); };
  };
  const Json of = {{"item_id", id}, {"output_index", item.index}};
  Json delta = of, done = of;
  delta["delta"] = call.arguments;
  done["name"] = call.name;
  done["arguments"] = call.arguments;
  return send("response.output_item.added", {{"output_index", item.index}}, sink,
              {{"item", whole("in_progress")}}) &&
         send("response.function_call_arguments.delta", delta, sink) &&
         send("response.function_call_arguments.done", done, sink) &&
         send("response.output_item.done", {{"output_index", item.index}}, sink,
              {{"item", whole("completed")}});
}

}  // namespace

std::unique_ptr<AnswerWriter> responses_writer(const AnswerStart& start,
                                               std::shared_ptr<const ResponseSettings> settings) {
  return std::make_unique<ResponsesWriter>(start, std::move(settings));
}

}  // namespace odmoe::server
