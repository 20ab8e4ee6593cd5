#include "trace/routing_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "temp_dir.h"
#include "trace/trace_file.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void put_u32(std::string& text, uint32_t value) {
  for (int i = 0; i < 4; ++i) text += static_cast<char>(value >> (8 * i));
}

// Three layers, two of eight experts, sessions of 2 and 1 tokens.  Expert: layer + token + rank.
std::string binary() {
  std::string text("MOERT01\0", 8);
  for (const uint32_t value : {3U, 8U, 2U, 2U}) put_u32(text, value);
  for (const uint32_t n_token : {2U, 1U}) {
    put_u32(text, n_token);
    put_u32(text, 0);
    for (uint32_t t = 0; t < n_token; ++t) {
      for (char layer = 0; layer < 3; ++layer) {
        text += static_cast<char>(layer + static_cast<char>(t));
        text += static_cast<char>(layer + static_cast<char>(t) + 1);
      }
    }
    for (uint32_t i = 0; i < n_token * 3; ++i) text += std::string("\x00\x3a\x00\x34", 4);  // 0.75, 0.25
  }
  return text;
}

Result<RoutingTrace> parse(const std::string& text, const TraceOptions& options = {}) {
  size_t at = 0;
  return parse_trace(
      [&](std::span<std::byte> out) -> Result<size_t> {
        const size_t n = std::min(out.size(), text.size() - at);
        std::memcpy(out.data(), text.data() + at, n);
        at += n;
        return n;
      },
      "t.trace", options);
}

void expect_bad(const std::string& text, const std::string& message) {
  const auto trace = parse(text);
  ASSERT_FALSE(trace.has_value()) << message;
  EXPECT_EQ(trace.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(trace.error().message, HasSubstr(message));
  EXPECT_THAT(trace.error().message, HasSubstr("t.trace"));
  EXPECT_EQ(trace.error().message.find('\n'), std::string::npos);
}

TEST(RoutingTrace, BinaryIsReadTokenByTokenAndLayerByLayer) {
  const auto trace = parse(binary());
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->n_layer, 3);
  EXPECT_EQ(trace->n_expert, 8);
  EXPECT_EQ(trace->n_expert_used, 2);
  EXPECT_EQ(trace->n_session, 2);
  ASSERT_EQ(trace->events.size(), 9U);
  EXPECT_EQ(trace->events[4].layer, 1);
  EXPECT_THAT(trace->experts_of(trace->events[4]), ElementsAre(2, 3));
  EXPECT_THAT(trace->weights_of(trace->events[4]), ElementsAre(0.75F, 0.25F));
  EXPECT_THAT(trace->experts_of(trace->events[8]), ElementsAre(2, 3));
}

TEST(RoutingTrace, OnlyTheSessionsAskedForAreKept) {
  const auto trace = parse(binary(), {.sessions = {{.first = 1, .end = 2, .step = 1}}, .progress = {}});
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->events.size(), 3U);
  const auto none = parse(binary(), {.sessions = {{.first = 5, .end = 9, .step = 1}}, .progress = {}});
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(none.error().message, HasSubstr("sessions 0 to 1"));
}

TEST(RoutingTrace, EveryTruncationIsAnErrorOfOneLine) {
  const std::string whole = binary();
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto trace = parse(whole.substr(0, n));
    ASSERT_FALSE(trace.has_value()) << n;
    EXPECT_EQ(trace.error().kind, ErrorKind::kBadFile) << n;
    if (n < 8) continue;  // no magic: taken for CSV
    EXPECT_THAT(trace.error().message, HasSubstr("truncated")) << n;
  }
}

