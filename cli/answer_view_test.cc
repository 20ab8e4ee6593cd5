#include "cli/answer_view.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "temp_dir.h"

namespace odmoe::cli {
namespace {

class AnswerViewTest : public ::testing::Test {
 protected:
  // What is shown of a text that comes byte by byte.
  std::string shown(std::string_view text, bool dims,
                    server::OutputStart start = server::OutputStart::kAnswer, const char* format = "hermes") {
    const std::string path = (dir_ / "shown").string();
    Output output = Output::create(path).value();
    AnswerView view(*server::find_output_format(format), start, output, dims);
    for (const char byte : text) EXPECT_TRUE(view.push({&byte, 1}).has_value());
    EXPECT_TRUE(view.finish().has_value());
    EXPECT_TRUE(output.close().has_value());
    turn_ = view.turn();
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  odmoe::testing::TempDir dir_;
  ChatTurn turn_;
};

TEST_F(AnswerViewTest, ThoughtsAreApart) {
  EXPECT_EQ(shown("<think>\nHm.\n</think>\n\nIt is.", true), "\x1b[2mHm.\n\x1b[0m\nIt is.\n");
  EXPECT_EQ(turn_.reasoning, "\nHm.\n");
  EXPECT_EQ(turn_.content, "It is.");
  EXPECT_EQ(shown("Hm.</think>\n\nIt is.", false, server::OutputStart::kThought),
            "<think>\nHm.\n</think>\n\nIt is.\n");
}

TEST_F(AnswerViewTest, ALineEndsOnce) {
  EXPECT_EQ(shown("It is.\n", true), "It is.\n");
  EXPECT_EQ(turn_.reasoning, std::nullopt);
  EXPECT_EQ(shown("", true), "");
}

TEST_F(AnswerViewTest, AThoughtThatWasCutIsEnded) {
  EXPECT_EQ(shown("<think>Hm", true), "\x1b[2mHm\n\x1b[0m\n");
  EXPECT_EQ(turn_.content, "");
}

TEST_F(AnswerViewTest, ChannelsOfGptOssAreReadAsTheyAreMeant) {
  EXPECT_EQ(
      shown("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>It is.",
            false, server::OutputStart::kAnswer, "gpt-oss"),
      "<think>\nHm\n</think>\n\nIt is.\n");
}

}  // namespace
}  // namespace odmoe::cli
