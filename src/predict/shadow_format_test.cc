#include "predict/shadow_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ShadowSpec spec() {
  ShadowSpec spec;
  spec.model = {.architecture = "qwen3moe",
                .name = "tiny",
                .fingerprint = "0123456789abcdef",
                .n_embd = 4,
                .n_expert = 8,
                .n_expert_used = 2,
                .layers = {0, 1, 2},
                .router = {}};
  spec.lookahead = 4;
  spec.inputs = {ShadowInput::kRouter, ShadowInput::kPrevious};
  spec.hidden = 5;
  spec.depth = 2;
  spec.direct = true;
  spec.recall = {0.9, 0.8};
  return spec;
}

std::vector<int64_t> shape_of(const ShadowSpec& spec, const std::string& name) {
  for (const ShadowTensor& tensor : shadow_tensors(spec)) {
    if (tensor.name == name) return tensor.shape;
  }
  return {};
}

// The header of a file with such tensors, parsed as if the data followed.
Result<SafetensorsFile> file_of(const std::vector<ShadowTensor>& tensors,
                                const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  uint64_t bytes = 0;
  for (const ShadowTensor& tensor : tensors) {
    entries.push_back({.name = tensor.name, .dtype = "F32", .shape = tensor.shape});
    uint64_t n = 4;
    for (const int64_t extent : tensor.shape) n *= static_cast<uint64_t>(extent);
    bytes += n;
  }
  const std::string header = make_safetensors_header(entries, metadata).value();
  return parse_safetensors_header(std::as_bytes(std::span(header)), header.size() + bytes,
                                  "shadow.safetensors");
}

TEST(ShadowFormat, HasAPredictorForEachLayerThatHasOthersAfterIt) {
  const ShadowSpec s = spec();
  EXPECT_EQ(s.n_ahead(-1), 3);
  EXPECT_EQ(s.n_ahead(0), 2);
  EXPECT_EQ(s.n_ahead(2), 0);
  EXPECT_EQ(s.n_input(-1), 4);
  EXPECT_EQ(s.n_input(0), 4 + 2 * 8);
  EXPECT_THAT(shape_of(s, "embedding.heads.weight"), ElementsAre(24, 5));
  EXPECT_THAT(shape_of(s, "layer.0.trunk.1.weight"), ElementsAre(5, 20));
  EXPECT_THAT(shape_of(s, "layer.0.trunk.2.weight"), ElementsAre(5, 5));
  EXPECT_THAT(shape_of(s, "layer.1.direct.weight"), ElementsAre(8, 12));
  EXPECT_TRUE(shape_of(s, "layer.2.heads.bias").empty());
}

TEST(ShadowFormat, SharesATrunkButNotItsFirstBias) {
  ShadowSpec s = spec();
  s.inputs = {ShadowInput::kRouter};
  s.shared_trunk = true;
  EXPECT_THAT(shape_of(s, "shared.trunk.1.weight"), ElementsAre(5, 4));
  EXPECT_TRUE(shape_of(s, "shared.trunk.1.bias").empty());
  EXPECT_THAT(shape_of(s, "layer.1.trunk.1.bias"), ElementsAre(5));
  EXPECT_THAT(shape_of(s, "layer.1.input_scale"), ElementsAre(4));
  EXPECT_TRUE(shape_of(s, "layer.1.trunk.1.weight").empty());
  EXPECT_THAT(shape_of(s, "embedding.trunk.1.weight"), ElementsAre(5, 4));
}

TEST(ShadowFormat, ReadsWhatItsMetadataSays) {
  for (const int32_t rank : {0, 3}) {
    ShadowSpec s = spec();
    s.direct_rank = rank;
    const auto file = file_of(shadow_tensors(s), shadow_metadata(s));
    ASSERT_TRUE(file.has_value()) << file.error().message;
    const auto read = read_shadow_spec(*file);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    EXPECT_EQ(read->model, s.model);
    EXPECT_EQ(read->inputs, s.inputs);
    EXPECT_EQ(read->hidden, 5);
    EXPECT_EQ(read->depth, 2);
    EXPECT_EQ(read->direct_rank, rank);
    EXPECT_THAT(read->recall, ElementsAre(0.9, 0.8));
  }
}

TEST(ShadowFormat, RefusesTensorsThatAreNotWhatTheMetadataSays) {
  const ShadowSpec s = spec();
  std::vector<ShadowTensor> tensors = shadow_tensors(s);
  const auto refused = [&](const std::vector<ShadowTensor>& bad, const std::string& what) {
    const auto file = file_of(bad, shadow_metadata(s));
    ASSERT_TRUE(file.has_value()) << file.error().message;
    const auto read = read_shadow_spec(*file);
    ASSERT_FALSE(read.has_value()) << what;
    EXPECT_EQ(read.error().kind, ErrorKind::kBadFile);
    EXPECT_THAT(read.error().message, HasSubstr(what));
  };
  tensors.pop_back();
  refused(tensors, "missing or not what the metadata says");
  tensors = shadow_tensors(s);
  tensors.front().shape.front() += 1;
  refused(tensors, "missing or not what the metadata says");
  tensors = shadow_tensors(s);
  tensors.push_back({.name = "one.more", .shape = {1}});
  refused(tensors, "its metadata says");
}

TEST(ShadowFormat, RefusesMetadataThatMakesNoSense) {
  const auto refused = [](ShadowSpec bad, const std::string& what) {
    const auto file = file_of({{.name = "x", .shape = {1}}}, shadow_metadata(bad));
    const auto read = read_shadow_spec(*file);
    ASSERT_FALSE(read.has_value()) << what;
    EXPECT_THAT(read.error().message, HasSubstr(what));
  };
  ShadowSpec s = spec();
  s.inputs = {ShadowInput::kRouter, ShadowInput::kRouter};
  refused(s, "one twice");
  s = spec();
  s.hidden = 0;
  s.direct = false;
  refused(s, "neither hidden units nor a direct part");
  s = spec();
  s.lookahead = 5;
  refused(s, "'lookahead' is not");
  const auto none = read_shadow_spec(*file_of({{.name = "x", .shape = {1}}}, {}));
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("holds no shadow model"));
}

TEST(ShadowFormat, RefusesAnotherModel) {
  const ShadowSpec s = spec();
  EXPECT_TRUE(check_shadow_model(s, s.model, "s.safetensors").has_value());
  RoutedModel other = s.model;
  other.fingerprint = "fedcba9876543210";
  other.name = "other";
  const Status status = check_shadow_model(s, other, "s.safetensors");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(status.error().message, HasSubstr("s.safetensors was trained for tiny"));
  EXPECT_THAT(status.error().message, HasSubstr("not for other"));
}

}  // namespace
}  // namespace odmoe
