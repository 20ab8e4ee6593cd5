#include "engine/kept_prefetching.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "temp_dir.h"

namespace odmoe {
namespace {

using testing::TempDir;

TEST(KeptPrefetching, WhatWasFoundIsFoundAgain) {
  const TempDir dir;
  for (const Prefetching verdict : {Prefetching::kOff, Prefetching::kFew, Prefetching::kMany}) {
    const PrefetchGovernor::Experience experience{
        .verdict = verdict, .missing = 12.5, .hold = 300, .gains = {1.25, 0}};
    ASSERT_TRUE(save_experience(dir / "new" / "kept.json", "a", experience).has_value());
    const auto found = load_experience(dir / "new" / "kept.json", "a");
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->verdict, verdict);
    EXPECT_EQ(found->missing, 12.5);
    EXPECT_EQ(found->hold, 300);
    EXPECT_EQ(found->gains, experience.gains);
    EXPECT_FALSE(load_experience(dir / "new" / "kept.json", "b").has_value());
  }
}

TEST(KeptPrefetching, WhatMakesNoSenseIsNotBelieved) {
  const TempDir dir;
  const std::string sense =
      R"({"verdict": "few", "missing": 1, "hold": 2, "gain_of_few": 1, "gain_of_many": 0})";
  const auto load = [&](const std::string& entry) {
    std::ofstream(dir / "kept.json") << R"({"version": 1, "prefetching": {"a": )" << entry << "}}";
    return load_experience(dir / "kept.json", "a").has_value();
  };
  EXPECT_TRUE(load(sense));
  for (const auto& [from, to] : {std::pair{"\"few\"", "\"all\""},
                                 {"\"few\"", "1"},
                                 {"\"missing\": 1", "\"missing\": -1"},
                                 {"\"hold\": 2", "\"hold\": \"2\""},
                                 {"\"gain_of_few\"", "\"gain\""}}) {
    std::string entry = sense;
    entry.replace(entry.find(from), std::string(from).size(), to);
    EXPECT_FALSE(load(entry)) << entry;
  }
  EXPECT_FALSE(load("[]"));
}

}  // namespace
}  // namespace odmoe
