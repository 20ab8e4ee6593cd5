// What a writer of answers writes, for the tests of dialects.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/dialect.h"

namespace odmoe::server::testing {

// A stream of these events, which ends, or fails with the error.
inline std::string streamed(AnswerWriter& writer, const std::vector<AnswerEvent>& events,
                            const AnswerUsage& usage, const std::optional<ApiError>& error = std::nullopt) {
  std::string text;
  const BodySink sink = [&text](std::string_view piece) {
    text += piece;
    return true;
  };
  const std::vector<AnswerChoice> begun(1);
  EXPECT_TRUE(writer.begin(begun, sink));
  for (const AnswerEvent& event : events) EXPECT_TRUE(writer.write(event, sink));
  EXPECT_TRUE(error ? writer.fail(*error, sink) : writer.end(usage, sink));
  return text;
}

// The whole, which is asked for twice.
inline std::string whole(const AnswerWriter& writer, AnswerChoice choice, const AnswerUsage& usage) {
  const std::vector<AnswerChoice> choices = {std::move(choice)};
  std::string texts[2];
  for (std::string& text : texts) {
    EXPECT_TRUE(writer.write_whole(choices, usage, [&text](std::string_view piece) {
      text += piece;
      return true;
    }));
  }
  EXPECT_EQ(texts[0], texts[1]);
  return texts[0];
}

}  // namespace odmoe::server::testing
