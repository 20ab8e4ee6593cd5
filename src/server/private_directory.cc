#include "server/private_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "odmoe/format.h"

namespace odmoe::server {

Status prepare_private_directory(std::string_view option, const std::filesystem::path& directory) {
  const auto refuse = [&](std::string_view why) -> Status {
    return fail(ErrorKind::kUsage, "{} {}: {}", option, directory.string(), why);
  };
  constexpr mode_t kOthers = S_IRWXG | S_IRWXO;
  constexpr std::string_view kRemedy = "; name a directory in which files can be made";
  // "DIR/" names the same directory as "DIR".
  const std::filesystem::path path = directory.has_filename() ? directory : directory.parent_path();
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  // Open to nobody else from its first moment, and whatever the umask also to us.
  if (::mkdir(path.c_str(), S_IRWXU) == 0) {
    (void)::chmod(path.c_str(), S_IRWXU);
  } else if (errno != EEXIST) {
    return refuse(std::generic_category().message(errno) + std::string(kRemedy));
  }
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    return refuse("it is not a directory" + std::string(kRemedy));
  }
  if (status.st_uid != geteuid()) {
    return refuse("it belongs to another user, who could read the texts kept there; choose another");
  }
  if ((status.st_mode & kOthers) != 0) {
    return refuse(
        odmoe::format("other users can get at it (mode {:04o}), and texts are kept there; "
                      "chmod 700 it or choose another",
                      status.st_mode & 07777U));
  }
  if (access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
    return refuse("it cannot be written to" + std::string(kRemedy));
  }
  return {};
}

}  // namespace odmoe::server
