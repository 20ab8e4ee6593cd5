#include "convert/hf_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "convert/hf_index.h"
#include "convert/hf_model.h"
#include "convert/hf_weight.h"
#include "convert/testing.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using testing::TempDir;

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(ODMOE_SOURCE_DIR) / "tests/data/hf" / name;
}

// A file of tensors of zeros.
void write_tensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries) {
  auto writer = SafetensorsWriter::create(path, entries);
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  const std::vector<std::byte> zeros(writer->file_bytes() - writer->data_begin());
  ASSERT_TRUE(writer->append(zeros).has_value());
  ASSERT_TRUE(writer->finish().has_value());
}

std::unique_ptr<HfCheckpoint> open_or_fail(const std::filesystem::path& folder) {
  auto checkpoint = HfCheckpoint::open(folder);
  if (!checkpoint.has_value()) {
    ADD_FAILURE() << checkpoint.error().message;
    return nullptr;
  }
  return std::move(*checkpoint);
}

TEST(HfIndex, TellsTheFileOfEachTensor) {
  const auto index =
      parse_hf_index(R"({"metadata":{"total_size":1,"x":[{"weight_map":{}}]},"weight_map":)"
                     R"({"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"},"z":{}})",
                     "i");
  ASSERT_TRUE(index.has_value()) << index.error().message;
  EXPECT_THAT(index->shards, ElementsAre("m-1.safetensors", "m-2.safetensors"));
  EXPECT_THAT(index->tensors, ElementsAre(Pair("a", 0), Pair("b", 1), Pair("c", 0)));
}

TEST(HfIndex, FilesOutsideTheFolderAreRefused) {
  for (const char* name :
       {"../m.safetensors", "/etc/m.safetensors", "a/m.safetensors", "m.bin", "m\\u0000.safetensors"}) {
    EXPECT_THAT(message(parse_hf_index(odmoe::format(R"({{"weight_map":{{"a":"{}"}}}})", name), "i")),
                HasSubstr("is not a name of a .safetensors file"))
        << name;
  }
}

TEST(HfIndex, DamageIsNamed) {
  EXPECT_THAT(message(parse_hf_index("", "i")), HasSubstr("i is not JSON at byte"));
  EXPECT_THAT(message(parse_hf_index("{}", "i")), HasSubstr("i has no weight_map"));
  EXPECT_THAT(message(parse_hf_index("[]", "i")), HasSubstr("i has no weight_map"));
  EXPECT_THAT(message(parse_hf_index(R"({"weight_map":{"a":1}})", "i")),
              HasSubstr("no file name for tensor 'a'"));
  EXPECT_THAT(message(parse_hf_index(R"({"weight_map":{"a":{}}})", "i")),
              HasSubstr("no file name for tensor 'a'"));
  EXPECT_THAT(message(parse_hf_index("{\"a\":" + std::string(100, '['), "i")), HasSubstr("nested too deep"));
  std::string many = R"({"weight_map":{)";
  for (size_t i = 0; i <= kMaxHfShards; ++i)
    many += odmoe::format(R"({}"{}":"{}.safetensors")", i == 0 ? "" : ",", i, i);
  EXPECT_THAT(message(parse_hf_index(many + "}}", "i")), HasSubstr("lists more than 1024 files"));
}

TEST(HfJson, WhatIsNestedTooDeepIsRefused) {
  const auto nested = [](size_t depth) {
    return message(
        parse_json_object("{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}", "c"));
  };
  EXPECT_EQ(nested(kMaxJsonDepth - 2), "no error");
  EXPECT_THAT(nested(1'000'000), HasSubstr("c is nested more than 64 deep"));
  EXPECT_THAT(message(parse_json_object("[1]", "c")), HasSubstr("c is not a JSON object"));
  EXPECT_THAT(message(parse_json_object("{\"a\"", "c")), HasSubstr("c is not JSON"));
}

