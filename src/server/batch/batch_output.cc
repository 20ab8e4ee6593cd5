#include "server/batch/batch_output.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <functional>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "base/transfer.h"
#include "io/output_file.h"
#include "odmoe/format.h"
#include "server/batch/line_file.h"
#include "server/batch/word_reader.h"
#include "server/json_guard.h"

namespace odmoe::server {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatchSyncUs = 5'000'000;
// OUT.progress begins anew when nothing of it is needed any more and it has become so large.
constexpr uint64_t kMuchProgressBytes = 64 << 10;
constexpr size_t kMaxFirstLineBytes = 4096;

fs::path progress_path_of(const fs::path& path) { return path.string() + ".progress"; }

// Of OUT.progress.
struct BatchFirstLine {
  std::string identity;
  int64_t begun = 0;
};

std::string text_of_first_line(const BatchFirstLine& line) {
  return odmoe::format("{{\"odmoe_batch\":1,\"identity\":\"{}\",\"begun\":{}}}\n", line.identity, line.begun);
}

// Nothing: it is none.
std::optional<BatchFirstLine> read_first_line(std::string_view text) {
  const ApiResult<Json> json = parse_json(text);
  if (!json.has_value() || !json->is_object()) return std::nullopt;
  const auto version = json->find("odmoe_batch"), identity = json->find("identity"),
             begun = json->find("begun");
  if (version == json->end() || *version != 1 || identity == json->end() || !identity->is_string() ||
      begun == json->end() || !begun->is_number_integer()) {
    return std::nullopt;
  }
  return BatchFirstLine{.identity = identity->get<std::string>(), .begun = begun->get<int64_t>()};
}

Status sync_parent(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return sync_directory(parent.empty() ? fs::path(".") : parent);
}

constexpr std::string_view kAnswerBeginning = "{\"id\":\"batch_req_";

// Whether a line answers the input's request at a place (no input: any request).
Result<bool> is_answer_to(const BatchInput* input, size_t place, std::string_view line) {
  std::string beginning(kAnswerBeginning);
  if (input != nullptr) {
    if (place >= input->size()) return false;
    ODMOE_ASSIGN_OR_RETURN(const std::string id, input->id(place));
    beginning = batch_line_beginning(id);
  }
  // Where the power went, blocks of a file may be there that were never written.
  return line.starts_with(beginning) && line.ends_with('}') && !line.contains('\0');
}

// How many of the lines from the first on are answers to the input's requests (null: to any), and their
// bytes.
struct Answered {
  size_t lines = 0, failed = 0;
  uint64_t bytes = 0;
  bool others = false;  // lines follow that are not
};
Result<Answered> answered_lines(const FileDescriptor& file, const fs::path& path, const BatchInput* input) {
  Answered answered;
  ODMOE_RETURN_IF_ERROR(each_batch_line(file, path, 0, [&](std::string_view line, uint64_t) -> Result<bool> {
    ODMOE_ASSIGN_OR_RETURN(const bool is_answer, is_answer_to(input, answered.lines, line));
    if (!is_answer) {
      answered.others = true;
      return false;
    }
    ++answered.lines;
    answered.failed += is_failed_answer(line) ? 1 : 0;
    answered.bytes += line.size() + 1;
    return true;
  }));
  return answered;
}

}  // namespace

std::string batch_line_beginning(std::string_view id) {
  return odmoe::format("{}{}\",", kAnswerBeginning, id);
}

bool is_failed_answer(std::string_view line) {
  // What is in a text has its quotes escaped, so that the first one is the member.
  constexpr std::string_view kResponse = ",\"response\":";
  const size_t at = line.find(kResponse);
  return at == std::string_view::npos ||
         !line.substr(at + kResponse.size()).starts_with("{\"status_code\":200,");
}

Result<BatchState> batch_state(const fs::path& path, const BatchInput& input) {
  std::error_code error;
  if (fs::exists(progress_path_of(path), error)) return BatchState::kUnfinished;
  if (!fs::exists(fs::symlink_status(path, error))) return BatchState::kNew;
  if (fs::is_regular_file(path, error)) {
    const FileDescriptor file = FileDescriptor::open(path, O_RDONLY);
    if (!file) return batch_file_error("read", path, errno);
    ODMOE_ASSIGN_OR_RETURN(const Answered answered, answered_lines(file, path, &input));
    if (answered.lines == input.size() && answered.bytes == fs::file_size(path, error)) {
      return BatchState::kComplete;
    }
  }
  return fail(ErrorKind::kUsage,
              "{} is there already, and nothing is overwritten: give another name or remove it",
              path.string());
}

