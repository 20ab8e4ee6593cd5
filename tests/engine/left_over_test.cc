// Every key and tensor of a file is used, is passed over for a reason, or is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "convert/convert.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::left_over_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kText = "the quick brown fox jumps over the lazy dog, 42 times";
constexpr const char* kFamilies[] = {"deepseek2", "qwen2moe", "qwen3moe"};

std::string key_of(const char* family, std::string_view name) { return odmoe::format("{}.{}", family, name); }

std::vector<LeftOver> left_over_of(const std::filesystem::path& path) {
  const auto info = Engine::inspect(reference_options(path));
  if (!info.has_value()) {
    ADD_FAILURE() << info.error().message;
    return {};
  }
  return info->left_over;
}

std::vector<LeftOver> left_over_of(const GgufWriter& model) {
  const TempDir dir;
  model.write(dir / "model.gguf");
  return left_over_of(dir / "model.gguf");
}

std::vector<std::string> refused(const std::vector<LeftOver>& list) {
  std::vector<std::string> names;
  for (const LeftOver& left : list) {
    EXPECT_THAT(left.reason, ::testing::Not(IsEmpty())) << left.name;
    if (left.refused) names.push_back(left.name);
  }
  return names;
}

// What an engine says of it; empty when it opens.
std::string error_of(const std::filesystem::path& path) {
  const auto engine = EngineImpl::open(reference_options(path), {});
  if (engine.has_value()) return {};
  EXPECT_THAT(engine.error().message, ::testing::Not(HasSubstr("\n")));
  return engine.error().message;
}

std::string error_of(const GgufWriter& model) {
  const TempDir dir;
  model.write(dir / "model.gguf");
  return error_of(dir / "model.gguf");
}

std::vector<float> logits_at(const std::filesystem::path& path, std::string_view text = kText) {
  EngineOptions options = reference_options(path);
  options.chunk = 16;
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  return all_logits(*engine, engine->encode(text, true, true));
}

std::vector<float> logits_of(const GgufWriter& model, std::string_view text = kText) {
  const TempDir dir;
  model.write(dir / "model.gguf");
  return logits_at(dir / "model.gguf", text);
}

void expect_same_bits(std::span<const float> got, std::span<const float> wanted) {
  ASSERT_FALSE(wanted.empty());
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size_bytes()), 0);
}

void add_ones(GgufWriter& model, const std::string& name, int64_t n) {
  model.add_values(name, GGML_TYPE_F32, {n}, std::vector<float>(static_cast<size_t>(n), 1.0F));
}

TEST(LeftOver, NothingIsRefusedOfModelsThatRun) {
  for (const char* family : kFamilies) {
    for (const bool merged : {false, true}) {
      EXPECT_THAT(refused(left_over_of(runnable_model({.architecture = family, .merge_gate_up = merged}))),
                  IsEmpty())
          << family;
    }
  }
  EXPECT_THAT(refused(left_over_of(bundled_model())), IsEmpty());
}

class ReferenceModels : public ::testing::TestWithParam<const char*> {};

TEST_P(ReferenceModels, EveryTensorIsUsedAndNoKeyIsRefused) {
  ODMOE_SHARED_OR_SKIP(model, std::string("models/") + GetParam() + ".gguf");
  const std::vector<LeftOver> list = left_over_of(model);
  EXPECT_THAT(refused(list), IsEmpty());
  for (const LeftOver& left : list) EXPECT_EQ(left.kind, LeftOver::Kind::kKey) << left.name;
}

INSTANTIATE_TEST_SUITE_P(Models, ReferenceModels,
                         ::testing::Values("arch/kimi-k2.F32", "arch/deepseek-v3.F32",
                                           "arch/deepseek-v2-lite.F32", "arch/qwen2moe.F32",
                                           "arch/qwen3moe.F32", "arch/qwen3moe.Q4_K_M",
                                           "arch/qwen3moe.Q3_K_M", "arch/qwen3moe.Q2_K",
                                           "arch/qwen3moe.IQ4_XS", "demo-kimi", "demo-qwen2moe",
                                           "families/deepseek2-large3.F32", "families/deepseek2-merged.F32"),
                         [](const auto& test) { return test_name(test.param); });

