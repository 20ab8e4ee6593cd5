#include "format/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <limits>

#include "format/gguf_header.h"
#include "format/testing.h"
#include "small_model.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::small_model;
using testing::TempDir;

Error parse_error(const GgufWriter& writer) {
  const auto bytes = writer.bytes();
  const auto file = GgufFile::parse(bytes, bytes.size());
  if (file.has_value()) return {ErrorKind::kUsage, "no error"};
  EXPECT_THAT(file.error().message, Not(HasSubstr("\n")));
  return file.error();
}

GgufWriter one_tensor(ggml_type type, std::vector<int64_t> ne) {
  return std::move(GgufWriter().add_tensor("t", type, std::move(ne)));
}

TEST(GgufFile, FindsEveryTensorWithItsBytes) {
  const TempDir dir;
  const auto path = dir / "m.gguf";
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  GgufWriter()
      .add_values("a", GGML_TYPE_F32, {3, 2}, values)
      .add_tensor("b", GGML_TYPE_Q4_K, {512, 3, 2, 2})
      .add_tensor("c", GGML_TYPE_F16, {})
      .write(path);
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_THAT((*file)->files(), ElementsAre(path));
  EXPECT_EQ((*file)->total_bytes(), std::filesystem::file_size(path));
  EXPECT_EQ((*file)->version(), 3);
  ASSERT_EQ((*file)->tensors().size(), 3U);

  const TensorInfo* a = (*file)->find_tensor("a");
  ASSERT_NE(a, nullptr);
  EXPECT_THAT(a->ne, ElementsAre(3, 2, 1, 1));
  EXPECT_EQ(a->bytes, 24U);
  std::vector<float> read(6);
  std::ifstream stream(path, std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(a->offset));
  stream.read(reinterpret_cast<char*>(read.data()), 24);
  EXPECT_EQ(read, values);

  const TensorInfo* b = (*file)->find_tensor("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->type, GGML_TYPE_Q4_K);
  EXPECT_EQ(b->bytes, 2U * 144 * 12);  // two blocks of 144 bytes in each of 12 rows
  EXPECT_EQ(b->offset % 32, 0U);

  const TensorInfo* c = (*file)->find_tensor("c");
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->bytes, 2U);
  EXPECT_EQ((*file)->find_tensor("d"), nullptr);
}

TEST(GgufFile, ReadsVersion2) {
  const auto file = parse(small_model({.version = 2}));
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->version(), 2);
  EXPECT_EQ(file->get_string("general.architecture").value_or(""), "deepseek2");
}

TEST(GgufFile, AFileWithoutTensorsIsReadToo) {
  const auto file = parse(GgufWriter().set("a", uint8_t{1}));
  ASSERT_NE(file, nullptr);
  EXPECT_THAT(file->tensors(), IsEmpty());
}

TEST(GgufFile, HeadersLargerThanOneReadArriveWhole) {
  const TempDir dir;
  std::vector<std::string> tokens(100000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = odmoe::format("token {}", i);
  GgufWriter()
      .set_array("tokenizer.ggml.tokens", tokens)
      .set("after", uint32_t{7})
      .add_tensor("t", GGML_TYPE_F32, {4})
      .write(dir / "m.gguf");
  const auto file = GgufFile::open(dir / "m.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ((*file)->get_strings("tokenizer.ggml.tokens").value(), tokens);
  EXPECT_EQ((*file)->get_int("after").value(), 7);
}

TEST(GgufFile, HonoursTheAlignment) {
  const auto file = parse(GgufWriter()
                              .set_alignment(4096)
                              .add_tensor("a", GGML_TYPE_F32, {1})
                              .add_tensor("b", GGML_TYPE_F32, {1}));
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->find_tensor("a")->offset, 4096U);
  EXPECT_EQ(file->find_tensor("b")->offset, 8192U);
}

// Metadata.

TEST(GgufFile, IntegersOfAnyWidthAndSignConvert) {
  const auto file = parse(GgufWriter()
                              .set("u8", uint8_t{200})
                              .set("i8", int8_t{-100})
                              .set("u16", uint16_t{60000})
                              .set("i16", int16_t{-30000})
                              .set("u32", uint32_t{4000000000})
                              .set("i32", int32_t{-2000000000})
                              .set("u64", uint64_t{1} << 62U)
                              .set("i64", std::numeric_limits<int64_t>::min()));
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->get_int("u8").value(), 200);
  EXPECT_EQ(file->get_int("i8").value(), -100);
  EXPECT_EQ(file->get_int("u16").value(), 60000);
  EXPECT_EQ(file->get_int("i16").value(), -30000);
  EXPECT_EQ(file->get_int("u32").value(), 4000000000);
  EXPECT_EQ(file->get_int("i32").value(), -2000000000);
  EXPECT_EQ(file->get_int("u64").value(), int64_t{1} << 62U);
  EXPECT_EQ(file->get_int("i64").value(), std::numeric_limits<int64_t>::min());
  EXPECT_THAT(file->get_ints("i8").value(), ElementsAre(-100));
}

