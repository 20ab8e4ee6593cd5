// The HTTP server's sockets: every connection has limits in time and number.
//
// The library reads and parses; what it reads from is ours, since its own time limits start anew with every
// byte, so that a client sending one now and then would hold a thread for hours.
#pragma once

#include <httplib.h>

#include <atomic>
#include <cstddef>

namespace odmoe::server {

// Thread-safe as httplib::Server is.
class Listener : public httplib::Server {
 public:
  // At most so many connections are served at once; a few more are told that there are too many.
  explicit Listener(size_t max_connections);

  // Listens on `port`, 0: any that is free.  The port, -1 when it cannot.
  int bind(const std::string& host, int port);

  size_t connections() const { return connections_; }

 private:
  bool process_and_close_socket(socket_t socket) override;
  bool serve(socket_t socket);

  const size_t max_connections_;
  std::atomic<size_t> connections_ = 0;
};

}  // namespace odmoe::server
