#include "server/batch/batch_input.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <system_error>
#include <tuple>
#include <utility>

#include "base/checksum.h"
#include "base/transfer.h"
#include "odmoe/format.h"

namespace odmoe::server {
namespace {

constexpr size_t kInputBlockBytes = 1 << 20;
constexpr size_t kLineIdDigits = 24;

std::unexpected<BatchLineError> wrong_line(const char* code, std::string message) {
  return std::unexpected(BatchLineError{.code = code, .message = std::move(message)});
}

bool is_blank_line(std::string_view line) {
  return std::ranges::all_of(line, [](char c) { return c == ' ' || c == '\t' || c == '\r'; });
}

Fingerprint::Value line_mark(std::string_view line, size_t place) {
  Fingerprint fingerprint;
  fingerprint.add(uint64_t{place});
  fingerprint.add(line);
  return fingerprint.value();
}

// A member that has to be a text.
std::expected<std::string, BatchLineError> text_member(const Json& line, const char* name) {
  const auto member = line.find(name);
  if (member == line.end() || member->is_null()) {
    return wrong_line("missing_required_parameter", odmoe::format("the line has no {}", name));
  }
  if (!member->is_string()) return wrong_line("invalid_type", odmoe::format("{} must be a text", name));
  return member->get<std::string>();
}

std::expected<void, BatchLineError> read_line_members(const Json& line, BatchRequest& request) {
  ODMOE_ASSIGN_OR_RETURN(request.custom_id, text_member(line, "custom_id"));
  request.has_custom_id = true;
  if (request.custom_id.size() > kMaxCustomIdBytes) {
    return wrong_line("invalid_custom_id", odmoe::format("custom_id has {} bytes; {} are allowed",
                                                         request.custom_id.size(), kMaxCustomIdBytes));
  }
  ODMOE_ASSIGN_OR_RETURN(const std::string method, text_member(line, "method"));
  if (method != "POST") return wrong_line("invalid_method", "method must be POST");
  ODMOE_ASSIGN_OR_RETURN(request.url, text_member(line, "url"));
  const auto body = line.find("body");
  if (body == line.end() || body->is_null()) {
    return wrong_line("missing_required_parameter", "the line has no body");
  }
  if (!body->is_object()) return wrong_line("invalid_type", "body must be an object");
  request.body = dump_json(*body);
  return {};
}

// Whether a body has a member that may hold its answer to a form, here or in any dialect.
bool names_a_form(std::string_view body) {
  constexpr auto kNames = std::to_array<std::string_view>({"\"response_format\"", "\"json_schema\"",
                                                           "\"guided_", "\"structured_outputs\"", "\"tools\"",
                                                           "\"format\"", "\"regex\"", "\"choice\""});
  return std::ranges::any_of(kNames, [&](std::string_view name) { return body.contains(name); });
}

// Lines of a file whose bytes come in blocks: (line, where it begins, how long it is).  Of a line that is too
// long only the beginning is kept.
class LineSplitter {
 public:
  explicit LineSplitter(size_t max_bytes) : most_(max_bytes + 1) {}
  template <typename Take>
  void push(std::string_view block, const Take& take) {
    while (!block.empty()) {
      const size_t end = std::min(block.find('\n'), block.size());
      line_.append(block.substr(0, std::min(end, most_ - std::min(line_.size(), most_))));
      bytes_ += end;
      if (end == block.size()) return;
      finish(take);
      block.remove_prefix(end + 1);
    }
  }
  template <typename Take>
  void finish(const Take& take) {
    take(line_, offset_, bytes_);
    offset_ += bytes_ + 1;
    bytes_ = 0;
    line_.clear();
  }
  bool empty() const { return bytes_ == 0; }

