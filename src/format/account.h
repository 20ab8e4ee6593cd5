// An account of what is used of a checkpoint.  Whoever builds a model from one reads keys and takes tensors
// through an account, so that afterwards it is known what nobody wanted: that may be something that changes
// every result (model/left_over.h judges it).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "format/checkpoint.h"
#include "odmoe/result.h"

namespace odmoe {

// One owner.  The checkpoint must outlive it.
class Account {
 public:
  explicit Account(const Checkpoint& file) : file_(&file) {}

  const Checkpoint& file() const { return *file_; }

  // The checkpoint's accessors.  Asking for a value uses the key, asking whether it is there does not.
  bool has(std::string_view key) const { return file_->has(key); }
  Result<int64_t> get_int(std::string_view key);
  Result<double> get_float(std::string_view key);
  Result<bool> get_bool(std::string_view key);
  Result<std::string> get_string(std::string_view key);
  Result<std::vector<std::string>> get_strings(std::string_view key);
  Result<std::vector<int64_t>> get_ints(std::string_view key);
  Result<std::vector<float>> get_floats(std::string_view key);

  // Uses the tensor; null when the file has none of that name.
  const TensorInfo* use_tensor(std::string_view name);

  // Something that need not be used, because of what was read elsewhere: says why.
  void pass_over_key(std::string_view key, std::string_view reason);
  void pass_over_tensor(std::string_view name, std::string_view reason);

  bool used_key(std::string_view key) const { return keys_.contains(key); }
  bool used_tensor(std::string_view name) const { return tensors_.contains(name); }
  // Empty: it was not passed over.
  std::string_view reason_for_key(std::string_view key) const;
  std::string_view reason_for_tensor(std::string_view name) const;

 private:
  using Reasons = std::map<std::string, std::string, std::less<>>;

  const Checkpoint* file_;
  std::set<std::string, std::less<>> keys_, tensors_;
  Reasons key_reasons_, tensor_reasons_;
};

}  // namespace odmoe
