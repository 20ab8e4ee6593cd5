// Checkpoints of families that tests/data/hf has none of: tests/tools/hf_from_gguf.py makes them of the
// reference data's tiny models (see CONTRIBUTING.md), and what is converted back must be these, number by
// number.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "convert/tensor_source.h"
#include "format/checkpoint.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe {
namespace {

using namespace odmoe::testing;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr HfOptions kExact{.experts = GGML_TYPE_F32, .dense = GGML_TYPE_F32};

bool runs(const std::string& command) {
  return std::system(command.c_str()) == 0;  // NOLINT(cert-env33-c): a command of the test's own
}

// The checkpoint of a model of the reference data; false without it or Python's packages.
bool make_checkpoint(const std::string& name, const std::filesystem::path& to, const std::string& form = "") {
  const std::filesystem::path gguf = shared_file("models/families/" + name + ".gguf");
  if (gguf.empty() || !runs("python3 -c 'import safetensors, numpy' 2>/dev/null")) return false;
  EXPECT_TRUE(runs("python3 " ODMOE_SOURCE_DIR "/tests/tools/hf_from_gguf.py '" + gguf.string() + "' '" +
                   to.string() + "' " + form));
  return true;
}

#define ODMOE_CHECKPOINT_OR_SKIP(...) \
  if (!make_checkpoint(__VA_ARGS__))  \
  GTEST_SKIP() << "set ODMOE_SHARED to the reference data and install python3-numpy and python3-safetensors"

std::vector<std::byte> bytes_of(const TensorSource& source, size_t tensor) {
  std::vector<std::byte> bytes(source.tensors()[tensor].bytes());
  uint64_t piece = TensorSource::kMaxReadBytes;
  const auto& made = source.tensors()[tensor];
  piece = std::min(piece, ggml_row_size(made.type, made.ne[0]) * static_cast<uint64_t>(made.ne[1]));
  for (uint64_t at = 0; at < bytes.size(); at += piece) {
    const Status status =
        source.read(tensor, at, std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    EXPECT_TRUE(status.has_value()) << (status.has_value() ? "" : status.error().message);
  }
  return bytes;
}

struct Values {
  std::vector<int64_t> shape;  // ggml order, without 1s at the end
  std::vector<float> values;
};

Values values_of(const TensorSource& source, size_t tensor) {
  const auto& made = source.tensors()[tensor];
  const std::vector<std::byte> bytes = bytes_of(source, tensor);
  Values result{.shape = {made.ne.begin(), made.ne.end()}, .values = {}};
  while (result.shape.size() > 1 && result.shape.back() == 1) result.shape.pop_back();
  result.values.resize(static_cast<size_t>(made.ne[0] * made.ne[1] * made.ne[2] * made.ne[3]));
  if (made.type == GGML_TYPE_F32) {
    std::memcpy(result.values.data(), bytes.data(), bytes.size());
  } else {
    ggml_get_type_traits(made.type)->to_float(bytes.data(), result.values.data(),
                                              static_cast<int64_t>(result.values.size()));
  }
  return result;
}

// A model's tensors by name; merged gate and up projections as the two that they are.
std::map<std::string, Values> all_values(const TensorSource& source) {
  std::map<std::string, Values> all;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    Values whole = values_of(source, i);
    std::string name = source.tensors()[i].name;
    const size_t merged = name.find("gate_up_exps");
    if (merged == std::string::npos) {
      all.emplace(std::move(name), std::move(whole));
      continue;
    }
    Values gate{.shape = {whole.shape[0], whole.shape[1] / 2, whole.shape[2]}, .values = {}};
    Values up = gate;
    const auto half = whole.shape[0] * whole.shape[1] / 2;
    for (auto it = whole.values.begin(); it != whole.values.end(); it += 2 * half) {
      gate.values.insert(gate.values.end(), it, it + half);
      up.values.insert(up.values.end(), it + half, it + 2 * half);
    }
    all.emplace(std::string(name).replace(merged, 12, "gate_exps"), std::move(gate));
    all.emplace(name.replace(merged, 12, "up_exps"), std::move(up));
  }
  return all;
}

std::map<std::string, MetadataEntry> keys_of(const TensorSource& source) {
  std::map<std::string, MetadataEntry> keys;
  for (const MetadataEntry& entry : source.metadata()) keys.emplace(entry.key, entry);
  return keys;
}

std::unique_ptr<TensorSource> reference_model(const std::string& name) {
  auto file = open_checkpoint(shared_file("models/families/" + name + ".gguf"));
  EXPECT_TRUE(file.has_value()) << file.error().message;
  auto source = make_checkpoint_source(*std::move(file));
  EXPECT_TRUE(source.has_value()) << source.error().message;
  return *std::move(source);
}

// A model of the reference data, and how its conversion may differ from it.
struct Case {
  const char* file;
  const char* left_out = "";  // tensors that begin so are those of layers for speculation
  std::set<std::string> other_keys;
  bool norms_less_one = false;
};

std::ostream& operator<<(std::ostream& out, const Case& it) { return out << it.file; }

const Case& glm_with_mtp() {
  static const Case it{.file = "glm4moe.F32",
                       .left_out = "blk.3.",
                       .other_keys = {"glm4moe.block_count", "glm4moe.nextn_predict_layers",
                                      "tokenizer.ggml.unknown_token_id"}};
  return it;
}

class HfFamilies : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    ODMOE_CHECKPOINT_OR_SKIP(GetParam().file, dir_ / "checkpoint");
    auto source = HfSource::open(dir_ / "checkpoint", kExact);
    ASSERT_TRUE(source.has_value()) << source.error().message;
    source_ = *std::move(source);
  }

  TempDir dir_;
  std::unique_ptr<HfSource> source_;
};

