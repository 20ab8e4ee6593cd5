// A conversation through a chat template, with the variables that transformers' apply_chat_template gives it.
#pragma once

#include <array>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/template.h"
#include "odmoe/result.h"

namespace odmoe::jinja {

// Where the text ends, for the model to go on with it.
enum class ChatEnd {
  kPrompt,   // as the template ends it
  kContent,  // where the content of the last message ends
  kThought,  // where its "reasoning_content" ends, or what else its thought is called
};

struct ChatInput {
  nlohmann::ordered_json messages;             // an array of objects
  std::vector<Span> own_in_first;              // what of the first one's content is the template's own
  nlohmann::ordered_json tools = nullptr;      // an array, or null
  nlohmann::ordered_json documents = nullptr;  // the same
  nlohmann::ordered_json kwargs =
      nlohmann::ordered_json::object();  // further variables, such as enable_thinking
  bool add_generation_prompt = true;
  ChatEnd end = ChatEnd::kPrompt;
};

// The names that templates have for the thought of a message.
inline constexpr auto kThoughtKeys =
    std::to_array<std::string_view>({"reasoning_content", "reasoning", "thinking", "thought"});

// "bos_token" and the like; those that a model lacks are left out.
using SpecialTokens = std::vector<std::pair<std::string, std::string>>;

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct ChatPromptOptions {
  std::tm now = {};
  Limits limits = {};
  std::function<bool()> goes_on = {};  // as RenderOptions has it
};
// NOLINTEND(readability-redundant-member-init)

// What templates are told of the time where nothing else is said: now, and at a time of Unix.
std::tm local_time();
std::tm local_time(std::time_t at);

// Special tokens are the template's own, and so are the roles that templates know ("user"), which some make
// control tokens of; all else is the conversation's, kwargs too.
// Errors as of Template::render(); kUnsupported too where the last message that is to be continued is not in
// the text; kUsage where a kwarg has the name of one of the other variables.
Result<Rendered> render_chat_prompt(const Template& chat_template, ChatInput input,
                                    const SpecialTokens& special_tokens, const ChatPromptOptions& options);

}  // namespace odmoe::jinja
