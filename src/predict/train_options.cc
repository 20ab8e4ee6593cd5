#include "predict/train_options.h"

#include <algorithm>

#include "odmoe/options.h"

namespace odmoe {
namespace {

template <typename T>
Status in_range(std::string_view option, T value, T least, T most) {
  if (value >= least && value <= most) return {};
  return fail(ErrorKind::kUsage, "{} is {}; from {} to {} is possible", option, value, least, most);
}

}  // namespace

Status TrainOptions::validate() const {
  if (data.empty() || output.empty()) return fail(ErrorKind::kUsage, "give --data DIR and --output FILE");
  ODMOE_RETURN_IF_ERROR(in_range("--lookahead", lookahead, 1, kMaxLookahead));
  ODMOE_RETURN_IF_ERROR(in_range("--hidden", hidden, 0, kMaxShadowHidden));
  ODMOE_RETURN_IF_ERROR(in_range("--depth", depth, 1, kMaxShadowDepth));
  ODMOE_RETURN_IF_ERROR(in_range("--rank", direct_rank, 0, kMaxShadowHidden));
  ODMOE_RETURN_IF_ERROR(in_range("--epochs", epochs, 1, 100'000));
  ODMOE_RETURN_IF_ERROR(in_range("--patience", patience, 1, 100'000));
  ODMOE_RETURN_IF_ERROR(in_range("--batch", batch, 1, 1 << 20));
  ODMOE_RETURN_IF_ERROR(in_range("--learning-rate", learning_rate, 1e-9, 1.0));
  ODMOE_RETURN_IF_ERROR(in_range("--weight-decay", weight_decay, 0.0, 1.0));
  ODMOE_RETURN_IF_ERROR(in_range("--dropout", dropout, 0.0, 0.95));
  ODMOE_RETURN_IF_ERROR(in_range("--threads", threads, 0, 1024));
  if (inputs.empty())
    return fail(ErrorKind::kUsage, "--input needs at least one of router, attention, experts, previous");
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (std::ranges::count(inputs, inputs[i]) > 1) {
      return fail(ErrorKind::kUsage, "--input names {} twice", shadow_input_name(inputs[i]));
    }
  }
  if (hidden == 0 && !direct) return fail(ErrorKind::kUsage, "--kind mlp needs --hidden units");
  if (shared_trunk && std::ranges::contains(inputs, ShadowInput::kPrevious)) {
    return fail(ErrorKind::kUsage,
                "--shared cannot take --input previous, which differs in length between layers");
  }
  return {};
}

}  // namespace odmoe
