#include "cli/output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "cli/command.h"

namespace odmoe::cli {

Output Output::standard_output() { return {STDOUT_FILENO, false, "standard output"}; }
Output Output::standard_error() { return {STDERR_FILENO, false, "standard error"}; }

Result<Output> Output::create(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return fail(ErrorKind::kIo, "cannot write '{}': {}", path, std::strerror(errno));
  return Output(descriptor, true, "'" + path + "'");
}

Output::Output(Output&& other) noexcept
    : descriptor_(other.descriptor_),
      owned_(std::exchange(other.owned_, false)),
      reader_gone_(other.reader_gone_),
      name_(std::move(other.name_)),
      status_(std::move(other.status_)) {}

Output::~Output() {
  if (owned_) ::close(descriptor_);
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
  if (std::exchange(owned_, false) && ::close(descriptor_) != 0 && status_.has_value()) {
    status_ = fail(ErrorKind::kIo, "cannot write to {}: {}", name_, std::strerror(errno));
  }
  return status_;
}

Result<int> Output::exit_code() const {
  if (reader_gone_) return kExitReaderGone;
  return status_.transform([] { return kExitOk; });
}

bool Output::is_terminal() const { return ::isatty(descriptor_) == 1; }

}  // namespace odmoe::cli