TEST(HfCheckpoint, ShardsAndTheirTensorsAreFound) {
  const auto checkpoint = open_or_fail(data("qwen2moe"));
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_EQ(checkpoint->files().size(), 3U);
  const HfCheckpoint::Tensor* bias = checkpoint->find("model.layers.1.self_attn.q_proj.bias");
  ASSERT_NE(bias, nullptr);
  EXPECT_EQ(bias->info->dtype, "BF16");
  const auto values = checkpoint->read_floats(*bias, 64);
  ASSERT_TRUE(values.has_value()) << values.error().message;
  EXPECT_EQ(values->size(), 64U);
  EXPECT_THAT(message(checkpoint->read_floats(*bias, 63)), HasSubstr("has 64 elements, more than the 63"));
}

TEST(HfCheckpoint, WhatIsMissingIsNamed) {
  const TempDir dir;
  EXPECT_FALSE(looks_like_hf_checkpoint(dir.path()));
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())), HasSubstr("config.json: no such file"));
  dir.write("config.json", std::string_view("{}"));
  EXPECT_TRUE(looks_like_hf_checkpoint(dir.path()));
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())),
              HasSubstr("has a config.json but no safetensors files"));
  dir.write("pytorch_model.bin", std::string_view("x"));
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())), HasSubstr("PyTorch's .bin files are not read"));
  write_tensors(dir / "model-1.safetensors", {{"a", "F32", {1}}});
  write_tensors(dir / "model-2.safetensors", {{"b", "F32", {1}}});
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())), HasSubstr("no model.safetensors.index.json"));
  dir.write("model.safetensors.index.json",
            std::string_view(R"({"weight_map":{"a":"model-1.safetensors","b":"model-3.safetensors"}})"));
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())),
              AllOf(HasSubstr("model-3.safetensors is missing"), HasSubstr("file 2 of the 2")));
  dir.write("model.safetensors.index.json",
            std::string_view(R"({"weight_map":{"a":"model-1.safetensors","c":"model-2.safetensors"}})"));
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())),
              HasSubstr("tensor 'c' is in model-2.safetensors, but it is not"));
  dir.write("config.json", std::string_view("{"));
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())), HasSubstr("config.json is not JSON"));
  dir.write("config.json", std::string_view("version https://git-lfs.github.com/spec/v1\n"));
  EXPECT_THAT(message(HfCheckpoint::open(dir.path())), HasSubstr("git lfs pull"));
}

class HfWeights : public ::testing::Test {
 protected:
  // Opens a checkpoint of these tensors and looks for weight "w".
  std::string refusal(const std::vector<SafetensorsEntry>& entries, std::string_view config = "{}",
                      size_t dimensions = 2) {
    const TempDir dir;
    dir.write("config.json", config);
    write_tensors(dir / "model.safetensors", entries);
    const auto checkpoint = open_or_fail(dir.path());
    if (checkpoint == nullptr) return {};
    const auto weight = find_hf_weight(*checkpoint, {}, "w", dimensions);
    if (weight.has_value()) return weight->has_value() ? "found" : "none";
    return message(weight);
  }
};

