// What `odmoe inspect` says of sizes and speed, beside the file and what the engine plans.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "cli/process.h"
#include "format/checkpoint.h"
#include "odmoe/engine.h"
#include "odmoe/format.h"
#include "runnable_model.h"
#include "temp_dir.h"

namespace odmoe::testing::inspect_test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr int32_t kContext = 256;
// What the process itself takes differs from run to run, and from this program to the other.
constexpr double kProcessBytes = 16 << 20;

struct Case {
  std::string name;
  std::function<std::filesystem::path(const TempDir&)> model;
};

std::filesystem::path written(const TempDir& dir, const RunnableModelOptions& options) {
  const std::filesystem::path path = dir / "model.gguf";
  runnable_model(options).write(path);
  return path;
}

// What the file itself says.
struct FileSizes {
  uint64_t dense_bytes = 0, expert_bytes = 0, embedding_bytes = 0;
  bool has_head = false;
  std::map<std::string, uint64_t> bytes_per_type;
  std::map<int, uint64_t> dense_bytes_of_layer;
  std::map<int, uint64_t> expert_bytes_of_layer;  // of all its experts
};

FileSizes sizes_of(const std::filesystem::path& model) {
  FileSizes sizes;
  const auto file = open_checkpoint(model);
  if (!file.has_value()) {
    ADD_FAILURE() << file.error().message;
    return sizes;
  }
  for (const TensorInfo& tensor : (*file)->tensors()) {
    const bool of_experts = tensor.name.find("_exps.") != std::string::npos;
    (of_experts ? sizes.expert_bytes : sizes.dense_bytes) += tensor.bytes;
    sizes.bytes_per_type[ggml_type_name(tensor.type)] += tensor.bytes;
    if (tensor.name == "token_embd.weight") sizes.embedding_bytes = tensor.bytes;
    if (tensor.name == "output.weight") sizes.has_head = true;
    if (!tensor.name.starts_with("blk.")) continue;
    const int layer = std::stoi(tensor.name.substr(4));
    (of_experts ? sizes.expert_bytes_of_layer : sizes.dense_bytes_of_layer)[layer] += tensor.bytes;
  }
  return sizes;
}

class InspectedSizes : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override { model_ = GetParam().model(dir_); }

  MemoryPlan plan(double percent) const {
    EngineOptions options;
    options.model = model_;
    options.context = kContext;
    options.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = percent};
    const auto plan = Engine::memory_plan(options);
    if (plan.has_value()) return *plan;
    ADD_FAILURE() << plan.error().message;
    return {};
  }

  std::string text(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"inspect", model_.string(), "-c", std::to_string(kContext)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = odmoe(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }

  TempDir dir_;
  std::filesystem::path model_;
};

TEST_P(InspectedSizes, AreThoseOfTheFile) {
  const Json json = Json::parse(text({"--json"}));
  const FileSizes file = sizes_of(model_);
  EXPECT_EQ(json["file_bytes"], std::filesystem::file_size(model_));
  EXPECT_EQ(json["dense_bytes"], file.dense_bytes);
  EXPECT_EQ(json["expert_bytes"], file.expert_bytes);
  EXPECT_EQ((json["bytes_per_type"].get<std::map<std::string, uint64_t>>()), file.bytes_per_type);
  uint64_t cycle_bytes = 0;
  int layer = 0;
  for (const Json& of_layer : json["layers"]) {
    SCOPED_TRACE(layer);
    EXPECT_EQ(of_layer["dense_bytes"], file.dense_bytes_of_layer.at(layer));
    const auto experts = file.expert_bytes_of_layer.find(layer++);
    const uint64_t expert_bytes = experts == file.expert_bytes_of_layer.end() ? 0 : experts->second;
    EXPECT_EQ(of_layer["n_expert"].get<uint64_t>() * of_layer["expert_bytes"].get<uint64_t>(), expert_bytes);
    cycle_bytes += of_layer["expert_bytes"].get<uint64_t>() * json["n_expert_used"].get<uint64_t>();
  }
  EXPECT_EQ(json["cycle_bytes"], cycle_bytes);
}

TEST_P(InspectedSizes, AreThoseThatTheEnginePlans) {
  const Json json = Json::parse(text({"--json"}));
  const MemoryPlan whole = plan(100);
  EXPECT_EQ(json["context"], kContext);
  EXPECT_EQ(json["kv_bytes"], whole.kv_bytes);
  EXPECT_EQ(json["kv_bytes_per_token"].get<uint64_t>() * kContext, whole.kv_bytes);
  EXPECT_EQ(json["dense_memory_bytes"], whole.dense_bytes);
  EXPECT_EQ(json["expert_bytes"], whole.expert_bytes);
  EXPECT_GE(whole.dense_bytes, json["dense_bytes"].get<uint64_t>());
  const auto buffer_bytes = json["buffer_bytes"].get<uint64_t>();
  EXPECT_NEAR(static_cast<double>(buffer_bytes), static_cast<double>(whole.buffer_bytes), kProcessBytes);

  EXPECT_EQ(json["budget_bytes"]["minimum"].get<uint64_t>() - buffer_bytes,
            whole.minimum_bytes - whole.buffer_bytes);
  ASSERT_TRUE(json["budget_bytes"].contains("100%"));
  for (const auto& [name, bytes] : json["budget_bytes"].items()) {
    if (!name.ends_with('%')) continue;
    const MemoryPlan planned = plan(std::stod(name));
    EXPECT_EQ(bytes.get<uint64_t>() - buffer_bytes, planned.budget_bytes - planned.buffer_bytes) << name;
  }
}

