// odmoe top: the live page in a terminal.
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <ftxui/screen/terminal.hpp>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/file_descriptor.h"
#include "base/mutex.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/live_connection.h"
#include "cli/output.h"
#include "cli/top_screen.h"

namespace odmoe::cli {
namespace {

struct TopOptions {
  std::string url = "http://127.0.0.1:8080";
  std::string api_key;
  bool once = false;
};

// The terminal as a canvas, for as long as this lives: a screen of its own, keys as they are pressed.
class Canvas {
 public:
  explicit Canvas(Output& output) : output_(&output) {
    if (tcgetattr(STDIN_FILENO, &before_) == 0) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
      changed_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    (void)output_->write("\033[?1049h\033[?25l");
  }
  ~Canvas() {
    (void)output_->write("\033[?25h\033[?1049l");
    if (changed_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Canvas(const Canvas&) = delete;
  Canvas& operator=(const Canvas&) = delete;
  bool reads_keys() const { return changed_; }

 private:
  Output* output_;
  termios before_{};
  bool changed_ = false;
};

// Listens in a thread of its own, again and again, and keeps what was told last.
class Background {
 public:
  explicit Background(LiveConnection connection) : connection_(std::move(connection)) {
    std::array<int, 2> ends{};
    if (pipe(ends.data()) == 0) bell_ = {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
    thread_ = std::thread([this] { run(); });
  }
  ~Background() {
    {
      const MutexLock lock(mutex_);
      stop_ = true;
    }
    stopping_.notify_all();
    connection_.stop();
    thread_.join();
  }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  int descriptor() const { return bell_[0].number(); }  // readable when there is something new
  void quiet() const {
    std::array<char, 64> rung{};
    (void)!::read(bell_[0].number(), rung.data(), rung.size());
  }
  std::string screen(int columns, int rows) {
    const MutexLock lock(mutex_);
    return top_screen(view_, connection_.url(), status_, columns, rows);
  }
  // Why it makes no sense to go on.
  std::optional<Error> fatal() {
    const MutexLock lock(mutex_);
    return fatal_;
  }

 private:
  void ring() const { (void)!::write(bell_[1].number(), "!", 1); }

  void run() {
    bool reached = false;
    while (true) {
      const Status status = connection_.listen([&](const server::LiveView& view) {
        reached = true;
        const MutexLock lock(mutex_);
        view_ = view;
        status_ = view.loading() ? "the model is loading" : "";
        ring();
        return !stop_;
      });
      MutexLock lock(mutex_);
      if (stop_) return;
      if (!status.has_value()) {
        // Once it was there it may come back, unless it is another one now.
        if (!reached || status.error().kind == ErrorKind::kUsage) fatal_ = status.error();
        status_ = status.error().message + "; trying again";
      }
      ring();
      if (fatal_) return;
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
      while (!stop_ && stopping_.wait_until(mutex_, end)) {
      }
    }
  }

  LiveConnection connection_;
  std::array<FileDescriptor, 2> bell_;  // a pipe, or none
  Mutex mutex_;
  Condition stopping_;
  server::LiveView view_ ODMOE_GUARDED_BY(mutex_);
  std::string status_ ODMOE_GUARDED_BY(mutex_) = "connecting";
  std::optional<Error> fatal_ ODMOE_GUARDED_BY(mutex_);
  bool stop_ ODMOE_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// Whether a key was pressed that ends it: q, Escape, Ctrl-C, Ctrl-D, or that there are no more keys.
bool asked_to_quit() {
  std::array<char, 64> keys{};
  const ssize_t n = read(STDIN_FILENO, keys.data(), keys.size());
  if (n <= 0) return true;
  if (n == 1 && keys[0] == '\033') return true;  // alone, or else it begins the name of another key
  return keys[0] == 'q' || keys[0] == 'Q' || keys[0] == '\003' || keys[0] == '\004';
}

Result<int> watch(LiveConnection connection) {
  Output output = Output::standard_output();
  Background background(std::move(connection));
  const Canvas canvas(output);
  while (!interrupt::pending()) {
    if (const auto error = background.fatal()) return std::unexpected(*error);
    const ftxui::Dimensions size = ftxui::Terminal::Size();
    // Home, the picture, and nothing of an earlier one below it.
    ODMOE_RETURN_IF_ERROR(output.write("\033[H" + background.screen(size.dimx, size.dimy) + "\033[J"));
    std::array<pollfd, 3> events = {
        {{.fd = background.descriptor(), .events = POLLIN, .revents = 0},
         {.fd = interrupt::descriptor(), .events = POLLIN, .revents = 0},
         {.fd = canvas.reads_keys() ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0}}};
    // A terminal that becomes larger is noticed by looking.
    (void)poll(events.data(), events.size(), 1000);
    if (events[0].revents != 0) background.quiet();
    if (events[2].revents != 0 && asked_to_quit()) return kExitOk;
  }
  return kExitOk;
}

Result<int> show_once(LiveConnection connection) {
  std::optional<server::LiveView> seen;
  bool loading = false;
  ODMOE_RETURN_IF_ERROR(connection.listen([&](const server::LiveView& view) {
    loading = view.loading();
    // The second state has rates: the first may be the first look in a while.
    if (view.n_state() >= 2) seen = view;
    return !seen && !loading && !interrupt::pending();
  }));
  if (interrupt::pending()) return kExitInterrupted;
  if (loading)
    return fail(ErrorKind::kIo, "{}: the model is still loading; try again later", connection.url());
  Output output = Output::standard_output();
  if (seen) (void)output.write(top_text(*seen));
  return output.exit_code();
}

Result<int> top(TopOptions options) {
  if (const char* key = std::getenv("ODMOE_API_KEY"); options.api_key.empty() && key != nullptr)
    options.api_key = key;
  interrupt::install_terminate();
  ODMOE_ASSIGN_OR_RETURN(LiveConnection connection, LiveConnection::create(options.url, options.api_key));
  const bool terminal = Output::standard_output().is_terminal();
  return options.once || !terminal ? show_once(std::move(connection)) : watch(std::move(connection));
}

}  // namespace

void add_top(CLI::App& app, Action& action) {
  const auto options = std::make_shared<TopOptions>();
  CLI::App* command = app.add_subcommand("top", "Show what a server is doing, live");
  command->add_option("URL", options->url, "Address of a server (odmoe serve)")
      ->type_name("URL")
      ->capture_default_str();
  command
      ->add_option("--api-key", options->api_key,
                   "Key that the server asks for.  Others see it in the list of processes: prefer the "
                   "environment variable ODMOE_API_KEY")
      ->type_name("KEY");
  command->add_flag("--once", options->once,
                    "Write the figures once, as text, and leave; so does output that is not a terminal");
  command->footer(
      "Examples:\n"
      "  odmoe top\n"
      "  odmoe top http://mac2:8080\n"
      "  ODMOE_API_KEY=$(cat key) odmoe top http://127.0.0.1:8080\n"
      "  odmoe top --once | grep 'hit rate'\n"
      "\n"
      "q, Escape or Ctrl-C leaves. The same, with a chat to try the model, is shown by the server itself: "
      "open "
      "its\naddress in a browser.");
  command->callback([&action, options] { action = [options] { return top(*options); }; });
}

}  // namespace odmoe::cli
