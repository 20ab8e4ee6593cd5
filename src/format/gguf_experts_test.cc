#include "format/gguf_experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/testing.h"
#include "small_model.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::AllOf;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::small_model;
using testing::TempDir;

std::string error(const GgufWriter& writer, int n_layer = 1, int n_expert = 4, int n_used = 2) {
  const auto file = parse(writer);
  if (file == nullptr) return "not parsed";
  const auto source = make_gguf_experts(*file, n_layer, n_expert, n_used);
  return source.has_value() ? "no error" : source.error().message;
}

GgufWriter layer(std::vector<int64_t> gate, std::vector<int64_t> up, std::vector<int64_t> down,
                 ggml_type type = GGML_TYPE_Q8_0) {
  GgufWriter writer;
  writer.add_tensor("blk.0.ffn_gate_exps.weight", type, std::move(gate))
      .add_tensor("blk.0.ffn_up_exps.weight", type, std::move(up))
      .add_tensor("blk.0.ffn_down_exps.weight", type, std::move(down));
  return writer;
}

TEST(GgufExperts, AnExpertIsASliceOfEachStack) {
  const auto file = parse(small_model({.n_layer = 3, .n_expert = 4, .n_embd = 64, .n_ff_exp = 96}));
  const auto source = make_gguf_experts(*file, 3, 4, 2);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_EQ((*source)->n_layer(), 3);
  EXPECT_EQ((*source)->n_expert_used(), 2);
  EXPECT_EQ((*source)->n_expert(0), 0);  // dense
  EXPECT_EQ((*source)->n_expert(1), 4);
  EXPECT_EQ((*source)->files(), file->files());

  const RecordLayout& layout = (*source)->layout(2);
  ASSERT_EQ(layout.slices.size(), 3U);
  EXPECT_EQ(layout.slices[0].name, "blk.2.ffn_gate_exps.weight");
  EXPECT_EQ(layout.slices[1].name, "blk.2.ffn_up_exps.weight");
  EXPECT_EQ(layout.slices[2].name, "blk.2.ffn_down_exps.weight");
  const uint64_t bytes = 96 * (64 / 32) * 34;
  for (const auto& slice : layout.slices) EXPECT_EQ(slice.bytes, bytes);
  EXPECT_EQ(layout.gate.slice, 0);
  EXPECT_EQ(layout.up.slice, 1);
  EXPECT_EQ(layout.down.slice, 2);
  for (const auto* projection : {&layout.gate, &layout.up, &layout.down}) {
    EXPECT_EQ(projection->offset, 0U);
    EXPECT_EQ(projection->bytes, bytes);
  }
  for (int slice = 0; slice < 3; ++slice) {
    const TensorInfo& tensor = *file->find_tensor(layout.slices[static_cast<size_t>(slice)].name);
    for (int expert = 0; expert < 4; ++expert) {
      const SliceLocation at = (*source)->locate({.layer = 2, .expert = expert}, slice);
      EXPECT_EQ(at.file, 0);
      EXPECT_EQ(at.offset, tensor.offset + static_cast<uint64_t>(expert) * bytes);
    }
    EXPECT_EQ((*source)->locate({.layer = 2, .expert = 3}, slice).offset + bytes,
              tensor.offset + tensor.bytes);
  }
  EXPECT_EQ((*source)->total_bytes(), 2U * 4 * 3 * bytes);
}

TEST(GgufExperts, MergedGateAndUpAreOneSliceWithTwoProjections) {
  const auto file = parse(small_model({.n_layer = 2, .n_embd = 64, .n_ff_exp = 96, .merge_gate_up = true}));
  const auto source = make_gguf_experts(*file, 2, 4, 2);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const RecordLayout& layout = (*source)->layout(1);
  ASSERT_EQ(layout.slices.size(), 2U);
  const uint64_t half = 96 * 2 * 34;
  EXPECT_EQ(layout.slices[0].bytes, 2 * half);
  EXPECT_EQ(layout.gate.slice, 0);
  EXPECT_EQ(layout.gate.offset, 0U);
  EXPECT_EQ(layout.gate.bytes, half);
  EXPECT_EQ(layout.up.slice, 0);
  EXPECT_EQ(layout.up.offset, half);
  EXPECT_EQ(layout.up.bytes, half);
  EXPECT_EQ(layout.down.slice, 1);
  EXPECT_EQ(layout.bytes(), 3 * half);
}

