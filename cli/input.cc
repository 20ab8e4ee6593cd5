#include "cli/input.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file_descriptor.h"
#include "cli/interrupt.h"

namespace odmoe::cli {
namespace {

// Appends what one read gives; false at the end.  `name` is for the error.
Result<bool> read_some(int descriptor, const std::string& name, std::string& text) {
  std::array<char, 65536> block;
  while (true) {
    std::array<pollfd, 2> waits = {pollfd{descriptor, POLLIN, 0}, pollfd{interrupt::descriptor(), POLLIN, 0}};
    if (poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) {
      return fail(ErrorKind::kIo, "cannot wait for {}: {}", name, std::strerror(errno));
    }
    if (interrupt::pending()) return fail(ErrorKind::kInterrupted, "interrupted while reading {}", name);
    if (waits[0].revents == 0) continue;
    const ssize_t got = ::read(descriptor, block.data(), block.size());
    if (got >= 0) {
      text.append(block.data(), static_cast<size_t>(got));
      if (text.size() > kMaxTextBytes) {
        return fail(ErrorKind::kUsage, "{} holds more than {} MiB of text", name, kMaxTextBytes >> 20);
      }
      return got > 0;
    }
    if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
      return fail(ErrorKind::kIo, "cannot read {}: {}", name,
                  errno == EBADF ? "it is closed" : std::strerror(errno));
    }
  }
}

Result<std::string> read_all(int descriptor, const std::string& name) {
  std::string text;
  while (true) {
    ODMOE_ASSIGN_OR_RETURN(const bool more, read_some(descriptor, name, text));
    if (!more) return text;
  }
}

}  // namespace

bool input_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }

Result<std::string> read_file(const std::string& path) {
  const FileDescriptor file = FileDescriptor::open(path, O_RDONLY);
  if (!file) {
    return fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo, "cannot read '{}': {}", path,
                std::strerror(errno));
  }
  return read_all(file.number(), "'" + path + "'");
}

Result<std::string> read_standard_input() { return read_all(STDIN_FILENO, "standard input"); }

std::string without_last_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

Result<std::optional<std::string>> LineReader::next() {
  while (true) {
    if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = without_last_newline(buffer_.substr(0, end + 1));
      buffer_.erase(0, end + 1);
      return line;
    }
    if (at_end_) {
      if (buffer_.empty()) return std::nullopt;
      return std::exchange(buffer_, {});
    }
    ODMOE_ASSIGN_OR_RETURN(const bool more, read_some(STDIN_FILENO, "standard input", buffer_));
    at_end_ = !more;
  }
}

}  // namespace odmoe::cli
