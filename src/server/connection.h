// One client's connection: requests are read from it, answers written to it, both with limits in time.
//
// The library answers; what it reads is ours.  It is given heads that were read to the letter (http_head.h)
// and no bodies: those are asked for by whoever wants them, so that it neither limits nor parses them.
#pragma once

#include <httplib.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "server/api_error.h"
#include "server/body.h"
#include "server/chunked_body.h"
#include "server/http_head.h"
#include "server/limits.h"

namespace odmoe::server {

struct ConnectionLimits {
  size_t connections = 64;  // served at once; those beyond are told that there are too many
  std::chrono::milliseconds grace = kRequestGrace;
  std::chrono::milliseconds write_timeout = kWriteTimeout;
  std::chrono::milliseconds keep_alive = kKeepAlive;
  std::chrono::milliseconds linger = kLinger;
};

// What a client gets to know of an error.
using ErrorWords = std::function<Body(const ApiError& error)>;

// One owner: the thread that serves it.  Borrows the socket, which must not block.
class Connection final : public httplib::Stream {
 public:
  using Clock = std::chrono::steady_clock;
  // Gives the path that the library is to see for that of a request; none: the same.
  using Paths = std::function<std::string(std::string_view path)>;
  // Told when reading begins (true) and when it ends (false).  False from it: there is no time left to read.
  using Reading = std::function<bool(bool begins)>;

  Connection(socket_t socket, const ConnectionLimits& limits, Reading reading);

  // Waits for the next request's first byte; false when none came before the limit or the client left.
  bool wait_for_request(Clock::time_point limit);
  // Reads its head, for the library to read it again.  Nothing when the client left within it.
  ApiResult<bool> read_head(const Paths& paths);
  const HttpHead& head() const { return head_; }

  // Asked for so much more memory before it is used; may wait.  An error from it is the answer.
  using TakeMemory = std::function<ApiStatus(uint64_t bytes)>;
  // The whole body of the request, for the thread that answers it.  Its memory is asked for as it comes: no
  // client has any for what it only announces.
  ApiResult<std::string> read_body(size_t max_bytes, const TakeMemory& take);
  // The same of a body that is not kept: given on as it comes.  An error from it is the answer.
  using TakePiece = std::function<ApiStatus(std::string_view piece)>;
  ApiStatus read_body_in_pieces(size_t max_bytes, const TakePiece& take);
  // Whether the next request can be read once this one is answered: all that is left of it is little, and
  // comes without being asked for.
  bool can_go_on() const;
  // Reads past what is left of it; false when it did not come.
  bool skip_rest();
  // Whether bytes of the client may have been left unread.
  bool unread() const;

  // Writes an answer to a request that the library never saw.
  bool answer(const ApiError& error, const ErrorWords& words);
  // Ends the sending side, and reads what still comes until the client closes or the limit.
  void linger();

  // As the library sees it.
  bool is_readable() const override { return given_ < for_library_.size(); }
  bool wait_readable() const override { return is_readable(); }
  bool wait_writable() const override;
  ssize_t read(char* data, size_t size) override;
  // All of it or nothing: a client that takes none of it for the limit is gone.
  ssize_t write(const char* data, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }
  time_t duration() const override { return 0; }
  bool sound() const { return !broken_; }  // all that was written went through

 private:
  bool fill(Clock::time_point limit);
  Clock::time_point read_limit() const;
  std::string_view buffered() const { return {buffer_.data() + begin_, end_ - begin_}; }
  ApiStatus take_body(std::string& data, size_t max_bytes);
  ApiStatus at_no_cost(const std::function<ApiStatus()>& work);
  ApiStatus read_body_into(std::string& data, size_t max_bytes, const std::function<ApiStatus()>& before,
                           const std::function<ApiStatus()>& after);
  bool body_done() const;
  void ask_for_body();

  const socket_t socket_;
  const ConnectionLimits limits_;
  const Reading reading_;
  Clock::time_point started_ = Clock::now();
  uint64_t received_ = 0;  // of this request
  HttpHead head_;
  std::string for_library_;  // the head as it reads it
  size_t given_ = 0;
  uint64_t length_left_ = 0;
  ChunkedBody chunks_;
  bool body_failed_ = false, asked_for_body_ = false, at_end_ = false;
  mutable bool broken_ = false;
  std::array<char, 16 * 1024> buffer_{};
  size_t begin_ = 0, end_ = 0;  // what of buffer_ has not been read
};

// An answer that is not part of the library's: the error, and that the connection ends.
std::string error_answer(const ApiError& error, const ErrorWords& words);

}  // namespace odmoe::server
