// Experts in the layout of this processor's wider kernels: the same bits whatever the budget, the policy, the
// reader and the company, close to those of the model that they were made from, and refused where the layout
// is another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "backend/repacked_layout.h"
#include "format/expert_directory.h"
#include "odmoe/format.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/made_directory.h"
#include "tests/engine/test_models.h"

namespace odmoe::repacked_experts_test {
namespace {

using namespace odmoe::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr std::string_view kText = "the quick brown fox jumps over the lazy dog, 42 times";
constexpr int kDecoded = 6;

// The types that some processor's ggml has kernels for.
constexpr std::array kTypes = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q2_K, GGML_TYPE_IQ4_NL,
                               GGML_TYPE_MXFP4};

class RepackedExperts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (layout_ == nullptr) GTEST_SKIP() << "this ggml has no layout for wider kernels on this processor";
  }
  std::filesystem::path repacked(const std::filesystem::path& model) const {
    std::filesystem::path out = model;
    out += ".repacked";
    convert_or_fail(model, out, {.repack = layout_.get()});
    return out;
  }
  // A model whose experts are of a type that this processor has a layout for; its down projections of the
  // second layer are Q8_0, and so mostly are not.
  std::filesystem::path model_of(ggml_type type, RunnableModelOptions options = {}) const {
    options.expert_type = type;
    options.down_type = GGML_TYPE_Q8_0;
    options.n_embd = options.n_ff_exp = 256;
    const auto path = dir_ / odmoe::format("{}{}{}.gguf", options.architecture, ggml_type_name(type),
                                           options.merge_gate_up ? "merged" : "");
    runnable_model(options).write(path);
    return path;
  }
  bool takes(ggml_type type) const { return layout_->takes(type, 256, 256); }
  ggml_type some_type() const {
    for (const ggml_type type : kTypes) {
      if (takes(type)) return type;
    }
    ADD_FAILURE() << "the layout takes none of the types that are known";
    return GGML_TYPE_Q4_0;
  }

  TempDir dir_;
  std::unique_ptr<Backend> backend_ = Backend::create(1).value();
  std::unique_ptr<RepackedLayout> layout_ = RepackedLayout::create(*backend_);
};

EngineOptions options_for(const std::filesystem::path& model, double percent = 100) {
  EngineOptions options = reference_options(model);
  options.memory.percent = percent;
  options.chunk = 16;
  return options;
}

// Every position of a prompt, then of tokens one by one.
std::vector<float> logits_of(const EngineOptions& options, std::string_view text = kText) {
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  std::vector<float> logits;
  const LogitsSink collect = [&](int32_t, std::span<const float> values) {
    logits.insert(logits.end(), values.begin(), values.end());
  };
  auto session = engine->new_session().value();
  EXPECT_TRUE(session->evaluate(engine->encode(text, true, true), collect).has_value());
  for (int i = 0; i < kDecoded; ++i) {
    const auto next =
        static_cast<Token>(std::ranges::max_element(session->logits()) - session->logits().begin());
    EXPECT_TRUE(session->evaluate({&next, 1}, collect).has_value());
  }
  return logits;
}

void expect_same_bits(std::span<const float> got, std::span<const float> wanted) {
  ASSERT_FALSE(wanted.empty());
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size_bytes()), 0);
}

void expect_same_bits_at_every_budget(const std::filesystem::path& model) {
  const std::vector<float> wanted = logits_of(options_for(model));
  for (const ReaderChoice reader : {ReaderChoice::kPread, ReaderChoice::kAuto}) {
    for (const double percent : {100.0, 40.0, 0.001}) {
      for (const PolicyKind policy : {PolicyKind::kForecast, PolicyKind::kLayerLru}) {
        SCOPED_TRACE(::testing::Message() << percent << " % of the experts, " << policy_name(policy));
        EngineOptions options = options_for(model, percent);
        options.reader = reader;
        options.policy = policy;
        options.predictor = percent < 50 ? PredictorKind::kStaleGate : PredictorKind::kNone;
        expect_same_bits(logits_of(options), wanted);
      }
    }
  }
}

