#include "cli/top_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ranges>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

server::LiveView view_of(const char* model, const char* state) {
  server::LiveView view;
  EXPECT_TRUE(view.take("model", model).has_value());
  EXPECT_TRUE(view.take("state", state).has_value());
  return view;
}

server::LiveView demo() {
  return view_of(
      R"({"id":"demo","architecture":"qwen2moe","file_bytes":1048576,"context":512,"layers":[[1,8],[2,8]]})",
      R"({"now":{"tokens_per_second":12.34,"hit_rate":0.5,"stall_share":null,"read_bytes_per_second":1048576},
          "total":{"tokens":77,"hit_rate":0.25},"drive":{"probed_bytes_per_second":4194304},
          "memory":{"budget_bytes":4096,"resident_bytes":2048,"slots":6},"sessions":{"running":1,"most":2,"queued":3},
          "predictor":{"name":"stale-gate","prefetching":true,"accuracy":0.6},"whole":true,"map":"2R3e1l"})");
}

TEST(TopText, HasAFigureALineAndTheMapInLetters) {
  const std::string text = top_text(demo());
  for (const char* line :
       {"writing     12.3 tokens/s, prompts -; 77 tokens since the start\n",
        "hit rate    50.0 %, since the start 25.0 %\n", "stall       - of the time",
        "reads       1.00 MiB/s, of 4.00 MiB/s that the drive can do\n",
        "read ahead  stale-gate, on, 60.0 % of what it read was used\n",
        "memory      2.00 KiB of 4.00 KiB, room for 6 experts\n", "sessions    1 of 2, 3 waiting\n",
        "experts     1 in memory, 1 loading, 1 evicted, 13 never used\n", "layer 1     aaRaaaea\n",
        "layer 2     laaaaaaa\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("\033")));
}

TEST(TopText, HasALineForEachOfSeveralMachines) {
  const std::string text = top_text(view_of(
      R"({"id":"x","layers":[]})",
      R"({"map":"","cluster":{"ranks":[{"rank":0,"host":"mac1","experts":512,"arena_bytes":2048,"hit_rate":0.5,"read_bytes":4096,"wait_us":0},
          {"rank":1,"host":"mac2","experts":256,"arena_bytes":1024,"hit_rate":null,"wait_us":2500000}]}})"));
  EXPECT_THAT(
      text,
      HasSubstr("rank 0      mac1: 512 experts in 2.00 KiB, hit rate 50.0 %, read 4.00 KiB, the head\n"));
  EXPECT_THAT(
      text, HasSubstr("rank 1      mac2: 256 experts in 1.00 KiB, hit rate -, read 0 B, waited for 2.5 s\n"));
}

TEST(TopText, HasADevicesMemoryItsExpertsAndWhatItExchanges) {
  EXPECT_THAT(top_text(demo()), Not(HasSubstr("device")));
  const std::string text = top_text(view_of(
      R"({"id":"x","layers":[]})",
      R"({"map":"","device":{"name":"GPU0","shares_host_memory":true,"budget_bytes":8192,"dense_bytes":1024,"kv_bytes":512,
          "buffer_bytes":256,"arena_bytes":2304,"slots":9,"experts":7,"hit_rate":0.875,"copied_bytes":3072,"evictions":4,
          "evicted_to_host":3,"sent_bytes_per_layer":2048.5,"fetched_bytes_per_layer":1024,"exchange_us_per_layer":11.4,
          "launch_us_per_layer":20,"wait_us_per_layer":300,"graphs_per_token":14}})"));
  EXPECT_THAT(text, HasSubstr("device      GPU0: 4.00 KiB of 8.00 KiB, of the memory above\n"));
  EXPECT_THAT(
      text, HasSubstr("on device   7 of 9 experts, hit rate 87.5 %; 3.00 KiB copied there, 4 made room, 3 of "
                      "them still on the host\n"));
  EXPECT_THAT(
      text,
      HasSubstr("exchange    2.00 KiB there and 1.00 KiB back for each layer: 11 us, 20 to launch, 300 to "
                "wait; 14 graphs for each token\n"));
}

TEST(TopText, WhatIsNotKnownIsSaidToBeSo) {
  const std::string text = top_text(view_of(R"({"id":"x","layers":[]})", R"({"map":""})"));
  EXPECT_THAT(text, HasSubstr("reads       -, the drive was not tried out\n"));
  EXPECT_THAT(text, HasSubstr("read ahead  no predictor\n"));
}

TEST(TopScreen, FillsTheTerminalWhateverItsSize) {
  for (const auto& [columns, rows] : {std::pair{200, 60}, {80, 24}, {40, 10}, {1, 1}}) {
    const std::string screen = top_screen(demo(), "http://x", "", columns, rows);
    EXPECT_EQ(std::ranges::count(screen, '\n'), rows - 1) << columns;
    if (columns >= 80) {
      EXPECT_THAT(screen, HasSubstr("50.0 %"));
    }
  }
}

TEST(TopScreen, OfManyExpertsACellShowsSeveral) {
  std::string layers;
  for (int layer = 0; layer < 61; ++layer) layers += odmoe::format("{}[{},384]", layer > 0 ? "," : "", layer);
  const server::LiveView view =
      view_of(odmoe::format(R"({{"id":"k2","layers":[{}]}})", layers).c_str(), R"({"map":"23423R"})");
  const std::string screen = top_screen(view, "http://x", "", 80, 24);
  EXPECT_THAT(screen, HasSubstr("▀"));
  EXPECT_EQ(std::ranges::count(screen, '\n'), 23);
}

TEST(TopScreen, BeforeTheModelIsKnownSaysWhy) {
  const std::string screen = top_screen({}, "http://x", "the model is loading", 80, 24);
  EXPECT_THAT(screen, HasSubstr("http://x"));
  EXPECT_THAT(screen, HasSubstr("the model is loading"));
}

}  // namespace
}  // namespace odmoe::cli