TEST(GgufFile, AnIntegerThatDoesNotFitIsAnError) {
  const auto file = parse(GgufWriter().set("k", uint64_t{1} << 63U));
  EXPECT_THAT(message_of(file->get_int("k")), AllOf(HasSubstr("key 'k'"), HasSubstr("u64"),
                                                    HasSubstr("9223372036854775808"), HasSubstr("range")));
  EXPECT_FALSE(file->get_ints("k").has_value());
}

TEST(GgufFile, FloatsConvertAndMustBeFinite) {
  const auto file =
      parse(GgufWriter()
                .set("f32", 0.5F)
                .set("f64", 0.1)
                .set("huge", 1e300)
                .set("nan", std::numeric_limits<float>::quiet_NaN())
                .set_array("array", std::vector<float>{1, 2})
                .set_array("infinite", std::vector<float>{1, std::numeric_limits<float>::infinity()}));
  EXPECT_EQ(file->get_float("f32").value(), 0.5);
  EXPECT_EQ(file->get_float("f64").value(), 0.1);
  EXPECT_THAT(file->get_floats("f64").value(), ElementsAre(0.1F));
  EXPECT_THAT(file->get_floats("array").value(), ElementsAre(1.0F, 2.0F));
  EXPECT_THAT(message_of(file->get_float("nan")),
              AllOf(HasSubstr("key 'nan'"), HasSubstr("nan, which is not a number")));
  EXPECT_THAT(message_of(file->get_floats("infinite")), HasSubstr("inf"));
  EXPECT_THAT(message_of(file->get_floats("huge")), HasSubstr("out of range"));
}

TEST(GgufFile, AnAbsentKeyIsNamed) {
  const auto file = parse(GgufWriter().set("a", uint8_t{1}));
  EXPECT_TRUE(file->has("a"));
  EXPECT_FALSE(file->has("b"));
  const auto result = file->get_int("b");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(result.error().message, HasSubstr("has no key 'b'"));
}

TEST(GgufFile, EveryAccessorNamesKeyAndTypeWhenTheTypeIsAnother) {
  const auto file = parse(GgufWriter()
                              .set("text", "x")
                              .set("number", uint32_t{1})
                              .set("real", 1.0F)
                              .set_array("numbers", std::vector<int32_t>{1, 2}));
  EXPECT_THAT(message_of(file->get_int("text")), HasSubstr("key 'text' is of type str, not an integer"));
  EXPECT_THAT(message_of(file->get_int("real")), HasSubstr("key 'real' is of type f32, not an integer"));
  EXPECT_THAT(message_of(file->get_int("numbers")), HasSubstr("key 'numbers' is of type array of i32"));
  EXPECT_THAT(message_of(file->get_float("number")), HasSubstr("key 'number' is of type u32"));
  EXPECT_THAT(message_of(file->get_bool("number")), HasSubstr("not bool"));
  EXPECT_THAT(message_of(file->get_string("number")), HasSubstr("not a string"));
  EXPECT_THAT(message_of(file->get_strings("text")), HasSubstr("not an array of strings"));
  EXPECT_THAT(message_of(file->get_strings("numbers")), HasSubstr("not an array of strings"));
  EXPECT_THAT(message_of(file->get_ints("text")), HasSubstr("not integers"));
  EXPECT_THAT(message_of(file->get_floats("numbers")), HasSubstr("not floating-point numbers"));
}

TEST(GgufFile, BoolsAreZeroOrOne) {
  const std::byte two{2};
  const auto file =
      parse(GgufWriter().set("t", true).set("f", false).set_raw("x", GGUF_TYPE_BOOL, {&two, 1}));
  EXPECT_TRUE(file->get_bool("t").value());
  EXPECT_FALSE(file->get_bool("f").value());
  EXPECT_THAT(message_of(file->get_bool("x")), HasSubstr("holds 2, which is out of range"));
}

