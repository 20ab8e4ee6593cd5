#include "hub/choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace odmoe::hub {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Listing listing_of(const std::vector<std::string>& paths) {
  Listing listing{.commit = std::string(40, 'a'), .architecture = {}, .files = {}};
  uint64_t bytes = 0;
  for (const std::string& path : paths)
    listing.files.push_back({.path = path, .bytes = bytes += 1024, .content_id = std::string(64, 'b')});
  return listing;
}

Result<Candidate> chosen(const std::vector<std::string>& paths, const std::string& name) {
  return choose(listing_of(paths), *parse_repo_name(name), "hf:o/r");
}

std::string chosen_file(const std::vector<std::string>& paths, const std::string& name) {
  const auto choice = chosen(paths, name);
  return choice.has_value() ? choice->files.front().path : choice.error().message;
}

TEST(Choice, WithoutAQuantisationFourBitsAreTaken) {
  EXPECT_EQ(chosen_file({"m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-Q4_K_S.gguf"}, "o/r"),
            "m-Q4_K_M.gguf");
  EXPECT_EQ(chosen_file({"m-Q2_K.gguf", "m-Q8_0.gguf", "m-Q4_K_S.gguf"}, "o/r"), "m-Q4_K_S.gguf");
  EXPECT_EQ(chosen_file({"m-Q8_0.gguf", "m-Q6_K.gguf", "m-F16.gguf"}, "o/r"), "m-Q6_K.gguf");
}

TEST(Choice, TheOnlyModelIsTakenWhateverItIs) {
  EXPECT_EQ(chosen_file({"README.md", "mmproj-F16.gguf", "model.gguf"}, "o/r"), "model.gguf");
}

TEST(Choice, AQuantisationIsFoundInAnyCase) {
  EXPECT_EQ(chosen_file({"m-Q4_K_M.gguf", "m-Q8_0.gguf"}, "o/r:q8_0"), "m-Q8_0.gguf");
  EXPECT_EQ(chosen_file({"m-UD-Q4_K_XL.gguf", "m-Q8_0.gguf"}, "o/r:Q4_K_XL"), "m-UD-Q4_K_XL.gguf");
  EXPECT_EQ(chosen_file({"m-UD-Q2_K.gguf", "m-Q2_K.gguf"}, "o/r:Q2_K"), "m-Q2_K.gguf");
}

TEST(Choice, ASplitModelIsOneThing) {
  const auto choice = chosen({"Q4_K_M/m-Q4_K_M-00002-of-00003.gguf", "Q4_K_M/m-Q4_K_M-00001-of-00003.gguf",
                              "Q4_K_M/m-Q4_K_M-00003-of-00003.gguf", "m-Q2_K.gguf"},
                             "o/r");
  ASSERT_TRUE(choice.has_value()) << choice.error().message;
  ASSERT_EQ(choice->files.size(), 3);
  EXPECT_EQ(choice->files[0].path, "Q4_K_M/m-Q4_K_M-00001-of-00003.gguf");
  EXPECT_EQ(choice->bytes, 6 * 1024);
}

TEST(Choice, AnyFileOfASetMeansTheSet) {
  const auto choice = chosen({"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}, "o/r/m-00002-of-00002.gguf");
  ASSERT_TRUE(choice.has_value()) << choice.error().message;
  EXPECT_EQ(choice->files.size(), 2);
}

TEST(Choice, ASetWithMissingFilesIsRefused) {
  EXPECT_THAT(chosen_file({"m-00001-of-00003.gguf", "m-00002-of-00003.gguf"}, "o/r"),
              HasSubstr("has 2 of the 3 files of m"));
}

TEST(Choice, SeveralThatMayBeMeantAreListedWithTheirSizes) {
  EXPECT_THAT(
      chosen_file({"a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "a-Q2_K.gguf"}, "o/r"),
      HasSubstr("2 models in Q4_K_M: name one of a-Q4_K_M.gguf (1.00 KiB), b-Q4_K_M.gguf (2.00 KiB)"));
  EXPECT_THAT(chosen_file({"m-Q1_0.gguf", "m-IQ1_S.gguf"}, "o/r"),
              HasSubstr("has 2 models: name one of IQ1_S (2.00 KiB), Q1_0 (1.00 KiB)"));
  EXPECT_EQ(chosen({"m-Q1_0.gguf", "m-IQ1_S.gguf"}, "o/r").error().kind, ErrorKind::kUsage);
}

TEST(Choice, WhatIsNotThereIsSaidWithWhatIs) {
  EXPECT_EQ(chosen_file({"m-Q2_K.gguf", "m-Q8_0.gguf"}, "o/r:Q4_K_M"),
            "hf:o/r has no Q4_K_M, but Q2_K (1.00 KiB), Q8_0 (2.00 KiB)");
  EXPECT_EQ(chosen_file({"m-Q2_K.gguf"}, "o/r/x.gguf"), "hf:o/r has no file x.gguf");
  EXPECT_EQ(chosen_file({"README.md"}, "o/r"), "hf:o/r has no GGUF");
  EXPECT_THAT(chosen_file({"README.md"}, "o/r/README.md"), HasSubstr("is not a GGUF"));
}

TEST(Choice, AFileThatGoesWithAModelIsTakenByName) {
  EXPECT_EQ(chosen_file({"m.gguf", "mmproj-F16.gguf"}, "o/r/mmproj-F16.gguf"), "mmproj-F16.gguf");
}

TEST(Choice, LongListsAreCut) {
  std::vector<std::string> paths;
  for (int i = 0; i < 100; ++i) paths.push_back("model" + std::to_string(i) + ".gguf");
  EXPECT_THAT(chosen_file(paths, "o/r"), HasSubstr(" and 76 more"));
}

}  // namespace
}  // namespace odmoe::hub