TEST_P(HfFamilies, TensorsAreThoseOfTheGguf) {
  const std::map<std::string, Values> wanted = all_values(*reference_model(GetParam().file));
  std::map<std::string, Values> made = all_values(*source_);
  for (const auto& [name, tensor] : wanted) {
    if (*GetParam().left_out != '\0' && name.starts_with(GetParam().left_out)) continue;
    const auto found = made.find(name);
    ASSERT_NE(found, made.end()) << name;
    EXPECT_EQ(found->second.shape, tensor.shape) << name;
    // Through a logarithm and back, and less one and back.
    const bool less_one =
        GetParam().norms_less_one && name.ends_with("norm.weight") && !name.contains("ssm_norm");
    const float most = name.ends_with("ssm_a") ? 1e-6F : less_one ? 6e-8F : 0;
    ASSERT_EQ(found->second.values.size(), tensor.values.size()) << name;
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      ASSERT_NEAR(found->second.values[i], tensor.values[i],
                  most * std::max(1.0F, std::abs(tensor.values[i])))
          << name << " " << i;
    }
    made.erase(found);
  }
  for (const auto& [name, tensor] : made) ADD_FAILURE() << name << " is not in the GGUF";
}

TEST_P(HfFamilies, KeysAreThoseOfTheGguf) {
  const auto reference = reference_model(GetParam().file);
  const std::map<std::string, MetadataEntry> wanted = keys_of(*reference);
  const std::map<std::string, MetadataEntry> made = keys_of(*source_);
  const std::string family = std::get<MetadataEntry::Strings>(wanted.at("general.architecture").elements)[0];
  EXPECT_EQ(made.at("general.architecture"), wanted.at("general.architecture"));
  // What a reader takes a key for that is not there.
  std::map<std::string, std::variant<MetadataEntry::Integers, MetadataEntry::Floats, MetadataEntry::Strings>>
      defaults = {{"rope.dimension_count", wanted.at(family + ".attention.key_length").elements},
                  {"rope.scaling.yarn_beta_fast", MetadataEntry::Floats{32}},
                  {"rope.scaling.yarn_beta_slow", MetadataEntry::Floats{1}}};
  const auto check = [&](const auto& these, const auto& others, const char* where) {
    for (const auto& [key, entry] : these) {
      if (key.starts_with("general.") || GetParam().other_keys.contains(key)) continue;
      const auto other = others.find(key);
      if (other != others.end()) {
        EXPECT_EQ(entry.elements, other->second.elements) << key;
        continue;
      }
      const auto otherwise =
          key.starts_with(family) ? defaults.find(key.substr(family.size() + 1)) : defaults.end();
      ASSERT_NE(otherwise, defaults.end()) << key << " is not in " << where;
      EXPECT_EQ(entry.elements, otherwise->second) << key;
    }
  };
  check(wanted, made, "the conversion");
  check(made, wanted, "the GGUF");
}

