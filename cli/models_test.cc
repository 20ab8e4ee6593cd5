#include "cli/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;

constexpr FamilyInfo kTwo[] = {{"a", "Model A", "F32", ""},
                               {"long-name", "Model B", "F32, Q4_K_M", "images"}};

TEST(Models, AFamilyHasItsNameItsModelsAndWhatStandsBehindThem) {
  EXPECT_EQ(families_text(kTwo),
            "a          Model A\n"
            "           compared with llama.cpp: F32\n"
            "long-name  Model B\n"
            "           compared with llama.cpp: F32, Q4_K_M\n"
            "           not: images\n");
}

TEST(Models, TheTableHasARowForEachFamily) {
  EXPECT_EQ(families_markdown(kTwo),
            "| architecture in the GGUF | models | compared with llama.cpp | not |\n"
            "|---|---|---|---|\n"
            "| `a` | Model A | F32 |  |\n"
            "| `long-name` | Model B | F32, Q4_K_M | images |\n");
}

TEST(Models, TheDocumentationShowsTheTableOfTheProgram) {
  std::ifstream file(ODMOE_SOURCE_DIR "/docs/models.md");
  const std::string document{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_THAT(document, HasSubstr("\n\n" + families_markdown(known_families()) + "\n"))
      << "put what odmoe models --markdown prints into docs/models.md";
}

}  // namespace
}  // namespace odmoe::cli
