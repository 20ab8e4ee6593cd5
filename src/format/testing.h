// Small helps for the tests of this folder.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "format/gguf_file.h"
#include "gguf_writer.h"

namespace odmoe {

// The file that a test writes; null, and a failure, where it is refused.
inline std::unique_ptr<GgufFile> parse(const testing::GgufWriter& writer) {
  const std::vector<std::byte> bytes = writer.bytes();
  auto file = GgufFile::parse(bytes, bytes.size());
  EXPECT_TRUE(file.has_value()) << file.error().message;
  return file.has_value() ? std::move(*file) : nullptr;
}

template <typename T>
std::string message_of(const Result<T>& result) {
  return result.has_value() ? "no error" : result.error().message;
}

}  // namespace odmoe
