// What is asked of the hub: which files a repository has, and where the bytes of one are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hub/http.h"
#include "hub/listing.h"
#include "hub/names.h"
#include "hub/patience.h"
#include "hub/watcher.h"
#include "odmoe/result.h"

namespace odmoe::hub {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";
  std::string token;  // empty: none
  PatienceLimits patience = {};
};

// Where bytes are, for as long as the URL holds (a CDN's does for an hour or so).
struct Location {
  std::string url;
  std::string token;       // that goes with it: the hub's own hosts alone see one
  uint64_t bytes = 0;      // of the file
  std::string content_id;  // as ListedFile's; empty: not told
};

// One owner.  Requests that fail in a way that may pass are tried again; waits are told to the watcher.
// Errors, each one line with what to do: kNotFound (no such repository, revision or file; no access), kIo
// (cannot be reached, fails, asks to wait for too long), kBadFile (what it says makes no sense),
// kInterrupted.
class HubClient {
 public:
  // All three have to live as long as this.
  HubClient(const HubOptions& options, Http& http, PullWatcher& watcher)
      : options_(&options), http_(&http), watcher_(&watcher) {}

  Result<Listing> list(const RepoName& name);
  Result<Location> locate(const RepoName& name, std::string_view commit, std::string_view path);

 private:
  struct Answer {
    HttpHead head;
    std::string body, url;  // where it came from, redirects within the hub being followed
  };
  Result<Answer> ask(const RepoName& name, std::string url, bool head);
  Result<Answer> refused(const RepoName& name, const HttpHead& head, const std::string& url) const;

  const HubOptions* options_;
  Http* http_;
  PullWatcher* watcher_;
};

}  // namespace odmoe::hub
