// ARCH.* metadata with limits: what a family's create function reads its hyperparameters with.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "format/checkpoint.h"
#include "model/shape.h"
#include "odmoe/result.h"

namespace odmoe {

class Metadata {
 public:
  Metadata(const Checkpoint& file, std::string arch) : file_(&file), arch_(std::move(arch)) {}

  const Checkpoint& file() const { return *file_; }
  const std::string& arch() const { return arch_; }
  std::string key(std::string_view name) const { return arch_ + "." + std::string(name); }
  bool has(std::string_view name) const { return file_->has(key(name)); }

  // An integer from `least` to `most`; anything else is kBadFile with the range.
  Result<int32_t> integer(std::string_view name, int32_t least, int32_t most) const;
  Result<int32_t> integer_or(std::string_view name, int32_t otherwise, int32_t least, int32_t most) const;
  Result<float> number(std::string_view name) const;
  Result<float> number_or(std::string_view name, float otherwise) const;
  Result<bool> boolean_or(std::string_view name, bool otherwise) const;

 private:
  const Checkpoint* file_;
  std::string arch_;
};

// What every family's metadata has: layers, embedding, heads, context, vocabulary, norm, experts and how they
// are chosen (softmax, no groups and no scale unless the file says otherwise).
Result<ModelShape> read_shape(const Metadata& metadata);

}  // namespace odmoe
