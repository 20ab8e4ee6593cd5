// Asynchronous reads of many files: the one seam between the expert store and the operating system.
//
// Three implementations give the same bytes: IoUringReader (Linux), PreadReader (everywhere) and, for
// tests, FakeReader (latency, short reads, errors).  Files are opened for direct I/O where the file system
// has it, so that reads neither fill nor are served from the page cache; alignment() says what that asks
// of requests.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe {

// What every request of a reader must be a multiple of, and every destination aligned to.  Powers of two:
// what the file system says for direct I/O (512 or 4096 as a rule, 4096 where it does not say), 1 with
// buffered reads.
struct ReadAlignment {
  uint32_t offset_bytes = 1;  // of ReadRequest::offset and ::bytes
  uint32_t memory_bytes = 1;  // of ReadRequest::destination
};

struct ReadRequest {
  uint64_t id = 0;                   // the caller's; comes back in the completion
  int file = 0;                      // from add_file
  uint64_t offset = 0;               // bytes from the start of the file
  uint32_t bytes = 0;                // to read; may reach beyond the end of the file, which is a short read
  std::byte* destination = nullptr;  // at least `bytes` bytes, the caller's, until the completion is seen
};

struct ReadCompletion {
  uint64_t id = 0;
  int64_t result = 0;  // bytes read, possibly fewer than asked; negative errno on failure
};

enum class ReaderKind { kAuto, kIoUring, kPread };

struct ReaderOptions {
  ReaderKind kind = ReaderKind::kAuto;  // kAuto: io_uring where it works, pread otherwise
  uint32_t depth = 32;                  // most reads in flight, 1..1024
  bool direct = true;                   // direct I/O where the file system has it
  Status validate() const;
};

// One owner: every method is called by one thread at a time, except wake(), which any thread may call.
// The destructor waits for the reads in flight (their destinations must live until then).
class AsyncReader {
 public:
  virtual ~AsyncReader() = default;

  // Opens a file for reading and returns its number (0, 1, ...).  All files must be added before the first
  // submit().  Errors: kNotFound, kIo (no permission, a directory, too many open files), each naming the
  // path.
  virtual Result<int> add_file(const std::filesystem::path& path) = 0;

  virtual int n_file() const = 0;  // added so far
  virtual uint64_t file_bytes(int file) const = 0;
  virtual const std::filesystem::path& path(int file) const = 0;

  // The strictest of all files added so far.
  virtual ReadAlignment alignment() const = 0;

  virtual uint32_t depth() const = 0;
  virtual uint32_t in_flight() const = 0;
  virtual std::string_view name() const = 0;  // "io_uring", "pread", "fake"

  // Starts a read, at the latest with the next wait(), so that several go to the system in one call.
  // Requires in_flight() < depth() and alignment.  What goes wrong later is in the completion.
  virtual void submit(const ReadRequest& request) = 0;

  // Hands what was submitted to the system now, for a caller that has other things to do before wait().
  virtual void flush() {}

  // Waits until at least one read has completed, wake() was called or `timeout` has passed (none: no limit),
  // and writes completions to `out`, which must not be empty.  Returns how many; 0 after a wake or a timeout.
  // A zero timeout polls.
  virtual size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) = 0;

  // Makes the current wait(), or else the next one, return.  Thread-safe, async-signal-safe not promised.
  virtual void wake() = 0;

 protected:
  AsyncReader() = default;
  AsyncReader(const AsyncReader&) = delete;
  AsyncReader& operator=(const AsyncReader&) = delete;
};

// A reader of the kind asked for.  kUnsupported when kIoUring is asked for and not available (not built,
// or forbidden by the kernel or a container); kAuto falls back to pread and says so in the log.
Result<std::unique_ptr<AsyncReader>> make_reader(const ReaderOptions& options);

}  // namespace odmoe
