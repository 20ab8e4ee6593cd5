#include "model/tokenizer/jinja_chat_template.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/ordered_json.h"
#include "base/trim.h"
#include "jinja/template.h"
#include "model/tokenizer/built_in_templates.h"
#include "model/tokenizer/chat_messages.h"
#include "model/tokenizer/chat_words.h"
#include "model/tokenizer/tool_words.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kThoughtBegin = "<think>", kThoughtEnd = "</think>";

// All but what was said.
std::vector<jinja::Span> own_of(const jinja::Rendered& rendered) {
  std::vector<jinja::Span> own;
  size_t done = 0;
  for (const jinja::Span& said : rendered.said) {
    if (said.begin > done) own.push_back({.begin = done, .end = said.begin});
    done = said.end;
  }
  if (done < rendered.text.size()) own.push_back({.begin = done, .end = rendered.text.size()});
  return own;
}

bool has_calls(const Conversation& conversation) {
  return std::ranges::any_of(conversation.turns, [](const ChatTurn& turn) {
    return !turn.tool_calls.empty() || turn.role == "tool";
  });
}

void say(ChatText& text, std::string_view words) {
  if (words.empty()) return;
  text.said.push_back({.begin = text.text.size(), .end = text.text.size() + words.size()});
  text.text += words;
}

class JinjaChatTemplate final : public ChatTemplate {
 public:
  JinjaChatTemplate(std::string source, Json kwargs, jinja::Template chat_template,
                    jinja::SpecialTokens special_tokens, std::optional<std::tm> tells_time)
      : source_(std::move(source)),
        kwargs_(std::move(kwargs)),
        template_(std::move(chat_template)),
        special_tokens_(std::move(special_tokens)),
        tells_time_(tells_time),
        words_(words_of(template_, special_tokens_)),
        tool_form_(tool_form_of(source_)) {}

  std::string_view source() const override { return source_; }

  Result<ChatText> render(const Conversation& conversation, const ChatTemplateLimits& limits) const override {
    jinja::ChatPromptOptions options{.now = tells_time_ ? *tells_time_ : jinja::local_time(),
                                     .goes_on = limits.goes_on};
    options.limits.memory_bytes = limits.memory_bytes;
    options.limits.output_bytes = std::min(options.limits.output_bytes, limits.memory_bytes);
    if (conversation.continuation == Continuation::kNone) return plain(conversation, options);
    auto text = continued(conversation, options);
    if (text.has_value() || text.error().kind != ErrorKind::kUnsupported) return text;
    return continued_behind_prompt(conversation, options);
  }

 private:
  Result<ChatText> plain(const Conversation& conversation, const jinja::ChatPromptOptions& options,
                         jinja::ChatEnd end = jinja::ChatEnd::kPrompt) const {
    RawArguments raw(conversation);
    auto text = shown(conversation, options, end, &raw);
    if (raw.empty()) return text;
    if (text.has_value()) return raw.put_back(*text);
    // Templates that go through the arguments one by one have no use for a text.
    return text.error().kind == ErrorKind::kUnsupported ? shown(conversation, options, end, nullptr) : text;
  }

  Result<ChatText> shown(const Conversation& conversation, const jinja::ChatPromptOptions& options,
                         jinja::ChatEnd end, RawArguments* raw) const {
    ODMOE_ASSIGN_OR_RETURN(jinja::ChatInput input, chat_input_of(conversation, words_, kwargs_, raw));
    input.end = end;
    ODMOE_RETURN_IF_ERROR(find_words_for_tools(conversation, options, input));
    ODMOE_ASSIGN_OR_RETURN(jinja::Rendered rendered,
                           render_chat_prompt(template_, std::move(input), special_tokens_, options));
    ChatText text{.text = std::move(rendered.text), .said = {}};
    text.said.reserve(rendered.said.size());
    for (const jinja::Span& said : rendered.said) text.said.push_back({.begin = said.begin, .end = said.end});
    return text;
  }

