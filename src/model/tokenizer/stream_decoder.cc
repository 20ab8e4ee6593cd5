#include "base/utf8.h"
#include "model/tokenizer/tokenizer.h"

namespace odmoe {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string StreamDecoder::push_bytes(std::string_view bytes) {
  pending_ += bytes;
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Char c = read_utf8(rest);
    if (c.truncated) break;  // the next token may complete it
    text += c.valid ? rest.substr(0, c.length) : kReplacement;
    rest.remove_prefix(c.length);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

std::string StreamDecoder::finish() {
  std::string text(pending_.empty() ? std::string_view() : kReplacement);
  pending_.clear();
  return text;
}

}  // namespace odmoe
