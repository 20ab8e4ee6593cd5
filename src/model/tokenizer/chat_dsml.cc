// The markup of its own that DeepSeek-V3.2 has for tools and calls.
#include "model/tokenizer/chat_families.h"
#include "model/tokenizer/python_json.h"

namespace odmoe {
namespace {

constexpr std::string_view kDsmlHead =
    "## Tools\n\nYou have access to a set of tools you can use to answer the user's question.\nYou can "
    "invoke "
    "functions by writing a \"<｜DSML｜function_calls>\" block like the following as part of your reply to "
    "the "
    "user:\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"$FUNCTION_NAME\">\n<｜DSML｜parameter "
    "name=\"$PARAMETER_NAME\" "
    "string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n...\n</｜DSML｜invoke>"
    "\n<｜DSML｜invoke "
    "name=\"$FUNCTION_NAME2\">\n...\n</｜DSML｜invoke>\n</｜DSML｜function_calls>\n\nString and "
    "scalar parameters should be specified as is without any escaping or quotes, while lists and objects "
    "should use JSON format. The \"string\" attribute should be set to \"true\" for string type parameters "
    "and "
    "\"false\" for other types (numbers, booleans, arrays, objects).\n\nIf the thinking_mode is enabled, "
    "then "
    "after function results you should strongly consider outputting a thinking block. Here is an example:\n\n"
    "<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n\n<function_results>\n...\n</"
    "function_results>\n\n"
    "<think>...thinking about results</think>\n\nHere are the functions available in JSONSchema format:\n"
    "<functions>\n";

}  // namespace

void declare_dsml_tools(const Conversation& conversation, ChatText* out) {
  if (!out->empty()) *out += "\n\n";
  *out += kDsmlHead;
  for (const std::string& tool : conversation.tools) {
    out->say(json_member(tool, "function"));
    *out += "\n";
  }
  *out += "</functions>\n";
}

void append_dsml_calls(const ChatTurn& turn, ChatText* out) {
  *out += "\n\n<｜DSML｜function_calls>\n";
  for (const ChatToolCall& call : turn.tool_calls) {
    *out += "<｜DSML｜invoke name=\"";
    out->say(call.name);
    *out += "\">\n";
    const std::string shown = shown_arguments(call);
    const bool object = call.arguments_are_json && shown.starts_with('{');
    // What is no object has no parameters to be told in.
    if (!object) {
      out->say(shown);
      *out += "\n";
    }
    for (const JsonMember& argument : object ? json_members(call.arguments) : std::vector<JsonMember>()) {
      *out += "<｜DSML｜parameter name=\"";
      out->say(argument.key);
      *out += argument.is_string ? "\" string=\"true\">" : "\" string=\"false\">";
      out->say(argument.value);
      *out += "</｜DSML｜parameter>\n";
    }
    *out += "</｜DSML｜invoke>\n";
  }
  *out += "</｜DSML｜function_calls>";
}

}  // namespace odmoe
