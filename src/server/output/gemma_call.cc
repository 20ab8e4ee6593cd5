// Gemma 4's calls: get_weather{days:3,location:<|"|>Zürich<|"|>}, with JSON's strings and keys as well.
#include <algorithm>
#include <utility>

#include "server/json_guard.h"
#include "server/output/argument_types.h"
#include "server/output/call_reader.h"
#include "server/output/json_scanner.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

constexpr std::string_view kGemmaQuote = "<|\"|>";

class GemmaParser {
 public:
  explicit GemmaParser(std::string_view text) : text_(text) {}

  std::optional<Json> object() {
    Json out;
    if (peek() != '{' || !value(out) || peek() != '\0') return std::nullopt;
    return out;
  }

 private:
  char peek() {
    at_ = std::min(text_.find_first_not_of(kTextSpaces, at_), text_.size());
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  bool value(Json& out) {
    if (depth_ == kMaxScannedDepth) return false;
    ++depth_;
    const bool good = value_here(out);
    --depth_;
    return good;
  }

  bool value_here(Json& out) {
    if (take('{')) {
      out = Json::object();
      while (!take('}')) {
        std::string key;
        if (!this->key(key) || !take(':') || !value(out[key])) return false;
        if (!take(',') && peek() != '}') return false;
      }
      return true;
    }
    if (take('[')) {
      out = Json::array();
      while (!take(']')) {
        if (!value(out.emplace_back())) return false;
        if (!take(',') && peek() != ']') return false;
      }
      return true;
    }
    std::string text;
    if (string(text)) {
      out = std::move(text);
      return true;
    }
    const size_t end = std::min(text_.find_first_of(",}]", at_), text_.size());
    std::string_view word = text_.substr(at_, end - at_);
    at_ = end;
    word = word.substr(0, word.find_last_not_of(kTextSpaces) + 1);
    if (word.empty()) return false;
    out = word == "None" ? Json(nullptr) : typed_argument(word, {});
    return true;
  }

  // Between Gemma's marks or JSON's.
  bool string(std::string& out) {
    peek();
    if (text_.substr(at_).starts_with(kGemmaQuote)) {
      const size_t begin = at_ + kGemmaQuote.size(), end = text_.find(kGemmaQuote, begin);
      if (end == std::string_view::npos) return false;
      out = text_.substr(begin, end - begin);
      at_ = end + kGemmaQuote.size();
      return true;
    }
    if (peek() != '"') return false;
    JsonScanner scanner;
    for (size_t i = at_; i < text_.size(); ++i) {
      if (scanner.push(text_[i]) != JsonScanner::Step::kEnd) continue;
      const auto json = parse_json(scanner.text());
      if (!json.has_value()) return false;
      out = json->get<std::string>();
      at_ = i + 1;
      return true;
    }
    return false;
  }

  bool key(std::string& out) {
    if (string(out)) return true;
    const size_t end = text_.find_first_of(":,{}[]", at_);
    if (end == std::string_view::npos) return false;
    out = text_.substr(at_, end - at_);
    out.erase(out.find_last_not_of(kTextSpaces) + 1);
    at_ = end;
    return !out.empty();
  }

  std::string_view text_;
  size_t at_ = 0, depth_ = 0;
};

class GemmaReader final : public CallReader {
 public:
  Step push(char byte) override {
    if (arguments_.empty() && byte != '{') {
      // Its mark may say that it is a call or leave it out.
      if (byte == ':' && name_ == "call") {
        name_.clear();
      } else if (is_tool_name_character(byte)) {
        name_ += byte;
      } else if (!name_.empty() || !kTextSpaces.contains(byte)) {
        return Step::kRefused;
      }
      return Step::kMore;
    }
    if (arguments_.empty() && !is_tool_name(name_)) return Step::kRefused;
    arguments_ += byte;
    return inside(byte) ? Step::kMore : end();
  }
  Step finish() override { return Step::kRefused; }

 private:
  // Whether the braces are still open behind this byte.
  bool inside(char byte) {
    if (in_gemma_string_) {
      in_gemma_string_ =
          !(arguments_.size() >= string_begin_ + kGemmaQuote.size() && arguments_.ends_with(kGemmaQuote));
      return true;
    }
    if (in_json_string_) {
      in_json_string_ = escaped_ || byte != '"';
      escaped_ = byte == '\\' && !escaped_;
      return true;
    }
    if (arguments_.ends_with(kGemmaQuote)) {
      in_gemma_string_ = true;
      string_begin_ = arguments_.size();
    } else if (byte == '"' && !arguments_.ends_with("<|\"")) {
      in_json_string_ = true;
    } else if (byte == '{' || byte == '[') {
      ++depth_;
    } else if (byte == '}' || byte == ']') {
      --depth_;
    }
    return depth_ > 0;
  }

  Step end() {
    const auto arguments = GemmaParser(arguments_).object();
    if (!arguments) return Step::kRefused;
    calls_.push_back({.name = name_, .arguments = dump_json(*arguments)});
    return Step::kCall;
  }

  std::string name_, arguments_;
  size_t depth_ = 0, string_begin_ = 0;
  bool in_gemma_string_ = false, in_json_string_ = false, escaped_ = false;
};

}  // namespace

std::unique_ptr<CallReader> make_gemma_reader() { return std::make_unique<GemmaReader>(); }

}  // namespace odmoe::server
