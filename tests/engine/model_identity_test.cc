// Which models are one to Engine::state_identity(), and which are not.
#include "engine/model_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "deadline.h"
#include "format/gguf_header.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/made_directory.h"
#include "tests/engine/test_models.h"

namespace odmoe::model_identity_test {
namespace {

namespace fs = std::filesystem;
using namespace odmoe::testing;
using ::testing::HasSubstr;

// As if every file system told nothing of its files, so that only bytes make a difference.
EngineDependencies blind() {
  EngineDependencies dependencies;
  dependencies.stamp_file = [](const fs::path&) { return FileStamp(); };
  return dependencies;
}

// Empty when the model cannot be opened.
std::string identity_of(const fs::path& model, const EngineDependencies& dependencies = {}) {
  const auto engine = EngineImpl::open(reference_options(model), {}, dependencies);
  return engine.has_value() ? (*engine)->state_identity().value() : "";
}

// Turns one bit of a file, whose size and time stay.
void flip(const fs::path& path, uint64_t offset) {
  const auto modified = fs::last_write_time(path);
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(offset));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 1));
  }
  fs::last_write_time(path, modified);
}

// Until a change of `path` would have another time than its last.
void wait_for_tick(const TempDir& dir, const fs::path& path) {
  const int64_t last = stamp_of(path).value().changed_ns;
  ASSERT_TRUE(until("a tick of the file system's clock",
                    [&] { return stamp_of(dir.write("clock", "x")).value().changed_ns > last; }));
}

bool is_expert_stack(const TensorInfo& tensor) { return tensor.name.contains("_exps."); }

class ModelIdentities : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    runnable_model({.architecture = GetParam()}).write(path_);
    wait_for_tick(dir_, path_);
  }
  std::vector<TensorInfo> tensors() const { return open_checkpoint(path_).value()->tensors(); }

  TempDir dir_;
  const fs::path path_ = dir_ / "model.gguf";
};

TEST_P(ModelIdentities, ShowAnyBitOfAnyDenseTensorWhateverTheFilesTimes) {
  const std::string before = identity_of(path_, blind());
  ASSERT_FALSE(before.empty());
  for (const TensorInfo& tensor : tensors()) {
    if (is_expert_stack(tensor)) continue;
    for (const uint64_t at : {uint64_t{0}, tensor.bytes / 2, tensor.bytes - 4}) {
      flip(path_, tensor.offset + at);
      EXPECT_NE(identity_of(path_, blind()), before) << tensor.name << " at " << at;
      flip(path_, tensor.offset + at);
    }
  }
  EXPECT_EQ(identity_of(path_, blind()), before) << "it is the same again";
}

TEST_P(ModelIdentities, ShowAnyBitOfAnyTensorWithTheTimePutBack) {
  std::string before = identity_of(path_);
  ASSERT_FALSE(before.empty());
  EXPECT_EQ(identity_of(path_), before) << "an untouched file is the same model";
  for (const TensorInfo& tensor : tensors()) {
    wait_for_tick(dir_, path_);
    flip(path_, tensor.offset + tensor.bytes / 2);
    const std::string after = identity_of(path_);
    EXPECT_NE(after, before) << tensor.name;
    before = after;
  }
}

TEST_P(ModelIdentities, ShowEveryValueOfTheMetadata) {
  const std::string before = identity_of(path_, blind());
  const std::string bytes = read_text(path_);
  const gguf::Header header =
      gguf::read_header(std::as_bytes(std::span(bytes)), bytes.size(), "model.gguf").value();
  int n_opened = 0;
  for (const auto& [key, value] : header.metadata.entries) {
    const uint64_t length = !value.is_array && value.type == GGUF_TYPE_STRING ? 8 : 0;
    flip(path_, value.offset + length);
    const std::string after = identity_of(path_, blind());
    EXPECT_NE(after, before) << key;
    n_opened += after.empty() ? 0 : 1;
    flip(path_, value.offset + length);
  }
  EXPECT_GT(n_opened, 5) << "most values may be others";
  EXPECT_EQ(identity_of(path_, blind()), before);
}