TEST_F(HfWeights, EveryFormIsFoundAndItsShapesMustAgree) {
  EXPECT_EQ(refusal({{"v", "F32", {1}}}), "none");
  EXPECT_EQ(refusal({{"w.weight", "BF16", {4, 64}}}), "found");
  EXPECT_THAT(refusal({{"w.weight", "BF16", {64}}}), HasSubstr("has shape [64]; 2 dimensions were expected"));
  EXPECT_THAT(refusal({{"w.weight", "BF16", {0, 64}}}), HasSubstr("2 dimensions"));
  EXPECT_THAT(refusal({{"w.weight", "I8", {4, 64}}}), HasSubstr("is I8, which is not read; known are F32"));

  EXPECT_EQ(refusal({{"w.weight", "F8_E4M3", {200, 300}}, {"w.weight_scale_inv", "F32", {2, 3}}}), "found");
  EXPECT_THAT(refusal({{"w.weight", "F8_E4M3", {200, 300}}}), HasSubstr("no tensor 'w.weight_scale_inv'"));
  EXPECT_THAT(refusal({{"w.weight", "F8_E4M3", {200, 300}}, {"w.weight_scale_inv", "F32", {2, 2}}}),
              HasSubstr("[2, 3] was expected"));
  EXPECT_THAT(refusal({{"w.weight", "F8_E4M3", {200, 300}}, {"w.weight_scale_inv", "F32", {1, 3}}}),
              HasSubstr("2 rows were expected"));

  EXPECT_EQ(refusal({{"w.weight_packed", "I32", {4, 8}}, {"w.weight_scale", "BF16", {4, 2}}}), "found");
  EXPECT_THAT(refusal({{"w.weight_packed", "I32", {4, 8}}, {"w.weight_scale", "BF16", {4, 3}}}),
              HasSubstr("3 scales for rows of 64"));
  EXPECT_THAT(refusal({{"w.weight_packed", "I32", {4, 8}},
                       {"w.weight_scale", "BF16", {4, 2}},
                       {"w.weight_zero_point", "I32", {1, 2}}}),
              HasSubstr("only symmetric int4"));
  EXPECT_THAT(refusal({{"w.weight_packed", "I32", {4, 8}},
                       {"w.weight_scale", "BF16", {4, 2}},
                       {"w.weight_shape", "I32", {2}}}),
              HasSubstr("says 0 x 0, but the codes are for 4 x 64"));

  const auto mxfp4 = [&](std::vector<int64_t> blocks, std::vector<int64_t> scales) {
    return refusal({{"w_blocks", "U8", std::move(blocks)}, {"w_scales", "U8", std::move(scales)}}, "{}", 3);
  };
  EXPECT_EQ(mxfp4({2, 4, 3, 16}, {2, 4, 3}), "found");
  EXPECT_THAT(mxfp4({2, 4, 3, 16}, {2, 4, 2}), HasSubstr("does not fit scales of [2, 4, 2]"));
  EXPECT_THAT(mxfp4({2, 4, 3, 8}, {2, 4, 3}), HasSubstr("32 codes in 16 bytes each"));
  EXPECT_THAT(mxfp4({4, 3, 16}, {4, 3}), HasSubstr("4 dimensions were expected"));
  EXPECT_THAT(refusal({{"w_blocks", "U8", {2, 4, 3, 16}}}, "{}", 3), HasSubstr("no tensor 'w_scales'"));
  EXPECT_THAT(refusal({{"w_blocks", "U8", {2, 4, 3, 16}}, {"w_scales", "F32", {2, 4, 3}}}, "{}", 3),
              HasSubstr("is F32; MXFP4 is read as U8"));

  const std::string_view mlx = R"({"quantization":{"group_size":32,"bits":4,"x":{"group_size":64}}})";
  const auto affine = [](int64_t words, int64_t groups) {
    return std::vector<SafetensorsEntry>{
        {"w.weight", "U32", {4, words}}, {"w.scales", "F16", {4, groups}}, {"w.biases", "F16", {4, groups}}};
  };
  for (const int64_t bits : {2, 3, 4, 5, 6, 8}) EXPECT_EQ(refusal(affine(2 * bits, 2), mlx), "found") << bits;
  EXPECT_THAT(refusal(affine(2 * 7, 2), mlx), HasSubstr("not a width of 2, 3, 4, 5, 6 or 8 bits"));
  EXPECT_THAT(refusal(affine(8, 2)), HasSubstr("does not tell the group_size"));
  EXPECT_THAT(refusal({{"w.weight", "U32", {4, 8}}, {"w.scales", "U8", {4, 2}}}, mlx),
              HasSubstr("only affine"));
}

