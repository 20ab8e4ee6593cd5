// The engine runs from an expert directory as it does from the GGUF that the directory was made from.
#include "format/expert_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>

#include "odmoe/format.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/made_directory.h"
#include "tests/engine/test_models.h"

namespace odmoe::expert_directory_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;
using Layout = ExpertManifest::Layout;

constexpr std::string_view kText = "the quick brown fox jumps over the lazy dog, 42 times";

EngineOptions options_for(const std::filesystem::path& model, double percent) {
  EngineOptions options = reference_options(model);
  options.memory.percent = percent;
  options.chunk = 16;
  return options;
}

std::vector<float> logits_of(const EngineOptions& options, std::string_view text = kText) {
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  return all_logits(*engine, engine->encode(text, true, true));
}

void expect_same_bits(std::span<const float> got, std::span<const float> wanted) {
  ASSERT_FALSE(wanted.empty());
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size_bytes()), 0);
}

// Of both layouts, at full memory and at little.
void expect_same_bits_from_directories(const std::filesystem::path& model) {
  const std::vector<float> wanted = logits_of(options_for(model, 100));
  const TempDir dir;
  for (const Layout layout : {Layout::kPacked, Layout::kFiles}) {
    SCOPED_TRACE(layout_name(layout));
    const auto out = dir / layout_name(layout);
    ASSERT_NO_FATAL_FAILURE(convert_or_fail(model, out, {.layout = layout}));
    expect_same_bits(logits_of(options_for(out, 100)), wanted);
    EngineOptions little = options_for(out, 20);
    expect_same_bits(logits_of(little), wanted);
    little.reader = ReaderChoice::kPread;
    expect_same_bits(logits_of(little), wanted);
  }
}

TEST(ExpertDirectories, GiveTheSameBitsAsTheGgufForEveryFamily) {
  for (const char* architecture : {"deepseek2", "qwen2moe", "qwen3moe"}) {
    for (const bool merged : {false, true}) {
      SCOPED_TRACE(architecture);
      const TempDir dir;
      runnable_model({.architecture = architecture, .merge_gate_up = merged}).write(dir / "model.gguf");
      expect_same_bits_from_directories(dir / "model.gguf");
    }
  }
}

TEST(ExpertDirectories, GiveTheSameBitsForEveryQuantisation) {
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q5_1,
                               GGML_TYPE_IQ4_NL, GGML_TYPE_MXFP4}) {
    SCOPED_TRACE(ggml_type_name(type));
    const TempDir dir;
    runnable_model({.expert_type = type, .down_type = GGML_TYPE_Q8_0}).write(dir / "model.gguf");
    expect_same_bits_from_directories(dir / "model.gguf");
  }
}

TEST(ExpertDirectories, GiveTheSameBitsFromASplitModelAndOnLargePages) {
  const TempDir dir;
  const GgufWriter model = runnable_model({.architecture = "qwen2moe"});
  const auto shards = model.write_split(dir.path(), "model", 3);
  const std::vector<float> wanted = logits_of(options_for(shards.front(), 100));
  LayoutOptions layout;
  layout.page_bytes = 16384;
  ASSERT_NO_FATAL_FAILURE(convert_or_fail(shards.front(), dir / "out", layout));
  expect_same_bits(logits_of(options_for(dir / "out", 30)), wanted);
}

TEST(ExpertDirectories, GiveTheSameBitsForTheBundledModel) {
  expect_same_bits_from_directories(bundled_model());
}

class SharedModels : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedModels, GiveTheSameBitsAsTheGguf) {
  ODMOE_SHARED_OR_SKIP(model, std::string("models/") + GetParam() + ".gguf");
  expect_same_bits_from_directories(model);
}

INSTANTIATE_TEST_SUITE_P(ExpertDirectories, SharedModels,
                         ::testing::Values("arch/deepseek-v2-lite.F32", "arch/deepseek-v3.F32",
                                           "arch/kimi-k2.F32", "arch/qwen2moe.F32", "arch/qwen3moe.F32",
                                           "arch/qwen3moe.IQ4_XS", "arch/qwen3moe.Q2_K",
                                           "arch/qwen3moe.Q3_K_M", "arch/qwen3moe.Q4_K_M", "demo-kimi",
                                           "demo-qwen2moe"),
                         [](const auto& param) { return test_name(param.param); });

