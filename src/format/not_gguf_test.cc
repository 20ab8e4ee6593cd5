// What people give by mistake, through GgufFile::open as they do.
#include "format/not_gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/gguf_file.h"
#include "small_model.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempDir;

Error open_error(const std::filesystem::path& path) {
  const auto file = GgufFile::open(path);
  return file.has_value() ? Error{ErrorKind::kUsage, "no error"} : file.error();
}

class NotGguf : public ::testing::Test {
 protected:
  // The error for a file of these bytes, checked to be one line that names the file.
  std::string error_for(std::string_view bytes) {
    const auto path = dir_.write("model.gguf", bytes);
    const Error error = open_error(path);
    EXPECT_EQ(error.kind, ErrorKind::kBadFile);
    EXPECT_THAT(error.message, AllOf(HasSubstr(path.string()), Not(HasSubstr("\n"))));
    return error.message;
  }
  TempDir dir_;
};

TEST_F(NotGguf, AMissingFileIsNotFound) {
  const Error error = open_error(dir_ / "absent.gguf");
  EXPECT_EQ(error.kind, ErrorKind::kNotFound);
  EXPECT_THAT(error.message, AllOf(HasSubstr("absent.gguf"), HasSubstr("no such file")));
}

TEST_F(NotGguf, AFileUsedAsADirectoryIsNotFound) {
  dir_.write("file", "x");
  EXPECT_EQ(open_error(dir_ / "file" / "model.gguf").kind, ErrorKind::kNotFound);
}

TEST_F(NotGguf, ADirectoryNamesTheGgufInIt) {
  std::filesystem::create_directory(dir_ / "models");
  EXPECT_THAT(open_error(dir_ / "models").message, HasSubstr("is a directory without a GGUF"));
  dir_.write("models/b.gguf", "x");
  dir_.write("models/a.gguf", "x");
  dir_.write("models/README", "x");
  EXPECT_THAT(open_error(dir_ / "models").message,
              HasSubstr("is a directory: give the file, perhaps " + (dir_ / "models" / "a.gguf").string()));
}

TEST_F(NotGguf, ACheckpointOfHuggingFaceIsToBeConverted) {
  std::filesystem::create_directory(dir_ / "hf");
  dir_.write("hf/config.json", "{}");
  EXPECT_THAT(open_error(dir_ / "hf").message,
              HasSubstr("with `odmoe convert " + (dir_ / "hf").string() + " OUT`"));
}

TEST_F(NotGguf, APipeIsRefusedWithoutWaiting) {
  const auto path = dir_ / "pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(open_error(path).message, HasSubstr("is a pipe or a device"));
}

TEST_F(NotGguf, AFileWithoutReadPermissionSaysSo) {
  const auto path = dir_.write("secret.gguf", "GGUF");
  std::filesystem::permissions(path, std::filesystem::perms::none);
  const bool root = geteuid() == 0;
  constexpr uid_t kNobody = 65534;  // permissions do not bind root
  if (root && seteuid(kNobody) != 0) GTEST_SKIP() << "cannot give up root's rights here";
  const Error error = open_error(path);
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_EQ(error.kind, ErrorKind::kIo);
  EXPECT_THAT(error.message, AllOf(HasSubstr("secret.gguf"), HasSubstr("permission denied")));
}

TEST_F(NotGguf, AnEmptyFileSaysSo) { EXPECT_THAT(error_for(""), HasSubstr("is empty")); }

TEST_F(NotGguf, AGitLfsPointerSaysHowToFetchIt) {
  EXPECT_THAT(error_for("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
              HasSubstr("git lfs pull"));
}

TEST_F(NotGguf, AWebPageIsAFailedDownload) {
  EXPECT_THAT(error_for("<!DOCTYPE html><html>"), HasSubstr("is a web page"));
  EXPECT_THAT(error_for("\n  <HTML lang=en>"), HasSubstr("is a web page"));
  EXPECT_THAT(error_for("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>"),
              HasSubstr("is a web page"));
}

TEST_F(NotGguf, SafetensorsAreToBeConverted) {
  const std::string_view bytes("\x10\0\0\0\0\0\0\0{\"a\":{}}", 16);
  EXPECT_THAT(error_for(bytes), AllOf(HasSubstr("safetensors"), HasSubstr("convert")));
}

TEST_F(NotGguf, PyTorchCheckpointsAreToBeConverted) {
  EXPECT_THAT(error_for(std::string_view("PK\x03\x04\0\0", 6)), HasSubstr("zip archive, perhaps a PyTorch"));
  EXPECT_THAT(error_for("\x80\x02}q"), HasSubstr("pickle"));
}

TEST_F(NotGguf, CompressedFilesAreToBeDecompressed) {
  EXPECT_THAT(error_for("\x1f\x8b\x08"), HasSubstr("is compressed"));
  EXPECT_THAT(error_for("\x28\xb5\x2f\xfd\x04"), HasSubstr("is compressed"));
}

TEST_F(NotGguf, OlderAndSwappedFormatsAreNamed) {
  EXPECT_THAT(error_for("tjgg\x03"), HasSubstr("before GGUF"));
  EXPECT_THAT(error_for("FUGG\x03"), HasSubstr("swapped"));
}

TEST_F(NotGguf, ZerosAreAnUnfinishedDownload) {
  EXPECT_THAT(error_for(std::string(4096, '\0')), HasSubstr("unfinished download"));
}

TEST_F(NotGguf, TextIsQuoted) {
  EXPECT_THAT(error_for("Invalid username or password.\n"),
              HasSubstr("begins 'Invalid username or password.\\n'"));
}

TEST_F(NotGguf, OtherBytesAreNotAGguf) {
  EXPECT_THAT(error_for("\x7f"
                        "ELF\x02\x01\x01"),
              HasSubstr("does not begin with 'GGUF'"));
  EXPECT_THAT(error_for("GGU\x01"), HasSubstr("does not begin with 'GGUF'"));
}

}  // namespace
}  // namespace odmoe
