#include "cluster/greeting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace odmoe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Hello a_hello() {
  Hello hello;
  hello.version = "0.1.0";
  hello.path = "/models/kimi.gguf";
  hello.model = "0011";
  hello.kernels = {.ggml = "0.9 (abc)", .device = "CPU: X", .features = "AVX2=1", .products = "beef"};
  hello.memory_bytes = uint64_t{1} << 40;
  hello.drive_bytes_per_second = 7'000'000'000;
  hello.takes_what_is_available = true;
  return hello;
}

constexpr std::array<std::string, 2> kNames = {"rank 0 (mac1)", "rank 1 (mac2)"};

Status check(const Hello& other, bool mixed_allowed = false) {
  return check_hellos(std::array{a_hello(), other}, kNames, mixed_allowed);
}

TEST(Greeting, WhatIsWrittenIsRead) {
  const Hello hello = Hello::read(a_hello().json()).value();
  EXPECT_EQ(hello.json(), a_hello().json());
  EXPECT_EQ(hello.memory_bytes, uint64_t{1} << 40);
  EXPECT_TRUE(hello.takes_what_is_available);
  EXPECT_FALSE(hello.share.has_value());
  Hello part = a_hello();
  part.uses = "12";
  part.share = {.rank = 1, .sizes = {1, 3}, .uses = "12", .model = part.model};
  const Hello read = Hello::read(part.json()).value();
  EXPECT_EQ(read.share, part.share);
  EXPECT_EQ(read.uses, "12");
  const Begin begin = Begin::read(Begin{.chunk = 512, .sessions = 4, .prompts = 3}.json()).value();
  EXPECT_EQ(begin.chunk, 512);
  EXPECT_EQ(begin.sessions, 4);
  EXPECT_EQ(begin.prompts, 3);
  const RankList setup =
      RankList::read(
          RankList{.numbers = {0, 2}, .ranks = {{1, 2}, {3, 0}}, .expert_bytes = 9, .owners = "ff"}.json())
          .value();
  ASSERT_EQ(setup.ranks.size(), 2);
  EXPECT_EQ(setup.numbers, (std::vector{0, 2}));
  EXPECT_EQ(setup.ranks[1].memory_bytes, 3);
  EXPECT_EQ(setup.expert_bytes, 9);
  EXPECT_EQ(setup.owners, "ff");
}

TEST(Greeting, WhatAnotherVersionWritesIsAnError) {
  for (const char* text : {"", "{", "[]", R"({"error": 1})", R"({"chunk": "x", "sessions": 1})"}) {
    EXPECT_FALSE(Hello::read(text).has_value()) << text;
    EXPECT_FALSE(Begin::read(text).has_value()) << text;
    EXPECT_FALSE(RankList::read(text).has_value()) << text;
  }
  EXPECT_FALSE(RankList::read(R"({"ranks": [1], "expert_bytes": 1, "owners": ""})").has_value());
  EXPECT_FALSE(RankList::read(R"({"ranks": [1, -2], "expert_bytes": 1, "owners": ""})").has_value());
  Hello part = a_hello();
  part.share = {.rank = 2, .sizes = {1, 3}, .uses = "", .model = ""};
  EXPECT_FALSE(Hello::read(part.json()).has_value());
}

TEST(Greeting, RanksThatAreAlikeSuitEachOther) { EXPECT_TRUE(check(a_hello()).has_value()); }

TEST(Greeting, AnotherModelIsRefusedAndBothPathsAreNamed) {
  Hello other = a_hello();
  other.model = "0012";
  other.path = "/else/kimi.gguf";
  const Status status = check(other, /*mixed_allowed=*/true);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(status.error().message, AllOf(HasSubstr("rank 1 (mac2)"), HasSubstr("/else/kimi.gguf"),
                                            HasSubstr("rank 0 (mac1)"), HasSubstr("/models/kimi.gguf")));
}

TEST(Greeting, OtherKernelsAreRefusedUnlessAllowedAndBothAreNamed) {
  for (std::string Kernels::* what : {&Kernels::ggml, &Kernels::features, &Kernels::products}) {
    Hello other = a_hello();
    other.kernels.*what = "something else";
    const Status status = check(other);
    ASSERT_FALSE(status.has_value());
    EXPECT_THAT(status.error().message,
                AllOf(HasSubstr("rank 1 (mac2)"), HasSubstr("ggml 0.9 (abc)"), HasSubstr("--allow-mixed")));
    EXPECT_TRUE(check(other, /*mixed_allowed=*/true).has_value());
  }
  Hello other = a_hello();
  other.kernels.device = "CPU: Y, 4 threads";  // for people
  EXPECT_TRUE(check(other).has_value());
}

TEST(Greeting, OtherRecordedUsesAreRefused) {
  Hello other = a_hello();
  other.uses = "beef";
  const Status status = check(other, /*mixed_allowed=*/true);
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, AllOf(HasSubstr("rank 1 (mac2)"), HasSubstr("--balance")));
}

TEST(Greeting, AnotherProgramIsRefused) {
  Hello other = a_hello();
  other.version = "0.2.0";
  ASSERT_FALSE(check(other, true).has_value());
  EXPECT_THAT(check(other, true).error().message, HasSubstr("0.2.0"));
}

TEST(Greeting, WhatARankCannotDoIsTheErrorWithItsName) {
  const Status status = check(Hello{.error = "/models/kimi.gguf: no such file"});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "rank 1 (mac2): /models/kimi.gguf: no such file");
}

TEST(Greeting, RanksOfOneHostSayWhatMemoryTheyTake) {
  Hello fixed = a_hello();
  fixed.takes_what_is_available = false;
  const std::array<std::string, 2> one_host = {"mac1", "mac1"}, two_hosts = {"mac1", "mac2"};
  EXPECT_TRUE(check_memory(std::array{a_hello(), a_hello()}, two_hosts).has_value());
  EXPECT_TRUE(check_memory(std::array{fixed, fixed}, one_host).has_value());
  const Status status = check_memory(std::array{fixed, a_hello()}, one_host);
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, AllOf(HasSubstr("ranks 0 and 1"), HasSubstr("--memory")));
}

}  // namespace
}  // namespace odmoe
