#include "layering/layering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "temp_dir.h"

namespace odmoe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A source tree of a few lines, to see that the check sees.
class Tree {
 public:
  Tree() {
    fs::create_directories(root() / "src");
    fs::create_directories(root() / "cli");
    fs::create_directories(root() / "include" / "odmoe");
  }
  void add(const fs::path& file, std::string_view text) {
    fs::create_directories((root() / file).parent_path());
    std::ofstream(root() / file) << text;
  }
  fs::path root() const { return dir_.path(); }
  std::vector<std::string> violations() const { return layering_violations(root()); }

 private:
  TempDir dir_;
};

TEST(Layering, EveryArrowOfTheSourcesPointsDown) {
  EXPECT_THAT(layering_violations(ODMOE_SOURCE_DIR), IsEmpty());
}

TEST(Layering, DownwardIncludesAreFine) {
  Tree tree;
  tree.add("src/io/reader.cc", "#include <vector>\n#include \"base/units.h\"\n#include \"io/reader.h\"\n");
  tree.add("src/engine/engine.cc",
           "#include \"store/expert_store.h\"\n#include \"model/graph.h\"\n#include \"odmoe/engine.h\"\n");
  tree.add("src/model/kv.h", "#include \"odmoe/options.h\"\n#include \"ggml.h\"\n");
  tree.add("include/odmoe/engine.h", "#include \"odmoe/session.h\"\n");
  EXPECT_THAT(tree.violations(), IsEmpty());
}

TEST(Layering, UpwardIncludesAreFound) {
  Tree tree;
  tree.add("src/io/reader.cc", "#include <vector>\n  #  include \"format/gguf_file.h\"\n");
  tree.add("src/base/log.cc", "#include <odmoe/engine.h>\n");
  EXPECT_THAT(tree.violations(),
              ElementsAre("src/base/log.cc:1: base (0) must not include odmoe (4): odmoe/engine.h",
                          "src/io/reader.cc:2: io (1) must not include format (2): format/gguf_file.h"));
}

TEST(Layering, SidewaysIncludesAreFound) {
  Tree tree;
  tree.add("src/model/moe.cc", "#include \"store/expert_store.h\"\n");
  tree.add("src/predict/probe.cc", "#include \"model/graph.h\"\n");
  tree.add("src/store/policy.cc", "#include \"predict/predictor.h\"\n");
  EXPECT_THAT(
      tree.violations(),
      ElementsAre("src/model/moe.cc:1: model (3) must not include store (3): store/expert_store.h",
                  "src/predict/probe.cc:1: predict (3) must not include model (3): model/graph.h",
                  "src/store/policy.cc:1: store (3) must not include predict (3): predict/predictor.h"));
}

TEST(Layering, PublicHeadersIncludeNothingOfTheInside) {
  Tree tree;
  tree.add("include/odmoe/engine.h", "#include \"engine/engine_impl.h\"\n#include \"base/units.h\"\n");
  EXPECT_THAT(
      tree.violations(),
      ElementsAre("include/odmoe/engine.h:1: a public header must not include engine: engine/engine_impl.h",
                  "include/odmoe/engine.h:2: a public header must not include base: base/units.h"));
}

TEST(Layering, WaysAroundTheRuleAreFound) {
  Tree tree;
  tree.add("src/io/reader.cc", "#include \"../store/expert_store.h\"\n");
  tree.add("src/store/arena.h", "#include \"ggml-backend.h\"\n");
  tree.add("src/helpers/misc.h", "");
  EXPECT_THAT(
      tree.violations(),
      ElementsAre(
          "src/helpers: a folder that has no level",
          "src/io/reader.cc:1: an include names its folder from src/, not by ..: ../store/expert_store.h",
          "src/store/arena.h:1: store knows nothing of ggml: ggml-backend.h"));
}

TEST(Layering, WhatTakesLongToCompileIsFound) {
  Tree tree;
  tree.add("src/io/reader.cc", "// std::format\nauto text = std::format(\"{}\", 1);\n");
  EXPECT_THAT(tree.violations(),
              ElementsAre("src/io/reader.cc:2: odmoe::format is compiled once, std::format in each file"));
}

TEST(Layering, AddressesOfTensorsAreFoundOutsideOfTheBackend) {
  Tree tree;
  tree.add("src/backend/memory.cc", "std::byte* p = tensor->data;\n");
  tree.add("src/model/graph.cc", "auto n = bytes->data();\nauto* p = static_cast<float*>(a.logits->data);\n");
  EXPECT_THAT(tree.violations(),
              ElementsAre("src/model/graph.cc:2: where a tensor's values are is the backend's affair "
                          "(backend/tensor_memory.h)"));
}

TEST(Layering, LinkLinesThatPointUpOrSidewaysAreFound) {
  Tree tree;
  tree.add("src/io/CMakeLists.txt", "odmoe_module(io\n  SOURCES a.cc\n  DEPENDS base format\n  LINK x)\n");
  tree.add("src/model/CMakeLists.txt", "odmoe_module(model DEPENDS base store tokenizer)\n");
  tree.add("src/engine/CMakeLists.txt",
           "odmoe_module(engine SOURCES a.cc DEPENDS base tokenizer model TESTS a_test.cc)\n");
  EXPECT_THAT(tree.violations(), ElementsAre("src/io/CMakeLists.txt: io must not depend on format",
                                             "src/model/CMakeLists.txt: model must not depend on store"));
}

}  // namespace
}  // namespace odmoe::testing
