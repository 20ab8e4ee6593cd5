// Routed experts where the dense weights are computed, on a device with memory of its own: in place, from the
// host's arena, and from an arena in that memory.  The device is the processor, as if it were one
// (Backend::Options); real ones are in gpu_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/units.h"
#include "engine/device_support.h"
#include "expert_types.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/all_kinds.h"
#include "tests/engine/test_models.h"

namespace odmoe::device_experts_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

EngineOptions placed(const std::filesystem::path& model, ExpertPlacement placement) {
  EngineOptions options = reference_options(model);
  options.chunk = 32;
  options.sessions = 2;
  options.experts = placement;
  return options;
}

EngineDependencies own_memory() { return {.memory_of_its_own = true}; }

std::vector<float> bits_of(const EngineOptions& options, Stats* stats = nullptr) {
  const auto engine = open_or_fail(options, own_memory());
  if (engine == nullptr) return {};
  std::vector<float> logits = all_kinds(*engine);
  if (stats != nullptr) *stats = engine->stats();
  return logits;
}

// Of the device's memory, as much as leaves this share of the slots that a whole plan has.
uint64_t device_bytes_for(const EngineOptions& options, double share) {
  const auto engine = open_or_fail(options, own_memory());
  if (engine == nullptr) return 0;
  const MemoryPlan::Device plan = engine->plan().device;
  return plan.bytes() - plan.arena_bytes +
         static_cast<uint64_t>(share * static_cast<double>(plan.arena_bytes));
}

struct Kind {
  const char* name;
  RunnableModelOptions model;
};

class PlacedExperts : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    model_ = dir_ / "model.gguf";
    if (std::string_view(GetParam().name) == "bundled") {
      model_ = bundled_model();
    } else {
      runnable_model(GetParam().model).write(model_);
    }
  }
  TempDir dir_;
  std::filesystem::path model_;
};

TEST_P(PlacedExperts, GiveTheSameBitsAtEveryBudget) {
  std::vector<float> wanted;
  for (const ExpertPlacement placement : {ExpertPlacement::kInPlace, ExpertPlacement::kDevice}) {
    EngineOptions options = placed(model_, placement);
    options.predictor = PredictorKind::kNone;
    options.reader = ReaderChoice::kPread;
    Stats stats;
    const std::vector<float> whole = bits_of(options, &stats);
    ASSERT_FALSE(whole.empty());
    if (wanted.empty()) wanted = whole;
    EXPECT_TRUE(same(whole, wanted)) << "in place and in an arena: " << relative_l2(whole, wanted);
    const uint64_t fewer = placement == ExpertPlacement::kDevice ? device_bytes_for(options, 0.4) : 0;
    options.reader = ReaderChoice::kAuto;
    options.policy = PolicyKind::kLru;
    options.predictor = PredictorKind::kStaleGate;
    for (const double percent : {40.0, 0.001}) {
      options.memory.percent = percent;
      options.device_memory_bytes = fewer;
      Stats small;
      const std::vector<float> got = bits_of(options, &small);
      EXPECT_TRUE(same(got, wanted)) << placement_name(placement) << ", " << percent
                                     << " %: " << relative_l2(got, wanted);
      EXPECT_GT(small.experts.misses, 0U);
      if (placement == ExpertPlacement::kDevice) {
        EXPECT_GT(small.device_experts.copies, stats.device_experts.copies);
        EXPECT_GT(small.device_experts.evictions, 0U);
        EXPECT_EQ(stats.device_experts.evictions, 0U);
        EXPECT_LE(small.device_experts.evicted_to_host, small.device_experts.evictions);
        EXPECT_TRUE(percent < 1 || small.device_experts.evicted_to_host > 0)
            << "the host's arena is as large";
      }
    }
  }
}

// The same products by other kernels, or the same ones on other rows.
TEST_P(PlacedExperts, AreThoseOfTheHostButForRounding) {
  EngineOptions options = placed(model_, ExpertPlacement::kHost);
  const std::vector<float> wanted = bits_of(options);
  options.experts = ExpertPlacement::kInPlace;
  const std::vector<float> got = bits_of(options);
  ASSERT_EQ(got.size(), wanted.size());
  ASSERT_FALSE(wanted.empty());
  EXPECT_LE(relative_l2(got, wanted), 0.01);
}

