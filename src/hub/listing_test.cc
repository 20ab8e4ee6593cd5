#include "hub/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace odmoe::hub {
namespace {

using ::testing::HasSubstr;

const std::string kListedCommit(40, 'a');
const std::string kListedHash(64, 'b');

std::string listing_with(const std::string& siblings) {
  return R"({"id": "o/r", "sha": ")" + kListedCommit + R"(", "gated": "auto", "siblings": [)" + siblings +
         "]}";
}

std::string large_file(const std::string& path, const std::string& bytes = "7") {
  return R"({"rfilename": ")" + path + R"(", "size": )" + bytes + R"(, "blobId": "x", "lfs": {"sha256": ")" +
         kListedHash + R"(", "size": )" + bytes + R"(, "pointerSize": 134}})";
}

std::string error_of(const std::string& json) {
  const auto listing = parse_listing(json, "o/r");
  return listing.has_value() ? "none" : listing.error().message;
}

TEST(Listing, HasTheCommitAndOfEachFileItsSizeAndHash) {
  const auto listing =
      parse_listing(R"({"sha": ")" + kListedCommit +
                        R"(", "gguf": {"architecture": "qwen3moe", "total": 5}, "siblings": [)" +
                        R"({"rfilename": "README.md", "size": 12, "blobId": ")" + kListedCommit + "\"}," +
                        large_file("q/m-Q4_K_M.gguf", "18446744073") + "]}",
                    "o/r");
  ASSERT_TRUE(listing.has_value()) << listing.error().message;
  EXPECT_EQ(listing->commit, kListedCommit);
  EXPECT_EQ(listing->architecture, "qwen3moe");
  ASSERT_EQ(listing->files.size(), 2);
  EXPECT_EQ(listing->files[0].content_id, kListedCommit);
  EXPECT_EQ(listing->files[1].path, "q/m-Q4_K_M.gguf");
  EXPECT_EQ(listing->files[1].bytes, 18446744073);
  EXPECT_EQ(listing->files[1].content_id, kListedHash);
}

TEST(Listing, HostileNamesAreRefused) {
  for (const char* path : {"../m.gguf", "/etc/m.gguf", "a/../../m.gguf", "a//m.gguf", "", "m\\u001b[2J.gguf",
                           "m\\u0000.gguf", "a\\\\b.gguf", "./m.gguf"}) {
    EXPECT_THAT(error_of(listing_with(large_file(path))), HasSubstr("could lead to any place")) << path;
  }
  EXPECT_THAT(error_of(listing_with(R"({"rfilename": 5, "size": 1})")), HasSubstr("could lead"));
  EXPECT_THAT(error_of(listing_with(large_file(std::string(2000, 'a')))), HasSubstr("could lead"));
}

TEST(Listing, AbsurdOnesAreRefusedInOneLine) {
  for (const std::string& json :
       {std::string(), std::string("[]"), std::string("null"), std::string("{"), std::string("<html>"),
        std::string("{}"), R"({"sha": "main", "siblings": []})" + std::string(),
        R"({"sha": ")" + kListedCommit + "\"}", R"({"sha": ")" + kListedCommit + R"(", "siblings": {}})",
        listing_with("5"), listing_with(large_file("m", "-1")), listing_with(large_file("m", "1e99")),
        listing_with(large_file("m", "\"7\"")), listing_with(large_file("m", "99999999999999999999")),
        listing_with(R"({"rfilename": "m", "size": 1, "lfs": {"sha256": "../../x", "size": 1}})"),
        std::string(100000, '[')}) {
    const std::string message = error_of(json);
    EXPECT_THAT(message, HasSubstr("listing of o/r cannot be used")) << json.substr(0, 100);
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(Listing, TooManyFilesAreRefused) {
  std::string siblings;
  for (size_t i = 0; i <= kMaxListedFiles; ++i) siblings += (i > 0 ? ",5" : "5");
  EXPECT_THAT(error_of(listing_with(siblings)), HasSubstr("100001 files"));
  EXPECT_THAT(error_of(std::string(kMaxListingBytes + 1, ' ')), HasSubstr("too long"));
}

}  // namespace
}  // namespace odmoe::hub
