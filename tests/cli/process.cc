#include "cli/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <util.h>
#else
#include <pty.h>
#endif

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "deadline.h"

namespace odmoe::testing {
namespace {

constexpr int kDeadlineMs = std::chrono::milliseconds(kDeadline).count();

[[noreturn]] void execute(const std::vector<std::string>& arguments) {
  std::string program = ODMOE_PROGRAM;
  std::vector<char*> argv{program.data()};
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  std::perror(program.c_str());
  _exit(127);
}

int wait_for_exit(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void need(bool fine, const char* what) {
  if (fine) return;
  std::perror(what);
  std::abort();
}

// Ends that the program does not inherit.  macOS has no pipe2(); the tests start programs from one thread, so
// that none is started in between.
struct Pipe {
  FileDescriptor reader, writer;
  Pipe() {
    std::array<int, 2> ends{};
    need(pipe(ends.data()) == 0, "pipe");
    for (const int end : ends) need(fcntl(end, F_SETFD, FD_CLOEXEC) == 0, "fcntl");
    reader = FileDescriptor(ends[0]);
    writer = FileDescriptor(ends[1]);
  }
};

}  // namespace

Outcome odmoe(const std::vector<std::string>& arguments, const Setting& setting) {
  Pipe in, out, err;
  const pid_t child = fork();
  need(child >= 0, "fork");
  if (child == 0) {
    dup2(in.reader.number(), STDIN_FILENO);
    dup2(out.writer.number(), STDOUT_FILENO);
    dup2(err.writer.number(), STDERR_FILENO);
    if (!setting.output_file.empty()) {
      const int file = ::open(setting.output_file.c_str(), O_WRONLY);
      need(file >= 0, setting.output_file.c_str());
      dup2(file, STDOUT_FILENO);
    }
    for (const int descriptor : setting.closed) close(descriptor);
    execute(arguments);
  }
  in.reader.close();
  out.writer.close();
  err.writer.close();
  if (setting.close_output) out.reader.close();

  Outcome outcome;
  std::string_view input = setting.input;
  if (input.empty()) in.writer.close();
  std::signal(SIGPIPE, SIG_IGN);  // the program may end without reading its input
  while (out.reader || err.reader) {
    std::array<pollfd, 3> waits{pollfd{out.reader.number(), POLLIN, 0},
                                pollfd{err.reader.number(), POLLIN, 0},
                                pollfd{in.writer.number(), POLLOUT, 0}};
    const int n_ready = poll(waits.data(), waits.size(), kDeadlineMs);
    if (n_ready < 0) continue;
    if (n_ready == 0) {
      ADD_FAILURE() << "the program says nothing more than: " << outcome.out << outcome.err;
      kill(child, SIGKILL);
    }
    for (size_t i = 0; i < 2; ++i) {
      if (waits[i].revents == 0) continue;
      std::array<char, 4096> block;
      const ssize_t got = read(waits[i].fd, block.data(), block.size());
      if (got <= 0) {
        (i == 0 ? out : err).reader.close();
        continue;
      }
      (i == 0 ? outcome.out : outcome.err).append(block.data(), static_cast<size_t>(got));
      if (i == 0 && setting.watch) setting.watch(child, outcome.out);
    }
    if (waits[2].revents != 0) {
      const ssize_t put = write(in.writer.number(), input.data(), input.size());
      input.remove_prefix(put > 0 ? static_cast<size_t>(put) : input.size());
      if (input.empty()) in.writer.close();
    }
  }
  in.writer.close();
  outcome.exit_code = wait_for_exit(child);
  return outcome;
}

Terminal::Terminal(const std::vector<std::string>& arguments) {
  int terminal = -1;
  child_ = forkpty(&terminal, nullptr, nullptr, nullptr);
  need(child_ >= 0, "forkpty");
  terminal_ = FileDescriptor(terminal);
  if (child_ == 0) execute(arguments);
}

Terminal::~Terminal() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    wait_for_exit(child_);
  }
}

void Terminal::type(std::string_view keys) const {
  need(write(terminal_.number(), keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()), "write");
}

bool Terminal::read_more() {
  pollfd wait{terminal_.number(), POLLIN, 0};
  if (poll(&wait, 1, kDeadlineMs) == 0) {
    ADD_FAILURE() << "the program shows nothing more than: " << screen_;
    kill(child_, SIGKILL);
  }
  std::array<char, 4096> block;
  const ssize_t got = read(terminal_.number(), block.data(), block.size());
  if (got <= 0) return false;  // a terminal whose program has ended says EIO
  screen_.append(block.data(), static_cast<size_t>(got));
  return true;
}

bool Terminal::wait_for(std::string_view text) {
  size_t at;
  while ((at = screen_.find(text, seen_)) == std::string::npos) {
    if (!read_more()) return false;
  }
  seen_ = at + text.size();
  return true;
}

bool Terminal::wait_for_more(size_t characters) {
  while (screen_.size() < seen_ + characters) {
    if (!read_more()) return false;
  }
  seen_ = screen_.size();
  return true;
}

int Terminal::finish() {
  while (read_more()) {
  }
  const int code = wait_for_exit(child_);
  child_ = -1;
  return code;
}

}  // namespace odmoe::testing