TEST(LeftOver, AnUnknownKeyOfTheFamilyIsRefusedByNameAndInspectTells) {
  for (const char* family : kFamilies) {
    GgufWriter model = runnable_model({.architecture = family});
    const std::string key = key_of(family, "attention.zebra_stripes");
    model.set(key, uint32_t{7});
    const std::string error = error_of(model);
    for (const std::string_view word : {"model.gguf", key.c_str(), "7"}) EXPECT_THAT(error, HasSubstr(word));
    EXPECT_THAT(refused(left_over_of(model)), ::testing::ElementsAre(key));
  }
}

TEST(LeftOver, AnUnknownTensorIsRefusedByNameAndInspectTells) {
  for (const char* family : kFamilies) {
    for (const char* name :
         {"zebra.weight", "output.bias", "output_norm.bias", "rope_freqs.weight", "rope_factors_long.weight",
          "token_embd_norm.weight", "blk.1.attn_output.bias", "blk.1.ffn_gate_inp.bias",
          "blk.1.attn_norm.bias", "blk.1.attn_sinks.weight", "blk.1.ffn_gate_exps.bias",
          "blk.1.attn_output.scale", "blk.1.ffn_gate_exps.scale", "blk.1.ffn_down_exps.input_scale",
          "blk.1.post_attention_norm.weight", "blk.0.nextn.enorm.weight", "blk.-1.attn_norm.weight",
          "blk.1x.attn_norm.weight"}) {
      SCOPED_TRACE(std::string(family) + " " + name);
      GgufWriter model = runnable_model({.architecture = family});
      add_ones(model, name, 8);
      EXPECT_THAT(error_of(model), HasSubstr(odmoe::format("tensor {} ", name)));
      EXPECT_THAT(refused(left_over_of(model)), ::testing::ElementsAre(name));
    }
  }
}

// llama.cpp has them in the Qwen families and adds them; in deepseek2 it has none.
TEST(LeftOver, BiasesOfQueriesAreAddedWhereTheFamilyHasThem) {
  GgufWriter model = runnable_model({.architecture = "qwen3moe"});
  const std::vector<float> without = logits_of(model);
  add_ones(model, "blk.1.attn_q.bias", 64);
  EXPECT_GT(relative_l2(logits_of(model), without), 1e-3);
  GgufWriter mla = runnable_model({.architecture = "deepseek2"});
  add_ones(mla, "blk.1.attn_q.bias", 64);
  EXPECT_THAT(error_of(mla), HasSubstr("blk.1.attn_q.bias"));
}

TEST(LeftOver, ASelectionBiasIsRefusedInFamiliesWithoutOne) {
  for (const char* family : {"qwen2moe", "qwen3moe"}) {
    GgufWriter model = runnable_model({.architecture = family});
    add_ones(model, "blk.0.exp_probs_b.bias", 8);
    EXPECT_THAT(error_of(model), HasSubstr("blk.0.exp_probs_b.bias"));
  }
}

// A model of one more block than there are layers; its last one would change every result.
GgufWriter with_mtp_block(const char* family) {
  GgufWriter model = runnable_model({.architecture = family, .n_layer = 3});
  model.set(key_of(family, "nextn_predict_layers"), uint32_t{1});
  const int block = std::string_view(family) == "deepseek2" ? 3 : 2;
  for (const char* name : {"enorm", "hnorm", "shared_head_norm"})
    add_ones(model, odmoe::format("blk.{}.nextn.{}.weight", block, name), 64);
  return model;
}

TEST(LeftOver, ALayerIsNoBlockForSpeculationBecauseAKeySaysSo) {
  for (const char* family : kFamilies) {
    GgufWriter model = runnable_model({.architecture = family, .n_layer = 3});
    model.set(key_of(family, "nextn_predict_layers"), uint32_t{1});
    EXPECT_THAT(error_of(model), HasSubstr("nextn_predict_layers")) << family;
  }
}

TEST(LeftOver, GroupsOfWhichNobodySaysHowManyAreUsedAreRefused) {
  GgufWriter model = runnable_model({.architecture = "deepseek2"});
  model.remove("deepseek2.expert_group_used_count");
  EXPECT_THAT(error_of(model), HasSubstr("expert_group_used_count"));
}

