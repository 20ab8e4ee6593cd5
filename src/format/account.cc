#include "format/account.h"

namespace odmoe {

Result<int64_t> Account::get_int(std::string_view key) {
  keys_.emplace(key);
  return file_->get_int(key);
}

Result<double> Account::get_float(std::string_view key) {
  keys_.emplace(key);
  return file_->get_float(key);
}

Result<bool> Account::get_bool(std::string_view key) {
  keys_.emplace(key);
  return file_->get_bool(key);
}

Result<std::string> Account::get_string(std::string_view key) {
  keys_.emplace(key);
  return file_->get_string(key);
}

Result<std::vector<std::string>> Account::get_strings(std::string_view key) {
  keys_.emplace(key);
  return file_->get_strings(key);
}

Result<std::vector<int64_t>> Account::get_ints(std::string_view key) {
  keys_.emplace(key);
  return file_->get_ints(key);
}

Result<std::vector<float>> Account::get_floats(std::string_view key) {
  keys_.emplace(key);
  return file_->get_floats(key);
}

const TensorInfo* Account::use_tensor(std::string_view name) {
  const TensorInfo* tensor = file_->find_tensor(name);
  if (tensor != nullptr) tensors_.emplace(name);
  return tensor;
}

void Account::pass_over_key(std::string_view key, std::string_view reason) {
  key_reasons_.emplace(key, reason);
}

void Account::pass_over_tensor(std::string_view name, std::string_view reason) {
  tensor_reasons_.emplace(name, reason);
}

std::string_view Account::reason_for_key(std::string_view key) const {
  const auto it = key_reasons_.find(key);
  return it == key_reasons_.end() ? std::string_view() : it->second;
}

std::string_view Account::reason_for_tensor(std::string_view name) const {
  const auto it = tensor_reasons_.find(name);
  return it == tensor_reasons_.end() ? std::string_view() : it->second;
}

}  // namespace odmoe