TEST(RoutingTrace, AbsurdSizesAreRefusedBeforeMemoryIsTaken) {
  std::string text("MOERT01\0", 8);
  for (const uint32_t value : {100000U, 8U, 2U, 2U}) put_u32(text, value);
  expect_bad(text, "100000 layers");
  std::string session("MOERT01\0", 8);
  for (const uint32_t value : {3U, 8U, 2U, 1U, 50000000U, 0U}) put_u32(session, value);
  const auto large = parse(session);
  ASSERT_FALSE(large.has_value());
  EXPECT_THAT(large.error().message, HasSubstr("more than"));
  std::string liar("MOERT01\0", 8);
  for (const uint32_t value : {3U, 8U, 2U, 1U, 40000000U, 0U}) put_u32(liar, value);
  expect_bad(liar, "truncated");
}

TEST(RoutingTrace, ExpertsThatAreNotThereOrChosenTwiceAreDamage) {
  std::string text = binary();
  text[32] = 9;
  expect_bad(text, "expert 9 of 8");
  text[32] = 1;
  expect_bad(text, "expert 1 twice");
}

TEST(RoutingTrace, CsvIsReadByTheNamesOfItsColumns) {
  const auto trace = parse(
      "# n_layer=2 n_expert=8 n_expert_used=2\n# layer=0 expert_bytes=100\n# layer=1 expert_bytes=300\n"
      "phase,expert,step,layer,weight\r\n"
      "0,7,0,0,1\n1,3,5,0,0.75\n1,4,5,0,0.25\n1,2,5,1,0.5\n\n1,1,5,1,0.5\n");
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->n_layer, 2);
  EXPECT_EQ(trace->n_expert, 8);
  EXPECT_EQ(trace->expert_bytes, 200U);
  ASSERT_EQ(trace->events.size(), 2U);  // the prompt's is dropped
  EXPECT_THAT(trace->experts_of(trace->events[0]), ElementsAre(3, 4));
  EXPECT_THAT(trace->weights_of(trace->events[0]), ElementsAre(0.75F, 0.25F));
  EXPECT_THAT(trace->experts_of(trace->events[1]), ElementsAre(2, 1));
}

TEST(RoutingTrace, DamagedCsvNamesItsLine) {
  expect_bad("", "not a routing trace");
  expect_bad("hello\nworld\n", "does not name the columns");
  expect_bad("layer,step,expert\n", "no routing");
  expect_bad("layer,step,expert\n0,0\n", "line 2 does not have the 3 columns");
  expect_bad("layer,step,expert\n0,0,x\n", "line 2 has no expert");
  expect_bad("layer,step,expert\n0,0,99999\n", "line 2 has no expert");
  expect_bad("layer,step,expert\n-1,0,0\n", "line 2 has no layer");
  expect_bad("layer,step,expert\n0,0,1\n0,0,1\n", "line 3 chooses expert 1 a second time");
  expect_bad("layer,step,expert,weight\n0,0,1,nan\n", "line 2 has no weight");
  expect_bad("# n_expert=2\nlayer,step,expert\n0,0,3\n", "says 2 experts and has number 3");
  expect_bad("# n_layer=0\n", "has n_layer=0");
  expect_bad(std::string("layer,step,expert\n").append(10000, '1'), "longer than");
}

TEST(TraceFile, XzIsUnpackedAndItsDamageNoticed) {
  const testing::TempDir folder;
  const std::string text = binary();
  std::string packed(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  ASSERT_EQ(
      lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const uint8_t*>(text.data()),
                              text.size(), reinterpret_cast<uint8_t*>(packed.data()), &size, packed.size()),
      LZMA_OK);
  packed.resize(size);
  const auto path = folder.path() / "t.trace.xz";
  std::ofstream(path, std::ios::binary) << packed;
  const auto trace = read_trace(path);
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->events.size(), 9U);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << packed.substr(0, size / 2);
  const auto half = read_trace(path);
  ASSERT_FALSE(half.has_value());
  EXPECT_EQ(half.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(half.error().message, HasSubstr("damaged or ends early"));
}

TEST(TraceFile, AFileThatIsNotThereIsNamed) {
  const auto trace = read_trace("/no/such.trace");
  ASSERT_FALSE(trace.has_value());
  EXPECT_EQ(trace.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(trace.error().message, HasSubstr("/no/such.trace"));
}

}  // namespace
}  // namespace odmoe
