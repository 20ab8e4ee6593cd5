// A header with the name of the tool, then the arguments as JSON: functions.get_weather:0<|...|>{"city":
// "Rome"}
#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "server/json_guard.h"
#include "server/output/call_reader.h"
#include "server/output/json_scanner.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

constexpr size_t kMaxCallHeaderBytes = 256;

struct CallHeader {
  std::string_view name, id;
};

// `pattern` has NAME, and may have ID or INDEX; all of the header must fit.
std::optional<CallHeader> match_header(std::string_view pattern, std::string_view text) {
  CallHeader header;
  while (!pattern.empty()) {
    const auto take = [&](std::string_view word, auto belongs) -> std::optional<std::string_view> {
      pattern.remove_prefix(word.size());
      const auto end = std::ranges::find_if_not(text, belongs);
      const std::string_view taken = text.substr(0, static_cast<size_t>(end - text.begin()));
      text.remove_prefix(taken.size());
      return taken.empty() ? std::nullopt : std::optional(taken);
    };
    if (pattern.starts_with("NAME")) {
      const auto name = take("NAME", is_tool_name_character);
      if (!name) return std::nullopt;
      header.name = *name;
    } else if (pattern.starts_with("INDEX")) {
      if (!take("INDEX", [](unsigned char c) { return std::isdigit(c) != 0; })) return std::nullopt;
    } else if (pattern.starts_with("ID")) {
      const auto id = take("ID", is_tool_name_character);
      if (!id) return std::nullopt;
      header.id = *id;
    } else {
      if (text.empty() || text[0] != pattern[0]) return std::nullopt;
      text.remove_prefix(1);
      pattern.remove_prefix(1);
    }
  }
  if (!text.empty() || !is_tool_name(header.name)) return std::nullopt;
  return header;
}

class NamedReader final : public CallReader {
 public:
  NamedReader(const CallSyntax& syntax, const Tools& tools) : syntax_(&syntax), tools_(&tools) {}

  Step push(char byte) override {
    if (other_) return push_other(byte);
    switch (state_) {
      case State::kHeader:
        return push_header(byte);
      case State::kBeforeArguments:
        return push_before_arguments(byte);
      case State::kArguments:
        break;
    }
    return push_arguments(byte);
  }
  Step finish() override { return Step::kRefused; }

 private:
  enum class State : uint8_t { kHeader, kBeforeArguments, kArguments };

  Step push_other(char byte) {
    const Step step = other_->push(byte);
    if (step == Step::kCall) calls_ = std::move(other_->calls());
    return step;
  }

  Step push_header(char byte) {
    // Older models of a family write objects behind the same mark.
    if ((byte == '{' || byte == '[') && header_.find_first_not_of(kTextSpaces) == std::string::npos) {
      other_ = make_value_reader(*syntax_, *tools_, /*bare=*/false);
      return push_other(byte);
    }
    header_ += byte;
    if (header_.size() > kMaxCallHeaderBytes) return Step::kRefused;
    const auto ends = [&](std::string_view mark) { return header_.ends_with(mark); };
    if (const auto mark = std::ranges::find_if(syntax_->header_end, ends);
        mark != syntax_->header_end.end()) {
      header_end_ = header_.size() - mark->size();
      state_ = State::kBeforeArguments;
      between_.clear();
    }
    return Step::kMore;
  }

  Step push_before_arguments(char byte) {
    between_ += byte;
    const std::string_view between = trim_text(between_);
    if (between.empty()) return Step::kMore;
    if (between == "{" || between == "\"" || between == "[") {
      state_ = State::kArguments;
      return push_arguments(byte);
    }
    // No arguments at all.
    if (std::ranges::contains(syntax_->close, between)) return add("{}");
    const auto may_close = [&](std::string_view mark) { return mark.starts_with(between); };
    if (std::ranges::any_of(syntax_->close, may_close)) return Step::kMore;
    // The mark was a part of the header.
    state_ = State::kHeader;
    for (const char c : std::exchange(between_, {})) {
      if (const Step step = push(c); step != Step::kMore) return step;
    }
    return Step::kMore;
  }

  Step push_arguments(char byte) {
    const JsonScanner::Step step = json_.push(byte);
    if (step != JsonScanner::Step::kEnd) {
      return step == JsonScanner::Step::kMore ? Step::kMore : Step::kRefused;
    }
    const auto json = parse_json(json_.text());
    if (!json.has_value()) return Step::kRefused;
    return add(json->is_string() ? arguments_text(*json) : std::string(json_.text()));
  }

  Step add(std::string arguments) {
    const std::string_view header = trim_text(std::string_view(header_).substr(0, header_end_));
    for (const std::string_view pattern : syntax_->header) {
      const auto match = match_header(pattern, header);
      if (!match) continue;
      calls_.push_back({.id = std::string(syntax_->header_is_id ? header : match->id),
                        .name = std::string(match->name),
                        .arguments = std::move(arguments)});
      return Step::kCall;
    }
    return Step::kRefused;
  }

  const CallSyntax* syntax_;
  const Tools* tools_;
  State state_ = State::kHeader;
  std::string header_, between_;
  size_t header_end_ = 0;
  JsonScanner json_;
  std::unique_ptr<CallReader> other_;
};

}  // namespace

std::unique_ptr<CallReader> make_named_reader(const CallSyntax& syntax, const Tools& tools) {
  return std::make_unique<NamedReader>(syntax, tools);
}

}  // namespace odmoe::server
