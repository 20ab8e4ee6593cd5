#include "hub/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace odmoe::hub {
namespace {

using ::testing::HasSubstr;

TEST(RepoName, APrefixSaysWhereAModelIs) {
  EXPECT_EQ(place_of("hf:o/r"), Place::kHub);
  EXPECT_EQ(place_of("ollama:qwen3"), Place::kOllama);
  EXPECT_EQ(place_of("lmstudio:o/r"), Place::kLmStudio);
  EXPECT_EQ(place_of("model.gguf"), Place::kPath);
  EXPECT_EQ(place_of("./hf:o/r"), Place::kPath);
  EXPECT_EQ(without_prefix("hf:o/r"), "o/r");
  EXPECT_EQ(without_prefix("./hf:o/r"), "./hf:o/r");
}

TEST(RepoName, HasOwnerRepositoryQuantisationAndRevision) {
  const auto name = parse_repo_name("unsloth/Qwen3-30B-A3B-GGUF:UD-Q4_K_XL@refs/pr/3");
  ASSERT_TRUE(name.has_value()) << name.error().message;
  EXPECT_EQ(name->id(), "unsloth/Qwen3-30B-A3B-GGUF");
  EXPECT_EQ(name->quantisation, "UD-Q4_K_XL");
  EXPECT_EQ(name->revision, "refs/pr/3");
  EXPECT_EQ(name->file, "");
}

TEST(RepoName, MayNameAFile) {
  const auto name = parse_repo_name("o/r/Q4_K_M/m-00001-of-00002.gguf");
  ASSERT_TRUE(name.has_value()) << name.error().message;
  EXPECT_EQ(name->file, "Q4_K_M/m-00001-of-00002.gguf");
  EXPECT_EQ(name->quantisation, "");
  EXPECT_EQ(name->revision, "main");
}

TEST(RepoName, WhatLeadsElsewhereIsRefused) {
  for (const char* text :
       {"",        "r",      "o/",       "/r",      "o/..", "../r",   "o/r/../x.gguf", "o/r//x.gguf",
        "o/r/./x", "o/r/",   "o/r:",     "o/r:a/b", "o/r@", "o/r@..", "o/r@a/../b",    "o/r@/etc",
        "o--x/r",  "o/r--x", "-o/r",     "o/.r",    "o/r.", "o/r x",  "o/r/a\nb",      "o/r/a\\b",
        "o/r@a b", "o/r?x",  "o/r:Q4 K", "o/\xff"}) {
    const auto name = parse_repo_name(text);
    ASSERT_FALSE(name.has_value()) << text;
    EXPECT_EQ(name.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(name.error().message, HasSubstr("OWNER/REPO"));
  }
  EXPECT_FALSE(parse_repo_name("o/" + std::string(97, 'r')).has_value());
  EXPECT_FALSE(parse_repo_name("o/r/" + std::string(256, 'f')).has_value());
}

TEST(OllamaName, WhatIsLeftOutIsTheRegistrysOwn) {
  const auto name = parse_ollama_name("qwen3");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->host + "/" + name->space + "/" + name->model + ":" + name->tag,
            "registry.ollama.ai/library/qwen3:latest");
  EXPECT_EQ(name->shown(), "qwen3");
  EXPECT_EQ(parse_ollama_name("qwen3:30b-a3b")->shown(), "qwen3:30b-a3b");
  EXPECT_EQ(parse_ollama_name("me/mine:v1")->shown(), "me/mine:v1");
  EXPECT_EQ(parse_ollama_name("hf.co/o/r:Q4_K_M")->shown(), "hf.co/o/r:Q4_K_M");
  EXPECT_EQ(parse_ollama_name("localhost:5000/o/r")->host, "localhost:5000");
}

TEST(OllamaName, WhatLeadsElsewhereIsRefused) {
  for (const char* text : {"", "a:", ":b", "../a", "a/../b", "a/b/c/d", "a b", "a/", ".a", "a:..", "a\nb"}) {
    EXPECT_FALSE(parse_ollama_name(text).has_value()) << text;
  }
}

TEST(PlainPath, HasOnlyPartsThatStayBelow) {
  EXPECT_TRUE(is_plain_path("a"));
  EXPECT_TRUE(is_plain_path("Folder one/Zürich..gguf"));
  for (const char* path :
       {"", "/a", "a/", "a//b", "..", "a/..", ".", "./a", "a\x1b[2Jb", "a\x7f", "a\\b", "\xc2\x9b"}) {
    EXPECT_FALSE(is_plain_path(path)) << path;
  }
}

}  // namespace
}  // namespace odmoe::hub