 private:
  const size_t most_;
  std::string line_;
  uint64_t offset_ = 0, bytes_ = 0;
};

BatchRequest too_long_line(std::string_view beginning, size_t place, uint64_t bytes, size_t most) {
  const Fingerprint::Value mark = line_mark(beginning, place);
  BatchRequest request{.id = mark.hex().substr(0, kLineIdDigits), .seed = mark.low};
  request.good =
      wrong_line("line_too_long", odmoe::format("the line has {} bytes; {} are allowed", bytes, most));
  return request;
}

}  // namespace

std::string batch_line_id(std::string_view line, size_t place) {
  return line_mark(line, place).hex().substr(0, kLineIdDigits);
}

BatchRequest read_batch_line(std::string_view line, size_t place, bool duplicate,
                             const std::shared_ptr<RequestMemory>& memory) {
  const Fingerprint::Value mark = line_mark(line, place);
  BatchRequest request{.id = mark.hex().substr(0, kLineIdDigits), .seed = mark.low};
  RequestWork work(memory, std::nullopt, nullptr, {});
  const ApiResult<Json> json = parse_json(line, work);
  if (!json.has_value()) {
    // What takes too much memory may well be JSON.
    request.good =
        wrong_line(json.error().status == 413 ? "line_too_long" : "invalid_json_line", json.error().message);
  } else if (!json->is_object()) {
    request.good = wrong_line("invalid_json_line", "the line must be a JSON object");
  } else {
    request.good = read_line_members(*json, request);
  }
  if (duplicate && request.has_custom_id) {
    request.good = wrong_line("duplicate_custom_id", "a line before this one has the same custom_id");
  }
  return request;
}

Result<BatchInput> BatchInput::open(const std::filesystem::path& path, const BatchInputOptions& options) {
  BatchInput input;
  input.path_ = path;
  input.max_line_bytes_ = options.max_line_bytes;
  input.memory_ = options.memory;
  input.file_ = FileDescriptor::open(path, O_RDONLY);
  if (!input.file_) {
    return fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo, "cannot read {}: {}", path.string(),
                std::generic_category().message(errno));
  }
  struct stat status{};
  if (fstat(input.file_.number(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorKind::kUsage,
                "{} is not a file on a disk: a batch that is interrupted reads its requests again",
                path.string());
  }
  input.file_bytes_ = static_cast<uint64_t>(status.st_size);
  ODMOE_RETURN_IF_ERROR(input.index(options));
  return input;
}

Status BatchInput::index(const BatchInputOptions& options) {
  struct Id {
    Fingerprint::Value id;
    size_t place = 0;
  };
  std::vector<Id> ids;
  size_t n_line = 0;
  const auto take = [&](std::string_view line, uint64_t offset, uint64_t bytes) {
    ++n_line;
    if (is_blank_line(line) || lines_.size() > options.max_requests) return;
    const size_t place = lines_.size();
    if (place < options.max_requests) {
      const BatchRequest request = bytes <= max_line_bytes_
                                       ? read_batch_line(line, place, /*duplicate=*/false, memory_)
                                       : too_long_line(line, place, bytes, max_line_bytes_);
      if (bytes <= max_line_bytes_) longest_bytes_ = std::max<size_t>(longest_bytes_, bytes);
      may_ask_for_grammars_ = may_ask_for_grammars_ || names_a_form(request.body);
      if (request.has_custom_id) {
        ids.push_back({.id = Fingerprint::of(std::as_bytes(std::span(request.custom_id))), .place = place});
      }
      if (options.each) options.each(request, place);
    }
    lines_.push_back({.offset = offset, .bytes = bytes, .number = static_cast<uint32_t>(n_line)});
  };
  Checksum all;
  LineSplitter lines(max_line_bytes_);
  std::string block(kInputBlockBytes, '\0');
  for (uint64_t at = 0; at < file_bytes_;) {
    const auto bytes = std::as_writable_bytes(std::span(block));
    const int64_t n =
        read_some(file_.number(), at, bytes.first(std::min<uint64_t>(bytes.size(), file_bytes_ - at)));
    if (n <= 0) {
      return fail(ErrorKind::kIo, "cannot read {}: {}", path_.string(),
                  n < 0 ? std::generic_category().message(static_cast<int>(-n)) : "it became shorter");
    }
    all.add(bytes.first(static_cast<size_t>(n)));
    lines.push(std::string_view(block).substr(0, static_cast<size_t>(n)), take);
    at += static_cast<uint64_t>(n);
    if (lines_.size() > options.max_requests) break;
    if (options.progress && !options.progress(at, file_bytes_))
      return fail(ErrorKind::kInterrupted, "interrupted");
  }
  if (!lines.empty()) lines.finish(take);
  if (lines_.size() > options.max_requests) {
    return fail(ErrorKind::kUsage, "{} has more than {} requests; divide it into several files",
                path_.string(), options.max_requests);
  }
  Fingerprint fingerprint;
  fingerprint.add(file_bytes_);
  fingerprint.add(all.value());
  fingerprint_ = fingerprint.value();
  // The first of several lines with one custom_id has it.
  const auto key = [](const Id& id) { return std::tuple(id.id.high, id.id.low, id.place); };
  std::ranges::sort(ids, {}, key);
  for (size_t i = 1; i < ids.size(); ++i) {
    if (ids[i].id == ids[i - 1].id) lines_[ids[i].place].duplicate = true;
  }
  return {};
}

Result<std::string> BatchInput::text(size_t place) const {
  const Line& line = lines_[place];
  std::string text(std::min<uint64_t>(line.bytes, max_line_bytes_ + 1), '\0');
  const auto read = read_exactly(file_.number(), line.offset, std::as_writable_bytes(std::span(text)));
  if (read.has_value()) return text;
  return fail(
      ErrorKind::kIo, "cannot read {}: {}", path_.string(),
      read.error().error != 0 ? std::generic_category().message(read.error().error) : "it became shorter");
}

Result<BatchRequest> BatchInput::request(size_t place) const {
  ODMOE_ASSIGN_OR_RETURN(const std::string line, text(place));
  const uint64_t bytes = lines_[place].bytes;
  if (bytes > max_line_bytes_) return too_long_line(line, place, bytes, max_line_bytes_);
  return read_batch_line(line, place, lines_[place].duplicate, memory_);
}

Result<std::string> BatchInput::id(size_t place) const {
  ODMOE_ASSIGN_OR_RETURN(const std::string line, text(place));
  return batch_line_id(line, place);
}

}  // namespace odmoe::server
