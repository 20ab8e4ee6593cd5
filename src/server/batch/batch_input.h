// The requests of a batch: a file of lines as OpenAI's batch API has them,
// {"custom_id": TEXT, "method": "POST", "url": "/v1/chat/completions", "body": {...}}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "base/fingerprint.h"
#include "odmoe/result.h"
#include "server/json_guard.h"
#include "server/limits.h"
#include "server/request_memory.h"

namespace odmoe::server {

// What is wrong with a line, whatever is asked in it.
struct BatchLineError {
  std::string code;  // for programs: "invalid_json_line"
  std::string message;
};

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
// One line, read.
struct BatchRequest {
  std::string id = {};         // 24 hexadecimal digits, of the line's place and bytes alone
  uint64_t seed = 0;           // likewise
  std::string custom_id = {};  // where there is one that can be told
  bool has_custom_id = false;
  std::string url = {};
  std::string body = {};  // JSON
  std::expected<void, BatchLineError> good = {};
};
// NOLINTEND(readability-redundant-member-init)

// Reads the line at `place` (from 0); `duplicate`: a line before it has the same custom_id.  `memory`: what
// its JSON may take, a line that takes more being one with an error; null: any.
BatchRequest read_batch_line(std::string_view line, size_t place, bool duplicate = false,
                             const std::shared_ptr<RequestMemory>& memory = nullptr);
// BatchRequest::id of the line.
std::string batch_line_id(std::string_view line, size_t place);

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct BatchInputOptions {
  // Told how much of the file is read; false: kInterrupted.
  std::function<bool(uint64_t bytes, uint64_t total)> progress = {};
  // Told of each request as it is read, before it is known whether one before it has its custom_id.
  std::function<void(const BatchRequest& request, size_t place)> each = {};
  size_t max_requests = kMaxBatchRequests;
  size_t max_line_bytes = kMaxBatchLineBytes;
  std::shared_ptr<RequestMemory> memory = nullptr;  // of read_batch_line(); one line is read at a time
};
// NOLINTEND(readability-redundant-member-init)

// Thread-compatible.
class BatchInput {
 public:
  // Goes through the file once.  Blank lines are passed over.  kNotFound, kIo; kUsage: not a regular file, or
  // more than `max_requests`.
  static Result<BatchInput> open(const std::filesystem::path& path, const BatchInputOptions& options = {});

  size_t size() const { return lines_.size(); }
  const std::filesystem::path& path() const { return path_; }
  // Of the longest line that is taken.
  size_t longest_bytes() const { return longest_bytes_; }
  // Whether a request may have a form or tools, which take memory of each that is under way.
  bool may_ask_for_grammars() const { return may_ask_for_grammars_; }
  // Of all bytes: two files of equal fingerprints ask the same.
  const Fingerprint::Value& fingerprint() const { return fingerprint_; }

  // Of the request at a place: the number of its line in the file, from 1; whether one before it has its
  // custom_id.
  size_t line_number(size_t place) const { return lines_[place].number; }
  bool is_duplicate(size_t place) const { return lines_[place].duplicate; }

  // The request at a place, below size().  A line longer than `max_line_bytes` is one with an error.  kIo.
  Result<BatchRequest> request(size_t place) const;
  // Its id alone.
  Result<std::string> id(size_t place) const;

 private:
  struct Line {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint32_t number = 0;     // among all lines
    bool duplicate = false;  // a line before it has its custom_id
  };
  BatchInput() = default;
  Status index(const BatchInputOptions& options);
  Result<std::string> text(size_t place) const;

  std::filesystem::path path_;
  FileDescriptor file_;
  uint64_t file_bytes_ = 0;
  std::vector<Line> lines_;
  size_t longest_bytes_ = 0;
  bool may_ask_for_grammars_ = false;
  Fingerprint::Value fingerprint_;
  size_t max_line_bytes_ = kMaxBatchLineBytes;
  std::shared_ptr<RequestMemory> memory_;
};

}  // namespace odmoe::server
