// Experts may be computed elsewhere (engine/expert_site.h): by sites that answer late, in pieces, in another
// order, or not at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "expert_types.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/all_kinds.h"
#include "tests/engine/test_models.h"

namespace odmoe::expert_site_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

// What the test knows of a site and decides for it.
struct Hand {
  int n_work = 0;           // that was finished
  int n_abandoned = 0;      // that was not
  int fail_at = -1;         // the work that fails
  bool not_finite = false;  // it fails since a value is not finite
};

// A site with a store, a backend and a thread of its own, as if it were another machine: it computes one
// expert after the other, the last one first, and is asked for what it has when it is needed.
class RemoteSite final : public ExpertSite {
 public:
  static Result<std::unique_ptr<RemoteSite>> create(const std::filesystem::path& model,
                                                    const Decoder& decoder, int64_t max_tokens,
                                                    int32_t timelines, Hand& hand) {
    std::unique_ptr<RemoteSite> site(new RemoteSite(hand));
    ODMOE_ASSIGN_OR_RETURN(site->file_, open_checkpoint(model));
    const ModelShape& shape = decoder.shape();
    ODMOE_ASSIGN_OR_RETURN(site->source_, site->file_->expert_source(shape.n_layer, shape.router.n_expert,
                                                                     shape.router.n_expert_used));
    ODMOE_ASSIGN_OR_RETURN(site->backend_, Backend::create(1));
    ODMOE_ASSIGN_OR_RETURN(site->inner_,
                           LocalSite::create(*site->backend_, decoder, *site->file_,
                                             {.max_tokens = max_tokens, .rows_tried = timelines}));
    ODMOE_ASSIGN_OR_RETURN(auto reader, make_reader({.kind = ReaderKind::kPread, .direct = false}));
    ExpertStoreOptions options;
    options.arena_bytes = ExpertStore::min_arena_bytes(*site->source_, reader->alignment());
    ODMOE_ASSIGN_OR_RETURN(site->store_, ExpertStore::create(*site->source_, std::move(reader), options));
    ODMOE_RETURN_IF_ERROR(site->inner_->attach(*site->store_));
    return site;
  }
  ~RemoteSite() override {
    if (thread_.joinable()) thread_.join();
  }

  Status begin(const ExpertWork& work) override {
    EXPECT_FALSE(thread_.joinable()) << "the work before has not ended";
    work_ = work;
    thread_ = std::thread([this] { outcome_ = compute(); });
    return {};
  }

  Result<std::optional<DemandPair>> finish() override {
    thread_.join();
    if (hand_->n_work++ == hand_->fail_at) {
      if (hand_->not_finite) return work_.demand->pairs(work_.experts.front()).front();
      return fail(ErrorKind::kIo, "the other machine has gone");
    }
    return outcome_;
  }

  void abandon() override {
    if (!thread_.joinable()) return;
    thread_.join();
    ++hand_->n_abandoned;
  }

  void warm(std::span<const ExpertKey> experts) override { inner_->warm(experts); }
  Result<Warmth> warmed() override { return inner_->warmed(); }
  void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) override {
    inner_->hint(experts, depth);
  }

 private:
  explicit RemoteSite(Hand& hand) : hand_(&hand) {}

  Result<std::optional<DemandPair>> compute() {
    for (size_t i = work_.experts.size(); i-- > 0;) {
      ExpertWork piece = work_;
      piece.experts = work_.experts.subspan(i, 1);
      ODMOE_RETURN_IF_ERROR(inner_->begin(piece));
      ODMOE_ASSIGN_OR_RETURN(const auto not_finite, inner_->finish());
      if (not_finite) return not_finite;
    }
    return std::nullopt;
  }

  Hand* hand_;
  std::unique_ptr<Checkpoint> file_;
  std::unique_ptr<ExpertSource> source_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<ExpertStore> store_;
  std::unique_ptr<LocalSite> inner_;
  ExpertWork work_;
  Result<std::optional<DemandPair>> outcome_;
  std::thread thread_;
};

EngineOptions site_options(const std::filesystem::path& model) {
  EngineOptions options = reference_options(model);
  options.cache_type = CacheType::kF16;
  options.chunk = 32;
  options.sessions = 2;
  return options;
}

