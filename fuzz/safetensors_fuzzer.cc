// Any bytes as a safetensors file.
//
//   safetensors_fuzzer -max_total_time=60 -rss_limit_mb=1024 -dict=fuzz/safetensors.dict NEW
//   fuzz/corpus/safetensors
#include <cstddef>
#include <cstdint>
#include <span>

#include "format/safetensors.h"
#include "gguf_exercise.h"

namespace odmoe {
namespace {

void fuzz(std::span<const std::byte> bytes) {
  // The header alone, claimed to begin a long file: half of the space is spent on what is inside of it.
  for (const uint64_t file_bytes : {static_cast<uint64_t>(bytes.size()), uint64_t{1} << 40U}) {
    const auto file = parse_safetensors_header(bytes, file_bytes, "fuzz");
    testing::exercise_result(file);
    if (!file.has_value()) continue;
    uint64_t end = file->data_begin();
    for (const SafetensorsTensor& tensor : file->tensors()) {
      testing::must(tensor.offset >= end, "tensors lie apart, in order");
      end = tensor.offset + tensor.bytes;
      testing::must(end >= tensor.offset && end <= file_bytes, "a tensor lies in the file");
      testing::must(file->find(tensor.name) == &tensor, "a tensor is found by its name");
      testing::must(safetensors_dtype_bits(tensor.dtype) != 0, "a dtype is known");
    }
  }
}

}  // namespace
}  // namespace odmoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  odmoe::fuzz({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
