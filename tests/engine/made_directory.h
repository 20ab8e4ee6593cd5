// Expert directories made from other checkpoints.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <utility>

#include "convert/convert.h"

namespace odmoe::testing {

inline void convert_or_fail(const std::filesystem::path& in, const std::filesystem::path& out,
                            const LayoutOptions& layout) {
  auto checkpoint = open_checkpoint(in);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  const auto source = make_checkpoint_source(std::move(*checkpoint));
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto plan = plan_conversion(**source, layout);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const auto result = convert(**source, *plan, out, {});
  ASSERT_TRUE(result.has_value()) << result.error().message;
}

}  // namespace odmoe::testing
