// The stale gate sees of each family's states what its routers see (see CONTRIBUTING.md for the reference
// data).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>

#include "backend/tensor_memory.h"
#include "base/units.h"
#include "engine/live_stale_gate.h"
#include "engine/routed_model.h"
#include "model/arch/architecture.h"
#include "predict/recorded_routers.h"
#include "tests/engine/family_files.h"
#include "tests/engine/test_models.h"

namespace odmoe::family_prediction_test {
namespace {

using namespace odmoe::testing;
using ::testing::UnorderedElementsAreArray;

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

// What was between the layers when a router spoke, and what it chose.
struct Seen {
  size_t layer = 0;  // among those with experts
  Token token = 0;
  std::vector<float> layer_input, residual, streams, banked, router_input;
  std::vector<int32_t> experts;
};

// Writes down all that predictors are told.
class Witness final : public Predictor {
 public:
  explicit Witness(std::vector<Seen>& seen) : seen_(&seen) {}
  std::string_view name() const override { return "witness"; }
  bool calibrated() const override { return false; }
  Wants wants() const override {
    return {.router_input = true, .attention_input = true, .residual = true, .streams = true};
  }
  uint64_t bytes() const override { return 0; }
  Result<int32_t> predict(const RoutingState& /*state*/, std::span<float> /*scores*/) override { return 0; }
  void learn(const RoutingState& state) override {
    seen_->push_back({.layer = state.layer,
                      .layer_input = copy(state.attention_input),
                      .residual = copy(state.residual),
                      .streams = copy(state.streams),
                      .banked = copy(state.banked),
                      .router_input = copy(state.router_input),
                      .experts = {state.experts.begin(), state.experts.end()}});
  }

 private:
  std::vector<Seen>* seen_;
};

class FamilyPrediction : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    path_ = shared_file(std::string("models/families/") + GetParam() + ".gguf");
    if (path_.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  }

  // Decodes some tokens.
  void witness() {
    EngineOptions options = reference_options(path_);
    options.flash_attention = FlashAttention::kOff;
    options.predictor = PredictorKind::kPreviousToken;
    engine_ = open_or_fail(options, {.wrap_predictor = [this](auto, const PredictorShape&) {
                             return std::make_unique<Witness>(seen_);
                           }});
    ASSERT_NE(engine_, nullptr);
    const auto session = engine_->new_session().value();
    for (const Token token : {7, 31, 200, 31}) {
      ASSERT_TRUE(session->evaluate({&token, 1}).has_value());
      for (Seen& seen : seen_) seen.token = seen.token == 0 ? token : seen.token;
    }
    ASSERT_EQ(seen_.size(), 4 * decoder().expert_layers().size());
  }

  const Decoder& decoder() const { return engine_->decoder(); }
  const ModelShape& shape() const { return decoder().shape(); }
  bool by_token(const Seen& seen) const {
    return !decoder().experts_of(decoder().expert_layers()[seen.layer], seen.token).empty();
  }

  // The choice of a layer's router by logits, or by marks that have all in them that it takes into account.
  std::vector<int32_t> best(size_t target, std::span<const float> logits) const {
    Router router(shape().router);
    std::vector<int32_t> ids(static_cast<size_t>(shape().router.n_expert_used));
    std::vector<float> weights(ids.size());
    router.route(logits, decoder().selection_bias(decoder().expert_layers()[target]), ids, weights);
    return ids;
  }
  std::vector<int32_t> best_of_marks(std::span<const float> marks) const {
    std::vector<int32_t> ids(static_cast<size_t>(shape().router.n_expert_used));
    best_experts(marks, ids);
    return ids;
  }