TEST(LeftOver, ABlockForSpeculationChangesNothingAndTakesNoRoom) {
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    const GgufWriter plain = runnable_model({.architecture = family, .n_layer = 2});
    const GgufWriter model = with_mtp_block(family);
    expect_same_bits(logits_of(model), logits_of(plain));
    EXPECT_GT(
        relative_l2(logits_of(runnable_model({.architecture = family, .n_layer = 3})), logits_of(plain)),
        1e-3);

    const TempDir dir;
    plain.write(dir / "plain.gguf");
    model.write(dir / "model.gguf");
    const ModelInfo wanted = Engine::inspect(reference_options(dir / "plain.gguf")).value();
    const ModelInfo info = Engine::inspect(reference_options(dir / "model.gguf")).value();
    EXPECT_EQ(info.n_layer, wanted.n_layer);
    EXPECT_EQ(info.expert_bytes, wanted.expert_bytes);
    EXPECT_EQ(info.dense_bytes, wanted.dense_bytes);
    EXPECT_EQ(info.kv_bytes_per_token, wanted.kv_bytes_per_token);
    EXPECT_THAT(refused(info.left_over), IsEmpty());
    const auto n_tensor = std::ranges::count(info.left_over, LeftOver::Kind::kTensor, &LeftOver::kind);
    EXPECT_GE(n_tensor, 10);
    for (const LeftOver& left : info.left_over) {
      if (left.kind == LeftOver::Kind::kTensor) {
        EXPECT_THAT(left.reason, HasSubstr("MTP")) << left.name;
      }
    }
  }
}

void convert_or_fail(const std::filesystem::path& in, const std::filesystem::path& out) {
  const auto source = make_checkpoint_source(open_checkpoint(in).value());
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto plan = plan_conversion(**source, {});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const auto made = convert(**source, *plan, out, {});
  ASSERT_TRUE(made.has_value()) << made.error().message;
}

TEST(LeftOver, AnExpertDirectoryIsJudgedAsTheFileItWasMadeOf) {
  const TempDir dir;
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    const auto path = [&](const char* what) { return dir / (std::string(family) + what); };
    with_mtp_block(family).write(path(".mtp.gguf"));
    convert_or_fail(path(".mtp.gguf"), path(".mtp"));
    expect_same_bits(logits_at(path(".mtp")), logits_of(runnable_model({.architecture = family})));
    EXPECT_EQ(Engine::inspect(reference_options(path(".mtp")))->expert_bytes,
              Engine::inspect(reference_options(path(".mtp.gguf")))->expert_bytes);

    GgufWriter odd = runnable_model({.architecture = family});
    odd.set(key_of(family, "final_logit_softcapping"), 30.0F);
    add_ones(odd, "blk.1.ffn_gate_inp.bias", 8);
    odd.write(path(".odd.gguf"));
    convert_or_fail(path(".odd.gguf"), path(".odd"));
    EXPECT_THAT(error_of(path(".odd")), HasSubstr("final_logit_softcapping is 30"));
    EXPECT_THAT(refused(left_over_of(path(".odd"))),
                ::testing::UnorderedElementsAre(key_of(family, "final_logit_softcapping"),
                                                "blk.1.ffn_gate_inp.bias"));
  }
}

TEST(LeftOver, LayersThatTheCountLeavesOutAreRefused) {
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    GgufWriter model = runnable_model({.architecture = family, .n_layer = 3});
    const uint32_t n_block = std::string_view(family) == "deepseek2" ? 4 : 3;
    const std::string key = key_of(family, "block_count");
    model.remove(key).set(key, n_block - 1);
    const std::string error = error_of(model);
    EXPECT_THAT(error, HasSubstr(odmoe::format("blk.{}.", n_block - 1)));
    EXPECT_THAT(error, HasSubstr(key));
    model.remove(key).set(key, n_block + 1);
    EXPECT_THAT(error_of(model), HasSubstr(odmoe::format("blk.{}.", n_block)));
    // As many blocks for speculation as blocks leave no model.
    model.remove(key).set(key, n_block).set(key_of(family, "nextn_predict_layers"), n_block);
    EXPECT_THAT(error_of(model), HasSubstr("nextn_predict_layers"));
  }
}

