// Reads what was written and compares it with its checksums.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "format/expert_manifest.h"
#include "odmoe/result.h"

namespace odmoe {

// A file and what is to be in it.
struct CheckedFile {
  struct Range {
    std::string name;  // "the down section of expert 7 of layer 3"
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t checksum = 0;  // XXH3-64
  };
  std::filesystem::path path;
  std::vector<Range> ranges;  // ascending
};

struct Damage {
  size_t file = 0;  // index into the files given
  std::string
      what;  // "/models/x/experts/layer_03.experts: the down section of expert 7 of layer 3 is damaged"
};

// All that is damaged, missing or cannot be read, in order.  `progress` may be empty; false ends it with
// kInterrupted.
Result<std::vector<Damage>> check_files(const std::vector<CheckedFile>& files,
                                        const std::function<bool(uint64_t done, uint64_t total)>& progress);

// Every record and every other file of a directory, as its manifest has them.
std::vector<CheckedFile> files_to_check(const ExpertManifest& manifest,
                                        const std::filesystem::path& directory);

// The two sections of the record at `offset` of a file, of "expert 7 of layer 3".
void add_record_ranges(const ExpertManifest::Layer& layer, uint64_t offset, const RecordChecksums& checksums,
                       const std::string& expert, std::vector<CheckedFile::Range>& ranges);

}  // namespace odmoe