  // What the stale gate makes of a state for the router of a layer, logits.
  std::vector<float> ask(const Seen& seen, std::span<const float> residual, size_t target) const {
    const auto backend = Backend::create(1).value();
    const auto context = ggml_context_ptr(
        ggml_init({.mem_size = 8 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    const auto memory = DeviceMemory::allocate(*backend, 1 << 20).value();
    uint64_t offset = 0;
    const auto make = [&](size_t n) {
      ggml_tensor* tensor = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, static_cast<int64_t>(n), 1);
      EXPECT_TRUE(memory.place(tensor, offset));
      offset += round_up(ggml_nbytes(tensor), kTensorAlignment);
      return tensor;
    };
    const auto make_of = [&](std::span<const float> values) -> ggml_tensor* {
      if (values.empty()) return nullptr;
      ggml_tensor* tensor = make(values.size());
      write_tensor(tensor, 0, std::as_bytes(values));
      return tensor;
    };
    const Decoder::StateBetween state{
        .residual = make_of(residual), .streams = make_of(seen.streams), .banked = make_of(seen.banked)};
    std::vector<float> said(static_cast<size_t>(shape().router.n_expert));
    ggml_tensor* logits = make(said.size());
    Graph graph(64);
    decoder().build_stale_gate(graph.context(), graph.graph(), state, target, decoder().router(target),
                               logits);
    const ggml_gallocr_ptr allocator(ggml_gallocr_new(backend->buffer_type()));
    EXPECT_TRUE(ggml_gallocr_alloc_graph(allocator.get(), graph.graph()));
    EXPECT_TRUE(backend->compute(graph.graph()).has_value());
    read_tensor(logits, 0, std::as_writable_bytes(std::span(said)));
    return said;
  }

  std::filesystem::path path_;
  std::vector<Seen> seen_;
  std::unique_ptr<EngineImpl> engine_;
};

TEST_P(FamilyPrediction, OfALayersOwnStateTheStaleGateSaysWhatTheLayerChose) {
  ASSERT_NO_FATAL_FAILURE(witness());
  for (const Seen& seen : seen_) {
    SCOPED_TRACE(::testing::Message() << "token " << seen.token << ", layer " << seen.layer);
    if (by_token(seen)) continue;  // its router chooses nothing
    const auto& state = shape().routers_see_layer_input() ? seen.layer_input : seen.residual;
    EXPECT_EQ(best(seen.layer, ask(seen, state, seen.layer)), seen.experts);
  }
}

class FamilyWithEarlyRouters : public FamilyPrediction {};

// Where there is nothing between the embedding and the first router but a norm, nothing is stale.
TEST_P(FamilyWithEarlyRouters, TheFirstLayersChoiceIsForeseenExactly) {
  ASSERT_NO_FATAL_FAILURE(witness());
  ASSERT_TRUE(shape().routers_see_layer_input());
  ASSERT_EQ(shape().first_expert_layer(), 0);
  const auto backend = Backend::create(1).value();
  const auto gate = LiveStaleGate::create(*backend, decoder(), 1).value();
  gate->copy_routers();
  const RoutedModelData routed = read_routed_model(path_).value();
  RecordedRouters recorded(routed.model, routed.routers);
  std::vector<float> embedding(static_cast<size_t>(shape().n_embd));
  std::vector<float> scores(static_cast<size_t>(shape().router.n_expert));
  for (const Seen& seen : seen_) {
    if (seen.layer != 0) continue;
    decoder().embedding(seen.token, embedding);
    ASSERT_EQ(gate->begin_token(embedding, scores).value(), 1);
    EXPECT_EQ(best_of_marks(scores), seen.experts);
    recorded.mark_embedding(embedding, 0, scores);
    EXPECT_EQ(best_of_marks(scores), seen.experts);
  }
}

// Recorded data have what the router's matrix multiplies, and the norms: that is enough for the same guess.
TEST_P(FamilyPrediction, TheStaleGateOnRecordedStatesSaysWhatTheLiveOneSays) {
  ASSERT_NO_FATAL_FAILURE(witness());
  const RoutedModelData routed = read_routed_model(path_).value();
  RecordedRouters recorded(routed.model, routed.routers);
  std::vector<float> marks(static_cast<size_t>(shape().router.n_expert));
  size_t n_compared = 0;
  for (const Seen& seen : seen_) {
    SCOPED_TRACE(::testing::Message() << "token " << seen.token << ", layer " << seen.layer);
    if (!by_token(seen)) {
      recorded.mark(seen.layer, seen.router_input, seen.layer, marks);
      EXPECT_EQ(best_of_marks(marks), seen.experts);
      ++n_compared;
    }
    const size_t next = seen.layer + 1;
    // The mix of streams is each layer's own, and the live one knows what attention made of the layer's
    // input.
    if (next == decoder().expert_layers().size() || routed.model.router.sees != "residual") continue;
    recorded.mark(seen.layer, seen.router_input, next, marks);
    EXPECT_THAT(best_of_marks(marks), UnorderedElementsAreArray(best(next, ask(seen, seen.residual, next))));
  }
  EXPECT_GT(n_compared, 0U);
}

// What is said of a model in data and weights.
TEST_P(FamilyPrediction, TheShapeSaysWhatRoutersAndExpertsSee) {
  const RoutedModel model = read_routed_model(path_).value().model;
  const RouterRule& rule = model.router;
  const std::string_view family = model.architecture;
  const auto is_one_of = [&](std::initializer_list<std::string_view> families) {
    return std::ranges::contains(families, family);
  };
  const bool streams = is_one_of({"deepseek4", "glm5-next", "hy_v4", "kimi-k3", "qwen4exp"});
  const bool early = is_one_of({"arctic", "cohere2moe", "smallthinker"});
  EXPECT_EQ(rule.sees, streams ? "streams" : early ? "layer-input" : "residual");
  EXPECT_EQ(rule.norm, is_one_of({"qwen4exp", "smallthinker"}) ? "none"
                       : is_one_of({"cohere2moe", "dbrx"})     ? "layer"
                                                               : "rms");
  EXPECT_EQ(rule.norm_groups, family == "k2-horizon" ? 4 : 1);
  EXPECT_EQ(rule.experts_see_another, is_one_of({"gemma4", "kimi-k3", "maion-coder", "smallthinker"}));
}

INSTANTIATE_TEST_SUITE_P(Models, FamilyWithEarlyRouters, ::testing::Values("arctic.F32", "smallthinker.F32"),
                         [](const auto& test) { return test_name(test.param); });
INSTANTIATE_TEST_SUITE_P(Models, FamilyPrediction, ::testing::ValuesIn(kFamilyFiles),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace odmoe::family_prediction_test
