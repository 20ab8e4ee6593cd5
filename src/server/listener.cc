#include "server/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "server/event_log.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

using Clock = Connection::Clock;

// What the thread answers.
struct Exchange {
  Connection* connection;
  bool last;          // no further request on this connection
  bool one_too_many;  // it is not to be served
  bool goes_on = false;
};
thread_local Exchange* exchange = nullptr;

void close_on_exec(int descriptor) { fcntl(descriptor, F_SETFD, FD_CLOEXEC); }
void never_block(int descriptor) { fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK); }

FileDescriptor open_spare() { return FileDescriptor::open("/dev/null", O_RDONLY); }

// As many descriptors as the connections need, as far as the system lets a process have them.
void allow_descriptors(size_t connections) {
  constexpr size_t kOthers = 256;  // of models, drives and prompts
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = std::min<rlim_t>(connections + kOthers, limit.rlim_max);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

ApiError too_many_connections() {
  return {.status = 503,
          .fault = Fault::kServer,
          .message =
              "there are too many connections: try again, or start the server with a larger "
              "--max-connections",
          .code = "too_many_connections",
          .retry_after_s = 1};
}

Listener::Listener(const ConnectionLimits& limits, ErrorWords words)
    : limits_(limits), words_(std::move(words)) {
  // The library closes after every error, and says so; here that depends on what was read of the request.
  set_post_routing_handler([this](const httplib::Request&, httplib::Response& response) {
    response.headers.erase("Connection");
    response.headers.erase("Keep-Alive");
    exchange->goes_on = !exchange->last && !is_stopping() && exchange->connection->can_go_on();
    if (!exchange->goes_on) {
      response.set_header("Connection", "close");
    } else {
      const auto patience = std::chrono::duration_cast<std::chrono::seconds>(limits_.keep_alive);
      response.set_header("Keep-Alive", odmoe::format("timeout={}", patience.count()));
    }
  });
}

Listener::~Listener() { stop(std::chrono::milliseconds(0)); }

int Listener::bind(const std::string& host, int port) {
  // The library lets many processes share a port, and then half of the requests go to the other server.
  set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
  if (port == 0) {
    port = bind_to_any_port(host);
  } else if (!bind_to_port(host, port)) {
    return -1;
  }
  if (port <= 0) return port;
  // The library's backlog of 5 loses connections that come together.
  ::listen(svr_sock_, kListenBacklog);
  never_block(svr_sock_);
  return port;
}

void Listener::start() {
  allow_descriptors(limits_.connections);
  if (std::array<int, 2> ends{}; pipe(ends.data()) == 0) {
    for (const int end : ends) {
      close_on_exec(end);
      never_block(end);
    }
    bell_ = {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
  }
  spare_ = open_spare();
  accepting_ = std::thread([this] { accept_clients(); });
}

void Listener::wake() const {
  const char ring = 0;
  (void)!::write(bell_[1].number(), &ring, 1);
}

void Listener::stop(std::chrono::milliseconds limit) {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    for (Client& client : clients_) {
      if (client.state != State::kAnswering) ::shutdown(client.socket.number(), SHUT_RD);
    }
  }
  wake();
  if (accepting_.joinable()) accepting_.join();
  const socket_t listening = svr_sock_;
  if (listening != INVALID_SOCKET) ::close(listening);
  {
    const auto end = Clock::now() + limit;
    const MutexLock lock(mutex_);
    while (!clients_.empty() && changed_.wait_until(mutex_, end)) {
    }
    // What still answers sees that its client is gone.  The library ends its streams when it has no socket.
    svr_sock_ = INVALID_SOCKET;
    for (Client& client : clients_) ::shutdown(client.socket.number(), SHUT_RDWR);
    while (!clients_.empty()) changed_.wait(mutex_);
  }
  reap();
}

size_t Listener::served() const {
  return static_cast<size_t>(std::ranges::count_if(
      clients_, [](const Client& client) { return !client.refused && !client.told_to_end; }));
}

size_t Listener::connections() const {
  const MutexLock lock(mutex_);
  return served();
}

bool Listener::is_stopping() const {
  const MutexLock lock(mutex_);
  return stopping_;
}

void Listener::reap() {
  std::vector<std::thread> ended;
  {
    const MutexLock lock(mutex_);
    ended.swap(ended_);
  }
  for (std::thread& thread : ended) thread.join();
}

void Listener::accept_clients() {
  bool paused = false;
  std::vector<pollfd> entries;
  while (true) {
    entries = {{.fd = bell_[0].number(), .events = POLLIN, .revents = 0}};
    // While there are no descriptors the socket stays readable, and only time and those who leave help.
    entries.push_back({.fd = paused ? -1 : svr_sock_.load(), .events = POLLIN, .revents = 0});
    for (const Parting& client : parting_)
      entries.push_back({.fd = client.socket.number(), .events = POLLIN, .revents = 0});
    const int patience = static_cast<int>(kAcceptPause.count());
    const int ready = poll(entries.data(), entries.size(), paused || !parting_.empty() ? patience : -1);
    if (ready > 0 && entries[0].revents != 0) {
      std::array<char, 64> rings{};
      (void)!::read(bell_[0].number(), rings.data(), rings.size());
    }
    see_off();
    reap();
    if (is_stopping()) break;
    if (paused || (ready > 0 && entries[1].revents != 0)) paused = !accept_one();
  }
  parting_.clear();
}

// False: there is nothing left to accept with.
bool Listener::accept_one() {
  FileDescriptor socket(::accept(svr_sock_, nullptr, nullptr));
  if (socket) {
    scarce_ = false;
    let_in(std::move(socket));
    return true;
  }
  if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) {
    return true;  // whoever it was is gone, or nobody was there
  }
  // At first it waits for those who are just leaving.
  if (!std::exchange(scarce_, true)) {
    log_event(spdlog::level::warn, "cannot_accept", {{"why", std::strerror(errno)}});
    return false;
  }
  {
    const MutexLock lock(mutex_);
    if (give_way()) return false;
  }
  // Without one that can give way the client is told, by means of the descriptor kept for it.
  spare_.close();
  socket = FileDescriptor(::accept(svr_sock_, nullptr, nullptr));
  const bool told = socket.number() >= 0;
  if (told) {
    const std::string answer = error_answer(too_many_connections(), words_);
    (void)!::send(socket.number(), answer.data(), answer.size(), MSG_DONTWAIT);
    // There is no descriptor to wait with for what is still on its way.
    std::array<char, 4096> unread{};
    while (::recv(socket.number(), unread.data(), unread.size(), MSG_DONTWAIT) > 0) {
    }
    socket.close();
  }
  spare_ = open_spare();
  return told;
}

