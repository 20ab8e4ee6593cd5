// Calls as values: JSON objects, lists of them, or Python.  Which of them it is shows with the first
// characters, and models that should write one sometimes write the other.
#include <algorithm>
#include <utility>

#include "server/json_guard.h"
#include "server/output/call_reader.h"
#include "server/output/json_scanner.h"
#include "server/output/python_calls.h"

namespace odmoe::server {
namespace {

class ValueReader final : public CallReader {
 public:
  ValueReader(const CallSyntax& syntax, const Tools& tools, bool bare)
      : syntax_(&syntax), tools_(&tools), bare_(bare) {}

  Step push(char byte) override {
    switch (kind_) {
      case Kind::kUnknown:
        return begin(byte);
      case Kind::kJson:
        return push_json(byte);
      case Kind::kPython:
        break;
    }
    return push_python(byte);
  }
  // Whole calls end with their last byte.
  Step finish() override { return Step::kRefused; }

 private:
  enum class Kind : uint8_t { kUnknown, kJson, kPython };

  // What comes before it is known which of the two it is: white space and a bracket.
  Step begin(char byte) {
    start_ += byte;
    if (byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') return Step::kMore;
    if (byte == '[' && !in_list_) {
      in_list_ = true;
      return Step::kMore;
    }
    const bool python = is_tool_name_character(byte);
    if (!python && byte != '{' && !(byte == ']' && in_list_)) return Step::kRefused;
    kind_ = python ? Kind::kPython : Kind::kJson;
    Step step = Step::kMore;
    for (const char c : start_) {
      step = python ? push_python(c) : push_json(c);
      if (step != Step::kMore) break;
    }
    return step;
  }

  Step push_json(char byte) {
    const JsonScanner::Step step = json_.push(byte);
    if (step != JsonScanner::Step::kEnd) {
      return step == JsonScanner::Step::kMore ? Step::kMore : Step::kRefused;
    }
    const auto json = parse_json(json_.text());
    if (!json.has_value()) return Step::kRefused;
    if (!json->is_array()) return add(*json) ? Step::kCall : Step::kRefused;
    // A list of nothing is no call, and nothing to tell either.
    return std::ranges::all_of(*json, [&](const Json& one) { return add(one); }) &&
                   (!bare_ || !calls_.empty())
               ? Step::kCall
               : Step::kRefused;
  }

  Step push_python(char byte) {
    const PythonScanner::Step step = python_.push(byte);
    if (step != PythonScanner::Step::kEnd) {
      return step == PythonScanner::Step::kMore ? Step::kMore : Step::kRefused;
    }
    auto calls = parse_python_calls(python_.text());
    if (!calls) return Step::kRefused;
    for (ChatToolCall& call : *calls) {
      if (!known(call.name)) return Step::kRefused;
      calls_.push_back(std::move(call));
    }
    return Step::kCall;
  }

  bool known(std::string_view name) const {
    return is_tool_name(name) && (!bare_ || std::ranges::contains(*tools_, name, &Tool::name));
  }

  static const Json* member(const Json& object, std::initializer_list<std::string_view> keys) {
    for (const std::string_view key : keys) {
      if (key.empty()) continue;
      if (const auto found = object.find(key); found != object.end()) return &*found;
    }
    return nullptr;
  }

  // The keys of other formats count too: models mix them up.
  bool add(const Json& json) {
    if (!json.is_object()) return false;
    if (syntax_->keyed && json.size() == 1 && !json.begin()->is_string() && known(json.begin().key())) {
      calls_.push_back({.name = json.begin().key(), .arguments = arguments_text(*json.begin())});
      return true;
    }
    const Json* inner = member(json, {"function"});
    const Json& object = inner != nullptr && inner->is_object() ? *inner : json;
    const Json* name = member(object, {syntax_->name_key, "name", "tool_name"});
    if (name == nullptr || !name->is_string() || !known(name->get_ref<const std::string&>())) return false;
    const Json* arguments = member(object, {syntax_->arguments_key, "arguments", "parameters"});
    const Json* id = member(json, {syntax_->id_key, "id", "tool_call_id"});
    calls_.push_back({.id = id != nullptr && id->is_string() ? id->get<std::string>() : "",
                      .name = name->get<std::string>(),
                      .arguments = arguments == nullptr ? "{}" : arguments_text(*arguments)});
    return true;
  }

  const CallSyntax* syntax_;
  const Tools* tools_;
  bool bare_;
  Kind kind_ = Kind::kUnknown;
  bool in_list_ = false;
  std::string start_;
  JsonScanner json_;
  PythonScanner python_;
};

}  // namespace

std::unique_ptr<CallReader> make_value_reader(const CallSyntax& syntax, const Tools& tools, bool bare) {
  return std::make_unique<ValueReader>(syntax, tools, bare);
}

}  // namespace odmoe::server
