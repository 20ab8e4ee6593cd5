// Uses all that a GGUF offers, as the program above would: for the fuzzer and for tests with damaged files.
// Nothing is expected of the values; sanitizers and asserts judge.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "format/gguf_experts.h"
#include "format/gguf_file.h"

namespace odmoe::testing {

// Ends the process when a promise of the interface is broken: NDEBUG must not hide it from the fuzzer.
inline void must(bool condition, const char* promise) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

inline void must_be_one_line(const Error& error) {
  must(!error.message.empty(), "an error has a message");
  must(std::ranges::none_of(error.message, [](unsigned char c) { return c < 0x20 || c == 0x7F; }),
       "an error is one line without control characters");
}

template <typename T>
void exercise_result(const Result<T>& result) {
  if (!result.has_value()) must_be_one_line(result.error());
}

inline void exercise_accessors(const GgufFile& file, const std::string& key) {
  exercise_result(file.get_int(key));
  exercise_result(file.get_float(key));
  exercise_result(file.get_bool(key));
  exercise_result(file.get_string(key));
  exercise_result(file.get_strings(key));
  exercise_result(file.get_ints(key));
  exercise_result(file.get_floats(key));
}

inline void exercise_experts(const GgufFile& file, int n_layer, int n_expert, int n_used) {
  const auto source = make_gguf_experts(file, n_layer, n_expert, n_used);
  exercise_result(source);
  if (!source.has_value()) return;
  for (int layer = 0; layer < (*source)->n_layer(); ++layer) {
    if ((*source)->n_expert(layer) == 0) continue;
    const RecordLayout& layout = (*source)->layout(layer);
    for (size_t slice = 0; slice < layout.slices.size(); ++slice) {
      for (const int expert : {0, n_expert - 1}) {
        const SliceLocation at =
            (*source)->locate({.layer = layer, .expert = expert}, static_cast<int>(slice));
        must(at.file == 0 && at.offset + layout.slices[slice].bytes <= file.total_bytes(),
             "an expert lies in the file");
      }
    }
    for (const auto* projection : {&layout.gate, &layout.up, &layout.down}) {
      const auto& slice = layout.slices[static_cast<size_t>(projection->slice)];
      must(projection->offset + projection->bytes <= slice.bytes, "a projection lies in its slice");
    }
  }
  must((*source)->total_bytes() <= file.total_bytes(), "experts are a part of the file");
}

inline int small_int(const GgufFile& file, const std::string& key, int otherwise) {
  const auto value = file.get_int(key);
  return value.has_value() ? static_cast<int>(std::clamp<int64_t>(*value, INT32_MIN, INT32_MAX)) : otherwise;
}

// Of a file with one shard.
inline void exercise(const GgufFile& file) {
  for (const auto& [key, text] : file.metadata_text()) {
    must(text.size() < 4096, "a description is short");
    exercise_accessors(file, key);  // the escaped key: absent where it differs
  }
  uint64_t sum = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    must(tensor.offset + tensor.bytes <= file.total_bytes() && tensor.offset + tensor.bytes >= tensor.offset,
         "a tensor lies in the file");
    must(file.find_tensor(tensor.name) == &tensor, "a tensor is found by its name");
    must(std::ranges::all_of(tensor.ne, [](int64_t n) { return n > 0; }), "dimensions are positive");
    sum += tensor.bytes;
  }
  must(sum <= file.total_bytes(), "tensors lie apart");
  const std::string arch = file.get_string("general.architecture").value_or("deepseek2");
  exercise_experts(file, small_int(file, arch + ".block_count", 2),
                   small_int(file, arch + ".expert_count", 4),
                   small_int(file, arch + ".expert_used_count", 2));
}

}  // namespace odmoe::testing
