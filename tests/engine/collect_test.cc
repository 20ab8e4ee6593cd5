// Recording what a real, if tiny, model's routers see and choose.
#include "engine/collect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "engine/routed_model.h"
#include "ggml.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::collect_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string corpus() {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "In the beginning was the word, and the word had the number " + std::to_string(i);
  return text;
}

class Collect : public ::testing::Test {
 protected:
  void SetUp() override {
    EngineOptions options = reference_options(bundled_model());
    options.memory.percent = 25;
    options.context = 64;
    options.chunk = 32;  // so that a document takes two
    engine_ = open_or_fail(options);
    ASSERT_NE(engine_, nullptr);
    options_.tool = "test";
    options_.corpus = {{.name = "a.txt", .text = text_}};
    options_.n_token = 300;
    options_.document_tokens = 48;
    options_.shard_bytes = 200'000;  // two documents
  }

  const std::string text_ = corpus();
  TempDir dir_;
  std::unique_ptr<Engine> engine_;
  CollectOptions options_;
};

TEST_F(Collect, RecordsStatesThatGiveTheChoicesBack) {
  options_.folder = dir_ / "data";
  const auto collection = collect(*engine_, options_);
  ASSERT_TRUE(collection.has_value()) << collection.error().message;
  EXPECT_TRUE(collection->complete);
  EXPECT_GE(collection->n_token, 300);
  const auto routers = read_routers(options_.folder, *collection);
  ASSERT_TRUE(routers.has_value()) << routers.error().message;
  const auto shard = read_shard(options_.folder, *collection, 0);
  ASSERT_TRUE(shard.has_value()) << shard.error().message;

  const auto n_embd = static_cast<size_t>(collection->model.n_embd);
  const auto n_expert = static_cast<size_t>(collection->model.n_expert);
  const auto n_used = static_cast<size_t>(collection->model.n_expert_used);
  const size_t n_layer = routers->size();
  size_t found = 0, wanted = 0;
  for (size_t row = 0; row < static_cast<size_t>(shard->n_token) * n_layer; ++row) {
    const RouterWeights& router = (*routers)[row % n_layer];
    std::vector<std::pair<float, uint16_t>> logits(n_expert);
    for (size_t e = 0; e < n_expert; ++e) {
      float logit = 0;
      for (size_t i = 0; i < n_embd; ++i) {
        logit += router.weight[e * n_embd + i] * ggml_fp16_to_fp32(shard->router_input[row * n_embd + i]);
      }
      logits[e] = {-logit, static_cast<uint16_t>(e)};
    }
    std::ranges::sort(logits);
    const auto chosen = std::span(shard->experts).subspan(row * n_used, n_used);
    for (size_t k = 0; k < n_used; ++k) found += std::ranges::contains(chosen, logits[k].second) ? 1 : 0;
    wanted += n_used;
  }
  // States are rounded to f16, which can swap two experts whose logits are next to equal.
  EXPECT_GT(static_cast<double>(found), 0.995 * static_cast<double>(wanted));
  // The first layer's attention begins with the embedding.
  EXPECT_TRUE(std::equal(shard->embedding.begin(), shard->embedding.begin() + static_cast<ptrdiff_t>(n_embd),
                         shard->attention_input.begin()));
}

TEST_F(Collect, GoesOnAfterAnInterruptionAsIfThereHadBeenNone) {
  options_.folder = dir_ / "whole";
  ASSERT_TRUE(collect(*engine_, options_).has_value());
  options_.folder = dir_ / "parts";
  int interruptions = 0;
  for (int patience = 1;; ++patience) {
    int documents = 0;
    options_.progress = [&](int64_t, int64_t) { return ++documents < patience; };
    const auto result = collect(*engine_, options_);
    if (result.has_value()) break;
    ASSERT_EQ(result.error().kind, ErrorKind::kInterrupted) << result.error().message;
    EXPECT_THAT(result.error().message, HasSubstr("the same command goes on"));
    ASSERT_LT(++interruptions, 50);
  }
  EXPECT_GT(interruptions, 2);
  size_t n_file = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "whole")) {
    EXPECT_TRUE(text_of(entry.path()) == text_of(dir_ / "parts" / entry.path().filename().string()))
        << entry.path();
    ++n_file;
  }
  EXPECT_GT(n_file, 4U);
}