TEST(GgufFile, StringsKeepEveryByte) {
  using std::string_literals::operator""s;
  const auto file = parse(GgufWriter()
                              .set("s", "a\0b\xff"s)
                              .set("empty", "")
                              .set_array("list", std::vector<std::string>{"", "x\0"s}));
  EXPECT_EQ(file->get_string("s").value(), "a\0b\xff"s);
  EXPECT_EQ(file->get_string("empty").value(), "");
  EXPECT_THAT(file->get_strings("list").value(), ElementsAre("", "x\0"s));
}

TEST(GgufFile, AnEmptyArrayIsEmptyWhateverItsType) {
  const auto file = parse(GgufWriter().set_array("a", std::vector<int32_t>{}));
  EXPECT_THAT(file->get_strings("a").value(), IsEmpty());
  EXPECT_THAT(file->get_ints("a").value(), IsEmpty());
  EXPECT_THAT(file->get_floats("a").value(), IsEmpty());
}

TEST(GgufFile, DescribesMetadataInFileOrderCutShortAndEscaped) {
  const auto file = parse(GgufWriter()
                              .set("z", "line\nbreak\x1b[2J")
                              .set("long", std::string(500, 'x'))
                              .set("a", -1)
                              .set("real", 0.1F)
                              .set("yes", true)
                              .set("u64", std::numeric_limits<uint64_t>::max())
                              .set_array("few", std::vector<float>{1.5F})
                              .set_array("many", std::vector<int32_t>(1000, 3))
                              .set_array("words", std::vector<std::string>{"x\t", std::string(100, 'y')})
                              .set("key\n", uint8_t{1}));
  using ::testing::Pair;
  EXPECT_THAT(
      file->metadata_text(),
      ElementsAre(
          Pair("z", "\"line\\nbreak\\x1b[2J\""), Pair("long", "\"" + std::string(120, 'x') + "...\""),
          Pair("a", "-1"), Pair("real", "0.1"), Pair("yes", "true"), Pair("u64", "18446744073709551615"),
          Pair("few", "[1.5] (1 of f32)"), Pair("many", "[3, 3, 3, 3, 3, 3, 3, 3, ...] (1000 of i32)"),
          Pair("words", "[\"x\\t\", \"" + std::string(24, 'y') + "...\"] (2 of str)"), Pair("key\\n", "1")));
}

// Versions and damage that has a sentence of its own; damaged_gguf_test.cc tries the rest.

TEST(GgufFile, Version1IsToldApart) {
  const Error error = parse_error(GgufWriter(1));
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("version 1, which is no longer read"));
}

TEST(GgufFile, BigEndianIsToldApart) {
  const Error error = parse_error(GgufWriter(0x03000000U));
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("big-endian"));
}

TEST(GgufFile, NewerVersionsAreUnsupportedAndVersion0IsDamage) {
  EXPECT_EQ(parse_error(GgufWriter(4)).kind, ErrorKind::kUnsupported);
  EXPECT_EQ(parse_error(GgufWriter(0)).kind, ErrorKind::kBadFile);
}

TEST(GgufFile, AShortFileSaysWhatItHasAndWhatItsHeaderPromises) {
  const auto bytes = small_model({}).bytes();
  const auto file = GgufFile::parse(bytes, bytes.size() - 1);
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(file.error().message, AllOf(HasSubstr("output_norm.weight"),
                                          HasSubstr(odmoe::format("it has {} bytes", bytes.size() - 1)),
                                          HasSubstr(odmoe::format("promises {}", bytes.size()))));
}

TEST(GgufFile, AHeaderThatBreaksOffNamesTheKeyAndTheByte) {
  auto writer = GgufWriter();
  writer.set("first", uint32_t{1}).set("second", std::string(100, 'x'));
  const auto bytes = writer.bytes();
  const auto file = GgufFile::parse(std::span(bytes).first(bytes.size() - 10), bytes.size() - 10);
  ASSERT_FALSE(file.has_value());
  EXPECT_THAT(file.error().message, AllOf(HasSubstr("cut short"), HasSubstr("key 'second'"),
                                          HasSubstr("byte"), HasSubstr("download")));
}

TEST(GgufFile, KeysAreDistinctAndNotEmpty) {
  EXPECT_THAT(parse_error(GgufWriter().set("k", 1).set("k", 2)).message, HasSubstr("has key 'k' twice"));
  EXPECT_THAT(parse_error(GgufWriter().set("", 1)).message, HasSubstr("key 1 of 1 near byte 32 is empty"));
}