INSTANTIATE_TEST_SUITE_P(
    Models, PlacedExperts,
    ::testing::Values(Kind{"bundled", {}}, Kind{"qwen3moe", {}},
                      Kind{"several_types", {.expert_type = GGML_TYPE_Q4_0, .down_type = GGML_TYPE_Q8_0}},
                      Kind{"shared_expert", {.architecture = "qwen2moe", .expert_type = GGML_TYPE_MXFP4}},
                      Kind{"merged", {.architecture = "deepseek2", .merge_gate_up = true}}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(ExpertArena, IsPlannedInTheDevicesMemoryAndBounded) {
  EngineOptions options = placed(bundled_model(), ExpertPlacement::kDevice);
  const auto engine = open_or_fail(options, own_memory());
  ASSERT_NE(engine, nullptr);
  const MemoryPlan::Device plan = engine->plan().device;
  EXPECT_EQ(plan.n_slot, engine->plan().n_expert_total);
  EXPECT_GT(plan.arena_bytes, 0U);
  EXPECT_EQ(engine->stats().memory.device.arena_bytes, plan.arena_bytes);
  EXPECT_LT(plan.minimum_bytes, plan.bytes());
  options.device_memory_bytes = plan.bytes() - plan.arena_bytes / 2;
  const auto half = open_or_fail(options, own_memory());
  ASSERT_NE(half, nullptr);
  EXPECT_LT(half->plan().device.n_slot, plan.n_slot);
  EXPECT_LE(half->plan().device.bytes(), options.device_memory_bytes);
  options.device_memory_bytes = plan.bytes() - plan.arena_bytes;
  const auto refused = EngineImpl::open(options, {}, own_memory());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBudget);
  EXPECT_THAT(refused.error().message, HasSubstr("experts); use --device-memory"));
  options.device_memory_bytes = plan.minimum_bytes;
  EXPECT_NE(open_or_fail(options, own_memory()), nullptr);
  --options.device_memory_bytes;
  EXPECT_FALSE(EngineImpl::open(options, {}, own_memory()).has_value());
}

std::string obstacle(const std::vector<PlacementVerdict>& verdicts, ExpertPlacement placement) {
  const auto verdict = std::ranges::find(verdicts, placement, &PlacementVerdict::placement);
  return verdict == verdicts.end() ? "there is none" : verdict->obstacle;
}

// What `odmoe devices MODEL` says, without weights.
TEST(Placements, AreTriedOut) {
  EngineOptions options = reference_options(bundled_model());
  const auto cpu = Backend::create(1).value();
  EXPECT_EQ(placements_on(*cpu, options).value().size(), 1U);
  const auto device = Backend::create({.threads = 1, .memory_of_its_own = true}).value();
  const auto verdicts = placements_on(*device, options).value();
  for (const auto placement : {ExpertPlacement::kHost, ExpertPlacement::kInPlace, ExpertPlacement::kDevice}) {
    EXPECT_EQ(obstacle(verdicts, placement), "") << placement_name(placement);
  }
  EXPECT_GT(device->traffic().graphs, 0U) << "made-up experts were computed";
}

TEST(Placements, AreRefusedWhereTwoExpertsAreMoreThanADeviceTakesAtOnce) {
  EngineOptions options = reference_options(bundled_model());
  uint64_t slot_bytes = 0;
  options.experts = ExpertPlacement::kDevice;
  if (const auto engine = open_or_fail(options, own_memory())) {
    slot_bytes = engine->plan().device.arena_bytes / static_cast<uint64_t>(engine->plan().device.n_slot);
  }
  const uint64_t room = 2 * 64 * kKiB;  // for pages on both sides
  for (const auto& [most, wanted] : {std::pair{room + slot_bytes * 3 / 2, "does not take two as one operand"},
                                     std::pair{room + slot_bytes / 2, "has in one piece"}}) {
    const auto device =
        Backend::create({.threads = 1, .memory_of_its_own = true, .max_buffer_bytes = most}).value();
    const auto verdicts = placements_on(*device, options).value();
    EXPECT_EQ(obstacle(verdicts, ExpertPlacement::kHost), "");
    for (const ExpertPlacement placement : {ExpertPlacement::kInPlace, ExpertPlacement::kDevice}) {
      EXPECT_THAT(obstacle(verdicts, placement), HasSubstr(wanted));
      EXPECT_THAT(obstacle(verdicts, placement), HasSubstr("an expert of layer "));
    }
  }
}

// --memory bounds both arenas.
TEST(ExpertArena, InMemoryThatIsTheHostsTooIsOfTheBudget) {
  EngineOptions options = placed(bundled_model(), ExpertPlacement::kDevice);
  const EngineDependencies shared = {.memory_of_its_own = true, .shares_host_memory = true};
  options.memory.percent = 0.001;
  MemoryPlan whole;
  // What the process takes is in the plan, and what the allocator keeps of what was freed grows with the
  // first few.
  for (int i = 0; i < 5; ++i) {
    if (const auto engine = open_or_fail(options, shared)) whole = engine->plan();
  }
  ASSERT_GT(whole.device.arena_bytes, 0U);
  options.memory = {.kind = MemoryBudget::Kind::kBytes,
                    .bytes = whole.minimum_bytes - whole.device.arena_bytes / 2,
                    .percent = 0};
  const auto engine = open_or_fail(options, shared);
  ASSERT_NE(engine, nullptr);
  const MemoryPlan half = engine->plan();
  EXPECT_LT(half.device.n_slot, whole.device.n_slot);
  EXPECT_GT(half.device.n_slot, whole.device.n_slot / 8);
  EXPECT_LE(half.minimum_bytes, options.memory.bytes);
}

TEST(ExpertArena, ThatTheDeviceRefusesIsAnError) {
  EngineOptions options = placed(bundled_model(), ExpertPlacement::kDevice);
  EngineDependencies dependencies = own_memory();
  uint64_t arena = 0;
  if (const auto engine = open_or_fail(options, dependencies)) arena = engine->plan().device.arena_bytes;
  ASSERT_GT(arena, 0U);
  dependencies.device_memory_fault = [arena](uint64_t bytes) -> Status {
    if (bytes < arena / 2) return {};
    return fail(ErrorKind::kIo, "the device has no {} of memory left", bytes);
  };
  const auto refused = EngineImpl::open(options, {}, dependencies);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kIo);
  EXPECT_THAT(refused.error().message, HasSubstr("of memory left"));
}

