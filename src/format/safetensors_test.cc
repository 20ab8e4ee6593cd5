#include "format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "format/testing.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempDir;

std::string file_of(std::string_view json, size_t data_bytes = 0) {
  const uint64_t length = json.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  bytes += json;
  bytes.append(data_bytes, '\0');
  return bytes;
}

Result<SafetensorsFile> parse(const std::string& bytes) {
  return parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), "m");
}

Result<SafetensorsFile> parse(std::string_view json, size_t data_bytes) {
  return parse(file_of(json, data_bytes));
}

// The message of what is refused as damaged.
std::string refusal(std::string_view json, size_t data_bytes = 0) {
  const auto file = parse(json, data_bytes);
  if (file.has_value()) return "no error";
  EXPECT_EQ(file.error().kind, ErrorKind::kBadFile) << file.error().message;
  EXPECT_THAT(file.error().message, Not(HasSubstr("\n")));
  return file.error().message;
}

TEST(Safetensors, TensorsComeInTheOrderOfTheirDataWithOffsetsOfTheFile) {
  const auto file = parse(R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
                          R"("__metadata__":{"format":"pt","k\n":"v"},)"
                          R"("a":{"data_offsets":[0,4],"shape":[2],"dtype":"BF16"}}  )",
                          30);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 2U);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[0].offset, file->data_begin());
  EXPECT_EQ(file->tensors()[1].offset, file->data_begin() + 4);
  EXPECT_EQ(file->tensors()[1].bytes, 24U);
  EXPECT_THAT(file->tensors()[1].shape, ElementsAre(2, 3));
  EXPECT_EQ(file->find("b"), &file->tensors()[1]);
  EXPECT_EQ(file->find("c"), nullptr);
  EXPECT_EQ(file->metadata().at("k\n"), "v");
}

TEST(Safetensors, AMovedFileStillFindsItsTensors) {
  auto file = parse(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1);
  ASSERT_TRUE(file.has_value());
  const SafetensorsFile moved = std::move(*file);
  EXPECT_EQ(moved.find("a"), moved.tensors().data());
}

TEST(Safetensors, FieldsOfLaterVersionsAreIgnored) {
  const auto file = parse(R"({"a":{"new":{"shape":[[1,null,-1.5]],"dtype":7},"dtype":"U8","shape":[],)"
                          R"("data_offsets":[0,1],"x":true}})",
                          1);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->tensors()[0].bytes, 1U);
}

TEST(Safetensors, GapsAndEmptyTensorsAreAllowed) {
  EXPECT_TRUE(parse(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[8,12]},)"
                    R"("none":{"dtype":"F32","shape":[9223372036854775807,0],"data_offsets":[2,2]},)"
                    R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                    12)
                  .has_value());
  EXPECT_TRUE(parse("{}", 0).has_value());
}

TEST(Safetensors, RangesThatOverlapOrLeaveTheFileAreRefused) {
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
                      7),
              HasSubstr("tensors 'a' and 'b' overlap"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3),
              HasSubstr("'a' ends at byte 4 of the data, but the file has 3"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[18446744073709551613,1]}})", 3),
              HasSubstr("make 4 bytes"));
}

TEST(Safetensors, ARangeIsAsLongAsShapeAndDtypeMakeIt) {
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
              HasSubstr("lies at 0 to 4, but its dtype and shape make 8 bytes"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 4),
              HasSubstr("impossible"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})"),
              HasSubstr("impossible shape"));
}

TEST(Safetensors, AnUnknownDtypeIsUnsupportedAndTheKnownAreListed) {
  const auto file = parse(R"({"a":{"dtype":"I2","shape":[4],"data_offsets":[0,1]}})", 1);
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(file.error().message, AllOf(HasSubstr("'I2'"), HasSubstr("F8_E4M3")));
}

TEST(Safetensors, ADamagedHeaderIsNamedWithItsPlace) {
  EXPECT_THAT(refusal(R"({"a":5})"), HasSubstr("tensor 'a' is 5, not an object"));
  EXPECT_THAT(refusal(R"({"a":[]})"), HasSubstr("tensor 'a' is an array, not an object"));
  EXPECT_THAT(refusal(R"({"a":{}})"), HasSubstr("'a' has no dtype"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8"}})"), HasSubstr("has no shape"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[]}})"), HasSubstr("has no two data_offsets"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[],"data_offsets":[1]}})"),
              HasSubstr("no two data_offsets"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1,2]}})"),
              HasSubstr("more than two"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","dtype":"U8"}})"), HasSubstr("has its dtype twice"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":["U8"]}})"), HasSubstr("has an array where its dtype"));
  EXPECT_THAT(refusal(R"({"a":{"shape":7}})"), HasSubstr("has 7 where its shape"));
  EXPECT_THAT(refusal(R"({"a":{"shape":[[7]]}})"), HasSubstr("has an array where its shape"));
  EXPECT_THAT(refusal(R"({"a":{"shape":[-7]}})"), HasSubstr("has -7 where its shape"));
  EXPECT_THAT(refusal(R"({"a":{"shape":[1,1,1,1,1,1,1,1,1]}})"), HasSubstr("more than 8 dimensions"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":1}})"), HasSubstr("__metadata__ has key 'a', which is 1"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":"1","a":"2"}})"), HasSubstr("has key 'a' twice"));
  EXPECT_THAT(refusal(R"({"__metadata__":{},"__metadata__":{}})"), HasSubstr("__metadata__ occurs twice"));
  EXPECT_THAT(refusal(R"({"a" {}})"), HasSubstr("is not JSON at byte 14"));
  EXPECT_THAT(refusal("{\"a\":{\"x\":" + std::string(100, '[')), HasSubstr("nested more than 16 deep"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                      2),
              HasSubstr("has tensor 'a' twice"));
}

