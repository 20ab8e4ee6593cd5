// The header of one GGUF file: key-value pairs and tensor descriptions, read with every length checked.
//
// Why not ggml's own reader (gguf_init_from_callback): it takes copies of all values before anything of ours
// can judge them, several times what they take in the file.  With ggml 0.27 a 30 MiB header of empty strings
// took 245 MiB and, under a limit of 300 MiB, ended in a std::bad_alloc that leaves the library (here: 31
// MiB); where long arrays lie cannot be known without reading the header.  And it gives its reasons only to
// the log callback, one for the whole process and without a lock, so that taking them races with other
// threads. It also passes dimensions of 0 and data beyond the end of the file, which have to be checked in
// any case.
//
// Memory is bounded: the header is kept as it lies in the file (at most kMaxHeaderBytes and no more than the
// file has), values are looked up in it, and counts are limited below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/gguf_values.h"
#include "format/tensor_info.h"
#include "gguf.h"
#include "odmoe/result.h"

namespace odmoe::gguf {

inline constexpr uint64_t kMaxHeaderBytes = 256U << 20U;  // the largest vocabularies take about 20 MiB
inline constexpr uint64_t kMaxTensors = 262144;           // K2 with unmerged experts has 70 thousand
inline constexpr uint64_t kMaxTensorNameBytes = GGML_MAX_NAME - 1;
inline constexpr uint64_t kMaxAlignment = 1U << 20U;
// Of tensors in the data of a file that does not say another (general.alignment).
inline constexpr uint64_t kDefaultAlignment = GGUF_DEFAULT_ALIGNMENT;

struct Header {
  uint32_t version = 0;
  uint64_t file_bytes = 0;
  Values metadata;
  std::vector<TensorInfo> tensors;  // in file order, names distinct; ranges in the file, apart
};

// Reads from an open file of that many bytes; `name` is what errors call it.
// Errors: kBadFile, kUnsupported (version 1, big endian, an unknown tensor type), kIo.
Result<Header> read_header(int file_descriptor, uint64_t file_bytes, const std::string& name);

// The same from a file's first bytes.
Result<Header> read_header(std::span<const std::byte> first_bytes, uint64_t file_bytes,
                           const std::string& name);

}  // namespace odmoe::gguf
