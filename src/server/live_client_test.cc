#include "server/live_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

using Events = std::vector<std::pair<std::string, std::string>>;

EventReader::Take keep(Events& events) {
  return [&events](std::string_view name, std::string_view data) {
    events.emplace_back(name, data);
    return Status();
  };
}

TEST(EventReader, EventsAreTheSameHoweverTheirBytesCome) {
  constexpr std::string_view kStream =
      ": still here\n\nevent: a\ndata: 1\n\nevent: b\r\ndata: 2\r\n\r\ndata: 3\n\nevent: c\ndata: ";
  for (size_t piece = 1; piece <= kStream.size(); ++piece) {
    EventReader reader;
    Events events;
    for (size_t at = 0; at < kStream.size(); at += piece) {
      ASSERT_TRUE(reader.push(kStream.substr(at, piece), keep(events)).has_value());
    }
    EXPECT_THAT(events, ElementsAre(Pair("a", "1"), Pair("b", "2"), Pair("", "3"))) << piece;
  }
}

TEST(EventReader, AnEventWithoutAnEndIsRefused) {
  EventReader reader;
  Events events;
  const std::string some = std::string("data: ").append(100'000, 'x').append("\n");
  Status status;
  for (int i = 0; i < 100 && status.has_value(); ++i) status = reader.push(some, keep(events));
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("4 MiB"));
  EXPECT_TRUE(events.empty());
}

TEST(LiveView, KnowsTheModelAndTheLastState) {
  LiveView view;
  EXPECT_TRUE(view.take("loading", "{}").has_value());
  EXPECT_TRUE(view.loading());
  ASSERT_TRUE(
      view.take("model", R"({"id":"demo","architecture":"deepseek2","layers":[[1,4],[2,4]],"context":512})")
          .has_value());
  EXPECT_FALSE(view.loading());
  ASSERT_EQ(view.layers().size(), 2U);
  EXPECT_EQ(view.layers()[1].number, 2);
  EXPECT_EQ(view.layers()[1].first, 4U);
  ASSERT_TRUE(
      view.take(
              "state",
              R"({"now":{"hit_rate":0.5,"stall_share":null},"sessions":{"running":1,"most":2},"map":"2R3e","whole":true})")
          .has_value());
  EXPECT_EQ(view.letters(), "aaRaaaea");
  EXPECT_EQ(view.figures().number("now", "hit_rate"), 0.5);
  EXPECT_FALSE(view.figures().number("now", "stall_share").has_value());
  EXPECT_FALSE(view.figures().number("now", "tokens_per_second").has_value());
  EXPECT_EQ(view.figures().count("sessions", "most"), 2U);
  EXPECT_EQ(view.figures().count("sessions", "queued"), 0U);
  EXPECT_EQ(view.figures().text("predictor", "name"), "");
  EXPECT_FALSE(view.figures().flag("predictor", "prefetching"));
  ASSERT_TRUE(view.take("state", R"({"map":"7l"})").has_value());
  EXPECT_EQ(view.letters(), "aaraaael");
  EXPECT_EQ(view.n_state(), 2U);
  EXPECT_TRUE(view.take("something new", "?").has_value());
  EXPECT_TRUE(view.take("end", "{}").has_value());
  EXPECT_TRUE(view.ended());
}

TEST(LiveView, DamagedEventsAreRefusedAndWhatWasKnownStands) {
  LiveView view;
  ASSERT_TRUE(view.take("model", R"({"id":"demo","layers":[[0,4]]})").has_value());
  ASSERT_TRUE(view.take("state", R"({"map":"r","whole":true})").has_value());
  for (const char* bad : {"", "{", "[]", "{}", R"({"map":1})", R"({"map":"9r"})", R"({"map":"z"})"}) {
    EXPECT_FALSE(view.take("state", bad).has_value()) << bad;
  }
  for (const char* bad :
       {"", "3", "{}", R"({"layers":[1]})", R"({"layers":[[0,-1]]})", R"({"layers":[[0,1e300]]})",
        R"({"layers":[[0,1048576],[1,1]]})", R"({"layers":[["a","b"]]})"}) {
    EXPECT_FALSE(view.take("model", bad).has_value()) << bad;
  }
  EXPECT_EQ(view.letters(), "raaa");
  EXPECT_EQ(view.id(), "demo");
}

TEST(LiveView, NamesThatAreShownHoldNoControlCharacters) {
  LiveView view;
  ASSERT_TRUE(view.take("model", R"({"id":"\u001b[2Jdemo\n","layers":[]})").has_value());
  EXPECT_EQ(view.id(), "[2Jdemo");
}

}  // namespace
}  // namespace odmoe::server
