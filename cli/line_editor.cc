#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <string_view>
#include <system_error>

#include "cli/interrupt.h"

namespace odmoe::cli {

// What the functions that libedit calls need to know.
struct Typing {
  std::string prompt;
  bool begun = false;   // something was typed before the signal
  bool pasted = false;  // the first of it was pasted
};

namespace {

constexpr int kMostLines = 1000;
// What terminals put around a text that is pasted, once they are asked to (xterm's bracketed paste mode).
constexpr std::string_view kAskForMarks = "\x1b[?2004h", kNoMarks = "\x1b[?2004l";
constexpr std::wstring_view kPasteEnd = L"\x1b[201~";
constexpr wchar_t kReplacement = L'\xFFFD';

Typing& typing_of(EditLine* editor) {
  void* data = nullptr;
  el_get(editor, EL_CLIENTDATA, &data);
  return *static_cast<Typing*>(data);
}

bool is_empty(EditLine* editor) {
  const LineInfoW* line = el_wline(editor);
  return line == nullptr || line->lastchar == line->buffer;
}

// A byte of standard input: 1, 0 at the end, -1 when a signal came or it cannot be read.
int read_byte(unsigned char& byte) {
  while (true) {
    std::array<pollfd, 2> waits = {pollfd{STDIN_FILENO, POLLIN, 0},
                                   pollfd{interrupt::descriptor(), POLLIN, 0}};
    if (poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return -1;
    if (interrupt::pending()) return -1;
    if (waits[0].revents == 0) continue;
    const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
    if (got >= 0) return static_cast<int>(got);
    if (errno != EINTR && errno != EAGAIN) return -1;
  }
}

// How many bytes follow the first one of a character of UTF-8.
int bytes_behind(unsigned char first) {
  if (first >= 0xF0 && first < 0xF8) return 3;
  if (first >= 0xE0 && first < 0xF0) return 2;
  return first >= 0xC0 && first < 0xE0 ? 1 : 0;
}

// libedit's own way to read does not look for signals that come between, and needs a locale for UTF-8.
int read_character(EditLine* editor, wchar_t* character) {
  unsigned char byte = 0;
  const int got = read_byte(byte);
  if (got < 0) typing_of(editor).begun = !is_empty(editor);
  if (got != 1) return got;
  const int n_more = bytes_behind(byte);
  if (n_more == 0) {
    *character = byte < 0x80 ? byte : kReplacement;
    return 1;
  }
  auto code = static_cast<wchar_t>(byte & (0x3FU >> static_cast<unsigned>(n_more)));
  for (int i = 0; i < n_more; ++i) {
    const int more = read_byte(byte);
    if (more != 1) return more;
    code = code * 64 + (byte & 0x3F);
  }
  *character = code;
  return 1;
}

// All up to the mark behind it, newlines too: they do not end the line.
unsigned char paste(EditLine* editor, int /*key*/) {
  std::wstring text;
  wchar_t character = 0;
  if (is_empty(editor)) typing_of(editor).pasted = true;
  while (!text.ends_with(kPasteEnd)) {
    if (el_wgetc(editor, &character) != 1) return CC_EOF;
    text += character == L'\r' ? L'\n' : character;
  }
  text.resize(text.size() - kPasteEnd.size());
  if (!text.empty()) (void)el_winsertstr(editor, text.c_str());
  return CC_REFRESH;
}

void write_to_terminal(std::string_view text) { (void)!::write(STDERR_FILENO, text.data(), text.size()); }

}  // namespace

struct LineEditor::Impl {
  EditLine* editor = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::string file;
  Typing typing;
};

namespace {

// libedit asks for the prompt by a function, with the editor as all that it knows.
char* prompt_of(EditLine* editor) { return typing_of(editor).prompt.data(); }

}  // namespace

LineEditor::LineEditor(const std::filesystem::path& history) : impl_(std::make_unique<Impl>()) {
  // libedit writes characters as the locale has them.
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX < 2) (void)std::setlocale(LC_CTYPE, "C.UTF-8");
  impl_->editor = el_init("odmoe", stdin, stderr, stderr);
  impl_->history = history_init();
  EditLine* editor = impl_->editor;
  el_set(editor, EL_CLIENTDATA, &impl_->typing);
  el_set(editor, EL_PROMPT, prompt_of);
  el_set(editor, EL_EDITOR, "emacs");
  el_wset(editor, EL_GETCFN, read_character);
  el_set(editor, EL_ADDFN, "odmoe-paste", "Insert what is pasted", paste);
  el_set(editor, EL_BIND, "\\e[200~", "odmoe-paste", nullptr);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  ::history(impl_->history, &impl_->event, H_SETSIZE, kMostLines);
  ::history(impl_->history, &impl_->event, H_SETUNIQUE, 1);
  el_set(editor, EL_HIST, ::history, impl_->history);
  impl_->file = history.string();
  if (!impl_->file.empty()) ::history(impl_->history, &impl_->event, H_LOAD, impl_->file.c_str());
}

LineEditor::~LineEditor() {
  if (!impl_->file.empty()) {
    std::error_code error;  // where it cannot be kept, it is not
    std::filesystem::create_directories(std::filesystem::path(impl_->file).parent_path(), error);
    ::history(impl_->history, &impl_->event, H_SAVE, impl_->file.c_str());
  }
  history_end(impl_->history);
  el_end(impl_->editor);
}

Result<std::optional<LineEditor::Line>> LineEditor::next(const std::string& prompt) {
  impl_->typing = {.prompt = prompt};
  el_resize(impl_->editor);  // the window may have changed since
  // By itself libedit does so behind the prompt: what is typed between would be the terminal's to interpret.
  el_set(impl_->editor, EL_PREP_TERM, 1);
  write_to_terminal(kAskForMarks);
  int n_byte = 0;
  errno = 0;
  const char* line = el_gets(impl_->editor, &n_byte);
  const int error = errno;
  write_to_terminal(kNoMarks);
  if (interrupt::pending()) {
    // With a line, or a part of one, it is that which nobody wants any more.
    if (n_byte <= 0 && !impl_->typing.begun) {
      return fail(ErrorKind::kInterrupted, "interrupted while reading standard input");
    }
    interrupt::clear();
    write_to_terminal("\n");
    return Line{.given_up = true};
  }
  if (line == nullptr || n_byte <= 0) {
    if (n_byte < 0 && error != 0) {
      return fail(ErrorKind::kIo, "cannot read standard input: {}", std::strerror(error));
    }
    return std::nullopt;
  }
  Line typed{.text = std::string(line, static_cast<size_t>(n_byte)), .pasted = impl_->typing.pasted};
  if (typed.text.ends_with('\n')) typed.text.pop_back();
  return typed;
}

void LineEditor::remember(const std::string& text) {
  if (!text.empty()) ::history(impl_->history, &impl_->event, H_ENTER, text.c_str());
}

}  // namespace odmoe::cli
