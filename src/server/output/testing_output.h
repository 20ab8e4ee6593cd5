// For tests: outputs read whole and in all pieces that two can make, and byte by byte.
#pragma once

#include <gtest/gtest.h>

#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/output/output_reader.h"

namespace odmoe::server::testing {

struct WholeOutput {
  std::string reasoning, content;
  std::vector<ChatToolCall> calls;
};

inline WholeOutput read_pieces(const OutputReaderOptions& options,
                               const std::vector<std::string_view>& pieces) {
  const auto reader = make_output_reader(options);
  WholeOutput whole;
  const auto take = [&](OutputDelta delta) {
    whole.reasoning += delta.reasoning;
    whole.content += delta.content;
    std::ranges::move(delta.calls, std::back_inserter(whole.calls));
  };
  for (const std::string_view piece : pieces) take(reader->push(piece));
  take(reader->finish());
  return whole;
}

inline void expect_same(const WholeOutput& got, const WholeOutput& wanted) {
  EXPECT_EQ(got.reasoning, wanted.reasoning);
  EXPECT_EQ(got.content, wanted.content);
  ASSERT_EQ(got.calls.size(), wanted.calls.size());
  for (size_t i = 0; i < got.calls.size(); ++i) {
    EXPECT_EQ(got.calls[i].id, wanted.calls[i].id);
    EXPECT_EQ(got.calls[i].name, wanted.calls[i].name);
    EXPECT_EQ(got.calls[i].arguments, wanted.calls[i].arguments);
  }
}

// What comes out must not depend on the pieces.
inline WholeOutput read_all_ways(const OutputReaderOptions& options, std::string_view text) {
  WholeOutput whole = read_pieces(options, {text});
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
  {
    SCOPED_TRACE("byte by byte");
    expect_same(read_pieces(options, bytes), whole);
  }
  for (size_t cut = 1; cut < text.size() && !::testing::Test::HasFailure(); ++cut) {
    SCOPED_TRACE(cut);
    expect_same(read_pieces(options, {text.substr(0, cut), text.substr(cut)}), whole);
  }
  return whole;
}

}  // namespace odmoe::server::testing