TEST(GgufExperts, WithoutAGateItIsWhereUpIs) {
  GgufWriter writer;
  writer.add_tensor("blk.0.ffn_up_exps.weight", GGML_TYPE_Q8_0, {64, 96, 4})
      .add_tensor("blk.0.ffn_down_exps.weight", GGML_TYPE_Q8_0, {96, 64, 4});
  const auto file = parse(writer);
  const auto source = make_gguf_experts(*file, 1, 4, 2);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const RecordLayout& layout = (*source)->layout(0);
  ASSERT_EQ(layout.slices.size(), 2U);
  const uint64_t bytes = 96 * 2 * 34;
  for (const auto* projection : {&layout.gate, &layout.up, &layout.down}) {
    EXPECT_EQ(projection->slice, projection == &layout.down ? 1 : 0);
    EXPECT_EQ(projection->offset, 0U);
    EXPECT_EQ(projection->bytes, bytes);
  }
  EXPECT_EQ(layout.bytes(), 2 * bytes);
}

TEST(GgufExperts, ALayerMayLieInSeveralParts) {
  const TempDir dir;
  const auto paths = small_model({}).write_split(dir.path(), "m", 7);
  const auto file = GgufFile::open(paths[0]);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto source = make_gguf_experts(**file, 3, 4, 2);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_EQ((*source)->files(), paths);
  std::vector<int> files;
  for (int slice = 0; slice < 3; ++slice) {
    const SliceLocation at = (*source)->locate({.layer = 1, .expert = 1}, slice);
    const RecordLayout::Slice& described = (*source)->layout(1).slices[static_cast<size_t>(slice)];
    const TensorInfo& tensor = *(*file)->find_tensor(described.name);
    EXPECT_EQ(at.file, tensor.file);
    EXPECT_EQ(at.offset, tensor.offset + described.bytes);
    files.push_back(at.file);
  }
  EXPECT_NE(files.front(), files.back());  // or else the test shows nothing
}

TEST(GgufExperts, RowsOfEveryWeightTypeAreCountedInBlocks) {
  int n = 0;
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    const ggml_type_traits* traits = ggml_get_type_traits(type);
    if (traits->blck_size <= 0 || traits->type_size == 0 || !is_weight_type(type)) continue;
    ++n;
    const int64_t d = traits->blck_size * 3;  // rows of an odd number of blocks
    const int64_t f = traits->blck_size * 5;
    const auto file = parse(layer({d, f, 3}, {d, f, 3}, {f, d, 3}, type));
    ASSERT_NE(file, nullptr);
    const auto source = make_gguf_experts(*file, 1, 3, 1);
    ASSERT_TRUE(source.has_value()) << source.error().message;
    const RecordLayout& layout = (*source)->layout(0);
    const uint64_t bytes = static_cast<uint64_t>(f) * 3 * traits->type_size;
    EXPECT_EQ(layout.gate.bytes, bytes) << traits->type_name;
    EXPECT_EQ(layout.down.bytes, bytes) << traits->type_name;
    EXPECT_EQ((*source)->locate({.layer = 0, .expert = 2}, 1).offset,
              file->find_tensor("blk.0.ffn_up_exps.weight")->offset + 2 * bytes)
        << traits->type_name;
  }
  EXPECT_GT(n, 20);
}

TEST(GgufExperts, LayersMayDifferInType) {
  GgufWriter writer = layer({32, 32, 4}, {32, 32, 4}, {32, 32, 4}, GGML_TYPE_Q4_0);
  writer.add_tensor("blk.1.ffn_gate_exps.weight", GGML_TYPE_Q8_0, {32, 32, 4})
      .add_tensor("blk.1.ffn_up_exps.weight", GGML_TYPE_Q5_0, {32, 32, 4})
      .add_tensor("blk.1.ffn_down_exps.weight", GGML_TYPE_F16, {32, 32, 4});
  const auto file = parse(writer);
  const auto source = make_gguf_experts(*file, 2, 4, 2);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_EQ((*source)->layout(0).bytes(), 3U * 32 * 18);
  EXPECT_EQ((*source)->layout(1).bytes(), 32U * (34 + 22 + 64));
}