struct OffKey {
  const char* name;
  double off;
  double on;
};

class KeysWithAnOff : public ::testing::TestWithParam<OffKey> {};

TEST_P(KeysWithAnOff, PassOffAndAreRefusedOtherwise) {
  const OffKey& key = GetParam();
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    if (std::string_view(family) == "deepseek2" && std::string_view(key.name).contains("expert_weights"))
      continue;
    if (std::string_view(family) == "deepseek2" && std::string_view(key.name).contains("temperature"))
      continue;
    const std::string name = key_of(family, key.name);
    const GgufWriter plain = runnable_model({.architecture = family});
    GgufWriter off = plain;
    off.set(name, static_cast<float>(key.off));
    expect_same_bits(logits_of(off), logits_of(plain));
    GgufWriter on = plain;
    on.set(name, static_cast<float>(key.on));
    EXPECT_THAT(error_of(on), HasSubstr(name));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Keys, KeysWithAnOff,
    ::testing::Values(OffKey{"attn_logit_softcapping", 0, 50}, OffKey{"final_logit_softcapping", 0, 30},
                      OffKey{"router_logit_softcapping", 0, 30}, OffKey{"logit_scale", 1, 0.5},
                      OffKey{"residual_scale", 1, 0.5}, OffKey{"embedding_scale", 1, 12},
                      OffKey{"attention.scale", 0, 0.1}, OffKey{"attention.clamp_kqv", 0, 8},
                      OffKey{"attention.max_alibi_bias", 0, 8}, OffKey{"expert_weights_scale", 1, 2.5},
                      OffKey{"attention.temperature_scale", 0, 0.1}),
    [](const auto& test) { return test_name(test.param.name); });

TEST(LeftOver, WholeNumbersArraysAndFlagsAreJudgedByValueToo) {
  const GgufWriter plain = runnable_model({.architecture = "qwen3moe"});
  const auto with = [&plain](auto&& change) {
    GgufWriter model = plain;
    change(model);
    return error_of(model);
  };
  const auto key = [](const char* name) { return key_of("qwen3moe", name); };
  EXPECT_EQ(with([&](GgufWriter& m) { m.set(key("attention.sliding_window"), uint32_t{0}); }), "");
  EXPECT_THAT(with([&](GgufWriter& m) { m.set(key("attention.sliding_window"), uint32_t{4096}); }),
              HasSubstr("qwen3moe.attention.sliding_window is 4096"));
  EXPECT_EQ(with([&](GgufWriter& m) { m.set(key("attention.causal"), true); }), "");
  EXPECT_THAT(with([&](GgufWriter& m) { m.set(key("attention.causal"), false); }),
              HasSubstr("attention.causal is false"));
  EXPECT_EQ(with([&](GgufWriter& m) { m.set(key("expert_weights_norm"), true); }), "");
  EXPECT_THAT(with([&](GgufWriter& m) { m.set(key("expert_weights_norm"), false); }),
              HasSubstr("expert_weights_norm"));
  EXPECT_EQ(with([&](GgufWriter& m) { m.set_array(key("swiglu_clamp_exp"), std::vector<float>{0, 0}); }), "");
  EXPECT_THAT(with([&](GgufWriter& m) { m.set_array(key("swiglu_clamp_exp"), std::vector<float>{0, 7}); }),
              HasSubstr("swiglu_clamp_exp"));
  EXPECT_THAT(with([&](GgufWriter& m) { m.set(key("expert_gating_func"), uint32_t{2}); }),
              HasSubstr("expert_gating_func"));
  EXPECT_THAT(
      with([&](GgufWriter& m) {
        m.remove(key("expert_feed_forward_length")).set(key("expert_feed_forward_length"), uint32_t{48});
      }),
      HasSubstr("expert_feed_forward_length is 48"));
  EXPECT_EQ(with([&](GgufWriter& m) {
              m.set_array(key("rope.dimension_sections"), std::vector<int32_t>{4, 2, 2, 0});
            }),
            "");
}

