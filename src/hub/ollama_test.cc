#include "hub/ollama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "temp_dir.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kModel(64, 'a');
const std::string kChild(64, 'b');

std::string manifest_of(const std::string& digest, const std::string& bytes = "7") {
  return R"({"schemaVersion": 2, "config": {"digest": "sha256:x"}, "layers": [
    {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:y", "size": 1},
    {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:)" +
         digest + R"(", "size": )" + bytes + "}]}";
}

class Ollama : public ::testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) const {
    fs::create_directories((dir_ / path).parent_path());
    std::ofstream(dir_ / path) << text;
  }
  Result<fs::path> find(const std::string& name) const {
    return find_ollama_model({dir_ / "none", dir_.path()}, *parse_ollama_name(name));
  }

  odmoe::testing::TempDir dir_;
};

TEST_F(Ollama, AModelIsFoundByItsManifest) {
  put("manifests/registry.ollama.ai/library/qwen3/30b", manifest_of(kModel));
  put("blobs/sha256-" + kModel, "GGUF...");
  const auto path = find("qwen3:30b");
  ASSERT_TRUE(path.has_value()) << path.error().message;
  EXPECT_EQ(*path, dir_ / ("blobs/sha256-" + kModel));
  EXPECT_THAT(find("qwen3").error().message, HasSubstr("Ollama has no qwen3 in "));
}

TEST_F(Ollama, TheNewerFolderAndListsOfManifestsAreRead) {
  put("manifests-v2/registry.ollama.ai/library/m/latest",
      R"({"mediaType": "application/vnd.ollama.manifest.list.v2+json", "manifests": [
         {"runner": "mlx", "digest": "sha256:)" +
          kModel + R"("}, {"runner": "ollama", "digest": "sha256:)" + kChild + "\"}]}");
  put("blobs/sha256-" + kChild, manifest_of(kModel));
  put("blobs/sha256-" + kModel, "GGUF...");
  const auto path = find("m");
  ASSERT_TRUE(path.has_value()) << path.error().message;
  EXPECT_EQ(*path, dir_ / ("blobs/sha256-" + kModel));
}

TEST_F(Ollama, DamagedOnesAreListedAsSuch) {
  put("manifests/registry.ollama.ai/library/good/latest", manifest_of(kModel));
  put("manifests/registry.ollama.ai/library/missing/latest", manifest_of(kChild));
  put("manifests/registry.ollama.ai/library/not-json/latest", "{");
  put("manifests/registry.ollama.ai/library/short/latest", manifest_of(kModel, "8"));
  put("manifests/registry.ollama.ai/library/tensors/latest",
      R"({"layers": [{"mediaType": "application/vnd.ollama.image.tensor"}]})");
  put("manifests/hf.co/o/r/Q4_K_M", manifest_of(kModel));
  put("manifests/.DS_Store", "");
  put("blobs/sha256-" + kModel, "GGUF...");
  std::string shown;
  for (const OllamaModel& model : ollama_models(dir_.path()))
    shown += model.name.shown() + (model.path.has_value() ? " good\n" : " bad\n");
  EXPECT_EQ(shown, "hf.co/o/r:Q4_K_M good\ngood good\nmissing bad\nnot-json bad\nshort bad\ntensors bad\n");
  EXPECT_THAT(find("missing").error().message, HasSubstr("is missing: pull it with ollama again"));
  EXPECT_THAT(find("short").error().message, HasSubstr("has 7 bytes instead of 8"));
  EXPECT_EQ(find("tensors").error().kind, ErrorKind::kUnsupported);
}

TEST(OllamaManifest, AbsurdOnesAreRefused) {
  for (const std::string& json :
       {std::string(), std::string("[]"), std::string("{}"), std::string(R"({"layers": 5})"),
        std::string(R"({"layers": [5, null, {}]})"), manifest_of("../../etc/passwd"),
        manifest_of(std::string(64, 'A')), std::string(R"({"manifests": 5})"),
        std::string(R"({"manifests": [{"runner": "ollama"}]})"), std::string(R"({"manifests": []})"),
        std::string(10000, '[')}) {
    EXPECT_FALSE(parse_ollama_manifest(json).has_value()) << json.substr(0, 100);
  }
  EXPECT_EQ(parse_ollama_manifest(manifest_of(kModel, "-5"))->bytes, 0);
}

}  // namespace
}  // namespace odmoe::hub
