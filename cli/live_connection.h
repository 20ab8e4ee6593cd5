// A connection to the live events of a server, for `odmoe top`.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "odmoe/result.h"
#include "server/live_client.h"

namespace odmoe::cli {

// One owner; stop() from any thread.
class LiveConnection {
 public:
  // "http://host:port", also with a path in front of the API's; without "http://" that is meant.  kUsage when
  // it is not such an address.
  static Result<LiveConnection> create(const std::string& url, const std::string& api_key);
  LiveConnection(LiveConnection&&) noexcept;
  LiveConnection& operator=(LiveConnection&&) = delete;
  ~LiveConnection();

  const std::string& url() const;

  // Listens, and calls `take` after each event, until that says false, which is not an error, or the server
  // ends the stream, or stop().  kIo: it cannot be reached or broke off; kUsage: what is there is not an
  // odmoe, or does not let us in, and asking again will not help.
  using Take = std::function<bool(const server::LiveView&)>;
  Status listen(const Take& take);
  // Ends listen() soon, and those to come.
  void stop();

 private:
  struct Impl;
  explicit LiveConnection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace odmoe::cli