TEST_P(HfFamilies, LogitsAreLlamaCppsAtEveryPosition) {
  if (std::string_view(GetParam().file).starts_with("gpt-oss")) {
    GTEST_SKIP() << "kernels of MXFP4 round; its numbers are compared above";
  }
  const auto plan = plan_conversion(*source_, {});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const auto converted = convert(*source_, *plan, dir_ / "model", {});
  ASSERT_TRUE(converted.has_value()) << converted.error().message;
  EngineOptions options = reference_options(dir_ / "model");
  options.flash_attention = FlashAttention::kOff;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  std::ifstream file(shared_file("models/families/reference.json"));
  const auto reference = nlohmann::json::parse(file);
  const auto& entry = reference.at("files").at(GetParam().file);
  const std::vector<size_t> positions = entry.at("short").at("positions");
  const std::vector<float> wanted =
      read_floats(shared_file("models/families/" + entry.at("short").at("logits").get<std::string>()));
  const std::vector<Token> tokens = reference.at("prompts").at("short").at("tokens");
  const std::vector<float> got = all_logits(*engine, tokens);
  const size_t n_vocab = wanted.size() / positions.size();
  ASSERT_EQ(got.size(), tokens.size() * n_vocab);
  for (size_t i = 0; i < positions.size(); ++i) {
    EXPECT_LE(relative_l2(std::span(got).subspan(positions[i] * n_vocab, n_vocab),
                          std::span(wanted).subspan(i * n_vocab, n_vocab)),
              entry.at("tolerance").at("worst").get<double>())
        << positions[i];
  }
}

