// What the tests of the converter have in common.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "odmoe/result.h"

namespace odmoe {

// The error's text, which is one line; "no error" where there is none.
template <typename T>
std::string message(const Result<T>& result) {
  if (result.has_value()) return "no error";
  EXPECT_THAT(result.error().message, ::testing::Not(::testing::HasSubstr("\n")));
  return result.error().message;
}

}  // namespace odmoe
