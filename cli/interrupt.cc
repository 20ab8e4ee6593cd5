#include "cli/interrupt.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

#include "cli/command.h"

namespace odmoe::cli::interrupt {
namespace {

std::atomic<bool> interrupted = false;
std::atomic<Engine*> watched = nullptr;
std::array<int, 2> bell = {-1, -1};  // a pipe that holds a byte while interrupted
static_assert(std::atomic<Engine*>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "the signal handler must not wait");

void tell() {
  if (Engine* engine = watched.load()) engine->interrupt();
  const int saved = errno;
  (void)!::write(bell[1], "!", 1);
  errno = saved;
}

void handle(int /*signal*/) {
  if (interrupted.exchange(true)) _exit(kExitInterrupted);
  tell();
}

void take(int signal) {
  struct sigaction action{};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void install() {
  struct sigaction old{};
  if (sigaction(SIGINT, nullptr, &old) == 0 && old.sa_handler == SIG_IGN) return;
  if (pipe(bell.data()) != 0) bell = {-1, -1};
  take(SIGINT);
}

void install_terminate() {
  if (bell[0] < 0 && pipe(bell.data()) != 0) bell = {-1, -1};  // SIGINT was ignored
  take(SIGTERM);
}

void watch(Engine* engine) {
  watched = engine;
  if (engine != nullptr && interrupted) engine->interrupt();
}

bool pending() { return interrupted; }

int descriptor() { return bell[0]; }

void ring() {
  if (!interrupted.exchange(true)) tell();
}

void clear() {
  char rung = 0;
  if (interrupted && bell[0] >= 0) (void)!read(bell[0], &rung, 1);
  interrupted = false;
  if (Engine* engine = watched.load()) engine->clear_interrupt();
}

}  // namespace odmoe::cli::interrupt
