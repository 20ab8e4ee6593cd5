// What a chat template has words for, found by trying it.
//
// Templates differ in what they take: arguments of calls as objects or as text, no content or an empty one
// beside calls, ids of nine characters, no system messages.  Nothing in a template says which, and a wrong
// guess is an error or a silent loss.
#pragma once

#include <string>
#include <vector>

#include "jinja/chat_prompt.h"
#include "jinja/template.h"

namespace odmoe {

struct ChatWords {
  bool system = true;           // messages of the system
  bool parts = false;           // content has to be a list of parts
  bool tools = true;            // declarations of tools
  bool whole_tools = false;     // which have to have a description and parameters
  bool calls = true;            // calls, and what the tools answered
  bool null_content = false;    // a message of calls alone has no content: null, not ""
  bool text_arguments = false;  // arguments of calls have to be text
  bool short_ids = false;       // ids of calls have to have nine letters or digits
  bool result_names = false;    // what a tool answered has to have the tool's name
  bool thought_beside = true;   // a thought beside content and calls
};

ChatWords words_of(const jinja::Template& chat_template, const jinja::SpecialTokens& special_tokens);

}  // namespace odmoe
