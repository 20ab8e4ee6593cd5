// model.json of an expert directory (docs/expert-directory.md): what the model is, and where its experts'
// records lie.
//
// Foreign bytes end here: a manifest that was parsed is consistent in itself.  Whether the files are there
// and long enough is ExpertDirectory's to check.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/expert_share.h"
#include "format/expert_source.h"
#include "format/metadata_entry.h"
#include "format/repacked_experts.h"
#include "ggml.h"
#include "odmoe/result.h"

namespace odmoe {

struct ExpertManifest {
  static constexpr int kVersion = 1;
  static constexpr int kRepackedVersion = 2;  // where experts are repacked, which readers of 1 would not see
  static constexpr int kShareVersion = 3;     // where experts are missing, repacked or not
  static constexpr uint64_t kMaxBytes = 64U << 20U;  // of model.json: K2's is 1 MiB
  static constexpr uint64_t kMaxTokenizerBytes = 256U << 20U;
  static constexpr int kMaxLayers = 4096;
  static constexpr int kMaxExperts = 65536;
  static constexpr uint64_t kMaxRecordBytes = 1ULL << 40U;

  enum class Layout : uint8_t { kPacked, kFiles };

  // A file of the model that is not experts: "base_model/norms.safetensors", "tokenizer.json".
  struct File {
    std::string path;  // in the directory
    uint64_t bytes = 0;
    uint64_t checksum = 0;  // XXH3-64 of all of it
  };
  // Part of what the directory was made from, for people.
  struct SourceFile {
    std::string name;
    uint64_t bytes = 0;
  };
  // One projection, or gate and up merged, of every record of a layer.
  struct Slice {
    std::string tensor;  // "blk.3.ffn_up_exps.weight"
    ggml_type type = GGML_TYPE_F32;
    int64_t n_in = 0, n_out = 0;  // of one expert
    uint64_t offset = 0;          // in the record
    uint64_t bytes = 0;
    bool repacked = false;  // laid out as ExpertManifest::repacked says, gate and up each by itself

    // Of each matrix in it: gate and up merged are two.
    int64_t matrix_rows() const;
  };
  struct Layer {
    int layer = 0;
    std::vector<Slice> slices;               // gate, up, down or gate_up, down or up, down
    uint64_t record_bytes = 0;               // to the end of the last slice
    uint64_t first_offset = 0;               // of the first record, in its file
    uint64_t stride = 0;                     // from one record to the next; 0 with a file per expert
    std::vector<RecordChecksums> checksums;  // by record
    // Of a share: the experts whose records there are, ascending, and how many experts the model has.
    std::vector<int32_t> held;
    int32_t n_expert_of_all = 0;

    int n_record() const { return static_cast<int>(checksums.size()); }
    int n_expert() const { return n_expert_of_all > 0 ? n_expert_of_all : n_record(); }
    int32_t expert_of(int record) const {
      return n_expert_of_all > 0 ? held[static_cast<size_t>(record)] : record;
    }
    // The record's first section ends where down begins, on a page.
    uint64_t gate_up_bytes() const { return slices.back().offset; }
  };

  Layout layout = Layout::kPacked;
  uint32_t page_bytes = 4096;           // what records begin on
  std::vector<MetadataEntry> metadata;  // all but the tokenizer's
  std::vector<SourceFile> sources;
  std::vector<File> files;
  std::vector<Layer> layers;                // those with experts, ascending
  std::optional<RepackedExperts> repacked;  // where a slice is
  std::optional<ExpertShare> share;         // where layers have n_expert_of_all

  // The file of an expert's record (of all the layer's with Layout::kPacked), in the directory.
  std::string expert_path(int layer, int expert) const;

  std::string to_json() const;
  // `name` is what errors call it.  Errors: kBadFile; kUnsupported (another version, an unknown type).
  static Result<ExpertManifest> parse(std::string_view json, const std::string& name);
};

std::string_view layout_name(ExpertManifest::Layout layout);  // "packed", "files"

// tokenizer.json: the metadata whose keys begin with "tokenizer.".
std::string tokenizer_to_json(const std::vector<MetadataEntry>& metadata);
Result<std::vector<MetadataEntry>> parse_tokenizer_json(std::string_view json, const std::string& name);
bool is_tokenizer_key(std::string_view key);

}  // namespace odmoe
