// safetensors files: where each tensor lies in one, and writing one as a stream.  No tensor data is read
// here.
//
// The format (https://github.com/huggingface/safetensors): the length of a JSON object in 8 bytes, little
// endian; the object, {NAME: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {KEY: TEXT}},
// perhaps followed by spaces; the data, to which the offsets are relative.
//
// Foreign bytes end here: what comes out has been checked against the file's length, and reading takes memory
// in proportion to the number of tensors, whatever the header says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "odmoe/result.h"

namespace odmoe {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;  // the reference implementation's limit
inline constexpr uint64_t kMaxSafetensorsTensors = 262144;  // unmerged K2 in one file has 70 thousand
inline constexpr size_t kMaxSafetensorsDimensions = 8;

struct SafetensorsTensor {
  std::string name;
  std::string dtype;           // "F32", "F16", "BF16", "F8_E4M3", "U8", "I32", ...: one of those known below
  std::vector<int64_t> shape;  // C order as in the file, slowest first; none negative; empty for a scalar
  uint64_t offset = 0;         // bytes from the start of the FILE
  uint64_t bytes = 0;          // as dtype and shape have it
};

// Bits of one element of a dtype; 0 for one that is not known.
uint64_t safetensors_dtype_bits(std::string_view dtype);

// Immutable after open(), so thread-safe.  Keeps no file open.
class SafetensorsFile {
 public:
  // Reads the header of `path`.  Errors, one line naming the file: kNotFound; kBadFile (no safetensors, a
  // damaged header, a tensor beyond the end of the file or over another); kUnsupported (an unknown dtype);
  // kIo.
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  SafetensorsFile(SafetensorsFile&&) = default;  // the index stays valid: a moved vector keeps its memory
  SafetensorsFile& operator=(SafetensorsFile&&) = default;
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;
  ~SafetensorsFile() = default;

  const std::filesystem::path& path() const { return path_; }  // empty for one that was parsed in memory
  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t data_begin() const { return data_begin_; }                         // bytes before the data
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }  // in the order of their data
  const SafetensorsTensor* find(std::string_view name) const;                 // null when absent
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // __metadata__

 private:
  friend Result<SafetensorsFile> parse_safetensors_header(std::span<const std::byte> first_bytes,
                                                          uint64_t file_bytes, const std::string& name);
  SafetensorsFile() = default;

  std::filesystem::path path_;
  uint64_t file_bytes_ = 0;
  uint64_t data_begin_ = 0;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string_view, size_t> index_;  // by name, into tensors_
  std::map<std::string, std::string> metadata_;
};

// The same from the first bytes of a file that is `file_bytes` long: all of the header must be among them.
// `name` is what errors call the file.
Result<SafetensorsFile> parse_safetensors_header(std::span<const std::byte> first_bytes, uint64_t file_bytes,
                                                 const std::string& name);

// A tensor that is to be written.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;  // C order
};

// The bytes before the data of a file with these tensors one after another, in this order.  Spaces are added
// so that the data begins at a multiple of `alignment`, a power of two of at least 8.
// Errors: kUsage (a name twice, an unknown dtype, a bad shape or alignment, a header over the limit).
Result<std::string> make_safetensors_header(std::span<const SafetensorsEntry> entries,
                                            const std::map<std::string, std::string>& metadata = {},
                                            uint64_t alignment = 8);

// Writes a file as a stream, in the order of the entries.  Holds nothing but the file, so memory does not
// depend on what is written.  Has one owner.  A file that was not finished stays as it is, too short for its
// header: whoever names it for others does so after finish().
class SafetensorsWriter {
 public:
  // Creates `path`, or empties it, and writes the header.  Errors: those of make_safetensors_header(); kIo.
  static Result<SafetensorsWriter> create(const std::filesystem::path& path,
                                          std::span<const SafetensorsEntry> entries,
                                          const std::map<std::string, std::string>& metadata = {},
                                          uint64_t alignment = 8);

  // The next bytes of the data, any number at a time.  More than the entries have is a mistake of the caller
  // and kUsage.  Errors: kIo, naming the file (no space left, ...).
  Status append(std::span<const std::byte> bytes);

  // Checks that all was written, brings it to the drive and closes the file.  Errors: kUsage when data is
  // missing; kIo.
  Status finish();

  uint64_t data_begin() const { return data_begin_; }
  uint64_t file_bytes() const { return file_bytes_; }  // when it will be finished

 private:
  SafetensorsWriter() = default;
  Status write(std::span<const std::byte> bytes);

  std::filesystem::path path_;
  FileDescriptor descriptor_;
  uint64_t data_begin_ = 0;
  uint64_t file_bytes_ = 0;
  uint64_t written_ = 0;
};

}  // namespace odmoe
