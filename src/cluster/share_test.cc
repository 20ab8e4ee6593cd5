#include "cluster/share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace odmoe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::array<std::string, 2> kSharers = {"rank 0 (mac1)", "rank 1 (mac2)"};

Hello with_share(int32_t rank, std::vector<uint64_t> sizes, std::string uses = "") {
  Hello hello;
  hello.path = "/models/kimi.odmoe";
  hello.share = ExpertShare{.rank = rank, .sizes = std::move(sizes), .uses = std::move(uses), .model = "aa"};
  return hello;
}

std::string complaint(const Hello& head, const Hello& other) {
  const Status status = check_shares(std::array{head, other}, kSharers);
  return status.has_value() ? "" : status.error().message;
}

TEST(Share, IsNamedByItsNumberAndHowManyThereAre) {
  const ShareRequest request = parse_share("2/3").value();
  EXPECT_EQ(request.rank, 1);
  EXPECT_THAT(request.sizes, ElementsAre(1, 1, 1));
  for (const char* text : {"", "2", "/", "0/3", "4/3", "2/3x", "a/3", "-1/3", "1/256", "1/99999999999"}) {
    EXPECT_FALSE(parse_share(text).has_value()) << text;
  }
}

TEST(Share, OfOneDivisionSuitEachOther) {
  EXPECT_EQ(complaint(with_share(0, {1, 1}), with_share(1, {1, 1})), "");
  EXPECT_EQ(complaint(Hello(), with_share(1, {1, 1})), "");  // the head has the whole model
  EXPECT_EQ(complaint(Hello(), Hello()), "");
}

TEST(Share, OfAnotherRankOrDivisionIsRefusedWithItsName) {
  EXPECT_THAT(complaint(with_share(0, {1, 1}), with_share(0, {1, 1})),
              AllOf(HasSubstr("rank 1 (mac2)"), HasSubstr("share 1 of 2"), HasSubstr("number 2 of 2")));
  EXPECT_THAT(complaint(Hello(), with_share(1, {1, 1, 1})), HasSubstr("share 2 of 3"));
  EXPECT_THAT(complaint(with_share(0, {1, 2}), with_share(1, {1, 1})), HasSubstr("--share-sizes"));
  EXPECT_THAT(complaint(with_share(0, {1, 1}, "12"), with_share(1, {1, 1}, "12")), HasSubstr("--balance"));
}

TEST(Share, DividesAsItSaysWhateverMemoryRanksHave) {
  OwnershipFacts facts{
      .expert_layers = {0, 1}, .n_expert = 8, .expert_bytes = 1000, .ranks = {{1000, 1}, {1, 1}}, .uses = {}};
  apply_shares(std::array{Hello(), Hello()}, facts);
  EXPECT_EQ(Ownership::of(facts).n_owned(0), 16);
  apply_shares(std::array{Hello(), with_share(1, {1, 3})}, facts);
  EXPECT_EQ(Ownership::of(facts).n_owned(0), 4);
  EXPECT_EQ(Ownership::of(facts).n_owned(1), 12);
}

}  // namespace
}  // namespace odmoe
