// The files of a reader, numbered in the order in which they were added.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/transfer.h"
#include "io/async_reader.h"
#include "io/direct_file.h"
#include "odmoe/result.h"

namespace odmoe {

// Thread-compatible: const once all files are added.
class FileTable {
 public:
  explicit FileTable(bool direct) : direct_(direct) {}

  Result<int> add(const std::filesystem::path& path) {
    ODMOE_ASSIGN_OR_RETURN(DirectFile file, DirectFile::open(path, direct_));
    // Alignments are powers of two, so the larger one satisfies both.
    alignment_.offset_bytes = std::max(alignment_.offset_bytes, file.alignment().offset_bytes);
    alignment_.memory_bytes = std::max(alignment_.memory_bytes, file.alignment().memory_bytes);
    files_.push_back(std::move(file));
    return static_cast<int>(files_.size()) - 1;
  }

  const DirectFile& operator[](int file) const {
    assert(file >= 0 && static_cast<size_t>(file) < files_.size());
    return files_[static_cast<size_t>(file)];
  }
  size_t size() const { return files_.size(); }
  ReadAlignment alignment() const { return alignment_; }

  // Reads here and now: how many bytes came, or an errno, negative.
  int64_t read(const ReadRequest& request) const {
    return read_some((*this)[request.file].descriptor(), request.offset,
                     {request.destination, request.bytes});
  }

 private:
  std::vector<DirectFile> files_;
  ReadAlignment alignment_;
  bool direct_;
};

}  // namespace odmoe
