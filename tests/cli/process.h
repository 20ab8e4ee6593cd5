// Runs the program as a user would, and sees what a user would see.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"

namespace odmoe::testing {

struct Outcome {
  int exit_code = -1;  // 128 + the signal that ended it, as a shell says it
  std::string out, err;
};

struct Setting {
  std::string input;          // what it reads
  std::string output_file;    // standard output goes there; empty: to Outcome::out
  bool close_output = false;  // the reader of standard output goes away before anything is written
  std::vector<int> closed;    // descriptors that the program starts without
  // Called as output comes, with all of it so far.
  std::function<void(pid_t, const std::string& out)> watch;
};

// Runs `odmoe ARGUMENTS...` to its end.  One that says nothing for kDeadline (deadline.h) is a failure of the
// test and killed.
Outcome odmoe(const std::vector<std::string>& arguments, const Setting& setting = {});

// The program on a terminal of its own.  One owner.
class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& arguments);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(std::string_view keys) const;
  // All that read: a program that says nothing for kDeadline is a failure of the test and killed.
  // Reads on until `text` has appeared after all that was waited for before; false when the program ends
  // first.
  bool wait_for(std::string_view text);
  // Reads on until at least so many characters came after all that was waited for.
  bool wait_for_more(size_t characters);
  // Reads to the end and gives the exit code.
  int finish();
  const std::string& screen() const { return screen_; }

 private:
  bool read_more();

  pid_t child_ = -1;
  FileDescriptor terminal_;
  std::string screen_;
  size_t seen_ = 0;
};

}  // namespace odmoe::testing