TEST_F(RepackedExperts, GiveTheSameBitsAtEveryBudgetPolicyAndReaderInEveryType) {
  for (const ggml_type type : kTypes) {
    if (!takes(type)) continue;
    SCOPED_TRACE(ggml_type_name(type));
    const auto out = repacked(model_of(type));
    ASSERT_GT(Engine::inspect(options_for(out)).value().repacked_bytes, 0U);
    expect_same_bits_at_every_budget(out);
  }
}

TEST_F(RepackedExperts, AreThoseOfEveryFamilyWhetherGateAndUpAreMergedOrNot) {
  for (const char* architecture : {"deepseek2", "qwen2moe", "qwen3moe"}) {
    SCOPED_TRACE(architecture);
    std::vector<float> apart;
    for (const bool merged : {false, true}) {
      const auto model = model_of(some_type(), {.architecture = architecture, .merge_gate_up = merged});
      const auto out = repacked(model);
      const std::vector<float> got = logits_of(options_for(out));
      expect_same_bits(logits_of(options_for(out, 30)), got);
      if (merged) expect_same_bits(got, apart);
      apart = got;
    }
  }
}

TEST_F(RepackedExperts, AreCloseToThoseOfTheModelThatTheyWereMadeFrom) {
  for (const ggml_type type : kTypes) {
    if (!takes(type)) continue;
    SCOPED_TRACE(ggml_type_name(type));
    const auto model = model_of(type);
    const std::vector<float> plain = logits_of(options_for(model));
    const std::vector<float> laid_out = logits_of(options_for(repacked(model)));
    ASSERT_EQ(laid_out.size(), plain.size());
    EXPECT_LE(relative_l2(laid_out, plain), 5e-2);
  }
}

TEST_F(RepackedExperts, AreWithinToleranceOfLlamaCpp) {
  std::ifstream file(shared_file("models/arch/reference.json"));
  if (!file) GTEST_SKIP() << "set ODMOE_SHARED to the reference data";
  const auto tokens = Json::parse(file).at("tokens").get<std::vector<Token>>();
  for (const std::string name : {"qwen3moe.Q4_K_M", "qwen3moe.Q3_K_M", "qwen3moe.Q2_K"}) {
    SCOPED_TRACE(name);
    const auto out = dir_ / name;
    convert_or_fail(shared_file("models/arch/" + name + ".gguf"), out, {.repack = layout_.get()});
    const auto engine = open_or_fail(options_for(out));
    ASSERT_NE(engine, nullptr);
    auto session = engine->new_session().value();
    ASSERT_TRUE(session->evaluate(tokens).has_value());
    const std::vector<float> wanted = read_floats(shared_file("models/arch/" + name + ".logits.f32"));
    EXPECT_LE(relative_l2(session->logits(), wanted), 5e-2);
    EXPECT_LE(kl_divergence(session->logits(), wanted), 1e-3);
  }
}

TEST_F(RepackedExperts, GiveEachSessionInCompanyTheBitsThatItGetsAlone) {
  constexpr int kSessions = 4;
  for (const ggml_type type : kTypes) {
    if (!takes(type)) continue;
    SCOPED_TRACE(ggml_type_name(type));
    EngineOptions options = options_for(repacked(model_of(type)), 40);
    options.sessions = kSessions;
    const auto engine = open_or_fail(options);
    ASSERT_NE(engine, nullptr);
    std::vector<std::unique_ptr<Session>> sessions;
    const std::vector<Token> tokens = engine->encode(kText, true, true);
    const auto share_of = [&](size_t i) { return std::span(tokens).subspan(3 * i, 20); };
    for (size_t i = 0; i < kSessions; ++i) {
      sessions.push_back(engine->new_session().value());
      ASSERT_TRUE(sessions.back()->evaluate(share_of(i)).has_value());
    }
    for (int step = 0; step < kDecoded; ++step) {
      std::vector<NextToken> batch;
      for (size_t i = 0; i < kSessions; ++i)
        batch.push_back({.session = sessions[i].get(), .token = tokens[static_cast<size_t>(step) + i]});
      ASSERT_TRUE(engine->step(batch).has_value());
    }
    std::vector<std::vector<float>> together;
    for (const auto& session : sessions)
      together.emplace_back(session->logits().begin(), session->logits().end());
    sessions.clear();
    for (size_t i = 0; i < kSessions; ++i) {
      auto alone = engine->new_session().value();
      ASSERT_TRUE(alone->evaluate(share_of(i)).has_value());
      for (int step = 0; step < kDecoded; ++step)
        ASSERT_TRUE(alone->evaluate({&tokens[static_cast<size_t>(step) + i], 1}).has_value());
      expect_same_bits(alone->logits(), together[i]);
    }
  }
}

