#include "docs/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temp_dir.h"

namespace odmoe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Documents, NameOnlyPathsThatAreThere) { EXPECT_THAT(missing_paths(ODMOE_SOURCE_DIR), IsEmpty()); }

TEST(Documents, PathsThatAreNotThereAreFound) {
  const TempDir dir;
  for (const char* folder : {"docs", "src/io", "tests/io", "models", "build"}) {
    fs::create_directories(dir / folder);
  }
  dir.write("src/io/reader.h", "");
  dir.write("README.md",
            "`src/io/reader.h`, `io/reader.h` and [more](docs/io.md#one), not [this](docs/no.md)\n");
  dir.write("CONTRIBUTING.md", "`reader.h`, `NAME_test.cc` and `reader.py` may be named, not `writer.h`.\n");
  dir.write("models/README.md", "`docs/none.md`\n");
  dir.write("build/README.md", "what a build makes is passed over: `docs/none.md`\n");
  dir.write(
      "docs/io.md",
      "A family is `src/io/NAME.h`; `GET /v1/stats`, `/v1/stats` and `a/b` are not paths,\n"
      "nor is [this](https://example.org/x.md).  But `io/writer.h`, `tests/none` and [that](../gone.md).\n");
  EXPECT_THAT(missing_paths(dir.path()),
              ElementsAre("CONTRIBUTING.md:1: writer.h", "README.md:1: docs/no.md",
                          "docs/io.md:2: io/writer.h", "docs/io.md:2: tests/none", "docs/io.md:2: ../gone.md",
                          "models/README.md:1: docs/none.md"));
}

}  // namespace
}  // namespace odmoe::testing