TEST_P(ModelIdentities, ShowExpertsOfAnotherModelWhereFilesSayNothing) {
  const std::string before = identity_of(path_, blind());
  EXPECT_EQ(identity_of(path_, blind()), before);
  std::string bytes = read_text(path_);
  for (const TensorInfo& tensor : tensors()) {
    if (!is_expert_stack(tensor)) continue;
    for (uint64_t i = 0; i < tensor.bytes; i += 100) bytes[tensor.offset + i] ^= 1;
  }
  const fs::path tuned = dir_.write("tuned.gguf", bytes);
  EXPECT_NE(identity_of(tuned, blind()), before);
}

TEST_P(ModelIdentities, TakeACopyOfAFileForAnotherModelUntilItsBytesAreKnown) {
  const fs::path copy = dir_ / "copy.gguf";
  fs::copy_file(path_, copy);
  fs::last_write_time(copy, fs::last_write_time(path_));
  EXPECT_NE(identity_of(copy), identity_of(path_));
  EXPECT_EQ(identity_of(copy, blind()), identity_of(path_, blind()));
}

INSTANTIATE_TEST_SUITE_P(Families, ModelIdentities, ::testing::Values("deepseek2", "qwen2moe", "qwen3moe"),
                         [](const auto& test) { return std::string(test.param); });

TEST(ModelIdentity, OfAnExpertDirectoryIsThatOfEveryCopy) {
  using Layout = ExpertManifest::Layout;
  const TempDir dir;
  runnable_model({}).write(dir / "model.gguf");
  ASSERT_NO_FATAL_FAILURE(convert_or_fail(dir / "model.gguf", dir / "packed", {.layout = Layout::kPacked}));
  ASSERT_NO_FATAL_FAILURE(convert_or_fail(dir / "model.gguf", dir / "files", {.layout = Layout::kFiles}));
  const std::string identity = identity_of(dir / "packed");
  fs::copy(dir / "packed", dir / "copy", fs::copy_options::recursive);
  EXPECT_EQ(identity_of(dir / "copy"), identity);
  EXPECT_EQ(identity_of(dir / "files"), identity);

  // Other experts of the same dense weights.
  const auto tensors = open_checkpoint(dir / "model.gguf").value()->tensors();
  const auto stack = std::ranges::find_if(tensors, is_expert_stack);
  ASSERT_NE(stack, tensors.end());
  flip(dir / "model.gguf", stack->offset + stack->bytes - 4);
  ASSERT_NO_FATAL_FAILURE(convert_or_fail(dir / "model.gguf", dir / "other", {.layout = Layout::kPacked}));
  EXPECT_NE(identity_of(dir / "other"), identity);

  const auto copied = open_checkpoint(dir / "copy").value();
  for (const TensorInfo& tensor : copied->tensors()) {
    if (tensor.file < 0) continue;
    flip(copied->path_of(tensor), tensor.offset + tensor.bytes / 2);
    EXPECT_NE(identity_of(dir / "copy"), identity) << tensor.name;
    flip(copied->path_of(tensor), tensor.offset + tensor.bytes / 2);
  }
}

TEST(ModelIdentity, IsNoMoreOnceAFileOfExpertsChangedWhileTheModelIsOpen) {
  for (const bool mirrored : {false, true}) {
    SCOPED_TRACE(mirrored);
    const TempDir dir;
    runnable_model({}).write(dir / "model.gguf");
    fs::copy_file(dir / "model.gguf", dir / "mirror.gguf");
    EngineOptions options = reference_options(dir / "model.gguf");
    if (mirrored) options.mirrors = {dir / "mirror.gguf"};
    const fs::path changed = dir / (mirrored ? "mirror.gguf" : "model.gguf");
    const auto tensors = open_checkpoint(changed).value()->tensors();
    wait_for_tick(dir, changed);
    const auto engine = open_or_fail(options);
    ASSERT_NE(engine, nullptr);
    ASSERT_TRUE(engine->state_identity().has_value());
    flip(changed, std::ranges::find_if(tensors, is_expert_stack)->offset);
    const auto identity = engine->state_identity();
    ASSERT_FALSE(identity.has_value());
    EXPECT_EQ(identity.error().kind, ErrorKind::kBadFile);
    EXPECT_THAT(identity.error().message, HasSubstr(changed.string() + " was changed"));
    fs::remove(changed);
    EXPECT_THAT(engine->state_identity().error().message, HasSubstr("is gone"));
  }
}

}  // namespace
}  // namespace odmoe::model_identity_test
