#include "server/output/call_reader.h"

#include <algorithm>
#include <cctype>

#include "server/json_guard.h"
#include "server/limits.h"

namespace odmoe::server {

std::unique_ptr<CallReader> make_call_reader(const CallSyntax& syntax, const Tools& tools, bool bare) {
  switch (syntax.form) {
    case CallSyntax::Form::kNamed:
      return make_named_reader(syntax, tools);
    case CallSyntax::Form::kParameters:
      return make_parameter_reader(syntax, tools);
    case CallSyntax::Form::kGemma:
      return make_gemma_reader();
    case CallSyntax::Form::kValues:
      break;
  }
  return make_value_reader(syntax, tools, bare);
}

bool is_tool_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

bool is_tool_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxToolNameBytes &&
         std::ranges::all_of(name, is_tool_name_character);
}

std::string arguments_text(const Json& arguments) {
  if (arguments.is_null()) return "{}";
  if (!arguments.is_string()) return dump_json(arguments);
  const auto& text = arguments.get_ref<const std::string&>();
  return text.empty() ? "{}" : text;
}

Begins begins_at(std::string_view text, size_t at, std::string_view mark) {
  const std::string_view rest = text.substr(std::min(at, text.size()));
  if (rest.starts_with(mark)) return Begins::kYes;
  return mark.starts_with(rest) ? Begins::kMaybe : Begins::kNo;
}

}  // namespace odmoe::server
