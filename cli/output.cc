#include "cli/output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "cli/command.h"

namespace odmoe::cli {

Output Output::standard_output() { return {STDOUT_FILENO, "standard output"}; }
Output Output::standard_error() { return {STDERR_FILENO, "standard error"}; }

Result<Output> Output::create(const std::string& path) {
  FileDescriptor file = FileDescriptor::open(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file) return fail(ErrorKind::kIo, "cannot write '{}': {}", path, std::strerror(errno));
  Output output(file.number(), "'" + path + "'");
  output.owned_ = std::move(file);
  return output;
}

Status Output::write(std::string_view bytes) {
  while (status_.has_value() && !bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      // Somebody we share it with has made it one that does not wait: we do.
      pollfd room{.fd = descriptor_, .events = POLLOUT, .revents = 0};
      (void)::poll(&room, 1, -1);
    } else if (errno != EINTR) {
      reader_gone_ = errno == EPIPE;
      status_ = fail(ErrorKind::kIo, "cannot write to {}: {}", name_,
                     errno == EBADF ? "it is closed" : std::strerror(errno));
    }
  }
  return status_;
}

Status Output::close() {
  if (!owned_.close() && status_.has_value()) {
    status_ = fail(ErrorKind::kIo, "cannot write to {}: {}", name_, std::strerror(errno));
  }
  return status_;
}

Result<int> Output::exit_code() const {
  if (reader_gone_) return kExitReaderGone;
  return status_.transform([] { return kExitOk; });
}

bool Output::is_terminal() const { return ::isatty(descriptor_) == 1; }

void say(std::string_view line) {
  (void)Output::standard_error().write("odmoe: " + std::string(line) + "\n");
}

}  // namespace odmoe::cli