Result<BatchOutput> BatchOutput::open(const fs::path& path, const BatchInput& input,
                                      std::string_view identity, int64_t now, const odmoe::Clock& clock) {
  return open_of(path, &input, identity, now, clock);
}

Result<BatchOutput> BatchOutput::open_without_input(const fs::path& path, int64_t now,
                                                    const odmoe::Clock& clock) {
  return open_of(path, nullptr, {}, now, clock);
}

Result<BatchOutput> BatchOutput::open_of(const fs::path& path, const BatchInput* input,
                                         std::string_view identity, int64_t now, const odmoe::Clock& clock) {
  BatchOutput output(clock);
  output.path_ = path;
  output.progress_path_ = progress_path_of(path);
  ODMOE_RETURN_IF_ERROR(output.open_progress(identity, now));
  ODMOE_RETURN_IF_ERROR(output.read_output(input));
  ODMOE_RETURN_IF_ERROR(output.read_ahead(input));
  ODMOE_RETURN_IF_ERROR(output.catch_up());
  output.next_sync_us_ = clock.now_us() + kBatchSyncUs;
  return output;
}

Status BatchOutput::open_progress(std::string_view identity, int64_t now) {
  progress_ = FileDescriptor::open(progress_path_, O_RDWR | O_CREAT);
  if (!progress_) return batch_file_error("write", progress_path_, errno);
  if (flock(progress_.number(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return fail(ErrorKind::kUsage, "{} is being written by another process; wait until it ends",
                path_.string());
  }
  std::string found(kMaxFirstLineBytes, '\0');
  const int64_t n = read_some(progress_.number(), 0, std::as_writable_bytes(std::span(found)));
  if (n < 0) return batch_file_error("read", progress_path_, static_cast<int>(-n));
  found.resize(static_cast<size_t>(n));
  const size_t end = found.find('\n');
  if (end != std::string::npos) {
    const auto line = read_first_line(std::string_view(found).substr(0, end));
    if (!line || (!identity.empty() && line->identity != identity)) return of_another_batch();
    identity_ = line->identity;
    begun_ = line->begun;
    first_line_bytes_ = progress_bytes_ = end + 1;
    return {};
  }
  // What ended before its first line was written has done nothing yet.
  std::error_code error;
  if (fs::exists(path_, error) && fs::file_size(path_, error) > 0) return of_another_batch();
  identity_ = identity;
  begun_ = now;
  if (ftruncate(progress_.number(), 0) != 0) return batch_file_error("write", progress_path_, errno);
  ODMOE_RETURN_IF_ERROR(
      write_whole_line(progress_, progress_path_, progress_bytes_,
                       text_of_first_line({.identity = std::string(identity), .begun = begun_})));
  first_line_bytes_ = progress_bytes_;
  // No answer may be there without it.
  if (fsync(progress_.number()) != 0) return batch_file_error("write", progress_path_, errno);
  return sync_parent(progress_path_);
}

std::unexpected<Error> BatchOutput::of_another_batch() const {
  return fail(ErrorKind::kUsage,
              "{} is of a batch with other requests, another model or other options: go on with those, or "
              "remove it and {} to begin anew",
              progress_path_.string(), path_.string());
}

Status BatchOutput::read_output(const BatchInput* input) {
  output_ = FileDescriptor::open(path_, O_RDWR | O_CREAT);
  if (!output_) return batch_file_error("write", path_, errno);
  ODMOE_ASSIGN_OR_RETURN(const Answered answered, answered_lines(output_, path_, input));
  next_ = answered.lines;
  n_failed_ = answered.failed;
  output_bytes_ = answered.bytes;
  if (ftruncate(output_.number(), static_cast<off_t>(output_bytes_)) != 0) {
    return batch_file_error("write", path_, errno);
  }
  return {};
}

// CHECKSUM PLACE ANSWER
Status BatchOutput::read_ahead(const BatchInput* input) {
  ODMOE_RETURN_IF_ERROR(each_batch_line(
      progress_, progress_path_, first_line_bytes_,
      [&](std::string_view line, uint64_t offset) -> Result<bool> {
        const auto entry = entry_of_checked_line(line);
        if (!entry) return false;
        WordReader words(*entry);
        size_t place = 0;
        if (!words.number(place) || !words.take(' ')) return false;
        const std::string_view answer = words.rest();
        ODMOE_ASSIGN_OR_RETURN(const bool is_answer, is_answer_to(input, place, answer));
        if (!is_answer) return false;
        progress_bytes_ = offset + line.size() + 1;
        if (place >= next_) {
          const Ahead where{.offset = offset + line.size() - answer.size(), .bytes = answer.size()};
          const bool failed = is_failed_answer(answer);
          if (ahead_.try_emplace(place, where).second) n_failed_ += failed ? 1 : 0;
        }
        return true;
      }));
  if (ftruncate(progress_.number(), static_cast<off_t>(progress_bytes_)) != 0) {
    return batch_file_error("write", progress_path_, errno);
  }
  return {};
}

Status BatchOutput::append(std::string_view line) {
  ODMOE_RETURN_IF_ERROR(write_whole_line(output_, path_, output_bytes_, std::string(line) + "\n"));
  ++next_;
  return {};
}

Status BatchOutput::append_ahead(size_t place, std::string_view line) {
  const std::string whole = checked_line(odmoe::format("{} {}", place, line));
  const uint64_t offset = progress_bytes_ + (whole.size() - 1 - line.size());
  ODMOE_RETURN_IF_ERROR(write_whole_line(progress_, progress_path_, progress_bytes_, whole));
  ahead_[place] = {.offset = offset, .bytes = line.size()};
  return {};
}

Result<std::string> BatchOutput::read_ahead_of(const Ahead& where) const {
  std::string line(where.bytes, '\0');
  const auto read = read_exactly(progress_.number(), where.offset, std::as_writable_bytes(std::span(line)));
  if (!read.has_value()) return batch_file_error("read", progress_path_, read.error().error);
  return line;
}

Status BatchOutput::each_answer(const std::function<Status(std::string_view line)>& take) const {
  size_t left = next_;
  const auto take_next = [&](std::string_view line, uint64_t) -> Result<bool> {
    if (left == 0) return false;
    ODMOE_RETURN_IF_ERROR(take(line));
    return --left > 0;
  };
  ODMOE_RETURN_IF_ERROR(each_batch_line(output_, path_, 0, take_next));
  for (const auto& [place, where] : ahead_) {
    ODMOE_ASSIGN_OR_RETURN(const std::string line, read_ahead_of(where));
    ODMOE_RETURN_IF_ERROR(take(line));
  }
  return {};
}

// Those whose turn has come.
Status BatchOutput::catch_up() {
  while (!ahead_.empty() && ahead_.begin()->first <= next_) {
    const auto [place, where] = *ahead_.begin();
    if (place == next_) {
      ODMOE_ASSIGN_OR_RETURN(const std::string line, read_ahead_of(where));
      ODMOE_RETURN_IF_ERROR(append(line));
    }
    ahead_.erase(ahead_.begin());
  }
  if (!ahead_.empty() || progress_bytes_ < first_line_bytes_ + kMuchProgressBytes) return {};
  // OUT has all of it, but the power may still go.
  ODMOE_RETURN_IF_ERROR(sync());
  if (ftruncate(progress_.number(), static_cast<off_t>(first_line_bytes_)) != 0) {
    return batch_file_error("write", progress_path_, errno);
  }
  progress_bytes_ = first_line_bytes_;
  return {};
}

Status BatchOutput::put(size_t place, std::string_view line) {
  assert(!is_done(place));
  if (place == next_) {
    ODMOE_RETURN_IF_ERROR(append(line));
    ODMOE_RETURN_IF_ERROR(catch_up());
  } else {
    ODMOE_RETURN_IF_ERROR(append_ahead(place, line));
  }
  n_failed_ += is_failed_answer(line) ? 1 : 0;
  return clock_->now_us() < next_sync_us_ ? Status() : sync();
}

Status BatchOutput::sync() {
  for (const auto& [file, path] : {std::pair(&output_, &path_), std::pair(&progress_, &progress_path_)}) {
    if (fsync(file->number()) != 0 && errno != EINVAL && errno != ENOTSUP)
      return batch_file_error("write", *path, errno);
  }
  next_sync_us_ = clock_->now_us() + kBatchSyncUs;
  return {};
}

Status BatchOutput::finish() {
  assert(ahead_.empty());
  ODMOE_RETURN_IF_ERROR(sync());
  if (::unlink(progress_path_.c_str()) != 0) return batch_file_error("remove", progress_path_, errno);
  return sync_parent(path_);
}

}  // namespace odmoe::server
