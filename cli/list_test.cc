#include "cli/list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "temp_dir.h"

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;

TEST(ListModels, AModelThatRunsIsListedWithWhatItIs) {
  const ListedModel listed = look_into(
      {.name = "hf:o/r", .path = ODMOE_SOURCE_DIR "/models/demo.gguf", .quantisation = {}, .wrong = {}});
  EXPECT_EQ(listed.runs, Runs::kYes) << listed.reason;
  EXPECT_FALSE(listed.architecture.empty());
  EXPECT_FALSE(listed.quantisation.empty());
  EXPECT_EQ(listed.model.bytes, std::filesystem::file_size(ODMOE_SOURCE_DIR "/models/demo.gguf"));
}

TEST(ListModels, DamagedFilesAreListedAsSuch) {
  const testing::TempDir dir;
  std::string text(5000, '\0');
  std::ifstream(ODMOE_SOURCE_DIR "/models/demo.gguf", std::ios::binary).read(text.data(), 5000);
  const auto cut = dir.write("cut.gguf", std::as_bytes(std::span(text)));
  const auto other = dir.write("other.gguf", std::as_bytes(std::span(std::string_view("<html>"))));
  for (const auto& path : {cut, other, dir / "none.gguf"}) {
    const ListedModel listed =
        look_into({.name = "hf:o/r", .path = path, .quantisation = "Q4_K_M", .wrong = {}});
    EXPECT_EQ(listed.runs, Runs::kDamaged) << path;
    EXPECT_FALSE(listed.reason.empty());
    EXPECT_EQ(listed.quantisation, "Q4_K_M");
  }
  const ListedModel missing =
      look_into({.name = "ollama:m", .path = {}, .quantisation = {}, .wrong = "its blob is missing"});
  EXPECT_EQ(missing.runs, Runs::kDamaged);
  EXPECT_EQ(missing.reason, "its blob is missing");
}

std::vector<ListedModel> two_models() {
  return {{.model = {.name = "hf:o/r:Q4_K_M",
                     .path = "/c/m.gguf",
                     .bytes = 3 << 20,
                     .n_file = 2,
                     .quantisation = {},
                     .wrong = {}},
           .architecture = "qwen3moe",
           .quantisation = "Q4_K_M",
           .runs = Runs::kYes,
           .reason = {}},
          {.model = {.name = "ollama:m", .path = {}, .bytes = 0, .quantisation = {}, .wrong = {}},
           .architecture = {},
           .quantisation = {},
           .runs = Runs::kDamaged,
           .reason = "it is\x1b[2J cut"}};
}

TEST(ListModels, TheTableHasALineForEach) {
  EXPECT_EQ(list_text(two_models()),
            "NAME               SIZE  FAMILY    QUANTISATION  RUNS\n"
            "hf:o/r:Q4_K_M  3.00 MiB  qwen3moe  Q4_K_M        yes\n"
            "ollama:m              -  -         -             damaged: it is\\x1b[2J cut\n");
  EXPECT_EQ(list_text({}), "");
}

TEST(ListModels, JsonHasAnObjectForEach) {
  const auto json = nlohmann::json::parse(list_json(two_models()));
  ASSERT_EQ(json.size(), 2);
  EXPECT_EQ(json[0]["name"], "hf:o/r:Q4_K_M");
  EXPECT_EQ(json[0]["bytes"], 3 << 20);
  EXPECT_EQ(json[0]["files"], 2);
  EXPECT_EQ(json[0]["runs"], "yes");
  EXPECT_EQ(json[1]["runs"], "damaged");
  EXPECT_EQ(nlohmann::json::parse(list_json({})), nlohmann::json::array());
}

}  // namespace
}  // namespace odmoe::cli
