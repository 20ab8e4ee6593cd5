#include "server/live_feed.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "server/expert_map.h"

namespace odmoe::server {
namespace {

constexpr int64_t kInterval = std::chrono::microseconds(LiveFeed::kInterval).count();

class LiveFeedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const EngineOptions options{.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                                .memory = parse_memory_budget("50%").value(),
                                .context = 256,
                                .threads = 1,
                                // A guess would arrive between two looks.
                                .predictor = PredictorKind::kNone};
    auto engine = Engine::open(options);
    ASSERT_TRUE(engine.has_value()) << engine.error().message;
    engine_ = std::move(*engine);
  }
  LiveSubject subject() const {
    return {.engine = engine_.get(), .load = {.queued = 1, .running = 2}, .sessions = 2, .max_queue = 8};
  }
  void write(int32_t tokens) {
    const auto session = engine_->new_session().value();
    const GenerateOptions options{.max_tokens = tokens, .ignore_eos = true};
    ASSERT_TRUE(
        engine_->generate(*session, engine_->encode("KING"), options, [](std::string_view) { return true; })
            .has_value());
  }
  std::unique_ptr<Engine> engine_;
  LiveFeed feed_;
};

TEST_F(LiveFeedTest, ThoseWhoListenAtOnceShareALook) {
  const auto first = feed_.look(subject(), 1'000'000);
  EXPECT_EQ(feed_.look(subject(), 1'000'000 + kInterval / 2), first);
  EXPECT_NE(feed_.look(subject(), 1'000'000 + kInterval), first);
}

TEST_F(LiveFeedTest, RatesBeginAnewAfterNobodyLooked) {
  feed_.look(subject(), 0);
  write(4);
  const auto second = feed_.look(subject(), kInterval);
  EXPECT_GT(second->figures["now"]["tokens_per_second"].get<double>(), 0);
  const auto later = feed_.look(subject(), kInterval + 60'000'000);
  EXPECT_TRUE(later->figures["now"]["tokens_per_second"].is_null());
  EXPECT_EQ(later->figures["total"]["tokens"], second->figures["total"]["tokens"]);
}

TEST_F(LiveFeedTest, AStreamBeginsWithTheWholeMapAndGoesOnWithWhatChanges) {
  const Json model = live_model(*engine_, "demo", true, 256);
  size_t n_expert = 0;
  for (const Json& layer : model["layers"]) n_expert += layer[1].get<size_t>();
  EXPECT_EQ(n_expert, static_cast<size_t>(engine_->plan().n_expert_total));
  write(4);
  LiveStream stream;
  std::string letters(n_expert, 'a');
  const auto take = [&](int64_t now_us, bool whole) {
    const auto frame = feed_.look(subject(), now_us);
    const Json state = stream.next(*frame);
    EXPECT_EQ(state["whole"], whole);
    EXPECT_EQ(state["sessions"]["queued"], 1);
    const Status status = apply_map_changes(state["map"].get<std::string>(), letters);
    EXPECT_TRUE(status.has_value());
    for (size_t i = 0; i < letters.size(); ++i) {
      EXPECT_EQ(at_rest(letters[i]), expert_letter(frame->experts[i], 0, 0)) << i;
    }
    return state["map"].get<std::string>();
  };
  take(0, true);
  EXPECT_FALSE(std::ranges::contains(letters, 'R')) << "what was used before is not just used";
  EXPECT_GT(std::ranges::count(letters, 'r'), 0);
  EXPECT_EQ(take(kInterval, false), "");
  write(4);
  take(2 * kInterval, false);
  EXPECT_GT(std::ranges::count(letters, 'R'), 0);
  take(3 * kInterval, false);
  EXPECT_EQ(std::ranges::count(letters, 'R'), 0);
}

TEST(LiveEvents, AnEventIsANameAndALineOfJson) {
  EXPECT_EQ(event_text("state", {{"text", "a\nb"}}), "event: state\ndata: {\"text\":\"a\\nb\"}\n\n");
}

}  // namespace
}  // namespace odmoe::server