  // Where the template has none.
  Status find_words_for_tools(const Conversation& conversation, const jinja::ChatPromptOptions& options,
                              jinja::ChatInput& input) const {
    const bool declares = !words_.tools && !input.tools.is_null();
    const bool rewrites = !words_.calls && has_calls(conversation);
    if (declares && tool_form_ == ToolForm::kNone) {
      return fail(ErrorKind::kUnsupported,
                  "the model's chat template has no words for tools: leave them out");
    }
    if (rewrites && tool_form_ != ToolForm::kHermes) {
      return fail(
          ErrorKind::kUnsupported,
          "the model's chat template has no words for calls of tools: leave them out of the messages");
    }
    if (rewrites) {
      ODMOE_ASSIGN_OR_RETURN(input.messages, calls_as_text(input.messages, options));
    }
    if (!declares) return {};
    ODMOE_ASSIGN_OR_RETURN(const jinja::Rendered declared, declared_tools(tool_form_, input.tools, options));
    Json& messages = input.messages;
    if (messages.empty() || messages[0]["role"] != "system") {
      messages.insert(messages.begin(), Json{{"role", "system"}, {"content", ""}});
    }
    auto& content = messages[0]["content"].get_ref<std::string&>();
    if (!content.empty()) content += "\n\n";
    for (const jinja::Span& own : own_of(declared)) {
      input.own_in_first.push_back({.begin = content.size() + own.begin, .end = content.size() + own.end});
    }
    content += declared.text;
    return {};
  }

  // The last message as the template shows it.  kUnsupported where it does not, or not with its thought.
  Result<ChatText> continued(const Conversation& conversation,
                             const jinja::ChatPromptOptions& options) const {
    const bool thought = conversation.continuation == Continuation::kThought;
    ODMOE_ASSIGN_OR_RETURN(
        ChatText text,
        plain(conversation, options, thought ? jinja::ChatEnd::kThought : jinja::ChatEnd::kContent));
    const std::optional<std::string>& reasoning = conversation.turns.back().reasoning;
    if (!thought && reasoning && source_.contains(kThoughtEnd) &&
        !text.text.contains(trimmed(*reasoning, " \n\t"))) {
      return fail(ErrorKind::kUnsupported, "the chat template leaves out the thought of the last message");
    }
    return text;
  }

  // Behind what the template writes before an answer, as the model itself would have gone on.
  Result<ChatText> continued_behind_prompt(Conversation conversation,
                                           const jinja::ChatPromptOptions& options) const {
    const ChatTurn last = std::move(conversation.turns.back());
    const bool thought = conversation.continuation == Continuation::kThought;
    conversation.turns.pop_back();
    conversation.continuation = Continuation::kNone;
    conversation.add_generation_prompt = true;
    if (last.reasoning) conversation.thinking = true;
    ODMOE_ASSIGN_OR_RETURN(ChatText text, plain(conversation, options));
    const bool begun = text.text.ends_with(kThoughtBegin) || text.text.ends_with("<think>\n");
    const bool lines = text.text.ends_with('\n') || !source_.contains("<｜Assistant｜>");
    if (last.reasoning && !begun) {
      text.text += kThoughtBegin;
      if (lines) text.text += '\n';
    }
    if (last.reasoning) say(text, *last.reasoning);
    if (thought) return text;
    if (last.reasoning || begun) {
      text.text += lines ? "\n" : "";
      text.text += kThoughtEnd;
      text.text += lines ? "\n\n" : "";
    }
    say(text, last.content);
    return text;
  }

  std::string source_;
  Json kwargs_;
  jinja::Template template_;
  jinja::SpecialTokens special_tokens_;
  std::optional<std::tm> tells_time_;
  ChatWords words_;
  ToolForm tool_form_;
};

}  // namespace

Result<std::unique_ptr<ChatTemplate>> make_chat_template(const ChatTemplateChoice& choice,
                                                         const jinja::SpecialTokens& special_tokens,
                                                         std::optional<std::tm> tells_time) {
  if (choice.source.empty()) {
    return fail(ErrorKind::kUnsupported, "the model has no chat template: give a file or one of {}",
                built_in_chat_template_names());
  }
  Json kwargs = Json::object();
  if (!choice.kwargs.empty()) {
    auto json = read_ordered_json(choice.kwargs);
    if (!json.has_value() || !json->is_object()) {
      return fail(ErrorKind::kUsage, "the variables of the chat template must be a JSON object, not {}",
                  choice.kwargs.substr(0, 64));
    }
    kwargs = std::move(*json);
  }
  if (!tells_time && choice.now) tells_time = jinja::local_time(static_cast<std::time_t>(*choice.now));
  ODMOE_ASSIGN_OR_RETURN(auto parsed, jinja::Template::parse(choice.source, jinja::Rules::kWider));
  return std::make_unique<JinjaChatTemplate>(choice.source, std::move(kwargs), std::move(parsed),
                                             special_tokens, tells_time);
}

}  // namespace odmoe
