// A model from the hub into the hub's cache, or found there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "hub/download.h"
#include "hub/hub_client.h"
#include "hub/names.h"
#include "hub/watcher.h"
#include "odmoe/result.h"

namespace odmoe::hub {

struct PullOptions {
  HubOptions hub;
  std::filesystem::path cache;  // the root (cache.h)
  bool offline = false;         // nobody is asked
  DownloadOptions download;
  // Bytes that may still be written there; nothing where the system does not tell.
  std::function<std::optional<uint64_t>(const std::filesystem::path&)> free_bytes;
};

struct PulledModel {
  std::filesystem::path path;  // of the first file
  uint64_t bytes = 0;          // of all
  uint64_t downloaded = 0;     // of these, now
};

// What the cache has of `name`, without asking anybody: the model that is chosen (choice.h) among what is
// there of the revision.  Nothing where that is none or not whole; kUsage where it is several.
Result<std::optional<PulledModel>> find_in_cache(const RepoName& name, const std::filesystem::path& cache);

// The same, from the hub: what is not there yet is downloaded.  `api` and `data` are two connections, since
// the hub is asked while bytes come.  Errors: those of HubClient, choose() and download(); kIo where there is
// no room, kBadFile where a checksum is wrong (what came is removed); kInterrupted
// also where the watcher does not want it.
Result<PulledModel> pull(const RepoName& name, const PullOptions& options, Http& api, Http& data,
                         PullWatcher& watcher);

}  // namespace odmoe::hub
