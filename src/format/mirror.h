// Whether another GGUF is the same model, so that either may be read in the other's place.
#pragma once

#include <filesystem>
#include <vector>

#include "format/checkpoint.h"
#include "odmoe/result.h"

namespace odmoe {

// The files of the mirror of `model` at `path`, in the order of model.files().  `path` names the file that
// stands for a GGUF's first, or the folder in which files of the same names are; the mirror of an expert
// directory is another.
//
// Checked of a GGUF: as many files as the model has, of the same sizes; metadata and tensor tables byte for
// byte; and of the tensors' data blocks of 4 KiB at kMirrorSamples places of each file, first and last among
// them, again byte for byte.  Reading all of it would take as long as copying it. Of an expert directory:
// that model.json, which has the checksums of all records, is the same.  Errors: those of GgufFile::open and
// ExpertDirectory::open; kBadFile saying what differs and where.
Result<std::vector<std::filesystem::path>> open_mirror(const Checkpoint& model,
                                                       const std::filesystem::path& path);

inline constexpr int kMirrorSamples = 64;

}  // namespace odmoe
