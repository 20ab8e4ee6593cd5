// One file from a server, in several ranges at once, into a file that grows from its beginning.
//
// Ranges arrive in any order, but the file always is a beginning of the whole: what an interrupted download
// leaves is its length, which is also how huggingface_hub goes on.  What arrives early waits in memory, and
// no range is asked for that is too far ahead.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/clock.h"
#include "hub/http.h"
#include "hub/hub_client.h"
#include "hub/patience.h"
#include "hub/watcher.h"
#include "odmoe/result.h"

namespace odmoe::hub {

// Where the bytes go.
class Blob {
 public:
  virtual ~Blob() = default;
  virtual uint64_t bytes() const = 0;  // that are there
  virtual Status append(std::span<const std::byte> bytes) = 0;
};

struct DownloadOptions {
  int connections = 8;
  uint64_t range_bytes = uint64_t{8} << 20U;
  // Ranges ahead of the first that is not complete, for each connection: they bound the memory.
  static constexpr int kWindow = 2;
  PatienceLimits patience = {};
  const Clock* clock = &SteadyClock::instance();
};

struct RemoteFile {
  std::string name;  // for messages
  uint64_t bytes = 0;
  std::string content_id;
  // Asks where it is: at the beginning, and again when what was told does not hold any more.
  std::function<Result<Location>()> locate;
};

// Until `blob` has all of the file.  What fails in a way that may pass is tried again, for as long as
// something comes in between.  `arrived` is told how many bytes have come, those in memory too.  Errors:
// those of the blob and of `locate`; kIo (nothing comes any more, or the server refuses), kBadFile (what
// comes is not what was promised), kInterrupted.  In each case the blob has all that came in order.
Status download(const RemoteFile& file, Http& http, Blob& blob, PullWatcher& watcher,
                const DownloadOptions& options, const std::function<void(uint64_t bytes)>& arrived);

}  // namespace odmoe::hub
