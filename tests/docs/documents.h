// What the documents say is in the repository.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace odmoe::testing {

// Every path that a document (a file *.md below `root`, README.md and CONTRIBUTING.md among them) names and
// that is not there, as "docs/io.md:12: src/io/file.cc".  Paths are: what links point to, unless it is an
// address; and words in backticks that are the name of a source or header (of any folder), or have a slash
// and end as a source or a document does or begin with a folder of the repository, which may be named from
// src/, include/ or src/model/ on.  A word in capitals ("arch/NAME.cc", "NAME_test.cc") stands for any.
std::vector<std::string> missing_paths(const std::filesystem::path& root);

}  // namespace odmoe::testing