TEST_F(RepackedExperts, AreAnotherModelToSavedStatesAndMirrors) {
  const auto model = model_of(some_type());
  ASSERT_NO_FATAL_FAILURE(convert_or_fail(model, dir_ / "plain", {}));
  const auto out = repacked(model);
  std::filesystem::copy(out, dir_ / "copy", std::filesystem::copy_options::recursive);
  const auto identity = [](const std::filesystem::path& path) {
    const auto engine = open_or_fail(options_for(path));
    return engine == nullptr ? "" : engine->state_identity().value();
  };
  EXPECT_EQ(identity(dir_ / "copy"), identity(out));
  EXPECT_NE(identity(dir_ / "plain"), identity(out));

  EngineOptions options = options_for(out, 30);
  options.mirrors = {dir_ / "copy"};
  expect_same_bits(logits_of(options), logits_of(options_for(out)));
  options.mirrors = {dir_ / "plain"};
  const auto mirrored = EngineImpl::open(options, {});
  ASSERT_FALSE(mirrored.has_value());
  EXPECT_THAT(mirrored.error().message, HasSubstr("is not a mirror of"));
}

// What opening says of a directory whose model.json was changed; empty where it opens.
class ChangedRepackedExperts : public RepackedExperts {
 protected:
  void SetUp() override {
    RepackedExperts::SetUp();
    if (!IsSkipped()) out_ = repacked(model_of(some_type()));
  }
  std::string error_after(const std::function<void(Json& repacked)>& change) const {
    const auto path = out_ / "model.json";
    const std::string before = read_text(path);
    Json json = Json::parse(before);
    change(json["repacked"]);
    std::ofstream(path) << json.dump();
    const auto engine = EngineImpl::open(options_for(out_), {});
    std::ofstream(path) << before;
    if (engine.has_value()) return {};
    EXPECT_EQ(engine.error().kind, ErrorKind::kUnsupported);
    EXPECT_EQ(engine.error().message.find('\n'), std::string::npos);
    return engine.error().message;
  }

  std::filesystem::path out_;
};

void change_hash(Json& repacked) { repacked["matrices"][0]["xxh3"] = "0123456789abcdef"; }

TEST_F(ChangedRepackedExperts, AreRefusedWhereThisGgmlLaysThemOutOtherwise) {
  EXPECT_EQ(error_after([](Json&) {}), "");
  EXPECT_THAT(error_after([](Json& json) {
                change_hash(json);
                json["ggml"] = "0.99.9 (abc)";
              }),
              AllOf(HasSubstr(out_.string()), HasSubstr("repacked (" + layout_->name() + ")"),
                    HasSubstr("it was ggml 0.99.9 (abc), this is " + layout_->ggml()),
                    HasSubstr("convert the model that it was made from again")));
  EXPECT_THAT(error_after([](Json& json) {
                change_hash(json);
                json["processor"] = "NEON=1";
              }),
              HasSubstr("its processor had NEON=1, this has " + layout_->processor()));
  EXPECT_THAT(error_after(change_hash), HasSubstr("model.json is damaged"));
  EXPECT_THAT(error_after([](Json& json) { json["layout"] = "AMX"; }),
              AllOf(HasSubstr("repacked (AMX)"), HasSubstr("this ggml has " + layout_->name())));
}

TEST_F(ChangedRepackedExperts, AreReadByAnotherVersionThatLaysThemOutInTheSameWay) {
  EXPECT_EQ(error_after([](Json& json) {
              json["ggml"] = "0.99.9 (abc)";
              json["processor"] = "AVX1024=1";
            }),
            "");
}

TEST_F(ChangedRepackedExperts, AreNotConvertedAgain) {
  const auto source = make_checkpoint_source(open_checkpoint(out_).value());
  ASSERT_FALSE(source.has_value());
  EXPECT_EQ(source.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(source.error().message, HasSubstr("convert what it was made from"));
}

}  // namespace
}  // namespace odmoe::repacked_experts_test
