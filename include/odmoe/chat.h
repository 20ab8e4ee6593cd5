// A conversation, in the words of the OpenAI API.  Plain data.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace odmoe {

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
// A function that the assistant asked to be called.
struct ChatToolCall {
  std::string id = {};
  std::string name = {};
  std::string arguments = {};      // JSON text of an object
  bool arguments_are_json = true;  // false: a model wrote something else, which is shown as it is
};

struct ChatTurn {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
  std::string name = {};                      // who speaks; empty: nobody in particular
  std::optional<std::string> reasoning = {};  // of the assistant, where it is kept apart from the content
  std::vector<ChatToolCall> tool_calls = {};  // of the assistant
  std::string tool_call_id = {};              // of role "tool": what it answers
};

// What the model is to do with the last turn: answer it, or go on with it where it ends, in the assistant's
// thought or in what it says.
enum class Continuation { kNone, kThought, kAnswer };

struct Conversation {
  std::vector<ChatTurn> turns;
  std::vector<std::string> tools = {};  // each the JSON text of {"type": "function", "function": {...}}
  std::optional<bool> thinking = {};    // the thinking switch of templates that have one; nothing: as they do
  std::string reasoning_effort = {};    // for templates that ask for it, as "low"; empty: not said
  std::string kwargs = {};              // a JSON object: further variables of the template; empty: none
  bool add_generation_prompt = true;    // end where the assistant begins to speak
  // Other than kNone the last turn must be the assistant's, without calls: the text ends where its reasoning
  // (kThought, which it must have) or its content ends, and there is no generation prompt.
  Continuation continuation = Continuation::kNone;
};
// NOLINTEND(readability-redundant-member-init)

}  // namespace odmoe