// Whichever graph it is: of dense weights or of experts, with copies under way.
TEST(ExpertsOnADevice, ThatFailsEndTheEvaluationAndNothingElse) {
  for (const ExpertPlacement placement : {ExpertPlacement::kInPlace, ExpertPlacement::kDevice}) {
    for (const int64_t after : {0, 1, 2, 3, 7}) {
      int64_t n_good = INT64_MAX;
      EngineDependencies dependencies = own_memory();
      dependencies.device_fault = [&]() -> Status {
        if (n_good-- > 0) return {};
        return fail(ErrorKind::kIo, "device lost");
      };
      EngineOptions options = placed(bundled_model(), placement);
      options.memory.percent = 30;
      const auto engine = open_or_fail(options, dependencies);
      ASSERT_NE(engine, nullptr);
      const auto session = engine->new_session().value();
      const std::vector<Token> prompt = engine->encode(kText, true, true);
      ASSERT_TRUE(session->evaluate(prompt).has_value());
      n_good = after;
      for (int i = 0; i < 2; ++i) {
        const Token next = 5;
        const Status status = session->evaluate({&next, 1});
        ASSERT_FALSE(status.has_value()) << after;
        EXPECT_EQ(status.error().kind, ErrorKind::kDeviceLost);
        EXPECT_THAT(status.error().message, HasSubstr("the device CPU failed: device lost"));
        EXPECT_EQ(session->tokens().size(), prompt.size());
      }
    }
  }
}

TEST(ExpertsOnADevice, WantOne) {
  const EngineOptions options = placed(bundled_model(), ExpertPlacement::kInPlace);
  const auto refused = EngineImpl::open(options, {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("name a --device"));
}

// Scales that are no numbers, within experts whose down would round them to some.
TEST(ExpertsOnADevice, NameTheOneWithinWhichAValueIsNotFinite) {
  const TempDir dir;
  const auto model = dir / "model.gguf";
  runnable_model({.expert_type = GGML_TYPE_Q8_0}).write(model);
  const auto engine = open_or_fail(placed(model, ExpertPlacement::kInPlace), own_memory());
  ASSERT_NE(engine, nullptr);
  const auto session = engine->new_session().value();
  const Token token = 5;
  ASSERT_TRUE(session->evaluate({&token, 1}).has_value());
  const SlotView view = engine->store().slot_view(0);
  const std::span<std::byte> arena = engine->store().arena();
  constexpr uint16_t kNan = 0x7E00;
  for (int32_t slot = 0; slot < view.n_slot; ++slot) {
    const uint64_t at = view.first_slot_offset + static_cast<uint64_t>(slot) * view.slot_bytes;
    std::memcpy(arena.data() + at + view.up_offset, &kNan, sizeof(kNan));
  }
  session->truncate(0);
  const Status status = session->evaluate({&token, 1});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(status.error().message, HasSubstr("layer 0, expert "));
}

}  // namespace
}  // namespace odmoe::device_experts_test