TEST(LeftOver, RoutingOfDeepseekIsReadFromEveryKeyThatItHas) {
  // The keys that other families pass over by value are used here: each changes the result.
  const GgufWriter plain = runnable_model({.architecture = "deepseek2"});
  const std::vector<float> wanted = logits_of(plain);
  const auto set = [](GgufWriter model, const char* name, auto value) {
    return model.remove(key_of("deepseek2", name)).set(key_of("deepseek2", name), value);
  };
  EXPECT_GT(relative_l2(logits_of(set(plain, "expert_weights_scale", 3.0F)), wanted), 1e-3);
  EXPECT_GT(relative_l2(logits_of(set(plain, "expert_weights_norm", false)), wanted), 1e-3);
  EXPECT_GT(relative_l2(logits_of(set(plain, "expert_gating_func", uint32_t{1})), wanted), 1e-3);
  EXPECT_GT(relative_l2(logits_of(set(plain, "expert_group_used_count", uint32_t{3})), wanted), 1e-3);
  EXPECT_GT(relative_l2(logits_of(set(plain, "rope.scaling.attn_factor", 1.5F)), wanted), 1e-3);
}

TEST(LeftOver, KeysOfTheTokenizerThatChangeTokensAreUsedOrRefused) {
  const GgufWriter plain = runnable_model({});
  const auto error_with = [&plain](const char* name, auto value) {
    GgufWriter model = plain;
    model.remove(name).set(name, value);
    return error_of(model);
  };
  for (const char* flag :
       {"tokenizer.ggml.add_sep_token", "tokenizer.ggml.add_space_prefix",
        "tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.normalizer.lowercase"}) {
    EXPECT_EQ(error_with(flag, false), "") << flag;
    EXPECT_THAT(error_with(flag, true), HasSubstr(flag));
  }
  EXPECT_THAT(error_with("tokenizer.ggml.zebra", uint32_t{1}), HasSubstr("tokenizer.ggml.zebra"));
  for (const char* token :
       {"padding", "unknown", "mask", "seperator", "cls", "fim_pre", "fim_suf", "fim_mid"})
    EXPECT_EQ(error_with(odmoe::format("tokenizer.ggml.{}_token_id", token).c_str(), uint32_t{1}), "")
        << token;
  EXPECT_EQ(error_with("tokenizer.chat_template.tool_use", "{{ x }}"), "");
  GgufWriter suppress = plain;
  suppress.set_array("tokenizer.ggml.suppress_tokens", std::vector<int32_t>{5});
  EXPECT_EQ(error_of(suppress), "");
  suppress = plain;
  suppress.set_array("tokenizer.ggml.suppress_tokens", std::vector<std::string>{"five"});
  EXPECT_THAT(error_of(suppress), HasSubstr("tokenizer.ggml.suppress_tokens"));
}

TEST(LeftOver, KeysOfOtherNamespacesPassButForThoseThatSayHowToCompute) {
  GgufWriter model = runnable_model({});
  model.set("general.quantized_by", "somebody")
      .set("general.sampling.temp", 0.6F)
      .set("general.license.link", "https://example.org")
      .set_array("general.tags", std::vector<std::string>{"text-generation"})
      .set("quantize.imatrix.file", "imatrix.gguf")
      .set("quantize.imatrix.entries_count", int32_t{721})
      .set("mradermacher.quantized_at", "2025")
      .set("split.no", uint16_t{0});
  EXPECT_EQ(error_of(model), "");
  for (const char* key : {"prism.hadamard.version", "diffusion.shift_logits", "adapter.type", "xielu.eps",
                          "general.tensor_extra.prec_a4"}) {
    GgufWriter odd = runnable_model({});
    odd.set(key, uint32_t{1});
    EXPECT_THAT(error_of(odd), HasSubstr(key));
  }
}

TEST(LeftOver, PartsOfAJointKvBAreThereTwiceAndPassedOver) {
  GgufWriter model = runnable_model({.architecture = "deepseek2", .joint_kv_b = true});
  const std::vector<float> wanted = logits_of(model);
  for (int layer = 0; layer < 3; ++layer) {
    add_ones(model, odmoe::format("blk.{}.attn_k_b.weight", layer), 16);
    add_ones(model, odmoe::format("blk.{}.attn_v_b.weight", layer), 16);
  }
  expect_same_bits(logits_of(model), wanted);
}

