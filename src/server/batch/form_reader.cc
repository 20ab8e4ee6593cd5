#include "server/batch/form_reader.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>
#include <vector>

#include "server/limits.h"

namespace odmoe::server {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr size_t kMaxBoundaryBytes = 70;

std::unexpected<ApiError> not_a_form(std::string_view why) {
  return bad_request("", "the body is not a form (multipart/form-data): {}", why);
}

bool same_letters(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

struct HeaderParameter {
  std::string name, value;
};

// VALUE; NAME=VALUE; NAME="VALUE"
struct ParameterHeader {
  std::string_view value;
  std::vector<HeaderParameter> parameters;

  const std::string* find(std::string_view name) const {
    const auto found = std::ranges::find_if(
        parameters, [&](const HeaderParameter& parameter) { return same_letters(parameter.name, name); });
    return found == parameters.end() ? nullptr : &found->value;
  }
};

// Up to the closing quote, which is taken too; nothing: there is none.
std::optional<std::string> take_quoted(std::string_view& text) {
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return value;
    }
    // Others than these two are not escaped by anybody: a backslash may be of a path.
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\')) ++i;
    value += text[i];
  }
  return std::nullopt;
}

// Nothing: it is not written so.
std::optional<ParameterHeader> read_parameters(std::string_view text) {
  ParameterHeader header;
  size_t end = std::min(text.find(';'), text.size());
  header.value = without_blanks(text.substr(0, end));
  text.remove_prefix(end);
  while (!(text = without_blanks(text)).empty()) {
    if (text.front() != ';') return std::nullopt;
    text = without_blanks(text.substr(1));
    if (text.empty()) break;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    HeaderParameter parameter{.name = std::string(without_blanks(text.substr(0, equals))), .value = {}};
    text = without_blanks(text.substr(equals + 1));
    if (text.starts_with('"')) {
      auto value = take_quoted(text);
      if (!value) return std::nullopt;
      parameter.value = *std::move(value);
    } else {
      end = std::min(text.find(';'), text.size());
      parameter.value = without_blanks(text.substr(0, end));
      text.remove_prefix(end);
    }
    if (parameter.name.empty() || header.find(parameter.name) != nullptr) return std::nullopt;
    header.parameters.push_back(std::move(parameter));
  }
  return header;
}

bool is_boundary(std::string_view text) {
  constexpr std::string_view kOthers = "'()+_,-./:=? ";
  return !text.empty() && text.size() <= kMaxBoundaryBytes && text.back() != ' ' &&
         std::ranges::all_of(text, [&](unsigned char c) {
           return std::isalnum(c) != 0 || kOthers.contains(static_cast<char>(c));
         });
}

// What browsers write for the three bytes that a quoted name cannot hold.
std::string without_escapes(std::string text) {
  constexpr std::pair<std::string_view, char> kEscapes[] = {{"%22", '"'}, {"%0D", '\r'}, {"%0A", '\n'}};
  for (const auto& [escape, byte] : kEscapes) {
    for (size_t at = 0; (at = text.find(escape, at)) != std::string::npos; ++at) {
      text.replace(at, escape.size(), 1, byte);
    }
  }
  return text;
}

ApiResult<FormPart> read_part_headers(std::string_view text) {
  std::optional<FormPart> part;
  while (!text.empty()) {
    const size_t end = std::min(text.find(kLineEnd), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + kLineEnd.size(), text.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || line.contains('\n') || line.contains('\r')) {
      return not_a_form("a part has a header that is none");
    }
    const std::string_view name = line.substr(0, colon), value = without_blanks(line.substr(colon + 1));
    if (same_letters(name, "Content-Transfer-Encoding") && !same_letters(value, "binary") &&
        !same_letters(value, "8bit") && !same_letters(value, "7bit")) {
      return not_a_form("a part is encoded, which forms are not: send it as it is");
    }
    if (!same_letters(name, "Content-Disposition")) continue;
    const auto disposition = read_parameters(value);
    const std::string* field = disposition ? disposition->find("name") : nullptr;
    if (part || field == nullptr || !same_letters(disposition->value, "form-data")) {
      return not_a_form("a part has no name, or its Content-Disposition is not form-data");
    }
    part = FormPart{.name = without_escapes(*field), .filename = std::nullopt};
    if (const std::string* filename = disposition->find("filename")) {
      part->filename = without_escapes(*filename);
    }
  }
  if (!part) return not_a_form("a part has no Content-Disposition");
  return *std::move(part);
}

}  // namespace

FormReader::FormReader(std::string_view boundary, FormSink& sink)
    : sink_(&sink), delimiter_("\r\n--" + std::string(boundary)) {}

