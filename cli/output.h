// Where bytes go: standard output, or a file of one's own.  Unbuffered, so nothing is lost when the program
// ends.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/file_descriptor.h"
#include "odmoe/result.h"

namespace odmoe::cli {

// One owner.
class Output {
 public:
  static Output standard_output();
  static Output standard_error();
  // A new file, or an old one emptied.  kIo when it cannot be written.
  static Result<Output> create(const std::string& path);

  // All of it, or kIo naming the output (a full disk, say); after the first error nothing more is written and
  // the same error comes back.  When the reader of a pipe has gone that is the error, and reader_gone().
  Status write(std::string_view bytes);
  // Closes a file; kIo when bytes written before turn out to be lost.
  Status close();

  bool reader_gone() const { return reader_gone_; }
  // What a command that has written its last gives back: its error, unless it is that the reader went away,
  // which is not an error but an exit code.
  Result<int> exit_code() const;
  bool is_terminal() const;
  int descriptor() const { return descriptor_; }

 private:
  Output(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}

  FileDescriptor owned_;  // none: a standard one, which stays open
  int descriptor_;
  bool reader_gone_ = false;
  std::string name_;
  Status status_;
};

// A line to whoever started the program, on standard error.
void say(std::string_view line);

}  // namespace odmoe::cli
