// The name of a tool, then its arguments one by one, as text between marks.
#include <algorithm>
#include <string>
#include <utility>

#include "server/json_guard.h"
#include "server/output/argument_types.h"
#include "server/output/call_reader.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

constexpr size_t kMaxTagBytes = 512;  // of a name or a key with its attributes

std::string unescape_attribute(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    constexpr std::pair<std::string_view, char> kNames[] = {
        {"&amp;", '&'}, {"&quot;", '"'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&apos;", '\''}};
    const auto* known =
        std::ranges::find_if(kNames, [&](const auto& name) { return text.starts_with(name.first); });
    const bool escaped = known != std::end(kNames);
    out += escaped ? known->second : text[0];
    text.remove_prefix(escaped ? known->first.size() : 1);
  }
  return out;
}

class ParameterReader final : public CallReader {
 public:
  ParameterReader(const CallSyntax& syntax, const Tools& tools) : words_(&syntax.parameters), tools_(&tools) {
    ends_ = syntax.close;
    // A call may end with its list.
    ends_.insert(ends_.end(), syntax.list_close.begin(), syntax.list_close.end());
  }

  Step push(char byte) override {
    text_ += byte;
    return read();
  }

  Step finish() override {
    if (part_ == Part::kAfterValue) take_value();
    if (part_ != Part::kBeforeKey || arguments_.empty()) return Step::kRefused;
    return end();
  }

 private:
  enum class Part : uint8_t { kName, kNameEnd, kBeforeKey, kKey, kBeforeValue, kValue, kAfterValue };

  Step read() {
    for (;;) {
      const Part before = part_;
      const size_t at = at_;
      const Step step = read_part();
      if (step != Step::kMore || (part_ == before && at_ == at)) return step;
    }
  }

  Step read_part() {
    switch (part_) {
      case Part::kName:
        return read_name();
      case Part::kNameEnd:
        return read_name_end();
      case Part::kBeforeKey:
        return read_before_key();
      case Part::kKey:
        return read_key();
      case Part::kBeforeValue:
        return read_before_value();
      case Part::kValue:
        return read_value();
      case Part::kAfterValue:
        break;
    }
    return read_after_value();
  }

  Step read_name() {
    size_t begin = text_.find_first_not_of(kTextSpaces);
    if (begin == std::string::npos) return Step::kMore;
    size_t end = begin;
    while (end < text_.size() && is_tool_name_character(text_[end])) ++end;
    if (end == text_.size()) return end - begin > kMaxTagBytes ? Step::kRefused : Step::kMore;
    name_ = text_.substr(begin, end - begin);
    if (!is_tool_name(name_)) return Step::kRefused;
    const auto tool = std::ranges::find(*tools_, name_, &Tool::name);
    if (tool != tools_->end()) tool_ = &*tool;
    at_ = end;
    part_ = words_->name_end.empty() ? Part::kBeforeKey : Part::kNameEnd;
    return Step::kMore;
  }

  // Attributes may stand before it where it has some.
  Step read_name_end() {
    std::string_view mark = words_->name_end;
    const size_t attribute = mark.find("INDEX");
    if (attribute == std::string_view::npos) {
      skip_spaces();
      return at_ == text_.size() ? Step::kMore : take(mark, Part::kBeforeKey);
    }
    mark.remove_prefix(mark.find('<'));
    const size_t end = text_.find(mark, at_);
    if (end == std::string::npos) return text_.size() - at_ > kMaxTagBytes ? Step::kRefused : Step::kMore;
    at_ = end + mark.size();
    part_ = Part::kBeforeKey;
    return Step::kMore;
  }

  Step read_before_key() {
    skip_spaces();
    if (at_ == text_.size()) return Step::kMore;
    switch (begins_at(text_, at_, words_->open)) {
      case Begins::kYes:
        at_ += words_->open.size();
        part_ = Part::kKey;
        return Step::kMore;
      case Begins::kMaybe:
        return Step::kMore;
      case Begins::kNo:
        break;
    }
    switch (end_at(at_)) {
      case Begins::kYes:
        return end();
      case Begins::kMaybe:
        return Step::kMore;
      case Begins::kNo:
        break;
    }
    return Step::kRefused;
  }

  Step read_key() {
    // With attributes the mark begins with what ends the last of them.
    const size_t end = text_.find(words_->key_end, at_);
    if (end == std::string::npos) return text_.size() - at_ > kMaxTagBytes ? Step::kRefused : Step::kMore;
    std::string_view key = std::string_view(text_).substr(at_, end - at_);
    if (key.size() > kMaxTagBytes) return Step::kRefused;
    type_.clear();
    if (const size_t quote = key.find('"'); quote != std::string_view::npos) {
      // KEY" type="string
      const std::string attribute = std::string(" ") + std::string(words_->type_attribute) + "=\"";
      const size_t at = words_->type_attribute.empty() ? quote : key.find(attribute, quote);
      if (!words_->type_attribute.empty() && at != std::string_view::npos) {
        const std::string_view value = key.substr(at + attribute.size());
        type_ = value.substr(0, value.find('"'));
      }
      key = key.substr(0, quote);
    }
    key_ = words_->escaped ? unescape_attribute(key) : std::string(key);
    at_ = end + words_->key_end.size();
    part_ = words_->value_open.empty() ? Part::kValue : Part::kBeforeValue;
    search_ = at_;
    return Step::kMore;
  }

  Step read_before_value() {
    skip_spaces();
    if (at_ == text_.size()) return Step::kMore;
    const Step step = take(words_->value_open, Part::kValue);
    search_ = at_;
    return step;
  }

  Step read_value() {
    const size_t end = text_.find(words_->close, search_);
    if (end == std::string::npos) {
      search_ = std::max(search_, text_.size() - std::min(text_.size(), words_->close.size() - 1));
      return Step::kMore;
    }
    value_end_ = end;
    part_ = Part::kAfterValue;
    return Step::kMore;
  }

  // A value ends with the mark that something of the call follows: others are a part of it.
  Step read_after_value() {
    const size_t next = text_.find_first_not_of(kTextSpaces, value_end_ + words_->close.size());
    if (next == std::string::npos) return Step::kMore;
    const Begins key = begins_at(text_, next, words_->open), end = end_at(next);
    if (key == Begins::kYes || end == Begins::kYes) {
      take_value();
    } else if (key == Begins::kNo && end == Begins::kNo) {
      search_ = value_end_ + 1;
      part_ = Part::kValue;
    }
    return Step::kMore;
  }

  void take_value() {
    std::string_view value = std::string_view(text_).substr(at_, value_end_ - at_);
    if (!words_->pad.empty()) {
      if (value.starts_with(words_->pad)) value.remove_prefix(words_->pad.size());
      if (value.ends_with(words_->pad)) value.remove_suffix(words_->pad.size());
    }
    constexpr std::string_view kOpen = "<![CDATA[", kClose = "]]>";
    bool string = words_->type_attribute.empty() ? false : type_ == words_->string_type;
    if (words_->cdata && value.starts_with(kOpen) && value.ends_with(kClose)) {
      value.remove_prefix(kOpen.size());
      value.remove_suffix(kClose.size());
      string = true;
    }
    arguments_[key_] = string ? Json(std::string(value)) : typed_argument(value, types());
    at_ = value_end_ + words_->close.size();
    part_ = Part::kBeforeKey;
  }

  ArgumentTypes types() const {
    // What the model says itself counts.
    if (!type_.empty()) return {};
    const Json* schema = tool_ == nullptr ? nullptr : argument_schema(*tool_, key_);
    return schema == nullptr ? ArgumentTypes() : argument_types(*schema, tool_->parameters);
  }

  Begins end_at(size_t at) const {
    Begins most = Begins::kNo;
    for (const std::string_view mark : ends_) most = std::max(most, begins_at(text_, at, mark));
    return most;
  }

  Step take(std::string_view mark, Part next) {
    switch (begins_at(text_, at_, mark)) {
      case Begins::kNo:
        return Step::kRefused;
      case Begins::kMaybe:
        return Step::kMore;
      case Begins::kYes:
        break;
    }
    at_ += mark.size();
    part_ = next;
    return Step::kMore;
  }

  void skip_spaces() { at_ = std::min(text_.find_first_not_of(kTextSpaces, at_), text_.size()); }

  Step end() {
    calls_.push_back({.name = name_, .arguments = dump_json(arguments_)});
    return Step::kCall;
  }

  const ParameterSyntax* words_;
  const Tools* tools_;
  Marks ends_;
  const Tool* tool_ = nullptr;
  std::string text_;
  size_t at_ = 0;      // what was read
  size_t search_ = 0;  // where the end of the value may be
  size_t value_end_ = 0;
  Part part_ = Part::kName;
  std::string name_, key_, type_;
  Json arguments_ = Json::object();
};

}  // namespace

std::unique_ptr<CallReader> make_parameter_reader(const CallSyntax& syntax, const Tools& tools) {
  return std::make_unique<ParameterReader>(syntax, tools);
}

}  // namespace odmoe::server
