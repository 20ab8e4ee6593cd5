// Where one tensor's bytes lie on the disk, and how they are to be read.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ggml.h"

namespace odmoe {

struct TensorInfo {
  std::string name;
  ggml_type type = GGML_TYPE_F32;
  std::array<int64_t, 4> ne = {1, 1, 1, 1};  // ggml order, fastest first; 1 beyond the rank, never 0
  int file = 0;                              // index into Checkpoint::files(); -1: not in one piece
  uint64_t offset = 0;                       // bytes from the start of that file
  uint64_t bytes = 0;
  bool repacked = false;  // of experts that lie as Checkpoint::repacked() says
};

// Whether a file may have a tensor of this type: types that were given up keep their number, with blocks of
// no size.
bool holds_data(ggml_type type);
// By its name in ggml ("q4_K"); nothing for one that this build of ggml lacks or that holds no data.
std::optional<ggml_type> find_ggml_type(std::string_view name);

// Whether ggml can multiply by weights of this type: a file may also hold integer types and those that are
// only made on the fly (Q8_1, Q8_K), and ggml's CPU backend dies on a null function when one is a weight.
inline bool is_weight_type(ggml_type type) {
  return type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float != nullptr;
}

}  // namespace odmoe
