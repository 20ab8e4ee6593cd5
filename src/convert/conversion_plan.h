// What a conversion will write, worked out before anything is: every file, in pieces small enough to bound
// memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/repacked_layout.h"
#include "convert/tensor_source.h"
#include "format/expert_manifest.h"
#include "odmoe/result.h"

namespace odmoe {

// Bytes of an output file that come from one place.
struct PlannedRange {
  static constexpr int64_t kZeros = -1;   // padding
  static constexpr int64_t kHeader = -2;  // PlannedFile::header
  int64_t tensor = kZeros;                // or index into TensorSource::tensors()
  uint64_t offset = 0;                    // in the tensor
  uint64_t bytes = 0;
  int32_t section = -1;  // of the file, that the bytes belong to: PlannedFile::n_section(); -1: none
  bool repack = false;   // a whole matrix, to be laid out as ConversionPlan::repack does
};

// A file that is written in one go.
struct PlannedFile {
  std::string path;    // in the directory
  std::string header;  // safetensors', without the spaces that fill it up
  uint64_t bytes = 0;
  // The experts whose records it holds, in order; empty for dense tensors.
  std::vector<int32_t> experts;
  // What has a checksum of its own: gate and up, then down, of one expert after the other; all of a file of
  // dense tensors.
  size_t n_section() const { return layer < 0 ? 1 : 2 * experts.size(); }
  int layer = -1;          // index into ExpertManifest::layers; -1 for dense tensors
  size_t first_range = 0;  // into ConversionPlan::ranges
  size_t end_range = 0;
};

// What one buffer holds: ranges that follow each other in one file.
struct PlannedWrite {
  size_t file = 0;  // index into ConversionPlan::files
  size_t first_range = 0, end_range = 0;
  uint64_t bytes = 0;
};

struct ConversionPlan {
  ExpertManifest manifest;  // checksums 0, files without tokenizer.json
  std::vector<PlannedFile> files;
  std::vector<PlannedRange> ranges;  // of all files
  std::vector<PlannedWrite> writes;  // of all files, in order
  uint64_t total_bytes = 0;          // of all files
  uint64_t buffer_bytes = 0;         // the largest write
  const RepackedLayout* repack = nullptr;
};

struct LayoutOptions {
  ExpertManifest::Layout layout = ExpertManifest::Layout::kPacked;
  uint32_t page_bytes = 4096;  // 512 to 16 MiB, a power of two
  // With kPacked: lays out those projections that it takes.  Null: none.  Must outlive the plan.
  const RepackedLayout* repack = nullptr;
  // The experts of one machine of several alone.  Null: all.  Must outlive the planning.
  const ExpertsOfShare* share = nullptr;
};

// "blk.3.ffn_up_exps.weight" -> layer 3, up; nothing for the name of any other tensor.
enum class StackKind : uint8_t { kGate, kUp, kGateUp, kDown };
struct StackName {
  int layer = 0;
  StackKind kind = StackKind::kGate;
};
std::optional<StackName> parse_stack_name(std::string_view name);

// Errors: kBadFile and kUnsupported where the source's experts cannot be planned (a layer without a down
// projection, a shape that does not fit the number of experts), naming tensor and layer.
Result<ConversionPlan> plan_conversion(const TensorSource& source, const LayoutOptions& options);

// As much as a buffer holds, unless one row of a tensor, or a matrix that is repacked, is longer.
inline constexpr uint64_t kWriteBytes = TensorSource::kMaxReadBytes;

}  // namespace odmoe
