#include "predict/shadow_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "predict/testing.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

ShadowSpec small_spec() {
  ShadowSpec spec;
  spec.model = {.architecture = "test",
                .name = "test",
                .fingerprint = "0123456789abcdef",
                .n_embd = 8,
                .n_expert = 6,
                .n_expert_used = 2,
                .layers = {1, 2, 3}};
  spec.lookahead = 2;
  spec.hidden = 4;
  return spec;
}

Vector values(size_t n, size_t seed) {
  Vector v(n);
  auto state = static_cast<uint32_t>(seed * 7919 + 1);
  for (float& x : v) {
    state = state * 1664525 + 1013904223;
    x = static_cast<float>(state >> 8U) / static_cast<float>(1 << 23) - 1;
  }
  return v;
}

using Weights = std::map<std::string, Vector>;

Weights write(const std::filesystem::path& path, const ShadowSpec& spec) {
  std::vector<SafetensorsEntry> entries;
  for (const ShadowTensor& tensor : shadow_tensors(spec))
    entries.push_back({tensor.name, "F32", tensor.shape});
  auto writer = SafetensorsWriter::create(path, entries, shadow_metadata(spec));
  EXPECT_TRUE(writer.has_value()) << writer.error().message;
  Weights weights;
  for (const SafetensorsEntry& entry : entries) {
    size_t n = 1;
    for (const int64_t dimension : entry.shape) n *= static_cast<size_t>(dimension);
    Vector v = values(n, weights.size());
    EXPECT_TRUE(writer->append(std::as_bytes(std::span(v))).has_value());
    weights[entry.name] = std::move(v);
  }
  EXPECT_TRUE(writer->finish().has_value());
  return weights;
}

std::unique_ptr<ShadowModel> load(const std::filesystem::path& path) {
  auto model = ShadowModel::load(path, {.type = GGML_TYPE_F32});
  if (!model.has_value()) {
    ADD_FAILURE() << model.error().message;
    return nullptr;
  }
  return std::move(*model);
}

// The formulas of predict/shadow_format.h.
Vector expected(const Weights& w, const std::string& prefix, const std::string& trunk, const Vector& x,
                const Vector& scaled, int depth) {
  Vector h = scaled;
  for (int k = 1; k <= depth; ++k) {
    const std::string block = trunk + "trunk." + std::to_string(k) + ".";
    const Vector& bias = w.at(k == 1 && trunk == "shared." ? prefix + "trunk.1.bias" : block + "bias");
    h = multiply(w.at(block + "weight"), h);
    float mean = 0, variance = 0;
    for (size_t i = 0; i < h.size(); ++i) mean += (h[i] += bias[i]) / static_cast<float>(h.size());
    for (const float v : h) variance += (v - mean) * (v - mean) / static_cast<float>(h.size());
    for (size_t i = 0; i < h.size(); ++i) {
      h[i] = (h[i] - mean) / std::sqrt(variance + 1e-5F) * w.at(block + "norm.weight")[i] +
             w.at(block + "norm.bias")[i];
      h[i] /= 1 + std::exp(-h[i]);
    }
  }
  Vector y = w.at(prefix + "heads.bias");
  const auto add = [&](const Vector& part) {
    for (size_t i = 0; i < y.size(); ++i) y[i] += part[i];
  };
  if (w.contains(prefix + "heads.weight")) add(multiply(w.at(prefix + "heads.weight"), h));
  if (w.contains(prefix + "direct.weight")) add(multiply(w.at(prefix + "direct.weight"), x));
  if (w.contains(prefix + "direct_down.weight")) {
    add(multiply(w.at(prefix + "direct_up.weight"), multiply(w.at(prefix + "direct_down.weight"), x)));
  }
  return y;
}

void expect_near(std::span<const float> scores, const Vector& wanted) {
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(scores[i], wanted[i], 1e-3F) << i;
}

Vector divided_by_rms(Vector x) {
  float squares = 0;
  for (const float v : x) squares += v * v;
  for (float& v : x) v /= std::sqrt(squares / static_cast<float>(x.size()) + 1e-6F);
  return x;
}

constexpr std::array<int32_t, 2> kExperts = {4, 1};
constexpr std::array kWeights = {0.6F, 0.4F};

TEST(ShadowModel, ComputesWhatTheFormatSays) {
  const testing::TempDir folder;
  ShadowSpec spec = small_spec();
  spec.depth = 2;
  const auto path = folder.path() / "shadow.safetensors";
  const Weights w = write(path, spec);
  const auto model = load(path);
  EXPECT_TRUE(model->wants().router_input);
  EXPECT_FALSE(model->wants().attention_input);
  EXPECT_TRUE(model->wants().embedding);
  const Vector x = values(8, 77);
  Vector scores(12, NAN);
  EXPECT_EQ(model->predict({.layer = 0, .router_input = x, .experts = kExperts, .weights = kWeights}, scores)
                .value(),
            2);
  expect_near(scores, expected(w, "layer.0.", "layer.0.", x, x, 2));
  // The layer before the last has one layer ahead, the last none.
  scores.assign(12, NAN);
  EXPECT_EQ(model->predict({.layer = 1, .router_input = x, .experts = kExperts, .weights = kWeights}, scores)
                .value(),
            1);
  expect_near(scores, expected(w, "layer.1.", "layer.1.", x, x, 2));
  EXPECT_TRUE(std::isnan(scores[6]));
  EXPECT_EQ(model->predict({.layer = 2, .router_input = x, .experts = kExperts, .weights = kWeights}, scores)
                .value(),
            0);
  EXPECT_EQ(model->begin_token(x, scores).value(), 2);
  const Vector embedding = divided_by_rms(x);
  expect_near(scores, expected(w, "embedding.", "embedding.", embedding, embedding, 2));
}