TEST(Safetensors, WhatIsNoSafetensorsFileIsToldApart) {
  EXPECT_THAT(message_of(parse("")), HasSubstr("is empty"));
  EXPECT_THAT(message_of(parse("version https://git-lfs.github.com/spec/v1")), HasSubstr("git lfs pull"));
  EXPECT_THAT(message_of(parse("GGUF\3\0\0\0")), HasSubstr("is a GGUF"));
  EXPECT_THAT(message_of(parse("<!DOCTYPE html>")), HasSubstr("is a web page"));
  EXPECT_THAT(message_of(parse("short")), HasSubstr("is not a safetensors file"));
  std::string cut = file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})");
  cut.resize(20);
  EXPECT_THAT(message_of(parse(cut)), HasSubstr("its header has 53 bytes, but the file ends at byte 20"));
}

TEST(Safetensors, AHeaderOverTheLimitIsRefusedWithoutReadingIt) {
  const TempDir dir;
  const uint64_t length = kMaxSafetensorsHeaderBytes + 1;
  std::string head(8, '\0');
  std::memcpy(head.data(), &length, 8);
  const auto path = dir.write("m.safetensors", head + "{");
  std::filesystem::resize_file(path, 2 * kMaxSafetensorsHeaderBytes);  // a hole: takes no room
  EXPECT_THAT(message_of(SafetensorsFile::open(path)),
              HasSubstr("does not begin with the length of a header"));
}

TEST(Safetensors, MoreTensorsThanTheLimitAreRefused) {
  std::string json = "{";
  for (uint64_t i = 0; i <= kMaxSafetensorsTensors; ++i) {
    json += odmoe::format("{}\"{}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                          i == 0 ? "" : ",", i);
  }
  EXPECT_THAT(refusal(json + "}"), HasSubstr("lists more than 262144 tensors"));
}

TEST(Safetensors, AMissingFileAndADirectoryAreToldApart) {
  const TempDir dir;
  const auto missing = SafetensorsFile::open(dir / "none.safetensors");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(message_of(SafetensorsFile::open(dir.path())), HasSubstr("is not a file"));
}

TEST(SafetensorsWriter, WhatIsWrittenIsReadAgain) {
  const TempDir dir;
  const std::vector<SafetensorsEntry> entries = {
      {"w\"\n", "BF16", {3, 2}}, {"s", "F32", {}}, {"none", "U8", {0}}, {"q", "U8", {5}}};
  for (const uint64_t alignment : {8U, 64U, 4096U}) {
    auto writer =
        SafetensorsWriter::create(dir / "m.safetensors", entries, {{"a", "1"}, {"b", "\x01"}}, alignment);
    ASSERT_TRUE(writer.has_value()) << writer.error().message;
    EXPECT_EQ(writer->data_begin() % alignment, 0U);
    const std::string data = "0123456789abcdefghijk";
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(data).first(1))).has_value());
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(data).subspan(1))).has_value());
    ASSERT_TRUE(writer->finish().has_value());

    const auto file = SafetensorsFile::open(dir / "m.safetensors");
    ASSERT_TRUE(file.has_value()) << file.error().message;
    EXPECT_EQ(file->data_begin() % alignment, 0U);
    EXPECT_EQ(file->file_bytes(), writer->file_bytes());
    EXPECT_EQ(file->metadata().at("b"), "\x01");
    EXPECT_THAT(file->find("w\"\n")->shape, ElementsAre(3, 2));
    EXPECT_EQ(file->find("q")->offset, file->data_begin() + 16);
    std::ifstream in(file->path(), std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(in), {}};
    EXPECT_EQ(all.substr(file->data_begin()), data);
  }
}

TEST(SafetensorsWriter, TooMuchAndTooLittleAreMistakes) {
  const TempDir dir;
  const std::vector<SafetensorsEntry> entries = {{"a", "U8", {2}}};
  auto writer = SafetensorsWriter::create(dir / "m.safetensors", entries);
  ASSERT_TRUE(writer.has_value());
  EXPECT_THAT(message_of(writer->finish()), HasSubstr("finished after"));
  const std::array<std::byte, 3> three{};
  EXPECT_THAT(message_of(writer->append(three)), HasSubstr("more than its tensors have"));
  ASSERT_TRUE(writer->append(std::span(three).first(2)).has_value());
  EXPECT_TRUE(writer->finish().has_value());
  EXPECT_THAT(message_of(writer->append({})), HasSubstr("more than its tensors have"));
}

TEST(SafetensorsWriter, ADriveThatIsFullIsNamed) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "this system has no /dev/full";
  const std::vector<SafetensorsEntry> entries = {{"a", "U8", {2}}};
  const auto writer = SafetensorsWriter::create("/dev/full", entries);
  EXPECT_THAT(message_of(writer),
              AllOf(HasSubstr("cannot write /dev/full at byte 0"), HasSubstr("make room")));
}

TEST(SafetensorsWriter, EntriesThatCannotBeWrittenAreRefused) {
  const auto refused = [](std::vector<SafetensorsEntry> entries) {
    return message_of(make_safetensors_header(entries));
  };
  EXPECT_THAT(refused({{"a", "U8", {1}}, {"a", "U8", {1}}}), HasSubstr("'a'"));
  EXPECT_THAT(refused({{"a", "Q4", {1}}}), HasSubstr("'a'"));
  EXPECT_THAT(refused({{"a", "U8", {-1}}}), HasSubstr("'a'"));
  EXPECT_THAT(refused({{"__metadata__", "U8", {1}}}), HasSubstr("'__metadata__'"));
  EXPECT_THAT(message_of(make_safetensors_header({}, {}, 48)), HasSubstr("not a power of two"));
}

}  // namespace
}  // namespace odmoe