// Ends the connection that waits longest, those first that had an answer.  A request that comes at this very
// moment is not answered, as with any server that closes an idle connection: clients ask again.
bool Listener::give_way() {
  Client* best = nullptr;
  const Clock::time_point now = Clock::now();
  for (Client& client : clients_) {
    if (client.refused || client.told_to_end) continue;
    const bool idle =
        client.state == State::kLingering ||
        (client.state == State::kWaiting && (client.answered > 0 || now - client.since >= kSilence));
    if (!idle) continue;
    const auto rank = [](const Client& of) { return std::pair(of.answered == 0, of.since); };
    if (best == nullptr || rank(client) < rank(*best)) best = &client;
  }
  if (best == nullptr) return false;
  best->told_to_end = true;
  ::shutdown(best->socket.number(), SHUT_RD);
  return true;
}

void Listener::let_in(FileDescriptor socket) {
  close_on_exec(socket.number());
  never_block(socket.number());
  const int on = 1;
  setsockopt(socket.number(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // a token is a packet
  {
    MutexLock lock(mutex_);
    // Those that were there when the server stopped have been told; this one would be the last to know.
    if (stopping_) return;
    const bool refused = served() >= limits_.connections && !give_way();
    const size_t most = limits_.connections + kRefusalThreads;
    // Whoever gave way leaves at once, unless a request of its came just then.
    const auto end = Clock::now() + kGivingWay;
    while (!refused && clients_.size() >= most && changed_.wait_until(mutex_, end)) {
    }
    if (stopping_) return;
    if (clients_.size() < most) {
      Client& client = clients_.emplace_back(
          Client{.socket = std::move(socket), .refused = refused, .since = Clock::now(), .thread = {}});
      try {
        client.thread = std::thread([this, &client] { run(client); });
        return;
      } catch (const std::system_error& error) {
        log_event(spdlog::level::warn, "no_threads", {{"why", error.what()}});
        socket = std::move(client.socket);
        clients_.pop_back();
      }
    }
  }
  refuse_unread(std::move(socket));
}

// At once, by the thread that accepts: a short answer fits into any socket's buffer.
void Listener::refuse_unread(FileDescriptor socket) {
  never_block(socket.number());
  const ApiError error = too_many_connections();
  const std::string answer = error_answer(error, words_);
  (void)!::send(socket.number(), answer.data(), answer.size(), MSG_DONTWAIT);
  if (refused_) refused_("", error);
  ::shutdown(socket.number(), SHUT_WR);
  if (parting_.size() < kMaxParting) {
    parting_.push_back({.socket = std::move(socket), .until = Clock::now() + limits_.linger});
  }
}

// Reads what those that were refused unread still send, as Connection::linger() does.
void Listener::see_off() {
  std::array<char, 16 * 1024> unread{};
  std::erase_if(parting_, [&](const Parting& client) {
    const ssize_t n = ::recv(client.socket.number(), unread.data(), unread.size(), MSG_DONTWAIT);
    const bool waits = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    return (n <= 0 && !waits) || Clock::now() >= client.until;
  });
}

// False: the server or the connection ends, so that nothing more is to be read from it.
bool Listener::set_state(Client& client, State state) {
  const MutexLock lock(mutex_);
  client.state = state;
  client.since = Clock::now();
  if (state == State::kWaiting || state == State::kLingering) changed_.notify_all();
  if (state == State::kWaiting) ++client.answered;
  // What is not answering is told when the server stops; so is what begins to read after that.
  if (stopping_ && state != State::kAnswering) ::shutdown(client.socket.number(), SHUT_RD);
  return !stopping_ && !client.told_to_end;
}

// Whether one that was too many is so no more: an answer reaches its client a moment before its connection is
// idle.
void Listener::find_room(Client& client) {
  const auto end = Clock::now() + kGivingWay;
  const MutexLock lock(mutex_);
  while (!stopping_ && served() >= limits_.connections && !give_way()) {
    if (!changed_.wait_until(mutex_, end)) break;
  }
  client.refused = served() >= limits_.connections;
}

void Listener::run(Client& client) {
  if (client.refused) find_room(client);
  {
    ConnectionLimits limits = limits_;
    if (client.refused) limits.grace = limits.keep_alive = std::min(limits.grace, kRefusalGrace);
    Connection connection(client.socket.number(), limits, [&](bool begins) {
      return set_state(client, begins ? State::kReading : State::kAnswering);
    });
    serve(connection, client);
    if (connection.unread()) {
      set_state(client, State::kLingering);
      connection.linger();
    }
  }
  const MutexLock lock(mutex_);
  ::shutdown(client.socket.number(), SHUT_RDWR);
  ended_.push_back(std::move(client.thread));
  std::erase_if(clients_, [&](const Client& other) { return &other == &client; });
  changed_.notify_all();
  wake();
}

void Listener::serve(Connection& connection, Client& client) {
  std::string remote, local;
  int remote_port = 0, local_port = 0;
  connection.get_remote_ip_and_port(remote, remote_port);
  connection.get_local_ip_and_port(local, local_port);
  const auto refuse = [&](const ApiError& error) {
    if (refused_) refused_(remote, error);
    connection.answer(error, words_);
  };
  for (size_t left = client.refused ? 1 : kKeepAliveRequests; left > 0; --left) {
    if (!connection.wait_for_request(Clock::now() + (client.refused ? kRefusalGrace : limits_.keep_alive))) {
      if (client.refused) refuse(too_many_connections());
      return;
    }
    if (!set_state(client, State::kReading)) return;
    const auto head = connection.read_head(paths_);
    if (!head.has_value()) return refuse(client.refused ? too_many_connections() : head.error());
    if (!*head) return;
    const bool ends = !set_state(client, State::kAnswering);
    Exchange this_one{.connection = &connection,
                      .last = left == 1 || ends || connection.head().close,
                      .one_too_many = client.refused};
    exchange = &this_one;
    bool closed = false;
    const bool ok =
        process_request(connection, remote, remote_port, local, local_port, this_one.last, closed, nullptr);
    exchange = nullptr;
    if (!ok || !connection.sound() || !this_one.goes_on || !connection.skip_rest()) return;
    if (!set_state(client, State::kWaiting)) return;
  }
}

ApiResult<std::string> Listener::read_body(size_t max_bytes, const Connection::TakeMemory& take) {
  return exchange->connection->read_body(max_bytes, take);
}

ApiStatus Listener::read_body_in_pieces(size_t max_bytes, const Connection::TakePiece& take) {
  return exchange->connection->read_body_in_pieces(max_bytes, take);
}

bool Listener::one_too_many() { return exchange != nullptr && exchange->one_too_many; }

void Listener::stream(const httplib::Request& request, httplib::Response& response, const std::string& type,
                      httplib::ContentProviderWithoutLength provider,
                      httplib::ContentProviderResourceReleaser release) {
  if (request.version == "HTTP/1.0") {
    response.set_content_provider(type, std::move(provider), std::move(release));
  } else {
    response.set_chunked_content_provider(type, std::move(provider), std::move(release));
  }
}

}  // namespace odmoe::server
