#include "model/left_over.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include "format/printable.h"
#include "model/passed_over_keys.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// The N of "blk.N.REST".
std::optional<int32_t> block_of(std::string_view name) {
  constexpr std::string_view kStart = "blk.";
  if (!name.starts_with(kStart)) return std::nullopt;
  int32_t number = 0;
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kStart.size(), end, number);
  if (error != std::errc() || at == end || *at != '.' || number < 0) return std::nullopt;
  return number;
}

LeftOver judge_key(const Account& account, const ModelShape& shape, std::string_view key) {
  LeftOver result{.kind = LeftOver::Kind::kKey, .name = printable(key), .reason = {}};
  result.reason = account.reason_for_key(key);
  if (result.reason.empty()) result.reason = reason_to_pass_over(account.file(), shape.architecture, key);
  if (!result.reason.empty()) return result;
  result.refused = true;
  result.reason = odmoe::format("is {}, which is not supported", account.file().text_of(key));
  return result;
}

LeftOver judge_tensor(const Account& account, const ModelShape& shape, std::string_view name) {
  LeftOver result{.kind = LeftOver::Kind::kTensor, .name = printable(name), .reason = {}};
  const int32_t n_block = shape.n_layer + shape.n_layer_nextn;
  const std::optional<int32_t> block = block_of(name);
  if (block && *block >= shape.n_layer && *block < n_block) {
    result.reason = "of a block for speculation (MTP), which decoding token by token does not use";
    return result;
  }
  result.reason = account.reason_for_tensor(name);
  if (!result.reason.empty()) return result;
  result.refused = true;
  if (block && *block >= n_block) {
    result.reason =
        odmoe::format("is of a layer that {}.block_count, {}, leaves out", shape.architecture, n_block);
  } else if (name.ends_with(".scale") || name.ends_with(".input_scale")) {
    result.reason = "scales other weights (NVFP4), which is not supported";
  } else {
    result.reason = "is not a tensor that a model of this family has here";
  }
  return result;
}

}  // namespace

std::vector<LeftOver> left_over(const Account& account, const ModelShape& shape) {
  std::vector<LeftOver> list;
  for (const std::string_view key : account.file().keys()) {
    if (!account.used_key(key)) list.push_back(judge_key(account, shape, key));
  }
  for (const TensorInfo& tensor : account.file().tensors()) {
    if (!account.used_tensor(tensor.name)) list.push_back(judge_tensor(account, shape, tensor.name));
  }
  return list;
}

Status check_tokenizer_keys(const Account& account, const std::string& model) {
  std::vector<LeftOver> list;
  for (const std::string_view key : account.file().keys()) {
    if (key.starts_with("tokenizer.") && !account.used_key(key)) list.push_back(judge_key(account, {}, key));
  }
  return check_left_over(list, model);
}

Status check_left_over(std::span<const LeftOver> list, const std::string& model) {
  const auto first = std::ranges::find(list, true, &LeftOver::refused);
  if (first == list.end()) return {};
  return fail(ErrorKind::kUnsupported,
              "{}: {} {} {}; results would be wrong, so it is refused: use another file of the model", model,
              first->kind == LeftOver::Kind::kKey ? "key" : "tensor", first->name, first->reason);
}

}  // namespace odmoe
