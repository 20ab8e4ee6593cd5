// ARCH.* metadata with limits: what a family's create function reads its hyperparameters with.  What it reads
// is in the account; a key that no family's code asks for is judged by model/left_over.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "format/account.h"
#include "model/shape.h"
#include "odmoe/result.h"

namespace odmoe {

class Metadata {
 public:
  Metadata(Account& account, std::string arch) : account_(&account), arch_(std::move(arch)) {}

  Account& account() const { return *account_; }
  const Checkpoint& file() const { return account_->file(); }
  const std::string& arch() const { return arch_; }
  std::string key(std::string_view name) const { return arch_ + "." + std::string(name); }
  bool has(std::string_view name) const { return account_->has(key(name)); }

  // An integer from `least` to `most`; anything else is kBadFile with the range.
  Result<int32_t> integer(std::string_view name, int32_t least, int32_t most) const;
  Result<int32_t> integer_or(std::string_view name, int32_t otherwise, int32_t least, int32_t most) const;
  Result<float> number(std::string_view name) const;
  Result<float> number_or(std::string_view name, float otherwise) const;
  Result<bool> boolean_or(std::string_view name, bool otherwise) const;

 private:
  Account* account_;
  std::string arch_;
};

// What every family's metadata has: layers, embedding, heads, context, vocabulary, norm, experts and how they
// are chosen (softmax, no groups and no scale unless the file says otherwise).
Result<ModelShape> read_shape(const Metadata& metadata);

}  // namespace odmoe