TEST_F(HfWeights, AMethodThatIsNotReadIsRefusedWithThoseThatAre) {
  const auto parse = [](const char* text) {
    return message(HfQuantisation::parse(HfConfig(nlohmann::json::parse(text), "c")));
  };
  EXPECT_EQ(parse("{}"), "no error");
  EXPECT_EQ(
      parse(R"({"quantization_config":{"quant_method":"fp8","fmt":"e4m3","weight_block_size":[128,128]}})"),
      "no error");
  EXPECT_EQ(
      parse(
          R"({"quantization_config":{"quant_method":"fp8","fmt":"float8_e4m3fn","weight_block_size":[128,128]}})"),
      "no error");
  EXPECT_EQ(parse(R"({"quantization_config":{"quant_method":"mxfp4"}})"), "no error");
  EXPECT_THAT(parse(R"({"quantization_config":{"quant_method":"fp8","weight_block_size":[0,128]}})"),
              HasSubstr("two numbers"));
  EXPECT_THAT(parse(R"({"quantization_config":{"quant_method":"gptq"}})"),
              AllOf(HasSubstr("'gptq' is not read"), HasSubstr("MLX affine")));
  EXPECT_THAT(
      parse(R"({"quantization_config":{"quant_method":"compressed-tensors","format":"float-quantized"}})"),
      HasSubstr("only the format pack-quantized"));
  EXPECT_THAT(parse(R"({"quantization":{"group_size":32,"bits":4,"mode":"mxfp4"}})"),
              HasSubstr("'mxfp4' is not read"));
}

TEST(HfModelMapping, AnArchitectureThatIsNotReadIsRefusedWithThoseThatAre) {
  const TempDir dir;
  dir.write("config.json", std::string_view(R"({"architectures":["LlamaForCausalLM"]})"));
  write_tensors(dir / "model.safetensors", {{"a", "F32", {1}}});
  const auto checkpoint = open_or_fail(dir.path());
  EXPECT_THAT(message(map_hf_model(*checkpoint)),
              AllOf(HasSubstr("'LlamaForCausalLM', which is not read"), HasSubstr("DeepseekV3ForCausalLM"),
                    HasSubstr("Qwen3MoeForCausalLM")));
}

TEST(HfModelMapping, WhatContradictsTheConfigurationIsRefused) {
  const TempDir dir;
  std::filesystem::copy(data("qwen3moe"), dir / "m");
  auto config = nlohmann::json::parse(read_text_file(dir / "m" / "config.json", 1 << 20).value());
  config["num_hidden_layers"] = 1;
  std::ofstream(dir / "m" / "config.json") << config;
  EXPECT_THAT(message(map_hf_model(*open_or_fail(dir / "m"))),
              AllOf(HasSubstr("'model.layers.1."), HasSubstr("a layer that config.json leaves out")));
  config["num_hidden_layers"] = 2;
  config["norm_topk_prob"] = false;
  std::ofstream(dir / "m" / "config.json") << config;
  EXPECT_THAT(message(map_hf_model(*open_or_fail(dir / "m"))), HasSubstr("norm_topk_prob is false"));
  config["norm_topk_prob"] = true;
  config["hidden_size"] = 32;
  std::ofstream(dir / "m" / "config.json") << config;
  EXPECT_THAT(message(map_hf_model(*open_or_fail(dir / "m"))),
              HasSubstr("has 320 rows of 64, but config.json makes it"));
}

// The published configurations, without weights: only what they say is read.
TEST(HfModelMapping, PublishedConfigurationsAreUnderstood) {
  const char* shared = std::getenv("ODMOE_SHARED");
  if (shared == nullptr) GTEST_SKIP() << "set ODMOE_SHARED to the folder with configs/ to run this";
  for (const char* name :
       {"deepseek-ai--DeepSeek-V3", "moonshotai--Kimi-K2-Instruct", "moonshotai--Kimi-K2.5",
        "deepseek-ai--DeepSeek-V2-Lite", "Qwen--Qwen2-57B-A14B", "Qwen--Qwen3-30B-A3B",
        "zai-org--GLM-4.5-Air", "openai--gpt-oss-120b", "allenai--OLMoE-1B-7B"}) {
    const TempDir dir;
    std::filesystem::copy(std::filesystem::path(shared) / "configs" / (std::string(name) + "_config.json"),
                          dir / "config.json");
    const std::string prefix = std::string_view(name).ends_with("K2.5") ? "language_model.model." : "model.";
    write_tensors(dir / "model.safetensors", {{prefix + "embed_tokens.weight", "BF16", {1, 1}}});
    const auto checkpoint = open_or_fail(dir.path());
    // Understood up to the first tensor, which is too small.
    EXPECT_THAT(message(map_hf_model(*checkpoint)), HasSubstr("has 1 rows of 1, but config.json makes it"))
        << name;
  }
}

}  // namespace
}  // namespace odmoe
