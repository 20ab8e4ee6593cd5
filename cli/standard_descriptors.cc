#include "cli/standard_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace odmoe::cli {

void hold_standard_descriptors() {
  for (const int descriptor : std::array{STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest number that is free, which is this one.  Open the wrong way round, so that it cannot be
    // used; the root folder where there is no /dev: it can neither be read nor written.
    const int way = descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY;
    if (::open("/dev/null", way) < 0) (void)::open("/", O_RDONLY);
  }
}

}  // namespace odmoe::cli
