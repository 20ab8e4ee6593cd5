// A checkpoint of Hugging Face or MLX as what a conversion makes its model of: GGUF's tensors in the types
// asked for, quantised by ggml as they are read.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/hf_model.h"
#include "convert/tensor_source.h"
#include "ggml.h"
#include "odmoe/result.h"

namespace odmoe {

struct HfOptions {
  // Types of the routed experts' and of the other matrices; nothing: as near to the checkpoint as its own
  // size allows (HfWeight::natural_type).  Norms, biases and routers are F32 in any case.
  std::optional<ggml_type> experts, dense;
};

// Immutable and thread-safe.  Reading a tensor takes a few MiB at a time, whatever its size.
class HfSource : public TensorSource {
 public:
  // Opens a folder (looks_like_hf_checkpoint), maps its model and reads its tokenizer.
  // Errors: those of HfCheckpoint::open, map_hf_model, read_hf_tokenizer; kUsage for a type that ggml cannot
  // make.
  static Result<std::unique_ptr<HfSource>> open(const std::filesystem::path& folder,
                                                const HfOptions& options);

  const std::vector<Tensor>& tensors() const override { return tensors_; }
  const std::vector<MetadataEntry>& metadata() const override { return model_.metadata; }
  const std::vector<File>& files() const override { return files_; }
  std::string recipe() const override { return recipe_; }
  Status read(size_t tensor, uint64_t offset, std::span<std::byte> out) const override;

  // What people should know of this conversion, a line each: what is left out, where a type could not be
  // used.
  const std::vector<std::string>& notes() const { return model_.notes; }

 private:
  HfSource() = default;
  Status choose_types(const HfOptions& options);
  Status read_matrix(const HfTarget& target, ggml_type type, int64_t matrix, int64_t row, int64_t n,
                     std::span<std::byte> out) const;
  Status read_floats(const HfTarget& target, int64_t matrix, int64_t row, int64_t n,
                     std::span<float> out) const;

  std::unique_ptr<HfCheckpoint> checkpoint_;
  HfModel model_;
  std::vector<Tensor> tensors_;  // as model_.targets
  std::vector<File> files_;
  std::string recipe_;
};

// A type's name as ggml writes it, in any case ("q4_k", "Q4_K", "bf16"), if ggml can quantise to it without
// an importance matrix.  kUsage, with those that it can.
Result<ggml_type> parse_weight_type(std::string_view name);

// What is made instead of `type` for rows of that many elements: as llama.cpp chooses, Q4_K becomes Q5_0,
// Q5_K Q5_1, Q6_K Q8_0, other types of 256-element blocks IQ4_NL, and what does not divide by 32 F16.
ggml_type weight_type_for_row(ggml_type type, int64_t columns);

}  // namespace odmoe
