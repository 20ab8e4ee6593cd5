// The HTTP server's sockets: who is let in, and that whoever is let in is answered.
//
// A connection has a thread of its own as long as it lasts, so that none waits for another.  When there are
// as many as may be, one that waits for its next request gives way to a new one; where all are busy, the new
// one is told so at once.
//
//   waiting    for the first byte of a request; ends when told to, or gives way
//   reading    the request's head or its body; ends when told to
//   answering  has all of it; when the server ends it may go on for a while
//   lingering  answered before all was read (connection.h); ends when told to, or gives way
#pragma once

#include <httplib.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "base/mutex.h"
#include "server/api_error.h"
#include "server/connection.h"

namespace odmoe::server {

// 503, for a connection that is one too many.
ApiError too_many_connections();

// Thread-safe, but for what sets it up, which is done before start().
class Listener : public httplib::Server {
 public:
  // A request that was answered without the library: nobody could read it, or it was one too many.
  using Refused = std::function<void(const std::string& client, const ApiError& error)>;

  // `words`: what is sent of an error where no route says in whose words; from any thread.
  Listener(const ConnectionLimits& limits, ErrorWords words);
  ~Listener() override;  // stop()

  // What the library is to take a path for.  None: as it is.
  void set_paths(Connection::Paths paths) { paths_ = std::move(paths); }
  void set_refused(Refused refused) { refused_ = std::move(refused); }

  // Listens on `port`, 0: any that is free.  The port, -1 when it cannot.
  int bind(const std::string& host, int port);
  // Lets clients in, from now to stop().
  void start();
  // Lets nobody in.  Connections that answer have so long to end; those that do not end at once.  Returns
  // when all have ended, which their handlers must see to once is_connection_closed().
  void stop(std::chrono::milliseconds limit);

  // Of the thread that answers: the request's whole body, or as it comes; and whether this connection is one
  // too many, so that the answer can only be 503.
  static ApiResult<std::string> read_body(size_t max_bytes, const Connection::TakeMemory& take);
  static ApiStatus read_body_in_pieces(size_t max_bytes, const Connection::TakePiece& take);
  static bool one_too_many();
  // Answers with what `provider` writes until it is done, in chunks where the client knows them.
  static void stream(const httplib::Request& request, httplib::Response& response, const std::string& type,
                     httplib::ContentProviderWithoutLength provider,
                     httplib::ContentProviderResourceReleaser release);

  size_t connections() const;  // served now

 private:
  enum class State { kWaiting, kReading, kAnswering, kLingering };
  struct Client {
    FileDescriptor socket;
    bool refused;  // one too many; of its thread once that runs, which changes it with mutex_
    State state = State::kWaiting;
    Connection::Clock::time_point since;  // in that state
    uint64_t answered = 0;
    bool told_to_end = false;
    std::thread thread;
  };
  // Refused without being read, and not yet gone.
  struct Parting {
    FileDescriptor socket;
    Connection::Clock::time_point until;
  };

  bool process_and_close_socket(socket_t) override { return false; }  // the library accepts none
  void accept_clients();
  bool accept_one();
  void let_in(FileDescriptor socket);
  void refuse_unread(FileDescriptor socket);
  void see_off();
  bool give_way() ODMOE_REQUIRES(mutex_);
  void reap() ODMOE_EXCLUDES(mutex_);
  size_t served() const ODMOE_REQUIRES(mutex_);
  bool is_stopping() const;
  void run(Client& client);
  void find_room(Client& client);
  void serve(Connection& connection, Client& client);
  bool set_state(Client& client, State state);
  void wake() const;

  const ConnectionLimits limits_;
  const ErrorWords words_;
  Connection::Paths paths_;
  Refused refused_;
  std::thread accepting_;
  std::array<FileDescriptor, 2> bell_;  // a pipe that wakes the thread that accepts
  // Of that thread:
  FileDescriptor spare_;  // a descriptor given up to tell a client that there are none left
  bool scarce_ = false;
  std::vector<Parting> parting_;

  mutable Mutex mutex_;
  Condition changed_;
  std::list<Client> clients_ ODMOE_GUARDED_BY(mutex_);
  std::vector<std::thread> ended_ ODMOE_GUARDED_BY(mutex_);  // to be joined
  bool stopping_ ODMOE_GUARDED_BY(mutex_) = false;
};

}  // namespace odmoe::server
