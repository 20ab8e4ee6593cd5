#include "server/batch/batch_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "odmoe/format.h"
#include "server/limits.h"
#include "temp_dir.h"

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;

std::string line(std::string_view custom_id, std::string_view more = R"("body":{"prompt":"x"})") {
  return odmoe::format(R"({{"custom_id":"{}","method":"POST","url":"/v1/completions",{}}})", custom_id, more);
}

std::string code_of(const BatchRequest& request) {
  return request.good.has_value() ? "" : request.good.error().code;
}

TEST(BatchLine, IsReadAsOpenAiHasIt) {
  const BatchRequest request = read_batch_line(line("a-1", R"("body":{"prompt":"\u00e9","n":2})"), 0);
  ASSERT_TRUE(request.good.has_value());
  EXPECT_EQ(request.custom_id, "a-1");
  EXPECT_EQ(request.url, "/v1/completions");
  EXPECT_EQ(request.body, R"({"prompt":"é","n":2})");
}

TEST(BatchLine, WhatIsWrongIsSaidWithTheCustomIdWhereItHasOne) {
  EXPECT_EQ(code_of(read_batch_line("{", 0)), "invalid_json_line");
  EXPECT_EQ(code_of(read_batch_line("[1]", 0)), "invalid_json_line");
  EXPECT_EQ(code_of(read_batch_line("{}", 0)), "missing_required_parameter");
  EXPECT_EQ(code_of(read_batch_line(R"({"custom_id":7})", 0)), "invalid_type");
  const BatchRequest put = read_batch_line(R"({"custom_id":"q","method":"PUT","url":"/x","body":{}})", 0);
  EXPECT_EQ(code_of(put), "invalid_method");
  EXPECT_TRUE(put.has_custom_id);
  EXPECT_EQ(put.custom_id, "q");
  EXPECT_EQ(code_of(read_batch_line(line("q", R"("body":null)"), 0)), "missing_required_parameter");
  EXPECT_EQ(code_of(read_batch_line(line("q", R"("body":"text")"), 0)), "invalid_type");
  EXPECT_EQ(code_of(read_batch_line(line(std::string(kMaxCustomIdBytes + 1, 'x')), 0)), "invalid_custom_id");
  EXPECT_EQ(code_of(read_batch_line(line("q"), 0, /*duplicate=*/true)), "duplicate_custom_id");
}

TEST(BatchLine, IdsAndSeedsAreOfThePlaceAndTheBytes) {
  const BatchRequest first = read_batch_line(line("q"), 0);
  EXPECT_EQ(first.id.size(), 24U);
  EXPECT_EQ(first.id, batch_line_id(line("q"), 0));
  EXPECT_EQ(read_batch_line(line("q"), 0).seed, first.seed);
  EXPECT_NE(read_batch_line(line("q"), 1).id, first.id);
  EXPECT_NE(read_batch_line(line("q"), 1).seed, first.seed);
  EXPECT_NE(read_batch_line(line("r"), 0).id, first.id);
}

TEST(BatchInput, PassesOverBlankLinesAndTakesALastOneWithoutItsEnd) {
  const odmoe::testing::TempDir dir;
  const auto path = dir.write("in.jsonl", "\n" + line("a") + "\r\n  \n" + line("b"));
  const BatchInput input = BatchInput::open(path).value();
  ASSERT_EQ(input.size(), 2U);
  EXPECT_EQ(input.request(0)->custom_id, "a");
  EXPECT_TRUE(input.request(0)->good.has_value());
  EXPECT_EQ(input.request(1)->custom_id, "b");
  EXPECT_EQ(*input.id(1), input.request(1)->id);
}

TEST(BatchInput, OfLinesWithOneCustomIdTheFirstHasIt) {
  const odmoe::testing::TempDir dir;
  const auto path = dir.write(
      "in.jsonl", line("a") + "\n" + line("b") + "\n" + line("a", R"("body":{})") + "\n" + line("a") + "\n");
  const BatchInput input = BatchInput::open(path).value();
  ASSERT_EQ(input.size(), 4U);
  EXPECT_EQ(code_of(*input.request(0)), "");
  EXPECT_EQ(code_of(*input.request(1)), "");
  EXPECT_EQ(code_of(*input.request(2)), "duplicate_custom_id");
  EXPECT_EQ(code_of(*input.request(3)), "duplicate_custom_id");
}