// What a conversion asks for is rows anywhere in a tensor.
TEST_P(HfFamilies, AnyRowsAreThoseOfTheWhole) {
  const auto as_they_are = HfSource::open(dir_ / "checkpoint", {});
  ASSERT_TRUE(as_they_are.has_value()) << as_they_are.error().message;
  for (const HfSource* source : {source_.get(), as_they_are->get()}) {
    for (size_t i = 0; i < source->tensors().size(); ++i) {
      const auto& tensor = source->tensors()[i];
      const std::vector<std::byte> whole = bytes_of(*source, i);
      const uint64_t row = ggml_row_size(tensor.type, tensor.ne[0]);
      const uint64_t slice = row * static_cast<uint64_t>(tensor.ne[1]);
      for (uint64_t begin = 0; begin < whole.size(); begin += slice) {
        const uint64_t from = begin + slice / row / 3 * row;
        std::vector<std::byte> piece(std::min(5 * row, begin + slice - from));
        ASSERT_TRUE(source->read(i, from, piece).has_value());
        ASSERT_TRUE(std::ranges::equal(piece, std::span(whole).subspan(from, piece.size()))) << tensor.name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, HfFamilies,
    ::testing::Values(glm_with_mtp(),
                      Case{.file = "glm4moe-355b.F32", .other_keys = {"tokenizer.ggml.unknown_token_id"}},
                      Case{.file = "gpt-oss.MXFP4"}, Case{.file = "minimax-m2.F32"},
                      Case{.file = "olmoe.F32"}, Case{.file = "qwen35moe.F32", .norms_less_one = true},
                      Case{.file = "qwen3next.F32", .norms_less_one = true}),
    [](const auto& param) { return test_name(param.param.file); });

TEST(HfGptOss, PublishedBlocksAreCarriedOverBitForBit) {
  const TempDir dir;
  ODMOE_CHECKPOINT_OR_SKIP("gpt-oss.MXFP4", dir / "checkpoint");
  const auto source = HfSource::open(dir / "checkpoint", {});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto reference = reference_model("gpt-oss.MXFP4");
  int n = 0;
  for (size_t i = 0; i < (*source)->tensors().size(); ++i) {
    const auto& made = (*source)->tensors()[i];
    if (!made.name.ends_with("_exps.weight")) continue;
    EXPECT_EQ(made.type, GGML_TYPE_MXFP4) << made.name;
    const auto wanted = std::ranges::find(reference->tensors(), made.name, &TensorSource::Tensor::name);
    ASSERT_NE(wanted, reference->tensors().end()) << made.name;
    EXPECT_EQ(bytes_of(**source, i),
              bytes_of(*reference, static_cast<size_t>(wanted - reference->tensors().begin())))
        << made.name;
    ++n;
  }
  EXPECT_EQ(n, 9);
}

TEST(HfMiniMax, Fp8AsPublishedIsTheSameModelRounded) {
  const TempDir dir;
  ODMOE_CHECKPOINT_OR_SKIP("minimax-m2.F32", dir / "checkpoint", "fp8");
  const auto source = HfSource::open(dir / "checkpoint", kExact);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const std::map<std::string, Values> made = all_values(**source);
  for (const auto& [name, tensor] : all_values(*reference_model("minimax-m2.F32"))) {
    const bool rounded = name.contains("_exps.") || name.contains("attn_q.") || name.contains("attn_k.") ||
                         name.contains("attn_v.") || name.contains("attn_output.");
    const std::vector<float>& values = made.at(name).values;
    ASSERT_EQ(values.size(), tensor.values.size()) << name;
    float largest = 0;
    for (const float x : tensor.values) largest = std::max(largest, std::abs(x));
    for (size_t i = 0; i < values.size(); ++i) {
      // Half of the last of three bits, and of the smallest step: 2^-9 of a largest of 448.
      const float most = rounded ? std::abs(tensor.values[i]) / 15 + largest / 448 / 512 : 0;
      ASSERT_NEAR(values[i], tensor.values[i], most) << name << " " << i;
    }
  }
}

// What HfSource says of a checkpoint whose config.json is changed: TEXT's keys, or those of its text model.
std::string message_with(const std::filesystem::path& checkpoint, const nlohmann::json& changes) {
  const TempDir dir;
  std::filesystem::copy(checkpoint, dir / "model");
  auto config = nlohmann::json::parse(read_text(dir / "model" / "config.json"));
  (config.contains("text_config") ? config["text_config"] : config).update(changes);
  std::ofstream(dir / "model" / "config.json") << config;
  const auto source = HfSource::open(dir / "model", {});
  if (source.has_value()) return "no error";
  EXPECT_EQ(source.error().kind, ErrorKind::kUnsupported) << source.error().message;
  return source.error().message;
}

struct Refusal {
  const char* change;  // of config.json
  const char* named;
};

struct Refusals {
  const char* file;
  std::vector<Refusal> all;
};

std::ostream& operator<<(std::ostream& out, const Refusals& it) { return out << it.file; }

class HfRefusals : public ::testing::TestWithParam<Refusals> {};

TEST_P(HfRefusals, WhatGgufHasNoKeyForIsRefusedByName) {
  const TempDir dir;
  ODMOE_CHECKPOINT_OR_SKIP(GetParam().file, dir / "checkpoint");
  for (const Refusal& it : GetParam().all) {
    EXPECT_THAT(message_with(dir / "checkpoint", nlohmann::json::parse(it.change)), HasSubstr(it.named))
        << it.change;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, HfRefusals,
    ::testing::Values(
        Refusals{"glm4moe.F32",
                 {{R"({"attention_bias":false})", "self_attn.k_proj.bias"},
                  {R"({"partial_rotary_factor":1.5})", "partial_rotary_factor"}}},
        Refusals{
            "gpt-oss.MXFP4",
            {{R"({"swiglu_limit":8.0})", "swiglu_limit"},
             {R"({"layer_types":["full_attention","sliding_attention","full_attention"]})", "layer_types"},
             {R"({"layer_types":["sliding_attention"]})", "layer_types"},
             {R"({"attention_bias":false})", "attention_bias"},
             {R"({"rope_scaling":{"rope_type":"llama3"}})", "'llama3'"},
             {R"({"quantization_config":{"quant_method":"awq"}})", "'awq'"}}},
        Refusals{"minimax-m2.F32",
                 {{R"({"scoring_func":"softmax"})", "scoring_func"},
                  {R"({"use_qk_norm":false})", "use_qk_norm"},
                  {R"({"qk_norm_type":"per_head"})", "qk_norm_type"},
                  {R"({"use_routing_bias":false})", "use_routing_bias"},
                  {R"({"shared_intermediate_size":16})", "shared_intermediate_size"},
                  {R"({"sliding_window":32})", "sliding_window"},
                  {R"({"attn_type_list":[1,0,1]})", "attn_type_list"}}},
        Refusals{"olmoe.F32",
                 {{R"({"clip_qkv":8.0})", "clip_qkv"},
                  {R"({"norm_topk_prob":true})", "norm_topk_prob"},
                  {R"({"attention_bias":true})", "attention_bias"}}},
        Refusals{"qwen35moe.F32", {{R"({"attn_output_gate":false})", "attn_output_gate"}}},
        Refusals{"qwen3next.F32",
                 {{R"({"norm_topk_prob":false})", "norm_topk_prob"},
                  {R"({"decoder_sparse_step":2})", "decoder_sparse_step"},
                  {R"({"mlp_only_layers":[0]})", "mlp_only_layers"},
                  {R"({"full_attention_interval":2})", "layer_types"},
                  {R"({"linear_value_head_dim":32})", "linear_value_head_dim"},
                  {R"({"linear_num_value_heads":5})", "linear_num_value_heads"},
                  {R"({"hidden_act":"gelu"})", "hidden_act"},
                  {R"({"rope_scaling":{"rope_type":"yarn","factor":4.0,"truncate":false}})", "truncate"}}}),
    [](const auto& param) { return test_name(param.param.file); });

TEST(HfLeftOver, SpeculationAndImagesAreLeftOutWithTheReason) {
  const TempDir dir;
  ODMOE_CHECKPOINT_OR_SKIP("qwen35moe.F32", dir / "qwen");
  ODMOE_CHECKPOINT_OR_SKIP("glm4moe.F32", dir / "glm");
  const auto qwen = HfSource::open(dir / "qwen", {});
  ASSERT_TRUE(qwen.has_value()) << qwen.error().message;
  EXPECT_THAT((*qwen)->notes(), Contains(AllOf(HasSubstr("1 tensor of mtp"), HasSubstr("MTP"))));
  EXPECT_THAT((*qwen)->notes(), Contains(AllOf(HasSubstr("model.visual"), HasSubstr("images"))));
  const auto glm = HfSource::open(dir / "glm", {});
  ASSERT_TRUE(glm.has_value()) << glm.error().message;
  EXPECT_THAT((*glm)->notes(), Contains(AllOf(HasSubstr("model.layers.3"), HasSubstr("MTP"))));
}

TEST(HfGptOss, RoundedYarnIsSaid) {
  const TempDir dir;
  ODMOE_CHECKPOINT_OR_SKIP("gpt-oss.MXFP4", dir / "checkpoint");
  const auto source = HfSource::open(dir / "checkpoint", {});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_THAT((*source)->notes(), Contains(HasSubstr("truncate false")));
}

}  // namespace
}  // namespace odmoe