ApiResult<FormReader> FormReader::create(std::string_view content_type, FormSink& sink) {
  const auto header = read_parameters(content_type);
  if (!header || !same_letters(header->value, "multipart/form-data")) {
    return std::unexpected(ApiError{.status = 415,
                                    .fault = Fault::kRequest,
                                    .message = "files are sent as a form: Content-Type multipart/form-data"});
  }
  const std::string* boundary = header->find("boundary");
  if (boundary == nullptr || !is_boundary(*boundary)) {
    return not_a_form("its Content-Type says no boundary");
  }
  return FormReader(*boundary, sink);
}

ApiStatus FormReader::take(std::string_view bytes) {
  if (state_ == State::kEnded) return {};
  held_ += bytes;
  while (true) {
    ODMOE_ASSIGN_OR_RETURN(const bool more, step());
    if (!more) return {};
  }
}

ApiStatus FormReader::finish() const {
  if (state_ == State::kEnded) return {};
  return not_a_form("it ends before its last boundary");
}

// Whether there is more to do with what is held.
ApiResult<bool> FormReader::step() {
  switch (state_) {
    case State::kBeginning:
      return take_beginning();
    case State::kAfterDelimiter:
      return take_after_delimiter();
    case State::kHeaders:
      return take_headers();
    case State::kData:
      return take_data();
    case State::kEnded:
      break;
  }
  held_.clear();
  return false;
}

// The first boundary has no line before it.
ApiResult<bool> FormReader::take_beginning() {
  const std::string_view first = std::string_view(delimiter_).substr(kLineEnd.size());
  const size_t n = std::min(first.size(), held_.size());
  if (first.substr(0, n) != std::string_view(held_).substr(0, n)) {
    return not_a_form("it does not begin with its boundary");
  }
  if (held_.size() < first.size()) return false;
  held_.erase(0, first.size());
  state_ = State::kAfterDelimiter;
  return true;
}

ApiResult<bool> FormReader::take_after_delimiter() {
  // "--" ends the form; blanks may stand before the end of the line.
  if (held_.size() < kLineEnd.size()) return false;
  if (held_.starts_with("--")) {
    state_ = State::kEnded;
    return true;
  }
  const size_t blanks = std::min(held_.find_first_not_of(" \t"), held_.size());
  if (blanks > kMaxFormHeaderBytes) return not_a_form("a boundary is followed by something else");
  if (held_.size() < blanks + kLineEnd.size()) return false;
  if (held_.compare(blanks, kLineEnd.size(), kLineEnd) != 0) {
    return not_a_form("a boundary is followed by something else");
  }
  // What ends this line may end the headers, too: a part without any.
  held_.erase(0, blanks);
  if (++n_part_ > kMaxFormParts) return not_a_form("it has too many parts");
  state_ = State::kHeaders;
  return true;
}

ApiResult<bool> FormReader::take_headers() {
  constexpr std::string_view kHeadersEnd = "\r\n\r\n";
  const size_t end = held_.find(kHeadersEnd);
  const bool whole = end != std::string::npos;
  // As much as would do if all of its end were there.
  const size_t n = whole ? end : held_.size() - std::min(held_.size(), kHeadersEnd.size() - 1);
  if (n > kMaxFormHeaderBytes) return not_a_form("a part has headers too long");
  if (!whole) return false;
  const std::string_view lines = std::string_view(held_).substr(0, end);
  ODMOE_ASSIGN_OR_RETURN(const FormPart part,
                         read_part_headers(lines.substr(std::min(kLineEnd.size(), lines.size()))));
  ODMOE_RETURN_IF_ERROR(sink_->begin(part));
  // The line's end before a boundary may be the one that ends the headers.
  held_.erase(0, end + kLineEnd.size());
  state_ = State::kData;
  return true;
}

ApiResult<bool> FormReader::take_data() {
  // The headers' last line end is still there, before the first byte.
  const size_t end = held_.find(delimiter_);
  const bool whole = end != std::string::npos;
  // A delimiter may have begun.
  const size_t n = whole ? end : held_.size() - std::min(held_.size(), delimiter_.size() - 1);
  if (!whole && !data_begun_ && n < kLineEnd.size()) return false;
  const size_t before = data_begun_ ? 0 : std::min(kLineEnd.size(), n);
  if (n > before) {
    ODMOE_RETURN_IF_ERROR(sink_->data(std::string_view(held_).substr(before, n - before)));
  }
  data_begun_ = true;
  held_.erase(0, n);
  if (!whole) return false;
  ODMOE_RETURN_IF_ERROR(sink_->end());
  held_.erase(0, delimiter_.size());
  data_begun_ = false;
  state_ = State::kAfterDelimiter;
  return true;
}

}  // namespace odmoe::server
