#include "base/digest.h"

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <string_view>

#include "base/sha256.h"

namespace odmoe {
namespace {

std::span<const std::byte> as_bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Digest, IsWhatTheStandardsSayOfAbc) {
  Digest sha256(Digest::Kind::kSha256), sha1(Digest::Kind::kSha1);
  sha256.add(as_bytes_of("abc"));
  sha1.add(as_bytes_of("abc"));
  EXPECT_EQ(sha256.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha1.hex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
}

TEST(Digest, HowTheBytesAreCutDoesNotMatter) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7);
  for (const size_t piece : {size_t{1}, size_t{63}, size_t{64}, size_t{1000}}) {
    Digest digest(Digest::Kind::kSha256);
    for (size_t at = 0; at < text.size(); at += piece)
      digest.add(as_bytes_of(std::string_view(text).substr(at, piece)));
    EXPECT_EQ(digest.hex(), sha256_hex(as_bytes_of(text)));
  }
  EXPECT_EQ(Digest(Digest::Kind::kSha256).hex(), sha256_hex({}));
}

}  // namespace
}  // namespace odmoe
