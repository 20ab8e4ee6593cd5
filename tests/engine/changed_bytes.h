// Other bytes in a file, for as long as an object lives.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <span>
#include <vector>

namespace odmoe::testing {

class ChangedBytes {
 public:
  // `file` must outlive it.
  ChangedBytes(std::fstream& file, uint64_t offset, std::span<const std::byte> bytes)
      : file_(&file), offset_(static_cast<std::streamoff>(offset)), was_(bytes.size()) {
    file_->seekg(offset_);
    file_->read(reinterpret_cast<char*>(was_.data()), std::ssize(was_));
    write(bytes);
  }
  ChangedBytes(const ChangedBytes&) = delete;
  ChangedBytes& operator=(const ChangedBytes&) = delete;
  ~ChangedBytes() { write(was_); }

 private:
  void write(std::span<const std::byte> bytes) {
    file_->seekp(offset_);
    file_->write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes)).flush();
    EXPECT_TRUE(file_->good());
  }

  std::fstream* file_;
  std::streamoff offset_;
  std::vector<std::byte> was_;
};

}  // namespace odmoe::testing