TEST_P(InspectedSizes, AreTheSameInWords) {
  const Json json = Json::parse(text({"--json"}));
  const std::string words = text();
  // The value beside a name; names and values are separated by two spaces or more.
  const auto value = [&](std::string_view name) -> std::string {
    const size_t at = words.find(odmoe::format("\n  {}  ", name));
    if (at == std::string::npos) {
      ADD_FAILURE() << "no " << name << " in\n" << words;
      return {};
    }
    const size_t begin = words.find_first_not_of(' ', at + 3 + name.size());
    return words.substr(begin, words.find('\n', begin) - begin);
  };
  const auto bytes = [&](const char* key) { return format_bytes(json[key].get<uint64_t>()); };
  EXPECT_EQ(value("file"), bytes("file_bytes"));
  EXPECT_EQ(value("experts"), bytes("expert_bytes"));
  EXPECT_EQ(value("dense weights"), bytes("dense_bytes"));
  EXPECT_EQ(value("dense weights in memory"), bytes("dense_memory_bytes"));
  EXPECT_EQ(value("experts that one token uses"), bytes("cycle_bytes"));
  EXPECT_EQ(value(odmoe::format("KV cache of {} tokens", kContext)), bytes("kv_bytes"));
  for (const auto& [type, size] : json["bytes_per_type"].items())
    EXPECT_EQ(value(type), format_bytes(size.get<uint64_t>()));
  for (const Json& layer : json["layers"]) {
    EXPECT_THAT(words, HasSubstr("dense " + format_bytes(layer["dense_bytes"].get<uint64_t>())));
    if (layer["n_expert"] != 0) {
      EXPECT_THAT(words, HasSubstr(odmoe::format("{} experts of {}", layer["n_expert"].get<int>(),
                                                 format_bytes(layer["expert_bytes"].get<uint64_t>()))));
    }
  }
  const auto near = [&](const std::string& name, const Json& wanted) {
    const std::string text = value(name);
    const auto parsed = parse_bytes(text.substr(0, text.find("   ")));
    ASSERT_TRUE(parsed.has_value()) << name << ": " << text;
    EXPECT_NEAR(static_cast<double>(*parsed), wanted.get<double>(), kProcessBytes) << name;
  };
  near("buffers", json["buffer_bytes"]);
  for (const auto& [name, size] : json["budget_bytes"].items())
    near(name == "minimum" ? "least that will do" : name + " of the experts", size);
  EXPECT_THAT(value("100% of the experts"), HasSubstr("tokens/s"));
}

// With all experts in memory: no token can do without the bytes that are counted.
TEST_P(InspectedSizes, GiveTheSpeedThatReadingAllows) {
  const Json json = Json::parse(text({"--json"}));
  const FileSizes file = sizes_of(model_);
  const Json& estimate = json["estimate"];
  EXPECT_EQ(estimate["dense_read_bytes"], file.dense_bytes - (file.has_head ? file.embedding_bytes : 0));
  const double read_bytes = estimate["dense_read_bytes"].get<double>() + json["cycle_bytes"].get<double>();
  const double wanted = estimate["memory_bytes_per_second"].get<double>() / read_bytes;
  EXPECT_NEAR(estimate["roofline_tokens_per_second"]["100%"].get<double>(), wanted, wanted * 1e-9);
}

INSTANTIATE_TEST_SUITE_P(
    Models, InspectedSizes,
    ::testing::Values(Case{"bundled", [](const TempDir&) { return ODMOE_SOURCE_DIR "/models/demo.gguf"; }},
                      Case{"qwen3moe",
                           [](const TempDir& dir) { return written(dir, {.expert_type = GGML_TYPE_Q8_0}); }},
                      Case{"qwen2moe_of_two_types",
                           [](const TempDir& dir) {
                             return written(dir, {.architecture = "qwen2moe",
                                                  .expert_type = GGML_TYPE_Q4_0,
                                                  .down_type = GGML_TYPE_Q8_0,
                                                  .dense_type = GGML_TYPE_Q8_0});
                           }},
                      // Its attn_kv_b is in memory a second time, in two parts.
                      Case{"deepseek2",
                           [](const TempDir& dir) {
                             return written(dir, {.architecture = "deepseek2", .joint_kv_b = true});
                           }}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace odmoe::testing::inspect_test