TEST(GgufFile, AKeyLongerThanTheLimitIsRefused) {
  EXPECT_NE(parse(GgufWriter().set(std::string(gguf::kMaxKeyBytes, 'k'), 1)), nullptr);
  EXPECT_THAT(parse_error(GgufWriter().set(std::string(gguf::kMaxKeyBytes + 1, 'k'), 1)).message,
              HasSubstr("has a length of 65536 bytes, more than 65535"));
}

TEST(GgufFile, MoreKeysThanTheLimitAreRefusedBeforeAnyIsRead) {
  auto bytes = GgufWriter().bytes();
  const uint64_t n = gguf::kMaxKeys + 1;
  std::memcpy(bytes.data() + 16, &n, sizeof(n));
  EXPECT_THAT(message_of(GgufFile::parse(bytes, bytes.size())), HasSubstr("counts 65537 keys"));
}

TEST(GgufFile, MoreTensorsThanTheLimitAreRefusedBeforeAnyIsRead) {
  auto bytes = GgufWriter().bytes();
  const uint64_t n = gguf::kMaxTensors + 1;
  std::memcpy(bytes.data() + 8, &n, sizeof(n));
  EXPECT_THAT(message_of(GgufFile::parse(bytes, bytes.size())), HasSubstr("counts 262145 tensors"));
}

TEST(GgufFile, AHeaderLargerThanTheLimitIsRefusedWithoutReadingIt) {
  const TempDir dir;
  const uint64_t length = gguf::kMaxHeaderBytes;
  const auto path = dir.write(
      "m.gguf", GgufWriter().set_raw("k", GGUF_TYPE_STRING, std::as_bytes(std::span(&length, 1))).bytes());
  std::filesystem::resize_file(path, 2 * gguf::kMaxHeaderBytes);  // a hole: takes no room
  EXPECT_THAT(message_of(GgufFile::open(path)), HasSubstr("more than a header may have"));
}

TEST(GgufFile, NestedArraysAndUnknownTypesAreRefused) {
  const std::byte none{};
  EXPECT_THAT(parse_error(GgufWriter().set_raw_array("k", GGUF_TYPE_ARRAY, 0, {})).message,
              HasSubstr("key 'k' near byte 41 is an array of arrays"));
  EXPECT_THAT(parse_error(GgufWriter().set_raw("k", 13, {&none, 1})).message, HasSubstr("unknown type 13"));
}

TEST(GgufFile, AnArrayCountThatWouldOverflowIsRefused) {
  EXPECT_THAT(parse_error(GgufWriter().set_raw_array("k", GGUF_TYPE_UINT64, uint64_t{1} << 61U, {})).message,
              HasSubstr("has 2305843009213693952 elements"));
  EXPECT_THAT(parse_error(GgufWriter().set_raw_array("k", GGUF_TYPE_UINT8, ~uint64_t{0}, {})).message,
              HasSubstr("needs 18446744073709551615 bytes"));
}

TEST(GgufFile, TheAlignmentIsAPowerOfTwoWithinReason) {
  for (const uint32_t bad : {0U, 3U, 48U, 1U << 21U, ~0U}) {
    EXPECT_THAT(parse_error(GgufWriter().set("general.alignment", bad)).message, HasSubstr("power of two"))
        << bad;
  }
  EXPECT_THAT(parse_error(GgufWriter().set("general.alignment", int8_t{32})).message,
              HasSubstr("type i8, not u32"));
}

TEST(GgufFile, DimensionsArePositiveAndAtMostFour) {
  const auto with = [](std::vector<int64_t> ne) {
    return parse_error(GgufWriter().add_tensor("t", GGML_TYPE_F32, std::move(ne), {})).message;
  };
  EXPECT_THAT(with({0}), HasSubstr("tensor 't'"));
  EXPECT_THAT(with({4, 0}), HasSubstr("has a dimension of 0"));
  EXPECT_THAT(with({-4, -4}), HasSubstr("has a dimension of -4"));
  EXPECT_THAT(with({1, 1, 1, 1, 1}), HasSubstr("has 5 dimensions, more than 4"));
  EXPECT_THAT(with({int64_t{1} << 40, int64_t{1} << 40}), HasSubstr("impossible shape"));
  EXPECT_THAT(with({int64_t{1} << 62, 1}), HasSubstr("impossible shape"));
}