// A directory whose record of one expert is damaged.
class DamagedDirectory : public ::testing::TestWithParam<Layout> {
 protected:
  void SetUp() override {
    runnable_model({.architecture = "qwen3moe"}).write(dir_ / "model.gguf");
    ASSERT_NO_FATAL_FAILURE(convert_or_fail(dir_ / "model.gguf", out_, {.layout = GetParam()}));
    const auto directory = ExpertDirectory::open(out_).value();
    const auto source = directory->expert_source(2, 8, 2).value();
    const SliceLocation at = source->locate({1, 5}, 0);
    file_ = source->files()[static_cast<size_t>(at.file)];
    record_ = at.offset;
    layout_ = source->layout(1);
  }

  void damage(uint64_t place) const {
    std::fstream file(file_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(place));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(place));
    file.put(static_cast<char>(byte ^ 4));
  }
  // What evaluating says that needs every expert sooner or later.
  std::string error_of_evaluation() const {
    const auto engine = open_or_fail(options_for(out_, 100));
    if (engine == nullptr) return {};
    auto session = engine->new_session().value();
    const Status status = session->evaluate(engine->encode(kText, true, true), {});
    EXPECT_FALSE(status.has_value());
    if (status.has_value()) return {};
    EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
    EXPECT_THAT(status.error().message, HasSubstr("read 3 times"));
    return status.error().message;
  }

  TempDir dir_;
  std::filesystem::path out_ = dir_ / "out";
  std::filesystem::path file_;
  uint64_t record_ = 0;  // where it begins in the file
  RecordLayout layout_;
};

TEST_P(DamagedDirectory, IsNamedWhenGateAndUpAreReadAndNeverUsed) {
  damage(record_ + layout_.up.offset);
  EXPECT_THAT(error_of_evaluation(),
              HasSubstr(odmoe::format("expert 5 of layer 1 is damaged: its gate and up in "
                                      "{} at byte {}",
                                      file_.string(), record_)));
}

TEST_P(DamagedDirectory, IsNamedWhenDownIsReadAndNeverUsed) {
  damage(record_ + layout_.bytes() - 1);
  EXPECT_THAT(error_of_evaluation(),
              HasSubstr(odmoe::format("expert 5 of layer 1 is damaged: its down in {} at byte {}",
                                      file_.string(), record_ + layout_.down.offset)));
}

TEST_P(DamagedDirectory, IsRefusedWhenAFileIsTruncatedOrMissing) {
  std::filesystem::resize_file(file_, std::filesystem::file_size(file_) - 4096);
  auto opened = open_checkpoint(out_);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(opened.error().message, HasSubstr("truncated"));
  EXPECT_THAT(opened.error().message, HasSubstr(file_.string()));
  std::filesystem::remove(file_);
  opened = open_checkpoint(out_);
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().message, HasSubstr("missing"));
}

INSTANTIATE_TEST_SUITE_P(Layouts, DamagedDirectory, ::testing::Values(Layout::kPacked, Layout::kFiles),
                         [](const auto& param) { return std::string(layout_name(param.param)); });

TEST(ExpertDirectories, ServeAsMirrorsOfEachOther) {
  const TempDir dir;
  runnable_model({.architecture = "qwen3moe"}).write(dir / "model.gguf");
  const std::vector<float> wanted = logits_of(options_for(dir / "model.gguf", 30));
  ASSERT_NO_FATAL_FAILURE(convert_or_fail(dir / "model.gguf", dir / "a", {}));
  std::filesystem::copy(dir / "a", dir / "b", std::filesystem::copy_options::recursive);
  EngineOptions options = options_for(dir / "a", 30);
  options.mirrors = {dir / "b"};
  expect_same_bits(logits_of(options), wanted);

  options.mirrors = {dir / "model.gguf"};
  const auto other = EngineImpl::open(options, {});
  ASSERT_FALSE(other.has_value());
  EXPECT_THAT(other.error().message, HasSubstr("is not a mirror of"));
}

}  // namespace
}  // namespace odmoe::expert_directory_test
