// `odmoe serve` as a user runs it, on a free port.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"

namespace odmoe::testing {

// One owner; kills the server if it was not ended.  A server that says nothing that is waited for, or does
// not end, is a failure of the test and killed (deadline.h).
class ServerProcess {
 public:
  // Of the bundled model, unless another one is given.  Waits until it says that it is ready, unless it ends
  // before.
  explicit ServerProcess(std::vector<std::string> options, bool wait_until_ready = true,
                         const std::string& model = ODMOE_SOURCE_DIR "/models/demo.gguf");
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  int port() const { return port_; }
  pid_t pid() const { return child_; }
  const std::string& said() const { return said_; }  // on standard error, so far
  void signal(int number) const;
  // Until it has said this; false when it ended first.
  bool wait_for(std::string_view text);
  int wait();  // its exit code, 128 + the signal that ended it

 private:
  bool read_more();
  pid_t child_ = -1;
  FileDescriptor output_;  // its standard error
  int port_ = 0;
  std::string said_;
};

// A TCP connection to it.  Nothing that comes in time is a failure of the test (deadline.h).
class Connection {
 public:
  explicit Connection(int port);
  bool send(std::string_view bytes) const;
  void half_close() const;
  std::string read_some() const;  // empty: the other side closed
  std::string read_all() const;

 private:
  FileDescriptor socket_;
};

}  // namespace odmoe::testing