TEST(GgufFile, RowsAreWholeBlocks) {
  EXPECT_THAT(parse_error(GgufWriter().add_tensor("t", GGML_TYPE_Q8_0, {33}, {})).message,
              HasSubstr("rows of 33 elements, no multiple of the 32 in a block of q8_0"));
  EXPECT_NE(parse(one_tensor(GGML_TYPE_Q8_0, {64, 3})), nullptr);
}

TEST(GgufFile, ATensorTypeThatGgmlLacksIsUnsupported) {
  for (const uint32_t type : {4U, 31U, static_cast<uint32_t>(GGML_TYPE_COUNT), 0x7FFFFFFFU, 0xFFFFFFFFU}) {
    const Error error = parse_error(one_tensor(GGML_TYPE_F32, {32}).override_type(type));
    EXPECT_EQ(error.kind, ErrorKind::kUnsupported) << type;
    EXPECT_THAT(error.message, AllOf(HasSubstr("tensor 't'"), HasSubstr(odmoe::format("type {}", type))));
  }
}

TEST(GgufFile, EveryTypeThatGgmlHasIsRead) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    const ggml_type_traits* traits = ggml_get_type_traits(type);
    if (traits->blck_size <= 0 || traits->type_size == 0) continue;
    const auto file = parse(one_tensor(type, {traits->blck_size * 3, 5}));
    ASSERT_NE(file, nullptr) << ggml_type_name(type);
    EXPECT_EQ(file->tensors()[0].bytes, traits->type_size * 15) << ggml_type_name(type);
  }
}

TEST(GgufFile, OffsetsAreAlignedInTheFileAndApart) {
  const auto at = [](uint64_t offset) {
    return parse_error(GgufWriter()
                           .add_tensor("a", GGML_TYPE_F32, {16})
                           .add_tensor("b", GGML_TYPE_F32, {16})
                           .override_offset(offset))
        .message;
  };
  EXPECT_THAT(at(8), HasSubstr("tensor 'b' lies at 8 in the data, no multiple of the alignment 32"));
  EXPECT_THAT(at(0), HasSubstr("tensors 'a' and 'b' overlap"));
  EXPECT_THAT(at(32), HasSubstr("overlap"));
  EXPECT_THAT(at(uint64_t{1} << 40U), HasSubstr("promises 1099511627"));
  EXPECT_THAT(at(~uint64_t{31}), HasSubstr("beyond the end of any file"));
}

TEST(GgufFile, GapsBetweenTensorsAreAllowed) {
  EXPECT_NE(parse(GgufWriter()
                      .add_tensor("a", GGML_TYPE_F32, {8})
                      .add_tensor("b", GGML_TYPE_F32, {8})
                      .override_offset(64)
                      .add_tensor("hole", GGML_TYPE_F32, {8})
                      .override_offset(32)),
            nullptr);
}

TEST(GgufFile, TensorNamesAreDistinctShortAndNotEmpty) {
  using std::string_literals::operator""s;
  const auto named = [](const std::string& a, const std::string& b) {
    return parse_error(GgufWriter().add_tensor(a, GGML_TYPE_F32, {1}).add_tensor(b, GGML_TYPE_F32, {1}))
        .message;
  };
  EXPECT_THAT(named("a", "a"), HasSubstr("has tensor 'a' twice"));
  EXPECT_THAT(named("a", ""), HasSubstr("tensor 2 of 2"));
  EXPECT_THAT(named("a", "b\0c"s), HasSubstr("zero byte"));
  EXPECT_THAT(named("a", std::string(64, 'x')), HasSubstr("has a length of 64 bytes, more than 63"));
}

TEST(GgufFile, ReferenceModelsAreRead) {
  const char* shared = std::getenv("ODMOE_SHARED");
  if (shared == nullptr) GTEST_SKIP() << "set ODMOE_SHARED to the folder with models/ to run this";
  int n = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::filesystem::path(shared) / "models")) {
    if (entry.path().extension() != ".gguf") continue;
    ++n;
    const auto file = GgufFile::open(entry.path());
    ASSERT_TRUE(file.has_value()) << file.error().message;
    EXPECT_TRUE((*file)->get_string("general.architecture").has_value());
    EXPECT_NE((*file)->find_tensor("token_embd.weight"), nullptr);
  }
  EXPECT_GT(n, 0);
}

}  // namespace
}  // namespace odmoe