// A site that takes every third expert, and one that takes half of the second layer with experts.
EngineDependencies with_sites(const EngineOptions& options, Hand& thirds, Hand& halves) {
  EngineDependencies dependencies;
  dependencies.make_sites = [&,
                             options](const auto& context) -> Result<std::vector<EngineDependencies::Site>> {
    std::vector<EngineDependencies::Site> sites;
    const Decoder& decoder = context.decoder;
    const int second = decoder.expert_layers()[1];
    const auto make = [&](Hand& hand) {
      return RemoteSite::create(options.model, decoder, options.chunk, options.sessions, hand);
    };
    ODMOE_ASSIGN_OR_RETURN(auto first, make(thirds));
    sites.push_back({.site = std::move(first), .owns = [](int, int32_t expert) { return expert % 3 == 1; }});
    ODMOE_ASSIGN_OR_RETURN(auto other, make(halves));
    sites.push_back({.site = std::move(other),
                     .owns = [second](int layer, int32_t e) { return layer == second && e % 2 == 0; }});
    return sites;
  };
  return dependencies;
}

// Runs all_kinds() of a model with the engine's own site alone, and with two more; how much those two did.
std::array<Hand, 2> expect_same_bits_with_sites(const std::filesystem::path& model) {
  const EngineOptions options = site_options(model);
  std::vector<float> wanted;
  if (const auto engine = open_or_fail(options)) wanted = all_kinds(*engine);
  EXPECT_FALSE(wanted.empty());
  std::array<Hand, 2> hands;
  if (const auto engine = open_or_fail(options, with_sites(options, hands[0], hands[1]))) {
    EXPECT_TRUE(same(all_kinds(*engine), wanted));
  }
  return hands;
}

class ExpertSites : public ::testing::TestWithParam<ggml_type> {};

TEST_P(ExpertSites, ExpertsComputedElsewhereLateAndInPiecesGiveTheSameBits) {
  const TempDir dir;
  const std::filesystem::path model = dir / "model.gguf";
  // Rows long enough for K-quants.
  runnable_model({.expert_type = GetParam(), .n_embd = 256, .n_ff_exp = 256}).write(model);
  const auto [thirds, halves] = expect_same_bits_with_sites(model);
  EXPECT_GT(thirds.n_work, 20);
  EXPECT_GT(halves.n_work, 10);
}

INSTANTIATE_TEST_SUITE_P(Types, ExpertSites,
                         ::testing::Values(GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K),
                         [](const auto& one) { return test_name(ggml_type_name(one.param)); });

TEST(ExpertSite, OnTheBundledModelToo) { expect_same_bits_with_sites(bundled_model()); }

TEST(ExpertSite, OneThatFailsEndsTheEvaluationAndTheNextGivesTheSameBits) {
  const EngineOptions options = site_options(bundled_model());
  std::vector<float> wanted;
  {
    const auto engine = open_or_fail(options);
    ASSERT_NE(engine, nullptr);
    wanted = all_logits(*engine, engine->encode(kText, true, true));
  }
  Hand thirds, halves;
  thirds.fail_at = 2;
  const auto engine = open_or_fail(options, with_sites(options, thirds, halves));
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> tokens = engine->encode(kText, true, true);
  {
    auto session = engine->new_session().value();
    const Status status = session->evaluate(tokens);
    ASSERT_FALSE(status.has_value());
    EXPECT_THAT(status.error().message, HasSubstr("the other machine has gone"));
  }
  EXPECT_TRUE(same(all_logits(*engine, tokens), wanted));
}

TEST(ExpertSite, WhenOneFailsTheOthersAreAbandoned) {
  const EngineOptions options = site_options(bundled_model());
  Hand thirds, halves;
  thirds.fail_at = 1;  // in the second layer, where the other site has work too
  const auto engine = open_or_fail(options, with_sites(options, thirds, halves));
  ASSERT_NE(engine, nullptr);
  auto session = engine->new_session().value();
  ASSERT_FALSE(session->evaluate(engine->encode(kText, true, true)).has_value());
  EXPECT_EQ(halves.n_abandoned, 1);
}

TEST(ExpertSite, AValueThatIsNotFiniteIsAnErrorThatNamesItsExpert) {
  const EngineOptions options = site_options(bundled_model());
  Hand thirds, halves;
  thirds.fail_at = 0;
  thirds.not_finite = true;
  const auto engine = open_or_fail(options, with_sites(options, thirds, halves));
  ASSERT_NE(engine, nullptr);
  auto session = engine->new_session().value();
  const Status status = session->evaluate(engine->encode(kText, true, true));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(status.error().message,
              ::testing::ContainsRegex("layer [0-9]+, expert [0-9]*[0-9], for the token"));
}

}  // namespace
}  // namespace odmoe::expert_site_test
