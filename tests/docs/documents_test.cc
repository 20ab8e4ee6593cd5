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
  for (const char* folder : {"docs", "src/io", "tests/io"}) fs::create_directories(dir / folder);
  dir.write("src/io/reader.h", "");
  dir.write("README.md",
            "`src/io/reader.h`, `io/reader.h` and [more](docs/io.md#one), not [this](docs/no.md)\n");
  dir.write(
      "docs/io.md",
      "A family is `src/io/NAME.h`; `GET /v1/stats`, `/v1/stats` and `a/b` are no paths,\n"
      "nor is [this](https://example.org/x.md).  But `io/writer.h`, `tests/none` and [that](../gone.md).\n");
  EXPECT_THAT(missing_paths(dir.path()), ElementsAre("README.md:1: docs/no.md", "docs/io.md:2: io/writer.h",
                                                     "docs/io.md:2: tests/none", "docs/io.md:2: ../gone.md"));
}

}  // namespace
}  // namespace odmoe::testing
