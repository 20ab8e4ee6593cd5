// Where a conversion takes its model from: a stream of tensors with GGUF's names, types and shapes, whatever
// lies underneath.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/checkpoint.h"
#include "format/metadata_entry.h"
#include "ggml.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable but for what it caches, and thread-safe: a conversion reads with several threads at once.
class TensorSource {
 public:
  // A tensor as the model made has it: for a source that quantises, after that.
  struct Tensor {
    std::string name;  // GGUF's: "blk.3.ffn_up_exps.weight" for all up projections of a layer
    ggml_type type = GGML_TYPE_F32;
    std::array<int64_t, 4> ne = {1, 1, 1, 1};  // ggml order, fastest first; experts are the third
    uint64_t bytes() const {
      return ggml_row_size(type, ne[0]) * static_cast<uint64_t>(ne[1] * ne[2] * ne[3]);
    }
  };
  // What the model is made from.  A conversion that was interrupted goes on only if these are the same.
  struct File {
    std::filesystem::path path;
    uint64_t bytes = 0;
  };

  virtual ~TensorSource() = default;

  // Fixed, in any order; names are distinct.
  virtual const std::vector<Tensor>& tensors() const = 0;
  // GGUF's keys with their values: what Checkpoint promises of a model's metadata, tokenizer included.
  virtual const std::vector<MetadataEntry>& metadata() const = 0;
  virtual const std::vector<File>& files() const = 0;
  // What else decides about the bytes made, in one line ("experts Q4_K, dense Q8_0"); empty when nothing
  // does.
  virtual std::string recipe() const { return {}; }

  // Fills `out` with the tensor's bytes from `offset` on: whole rows (ggml_row_size(type, ne[0])), never of
  // two experts, at most kMaxReadBytes unless one row is longer.  A conversion asks for a tensor's bytes
  // mostly in ascending order and only once.  Memory beyond `out` must not grow with the tensor.
  // Errors: kIo, kBadFile, naming file and tensor.
  virtual Status read(size_t tensor, uint64_t offset, std::span<std::byte> out) const = 0;

  static constexpr uint64_t kMaxReadBytes = 4U << 20U;
};

// A GGUF or an expert directory as it is: nothing is computed.  kUnsupported: the directory's experts are
// repacked.
Result<std::unique_ptr<TensorSource>> make_checkpoint_source(std::unique_ptr<Checkpoint> checkpoint);

}  // namespace odmoe