TEST(ShadowModel, TakesEveryInputInItsOrder) {
  const testing::TempDir folder;
  ShadowSpec spec = small_spec();
  spec.inputs = {ShadowInput::kPrevious, ShadowInput::kAttention, ShadowInput::kExperts};
  spec.direct = true;
  spec.embedding = false;
  const auto path = folder.path() / "shadow.safetensors";
  const Weights w = write(path, spec);
  const auto model = load(path);
  const Vector attention = values(8, 5);
  Vector scores(12);
  // The token before chose 0 and 5 in layer 1, 2 and 3 in layer 2.
  constexpr std::array<int32_t, 2> one = {0, 5}, two = {2, 3};
  model->learn({.layer = 1, .experts = one, .weights = kWeights});
  model->learn({.layer = 2, .experts = two, .weights = kWeights});
  const RoutingState state{
      .layer = 0, .attention_input = attention, .experts = kExperts, .weights = kWeights};
  model->learn(state);
  ASSERT_EQ(model->predict(state, scores).value(), 2);
  Vector x = {1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0};
  for (const float v : divided_by_rms(attention)) x.push_back(v);
  x.insert(x.end(), {0, 1, 0, 0, 1, 0});
  expect_near(scores, expected(w, "layer.0.", "layer.0.", x, x, 1));
  // A new sequence has no token before.
  model->begin_sequence();
  model->learn(state);
  ASSERT_EQ(model->predict(state, scores).value(), 2);
  std::fill_n(x.begin(), 12, 0.0F);
  expect_near(scores, expected(w, "layer.0.", "layer.0.", x, x, 1));
  EXPECT_EQ(model->begin_token({}, scores).value(), 0);
}

TEST(ShadowModel, LayersMayShareTheTrunk) {
  const testing::TempDir folder;
  ShadowSpec spec = small_spec();
  spec.shared_trunk = true;
  spec.direct = true;
  spec.direct_rank = 3;
  const auto path = folder.path() / "shadow.safetensors";
  const Weights w = write(path, spec);
  const auto model = load(path);
  const Vector x = values(8, 6);
  Vector scores(12);
  for (const size_t layer : {0U, 1U}) {
    ASSERT_TRUE(
        model->predict({.layer = layer, .router_input = x, .experts = kExperts, .weights = kWeights}, scores)
            .has_value());
    const std::string prefix = "layer." + std::to_string(layer) + ".";
    Vector scaled = x;
    for (size_t i = 0; i < x.size(); ++i) scaled[i] *= w.at(prefix + "input_scale")[i];
    expect_near(scores, expected(w, prefix, "shared.", x, scaled, 1));
  }
}

TEST(ShadowModel, MayBeLinear) {
  const testing::TempDir folder;
  ShadowSpec spec = small_spec();
  spec.hidden = 0;
  spec.direct = true;
  const auto path = folder.path() / "shadow.safetensors";
  const Weights w = write(path, spec);
  const auto model = load(path);
  const Vector x = values(8, 6);
  Vector scores(12);
  ASSERT_TRUE(
      model->predict({.layer = 0, .router_input = x, .experts = kExperts, .weights = kWeights}, scores)
          .has_value());
  expect_near(scores, expected(w, "layer.0.", "layer.0.", x, x, 0));
  EXPECT_EQ(model->bytes_per_prediction(), x.size() * scores.size() * sizeof(float));
}

TEST(ShadowModel, ATruncatedFileIsRefused) {
  const testing::TempDir folder;
  const auto path = folder.path() / "shadow.safetensors";
  write(path, small_spec());
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 8);
  const auto model = ShadowModel::load(path, {});
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(model.error().message, HasSubstr("shadow.safetensors"));
}

TEST(ShadowModel, WeightsThatAreNoNumbersAreRefused) {
  const testing::TempDir folder;
  const auto path = folder.path() / "shadow.safetensors";
  write(path, small_spec());
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.has_value());
  const SafetensorsTensor* tensor = file->find("layer.0.heads.weight");
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(static_cast<std::streamoff>(tensor->offset));
  const float nan = NAN;
  out.write(reinterpret_cast<const char*>(&nan), sizeof(nan));
  out.close();
  const auto model = ShadowModel::load(path, {});
  ASSERT_FALSE(model.has_value());
  EXPECT_THAT(model.error().message, HasSubstr("layer.0.heads.weight"));
}

TEST(ShadowModel, AFileThatIsNotThereIsNamed) {
  const auto model = ShadowModel::load("/nowhere/shadow.safetensors", {});
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace odmoe
