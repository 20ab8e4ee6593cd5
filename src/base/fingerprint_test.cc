#include "base/fingerprint.h"

#include <gtest/gtest.h>

namespace odmoe {
namespace {

TEST(Fingerprint, SeesEveryByteAndWhereThingsEnd) {
  const auto of = [](std::initializer_list<std::string_view> texts) {
    Fingerprint fingerprint;
    for (const std::string_view text : texts) fingerprint.add(text);
    return fingerprint.value();
  };
  EXPECT_EQ(of({"gate", "up"}), of({"gate", "up"}));
  EXPECT_NE(of({"gate", "up"}), of({"gat", "eup"}));
  EXPECT_NE(of({"gate", "up"}), of({"gateup"}));
  EXPECT_NE(of({"gate", "up"}), of({"up", "gate"}));
  EXPECT_NE(of({"gate", ""}), of({"gate"}));
}

TEST(Fingerprint, IsThePublishedXxh3Of128Bits) {
  // Of no bytes, as xxhash's own XXH_SELF_TEST has it.
  EXPECT_EQ(Fingerprint::of({}).hex(), "99aa06d3014798d86001c324468d497f");
}

}  // namespace
}  // namespace odmoe