TEST_F(Collect, ChangesNoLogit) {
  const auto logits = [&] {
    auto session = engine_->new_session().value();
    const std::vector<Token> tokens = engine_->encode("In the beginning", true, true);
    EXPECT_TRUE(session->evaluate(tokens).has_value());
    EXPECT_TRUE(session->evaluate(std::span(tokens).first(1)).has_value());
    return std::vector<float>(session->logits().begin(), session->logits().end());
  };
  const std::vector<float> before = logits();
  class Nothing final : public RoutingObserver {
    Status on_tokens(const ObservedTokens&) override { return {}; }
    Status on_layer(const ObservedLayer&) override { return {}; }
  } observer;
  engine_->set_routing_observer(&observer);
  EXPECT_EQ(logits(), before);
  engine_->set_routing_observer(nullptr);
  EXPECT_EQ(logits(), before);
}

TEST_F(Collect, RefusesAFolderOfOtherOptions) {
  options_.folder = dir_ / "data";
  ASSERT_TRUE(collect(*engine_, options_).has_value());
  EXPECT_TRUE(collect(*engine_, options_).has_value());  // complete: nothing to do
  options_.n_token = 200;
  const auto result = collect(*engine_, options_);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(result.error().message, HasSubstr("--tokens 300"));
}

TEST_F(Collect, RecordsWhatTheModelWritesItself) {
  options_.folder = dir_ / "data";
  options_.n_generate = 20;
  options_.n_token = 100;
  const auto collection = collect(*engine_, options_);
  ASSERT_TRUE(collection.has_value()) << collection.error().message;
  EXPECT_EQ(collection->source, "generation");
  EXPECT_GT(collection->n_token, 80);
  const auto again = [&] {
    options_.folder = dir_ / "again";
    return collect(*engine_, options_);
  }();
  ASSERT_TRUE(again.has_value());
  EXPECT_TRUE(text_of(dir_ / "data" / "shard-00000.safetensors.gz") ==
              text_of(dir_ / "again" / "shard-00000.safetensors.gz"));
}

TEST_F(Collect, TheRoutingAloneIsThatOfTheStates) {
  options_.folder = dir_ / "data";
  const auto collection = collect(*engine_, options_);
  ASSERT_TRUE(collection.has_value());
  const auto documents = collect_routing(*engine_, options_);
  ASSERT_TRUE(documents.has_value()) << documents.error().message;
  ASSERT_EQ(static_cast<int64_t>(documents->size()), collection->n_document);
  const auto shard = read_shard(options_.folder, *collection, 0);
  ASSERT_TRUE(shard.has_value());
  EXPECT_TRUE(std::ranges::equal((*documents)[0].experts,
                                 std::span(shard->experts).first((*documents)[0].experts.size())));
}

TEST_F(Collect, NeedsASessionOfItsOwn) {
  const auto session = engine_->new_session();
  options_.folder = dir_ / "data";
  const auto result = collect(*engine_, options_);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kBudget);
}

TEST_F(Collect, AnObserverMayComeAndGoBetweenTheTokensOfASession) {
  class Counter final : public RoutingObserver {
   public:
    int n_token = 0, n_layer = 0;
    bool states = true;

   private:
    Status on_tokens(const ObservedTokens& tokens) override {
      n_token += static_cast<int>(tokens.tokens.size());
      embedding_.assign(tokens.embedding.begin(), tokens.embedding.end());
      return {};
    }
    Status on_layer(const ObservedLayer& layer) override {
      // The first layer has experts: its attention begins with the embedding.
      states = states && std::ranges::equal(layer.attention_input, embedding_) == (layer.layer == 0);
      ++n_layer;
      return {};
    }
    std::vector<float> embedding_;
  } observer;
  const auto session = engine_->new_session().value();
  const std::vector<Token> tokens = engine_->encode("In the beginning was the word", true, true);
  const auto decode = [&] {
    for (const Token token : tokens) ASSERT_TRUE(session->evaluate({&token, 1}).has_value());
  };
  decode();
  engine_->set_routing_observer(&observer);
  decode();
  engine_->set_routing_observer(nullptr);
  decode();
  EXPECT_EQ(observer.n_token, std::ssize(tokens));
  EXPECT_GT(observer.n_layer, observer.n_token);
  EXPECT_TRUE(observer.states);
}

}  // namespace
}  // namespace odmoe::collect_test
