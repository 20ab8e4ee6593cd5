#include "server/responses/response_items.h"

#include <array>
#include <cstdint>

#include "odmoe/format.h"
#include "server/json_list.h"
#include "server/openai_answer.h"
#include "server/responses/responses_request.h"

namespace odmoe::server {
namespace {

using ItemKind = ResponseItem::Kind;
using PartKind = AnswerPart::Kind;

const char* part_type(const ResponseItemStyle& style, ItemKind kind) {
  if (kind == ItemKind::kMessage) return "output_text";
  return style.summarize ? "summary_text" : "reasoning_text";
}

}  // namespace

bool for_each_item(const AnswerChoice& choice, const std::function<bool(const ResponseItem&)>& take) {
  std::array<size_t, 3> told = {};  // of each kind
  size_t told_tokens = 0, index = 0;
  for (const AnswerPart& part : choice.order) {
    size_t& begin = told[static_cast<size_t>(part.kind)];
    const bool last = &part == &choice.order.back();
    if (part.kind == PartKind::kCalls) {
      for (; begin < part.end; ++begin) {
        if (!take({.kind = ItemKind::kCall, .index = index++, .call = &choice.calls[begin]})) return false;
      }
    } else {
      const bool thought = part.kind == PartKind::kReasoning;
      const std::string_view all = thought ? choice.reasoning : choice.content;
      const ResponseItem item = {
          .kind = thought ? ItemKind::kReasoning : ItemKind::kMessage,
          .index = index++,
          .text = all.substr(begin, part.end - begin),
          .tokens = std::span(choice.tokens).subspan(told_tokens, part.tokens_end - told_tokens),
          .complete = !last || choice.finish != AnswerFinish::kLength};
      begin = part.end;
      if (!take(item)) return false;
    }
    told_tokens = part.tokens_end;
  }
  return true;
}

std::string_view status_of(const ResponseItem& item) { return item.complete ? "completed" : "incomplete"; }

std::string item_id(const ResponseItemStyle& style, ItemKind kind, size_t index) {
  const char* prefix = kind == ItemKind::kMessage ? "msg" : kind == ItemKind::kCall ? "fc" : "rs";
  return odmoe::format("{}_{}_{}", prefix, style.response, index);
}

bool write_logprobs(const ResponseItemStyle& style, std::span<const GeneratedToken> tokens,
                    const BodySink& sink) {
  if (!style.logprobs) return sink("[]");
  return write_json_list(
      tokens.size(), [&](size_t i) { return dump_json(openai_logprob(*style.engine, tokens[i])); }, sink);
}

bool write_part(const ResponseItemStyle& style, const ResponseItem& item, const BodySink& sink) {
  if (!sink(odmoe::format("{{\"type\":\"{}\"", part_type(style, item.kind)))) return false;
  if (item.kind == ItemKind::kMessage) {
    if (!sink(",\"annotations\":[],\"logprobs\":") || !write_logprobs(style, item.tokens, sink)) return false;
  }
  return sink(odmoe::format(",\"text\":{}}}", dump_json(item.text)));
}

bool write_item(const ResponseItemStyle& style, const ResponseItem& item, std::string_view status,
                const BodySink& sink) {
  const bool begun = status == "in_progress";  // empty yet
  const std::string id = item_id(style, item.kind, item.index);
  if (item.kind == ItemKind::kCall) {
    return sink(dump_json({{"id", id},
                           {"type", "function_call"},
                           {"status", status},
                           {"arguments", begun ? "" : item.call->arguments},
                           {"call_id", item.call->id},
                           {"name", item.call->name}}));
  }
  const bool thought = item.kind == ItemKind::kReasoning;
  const auto parts = [&](const char* name, bool there) {
    if (!sink(odmoe::format(",\"{}\":[", name))) return false;
    return (!there || begun || write_part(style, item, sink)) && sink("]");
  };
  if (!sink(odmoe::format("{{\"id\":\"{}\",\"type\":\"{}\",\"status\":\"{}\"", id,
                          thought ? "reasoning" : "message", status))) {
    return false;
  }
  if (!thought) return parts("content", true) && sink(",\"role\":\"assistant\"}");
  if (!parts("summary", style.summarize) || !parts("content", !style.summarize)) return false;
  if (style.encrypted && !begun) {
    if (!sink(odmoe::format(",\"encrypted_content\":\"{}\"", sealed_thought(item.text)))) return false;
  }
  return sink("}");
}

}  // namespace odmoe::server
