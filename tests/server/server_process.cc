#include "server/server_process.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "deadline.h"

namespace odmoe::testing {
namespace {

constexpr int kDeadlineMs = std::chrono::milliseconds(kDeadline).count();

}  // namespace

ServerProcess::ServerProcess(std::vector<std::string> options, bool wait_until_ready,
                             const std::string& model) {
  std::vector<std::string> arguments = {ODMOE_PROGRAM, "serve", model};
  for (const auto& [option, value] : std::initializer_list<std::pair<const char*, const char*>>{
           {"--port", "0"}, {"--memory", "50%"}, {"--context", "512"}, {"--threads", "1"}}) {
    if (!std::ranges::contains(options, option)) arguments.insert(arguments.end(), {option, value});
  }
  arguments.insert(arguments.end(), options.begin(), options.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) std::abort();
  child_ = fork();
  if (child_ == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(ends[1]);
  output_ = FileDescriptor(ends[0]);
  if (!wait_until_ready || !wait_for("ready: ")) return;
  const size_t at = said_.find("http://127.0.0.1:");
  if (at != std::string::npos) port_ = std::atoi(said_.c_str() + at + 17);
}

ServerProcess::~ServerProcess() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
}

void ServerProcess::signal(int number) const { kill(child_, number); }

bool ServerProcess::read_more() {
  std::array<char, 4096> buffer{};
  pollfd wait{output_.number(), POLLIN, 0};
  if (poll(&wait, 1, kDeadlineMs) == 0) {
    ADD_FAILURE() << "the server has said no more than: " << said_;
    kill(child_, SIGKILL);
  }
  ssize_t n = 0;
  do {
    n = read(output_.number(), buffer.data(), buffer.size());
  } while (n < 0 && errno == EINTR);
  if (n <= 0) return false;
  said_.append(buffer.data(), static_cast<size_t>(n));
  return true;
}

bool ServerProcess::wait_for(std::string_view text) {
  while (said_.find(text) == std::string::npos) {
    if (!read_more()) return false;
  }
  return true;
}

int ServerProcess::wait() {
  while (read_more()) {
  }
  int status = 0;
  waitpid(std::exchange(child_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Connection::Connection(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_.number(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    socket_.close();
    return;
  }
  set_deadline(socket_.number());
}

bool Connection::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket_.number(), bytes.data(), bytes.size(), 0);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void Connection::half_close() const { ::shutdown(socket_.number(), SHUT_WR); }

std::string Connection::read_some() const {
  std::array<char, 8192> buffer{};
  const ssize_t n = ::recv(socket_.number(), buffer.data(), buffer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) ADD_FAILURE() << "nothing came, and no end";
  return {buffer.data(), n > 0 ? static_cast<size_t>(n) : 0};
}

std::string Connection::read_all() const {
  std::string all;
  for (std::string some = read_some(); !some.empty(); some = read_some()) all += some;
  return all;
}

}  // namespace odmoe::testing