TEST(LeftOver, LengthsOfTheCacheThatContradictTheOthersAreRefused) {
  for (const char* name : {"attention.key_length", "attention.value_length"}) {
    GgufWriter model = runnable_model({.architecture = "deepseek2"});
    const std::string key = key_of("deepseek2", name);
    model.remove(key).set(key, uint32_t{40});
    EXPECT_THAT(error_of(model), HasSubstr(key + " is 40"));
  }
}

// Mistral Large 3; what it is to be is in reference_test.
TEST(LeftOver, QueriesGrowWithTheirPositionWhereTheFileSaysSo) {
  const std::string text = std::string(kText) + std::string(kText);
  const GgufWriter plain = runnable_model({.architecture = "deepseek2"});
  GgufWriter model = plain;
  model.set("deepseek2.attention.temperature_scale", 0.5F)
      .set("deepseek2.attention.temperature_length", uint32_t{32});
  const std::vector<float> got = logits_of(model, text);
  const std::vector<float> wanted = logits_of(plain, text);
  constexpr size_t kVocabulary = 260;
  const size_t first = 32 * kVocabulary;  // positions below the length are as they were
  ASSERT_GT(got.size(), 2 * first);
  expect_same_bits(std::span(got).first(first), std::span(wanted).first(first));
  EXPECT_GT(relative_l2(std::span(got).subspan(first), std::span(wanted).subspan(first)), 1e-3);
  GgufWriter half = plain;
  half.set("deepseek2.attention.temperature_scale", 0.5F);
  EXPECT_THAT(error_of(half), HasSubstr("deepseek2.attention.temperature_length"));
}

// llama.cpp takes YaRN's own whatever a file of these families says.
TEST(LeftOver, YarnsNumbersAreRefusedWhereTheyWouldMatter) {
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    GgufWriter plain = runnable_model({.architecture = family, .yarn = false});
    plain.set(key_of(family, "rope.scaling.type"), "yarn").set(key_of(family, "rope.scaling.factor"), 8.0F);
    plain.set(key_of(family, "rope.scaling.original_context_length"), uint32_t{4096});
    const auto error_with = [&](const char* name, float value) {
      GgufWriter model = plain;
      model.set(key_of(family, name), value);
      return error_of(model);
    };
    EXPECT_EQ(error_with("rope.scaling.yarn_beta_fast", 32), "");
    EXPECT_EQ(error_with("rope.scaling.yarn_beta_slow", 1), "");
    EXPECT_EQ(error_with("rope.scaling.yarn_ext_factor", 1), "");
    EXPECT_THAT(error_with("rope.scaling.yarn_beta_fast", 4), HasSubstr("yarn_beta_fast is 4"));
    EXPECT_THAT(error_with("rope.scaling.yarn_beta_slow", 8), HasSubstr("yarn_beta_slow is 8"));
    EXPECT_THAT(error_with("rope.scaling.yarn_ext_factor", 0.5F), HasSubstr("yarn_ext_factor is 0.5"));
    EXPECT_THAT(error_with("rope.scaling.yarn_attn_factor", 2), HasSubstr("yarn_attn_factor is 2"));
    EXPECT_THAT(error_with("rope.scaling.zebra", 2), HasSubstr("rope.scaling.zebra"));
  }
}

TEST(LeftOver, AFactorOfRopeWithoutATypeIsLinearAndNoneSwitchesItOff) {
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    const GgufWriter plain = runnable_model({.architecture = family, .yarn = false});
    const std::string type = key_of(family, "rope.scaling.type");
    const std::string factor = key_of(family, "rope.scaling.factor");
    const std::vector<float> linear = logits_of(GgufWriter(plain).set(type, "linear").set(factor, 4.0F));
    EXPECT_GT(relative_l2(linear, logits_of(plain)), 1e-4);
    expect_same_bits(logits_of(GgufWriter(plain).set(factor, 4.0F)), linear);
    expect_same_bits(logits_of(GgufWriter(plain).set(key_of(family, "rope.scale_linear"), 4.0F)), linear);
    expect_same_bits(logits_of(GgufWriter(plain).set(type, "none").set(factor, 4.0F)), logits_of(plain));
    EXPECT_THAT(error_of(GgufWriter(plain).set(type, "longrope")), HasSubstr("longrope"));
  }
}

}  // namespace
}  // namespace odmoe::left_over_test
