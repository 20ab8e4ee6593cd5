// The HTTP server's sockets: every connection has limits in time and number.
//
// The library reads and parses; what it reads from is ours, since its own time limits start anew with every
// byte, so that a client sending one now and then would hold a thread for hours.
#pragma once

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>

#include "server/limits.h"

namespace odmoe::server {

struct ConnectionLimits {
  size_t connections = 64;  // served at once; a few more are told that there are too many
  std::chrono::milliseconds grace = kRequestGrace;
  std::chrono::milliseconds write_timeout = kWriteTimeout;
};

// Thread-safe as httplib::Server is.
class Listener : public httplib::Server {
 public:
  explicit Listener(const ConnectionLimits& limits);

  // Listens on `port`, 0: any that is free.  The port, -1 when it cannot.
  int bind(const std::string& host, int port);

  // Of the thread that answers: the connection ends with this answer, since not all of its request was read.
  static void close_after_answer();

  size_t connections() const { return connections_; }

 private:
  bool process_and_close_socket(socket_t socket) override;
  bool serve(socket_t socket);

  const ConnectionLimits limits_;
  std::atomic<size_t> connections_ = 0;
};

}  // namespace odmoe::server