TEST(BatchInput, ALineThatIsTooLongIsOneErrorAndTheNextIsRead) {
  const odmoe::testing::TempDir dir;
  const std::string text(kMaxBatchLineBytes, 'x');
  const auto path = dir.write(
      "in.jsonl", line("a", odmoe::format(R"("body":{{"prompt":"{}"}})", text)) + "\n" + line("b") + "\n");
  const BatchInput input = BatchInput::open(path).value();
  ASSERT_EQ(input.size(), 2U);
  EXPECT_EQ(code_of(*input.request(0)), "line_too_long");
  EXPECT_EQ(*input.id(0), input.request(0)->id);
  EXPECT_EQ(input.request(1)->custom_id, "b");
}

TEST(BatchInput, FingerprintsAreOfAllBytes) {
  const odmoe::testing::TempDir dir;
  const auto one = BatchInput::open(dir.write("1", line("a") + "\n")).value().fingerprint();
  EXPECT_EQ(BatchInput::open(dir.write("2", line("a") + "\n")).value().fingerprint(), one);
  EXPECT_NE(BatchInput::open(dir.write("3", line("a"))).value().fingerprint(), one);
}

TEST(BatchInput, TellsWhatItsRequestsTakeOfMemory) {
  const odmoe::testing::TempDir dir;
  const BatchInput plain = BatchInput::open(dir.write("1", line("a") + "\n" + line("bcd") + "\n")).value();
  EXPECT_EQ(plain.longest_bytes(), line("bcd").size());
  EXPECT_FALSE(plain.may_ask_for_grammars());
  const std::string form = line("c", R"("body":{"prompt":"x","response_format":{"type":"json_object"}})");
  EXPECT_TRUE(BatchInput::open(dir.write("2", line("a") + "\n" + form)).value().may_ask_for_grammars());
}

TEST(BatchInput, WhatIsNotAFileIsRefused) {
  const odmoe::testing::TempDir dir;
  EXPECT_EQ(BatchInput::open(dir / "none").error().kind, ErrorKind::kNotFound);
  const auto folder = BatchInput::open(dir.path());
  ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(folder.error().message, HasSubstr(dir.path().string()));
}

TEST(BatchInput, ReadingEndsWhenItIsToldTo) {
  const odmoe::testing::TempDir dir;
  const auto path = dir.write("in.jsonl", line("a"));
  const auto input = BatchInput::open(path, {.progress = [](uint64_t, uint64_t) { return false; }});
  ASSERT_FALSE(input.has_value());
  EXPECT_EQ(input.error().kind, ErrorKind::kInterrupted);
}

TEST(BatchInput, RequestsAndLinesHaveTheBoundsThatAreGiven) {
  const odmoe::testing::TempDir dir;
  const auto path =
      dir.write("in.jsonl", line("a") + "\n\n" + line(std::string(300, 'b')) + "\n" + line("a"));
  std::vector<std::string> codes;
  const auto note = [&](const BatchRequest& request, size_t place) {
    EXPECT_EQ(place, codes.size());
    codes.push_back(request.good.has_value() ? "" : request.good.error().code);
  };
  const BatchInput input =
      BatchInput::open(path, {.each = note, .max_requests = 3, .max_line_bytes = 200}).value();
  EXPECT_EQ(codes, (std::vector<std::string>{"", "line_too_long", ""}));
  EXPECT_EQ(input.line_number(1), 3U) << "blank lines count";
  EXPECT_EQ(input.line_number(2), 4U);
  EXPECT_TRUE(input.is_duplicate(2));
  EXPECT_FALSE(input.is_duplicate(0));
  const auto too_many = BatchInput::open(path, {.max_requests = 2});
  ASSERT_FALSE(too_many.has_value());
  EXPECT_EQ(too_many.error().kind, ErrorKind::kUsage);
}

TEST(BatchInput, ALineWhoseValuesTakeMoreMemoryThanTheyMayIsOneWithAnError) {
  std::string values = R"({"custom_id":"a","body":[0)";
  for (int i = 0; i < 100'000; ++i) values += ",0";
  values += "]}";
  EXPECT_EQ(read_batch_line(values, 0).good.error().code, "missing_required_parameter");
  const auto memory = std::make_shared<RequestMemory>(1 << 20);
  EXPECT_EQ(read_batch_line(values, 0, false, memory).good.error().code, "line_too_long");
  EXPECT_EQ(memory->taken(), 0U);
}

}  // namespace
}  // namespace odmoe::server
