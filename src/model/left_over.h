// What a checkpoint holds beside what was used of it, and whether that matters.  A key or tensor that is
// passed over may be one that changes every result: scales of weights, a cap on logits, a bias.  So whatever
// is left over is on a list with the reason why it does not matter (docs/model-files.md has it too), or
// refused.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "format/account.h"
#include "model/shape.h"
#include "odmoe/left_over.h"
#include "odmoe/result.h"

namespace odmoe {

// Everything that `account` does not have as used, keys first, in file order.  To be asked when the decoder
// and the tokenizer were made from the same account.
std::vector<LeftOver> left_over(const Account& account, const ModelShape& shape);

// kUnsupported when something in the list is refused, naming the first of them.  `model` is what errors call
// the checkpoint.
Status check_left_over(std::span<const LeftOver> list, const std::string& model);

// The same of the keys that a tokenizer has to do with, for who makes nothing else of a checkpoint.
Status check_tokenizer_keys(const Account& account, const std::string& model);

}  // namespace odmoe
