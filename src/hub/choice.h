// Which model of a repository is meant.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hub/listing.h"
#include "hub/names.h"
#include "odmoe/result.h"

namespace odmoe::hub {

// One model: a file, or all files of a split one in order.
struct Candidate {
  std::string stem;          // the path without its ending and without what numbers shards
  std::string quantisation;  // by its name; may be empty
  std::vector<ListedFile> files;
  int n_file = 1;  // that its names promise; as many as `files` unless some are missing
  uint64_t bytes = 0;

  bool complete() const { return files.size() == static_cast<size_t>(n_file); }
};

// The models of a listing by name: its GGUFs but for what goes with a model (projectors of images, importance
// matrices, drafts).
std::vector<Candidate> candidates(const Listing& listing);

// That which `name` means: its file (any of a set's); what has its quantisation; or, where it names neither,
// the first of preferred_quantisations() (quantisation.h), or the only model there is.  `place` is where it
// was looked for, for messages.  kNotFound where there is none; kUsage where there are several, with their
// sizes; kBadFile where shards are missing.
Result<Candidate> choose(const Listing& listing, const RepoName& name, std::string_view place);

}  // namespace odmoe::hub
