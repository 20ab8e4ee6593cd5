// Whoever holds a file descriptor closes it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <utility>

namespace odmoe {

// Move-only owner of an open file, pipe or socket, or of none.  One owner; as long as it lives, others may
// use the number.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  // What a system call gave; negative: none.
  explicit FileDescriptor(int number) : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { close(); }

  // open(2), again while signals interrupt it.  Programs that are started do not get the descriptor.  None,
  // with errno, when the file cannot be opened.
  static FileDescriptor open(const std::filesystem::path& path, int flags, mode_t mode = 0666);

  explicit operator bool() const { return number_ >= 0; }
  int number() const { return number_; }  // -1: none
  // False, with errno: what was written before may be lost.  There is none left in any case.
  bool close();

 private:
  int number_ = -1;
};

}  // namespace odmoe