TEST(GgufExperts, TheStackHasTheModelsNumberOfExperts) {
  EXPECT_EQ(error(layer({32, 64, 4}, {32, 64, 4}, {64, 32, 4})), "no error");
  EXPECT_THAT(
      error(layer({32, 64, 3}, {32, 64, 4}, {64, 32, 4})),
      AllOf(HasSubstr("'blk.0.ffn_gate_exps.weight'"), HasSubstr("32 x 64 x 3 x 1"), HasSubstr("4 experts")));
  EXPECT_THAT(error(layer({32, 64, 4}, {32, 64, 5}, {64, 32, 4})), HasSubstr("'blk.0.ffn_up_exps.weight'"));
  EXPECT_THAT(error(layer({32, 64, 4}, {32, 64, 4}, {64, 32, 1})), HasSubstr("'blk.0.ffn_down_exps.weight'"));
  EXPECT_THAT(error(layer({32, 64, 4, 2}, {32, 64, 4, 2}, {64, 32, 4})), HasSubstr("32 x 64 x 4 x 2"));
}

TEST(GgufExperts, TheShapesOfALayerAgree) {
  EXPECT_THAT(error(layer({32, 64, 4}, {64, 32, 4}, {64, 32, 4})),
              HasSubstr("'blk.0.ffn_up_exps.weight' has the shape 64 x 32 x 4 x 1, not 32 x 64 x 4 x 1"));
  EXPECT_THAT(error(layer({32, 64, 4}, {32, 64, 4}, {32, 64, 4})),
              HasSubstr("'blk.0.ffn_down_exps.weight' has the shape 32 x 64 x 4 x 1, which does not fit"));
}

TEST(GgufExperts, MissingAndDoubleTensorsAreNamed) {
  const auto with = [](std::initializer_list<std::pair<const char*, int64_t>> parts) {
    GgufWriter writer;
    for (const auto& [part, rows] : parts) {
      writer.add_tensor(odmoe::format("blk.0.ffn_{}_exps.weight", part), GGML_TYPE_F16, {32, rows, 4});
    }
    return error(writer);
  };
  EXPECT_EQ(with({{"up", 32}, {"down", 32}}), "no error") << "some families have no gates";
  EXPECT_THAT(with({{"gate", 32}, {"down", 32}}), HasSubstr("has no tensor 'blk.0.ffn_up_exps.weight'"));
  EXPECT_THAT(with({{"gate", 32}, {"up", 32}}), HasSubstr("has no tensor 'blk.0.ffn_down_exps.weight'"));
  EXPECT_THAT(with({{"gate_up", 64}}), HasSubstr("has no tensor 'blk.0.ffn_down_exps.weight'"));
  EXPECT_EQ(with({{"gate_up", 64}, {"down", 32}}), "no error");
  EXPECT_THAT(with({{"gate_up", 65}, {"down", 32}}), HasSubstr("65 rows, an odd number"));
  EXPECT_THAT(with({{"gate_up", 64}, {"gate", 32}, {"down", 32}}), HasSubstr("is there twice"));
}

TEST(GgufExperts, TypesThatCannotBeMultipliedByAreUnsupported) {
  for (const ggml_type type : {GGML_TYPE_I32, GGML_TYPE_I8, GGML_TYPE_F64, GGML_TYPE_Q8_1, GGML_TYPE_Q8_K}) {
    EXPECT_THAT(error(layer({256, 256, 4}, {256, 256, 4}, {256, 256, 4}, type)),
                HasSubstr("cannot hold weights"))
        << ggml_type_name(type);
  }
}

TEST(GgufExperts, NumbersThatNoModelHasAreRefused) {
  const GgufWriter sound = layer({32, 32, 4}, {32, 32, 4}, {32, 32, 4});
  EXPECT_THAT(error(sound, 1, 4, 0), HasSubstr("4 experts of which 0 are used"));
  EXPECT_THAT(error(sound, 1, 4, 5), HasSubstr("4 experts of which 5 are used"));
  EXPECT_THAT(error(sound, 1, 0, 0), HasSubstr("0 experts"));
  EXPECT_THAT(error(sound, 0), HasSubstr("has 0 layers"));
  EXPECT_THAT(error(sound, kMaxLayers + 1), HasSubstr("has 4097 layers, not 1 to 4096"));
  EXPECT_EQ(error(sound, kMaxLayers), "no error");
}

TEST(GgufExperts, AModelWithoutExpertsIsRefused) {
  EXPECT_THAT(error(GgufWriter().add_tensor("t", GGML_TYPE_F32, {1}), 2), HasSubstr("no expert tensors"));
}

}  // namespace
}  // namespace odmoe
