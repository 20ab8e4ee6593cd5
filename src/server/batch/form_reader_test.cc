#include "server/batch/form_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "server/limits.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kFormType = "multipart/form-data; boundary=xyz";

class RecordedForm final : public FormSink {
 public:
  ApiStatus begin(const FormPart& part) override {
    parts.push_back(part.name + (part.filename ? "<" + *part.filename + ">" : "") + "=");
    return {};
  }
  ApiStatus data(std::string_view bytes) override {
    parts.back() += bytes;
    if (parts.back().size() > most) return bad_request("file", "too much");
    return {};
  }
  ApiStatus end() override {
    parts.back() += "|";
    return {};
  }
  std::vector<std::string> parts;
  size_t most = std::numeric_limits<size_t>::max();
};

std::string part(const std::string& headers, const std::string& data) {
  return "--xyz\r\n" + headers + "\r\n\r\n" + data + "\r\n";
}
std::string field(const std::string& name, const std::string& data) {
  return part("Content-Disposition: form-data; name=\"" + name + "\"", data);
}

// What was taken of it, and what was wrong.
std::string error_of(std::string_view body, RecordedForm& form, const char* type = kFormType,
                     size_t piece = std::string_view::npos) {
  auto reader = FormReader::create(type, form);
  if (!reader.has_value()) return reader.error().message;
  while (!body.empty()) {
    const auto status = reader->take(body.substr(0, piece));
    if (!status.has_value()) return status.error().message;
    body.remove_prefix(std::min(piece, body.size()));
  }
  const auto status = reader->finish();
  return status.has_value() ? "" : status.error().message;
}

TEST(FormReader, IsTheSameHoweverItsBytesCome) {
  const std::string body =
      field("purpose", "batch") +
      part(
          "content-disposition: form-data; name=\"file\"; filename=\"in \\\"1\\\".jsonl\"\r\n"
          "Content-Type: application/octet-stream",
          "{\"a\": 1}\r\n--xy\r\n\r\n--xyZ\n") +
      field("empty", "") + "--xyz--\r\nwhatever";
  for (const size_t piece :
       {size_t{1}, size_t{2}, size_t{3}, size_t{5}, size_t{7}, size_t{64}, body.size()}) {
    RecordedForm form;
    EXPECT_THAT(error_of(body, form, kFormType, piece), IsEmpty()) << piece;
    EXPECT_THAT(form.parts, ElementsAre("purpose=batch|",
                                        "file<in \"1\".jsonl>={\"a\": 1}\r\n--xy\r\n\r\n--xyZ\n|", "empty=|"))
        << piece;
  }
}

TEST(FormReader, ABoundaryMayStandRightBehindTheHeaders) {
  RecordedForm form;
  EXPECT_THAT(error_of("--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n--xyz--", form), IsEmpty());
  EXPECT_THAT(form.parts, ElementsAre("a=|"));
}

TEST(FormReader, NamesAreReadAsClientsWriteThem) {
  const auto names = [](const std::string& disposition) {
    RecordedForm form;
    const std::string error = error_of(part("Content-Disposition: " + disposition, "") + "--xyz--", form,
                                       "Multipart/Form-Data; Boundary=\"xyz\"");
    return error.empty() ? form.parts.front() : error;
  };
  EXPECT_EQ(names("form-data; name=file; filename=x.jsonl"), "file<x.jsonl>=|");
  EXPECT_EQ(names("form-data; filename=\"a%22b;c\"; name=\"file\""), "file<a\"b;c>=|");
  EXPECT_EQ(names("form-data; name=\"file\"; filename=\"C:\\dir\\x\""), "file<C:\\dir\\x>=|");
  EXPECT_EQ(names("form-data; name=\"file\"; filename=\"\""), "file<>=|");
  EXPECT_EQ(names("form-data; name=\"file\"; filename*=utf-8''x"), "file=|");
  for (const char* wrong : {"form-data", "form-data; filename=x", "attachment; name=x", "form-data; name=\"x",
                            "form-data; name=a; name=b", "form-data; name"}) {
    EXPECT_THAT(names(wrong), HasSubstr("no name")) << wrong;
  }
}

TEST(FormReader, WhatIsNotAFormIsRefused) {
  const auto refused = [](const std::string& body) {
    RecordedForm form;
    return error_of(body, form);
  };
  const std::string good = field("a", "b");
  EXPECT_THAT(refused(""), HasSubstr("ends before its last boundary"));
  EXPECT_THAT(refused(good), HasSubstr("ends before its last boundary"));
  EXPECT_THAT(refused("x" + good), HasSubstr("does not begin with its boundary"));
  EXPECT_THAT(refused("--xyzw\r\n"), HasSubstr("followed by something else"));
  EXPECT_THAT(refused("--xyz-\r\n"), HasSubstr("followed by something else"));
  EXPECT_THAT(refused("--xyz\n\n"), HasSubstr("followed by something else"));
  EXPECT_THAT(refused(part("X: y", "")), HasSubstr("no Content-Disposition"));
  EXPECT_THAT(refused(part("nothing", "")), HasSubstr("a header that is none"));
  EXPECT_THAT(refused("--xyz\r\n\r\n\r\n--xyz--"), HasSubstr("no Content-Disposition"));
  EXPECT_THAT(
      refused(part("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64", "YQ==")),
      HasSubstr("encoded"));
  EXPECT_THAT(refused("--xyz\r\nX: " + std::string(kMaxFormHeaderBytes, 'x')), HasSubstr("headers too long"));
  EXPECT_THAT(refused("--xyz" + std::string(kMaxFormHeaderBytes + 2, ' ')), HasSubstr("something else"));
  std::string many;
  for (size_t i = 0; i <= kMaxFormParts; ++i) many += good;
  EXPECT_THAT(refused(many), HasSubstr("too many parts"));
}

TEST(FormReader, ItsTypeHasToSayWhereItsPartsEnd) {
  for (const char* type :
       {"application/json", "", "multipart/mixed; boundary=xyz", "multipart/form-data;;"}) {
    RecordedForm form;
    EXPECT_THAT(error_of("", form, type), HasSubstr("Content-Type multipart/form-data")) << type;
  }
  const std::string too_long = "multipart/form-data; boundary=" + std::string(71, 'x');
  for (const char* type :
       {"multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=a\"b", too_long.c_str()}) {
    RecordedForm form;
    EXPECT_THAT(error_of("", form, type), HasSubstr("no boundary")) << type;
  }
}

TEST(FormReader, WhoTakesThePartsMayHaveEnough) {
  RecordedForm form;
  form.most = 100;
  EXPECT_EQ(error_of(field("a", std::string(1000, 'x')), form, kFormType, 50), "too much");
}

}  // namespace
}  // namespace odmoe::server
