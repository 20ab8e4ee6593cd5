// Routed experts in a latent space of another width than the stream's: the reference models have one of the
// same. A narrow model beside its twin, which is as wide as the reference's and has zeros where the other has
// nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "gguf.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::latent_experts_test {
namespace {

using namespace odmoe::testing;

constexpr int64_t kWide = 48, kNarrow = 32;

struct LatentFamily {
  const char* file;
  const char* width;  // the key that says it
  const char *down, *up;
  const char* norm = "none";  // of the experts' sum
  double tolerance = 1e-5;    // with a norm more: its epsilon is another share of fewer values
};

void PrintTo(const LatentFamily& family, std::ostream* out) { *out << family.file; }

// What of a tensor lies in the latent space: so many dimensions of these two; the third counts experts.
struct Latent {
  bool rows = false, columns = false;
};

Latent latent_of(const LatentFamily& family, std::string_view name) {
  const auto is = [&](const char* part) { return name.ends_with(std::string(part) + ".weight"); };
  return {.rows = is(family.down) || is("ffn_down_exps"),
          .columns = is(family.up) || is("ffn_gate_exps") || is("ffn_up_exps") || is(family.norm)};
}

// The first kNarrow of each latent dimension: alone, or with zeros behind them.
void write(const LatentFamily& family, const std::filesystem::path& from, const std::filesystem::path& to,
           bool narrow) {
  ggml_context* read = nullptr;
  const gguf_context_ptr file(gguf_init_from_file(from.c_str(), {.no_alloc = false, .ctx = &read}));
  const ggml_context_ptr tensors(read);
  const gguf_context_ptr gguf(gguf_init_empty());
  const ggml_context_ptr made(ggml_init({.mem_size = 1 << 24, .mem_buffer = nullptr, .no_alloc = false}));
  gguf_set_kv(gguf.get(), file.get());
  if (narrow) gguf_set_val_u32(gguf.get(), family.width, kNarrow);
  size_t n_changed = 0;
  for (int64_t i = 0; i < gguf_get_n_tensors(file.get()); ++i) {
    ggml_tensor* whole = ggml_get_tensor(tensors.get(), gguf_get_tensor_name(file.get(), i));
    const Latent latent = latent_of(family, whole->name);
    if (!latent.rows && !latent.columns) {
      gguf_add_tensor(gguf.get(), whole);
      continue;
    }
    ++n_changed;
    ASSERT_EQ(latent.rows ? whole->ne[1] : whole->ne[0], kWide) << whole->name;
    const bool is_norm = latent.columns && whole->ne[1] == 1;
    ggml_tensor* tensor =
        ggml_new_tensor_3d(made.get(), GGML_TYPE_F32, narrow && latent.columns ? kNarrow : whole->ne[0],
                           narrow && latent.rows ? kNarrow : whole->ne[1], whole->ne[2]);
    ggml_set_name(tensor, whole->name);
    for (int64_t i2 = 0; i2 < tensor->ne[2]; ++i2) {
      for (int64_t i1 = 0; i1 < tensor->ne[1]; ++i1) {
        for (int64_t i0 = 0; i0 < tensor->ne[0]; ++i0) {
          const bool there = (!latent.rows || i1 < kNarrow) && (!latent.columns || i0 < kNarrow);
          const auto at = [&](const ggml_tensor* t) {
            return static_cast<float*>(t->data) + (i2 * t->ne[1] + i1) * t->ne[0] + i0;
          };
          // The mean of squares of the wide one is of zeros too.
          const float scale = is_norm && narrow ? std::sqrt(static_cast<float>(kWide) / kNarrow) : 1;
          *at(tensor) = there ? *at(whole) * scale : 0;
        }
      }
    }
    gguf_add_tensor(gguf.get(), tensor);
  }
  EXPECT_GT(n_changed, 0U);
  ASSERT_TRUE(gguf_write_to_file(gguf.get(), to.c_str(), false));
}

class LatentExperts : public ::testing::TestWithParam<LatentFamily> {};

TEST_P(LatentExperts, OfAnotherWidthThanTheStreamGiveWhatTheirWideTwinGives) {
  ODMOE_SHARED_OR_SKIP(model, std::string("models/families/") + GetParam().file + ".gguf");
  const TempDir dir;
  std::vector<Token> tokens;
  for (Token token = 1; token < 40; ++token) tokens.push_back(token * 5 % 256);
  const auto logits = [&](bool narrow, double percent) {
    const std::filesystem::path path = dir / (narrow ? "narrow.gguf" : "wide.gguf");
    write(GetParam(), model, path, narrow);
    EngineOptions options = reference_options(path);
    options.flash_attention = FlashAttention::kOff;
    options.memory.percent = percent;
    const auto engine = open_or_fail(options);
    if (engine == nullptr) return std::vector<float>();
    EXPECT_EQ(engine->decoder().shape().expert_width(), narrow ? kNarrow : kWide);
    return all_logits(*engine, tokens);
  };
  const std::vector<float> wide = logits(false, 100), narrow = logits(true, 100);
  ASSERT_FALSE(narrow.empty());
  EXPECT_LT(relative_l2(narrow, wide), GetParam().tolerance);
  EXPECT_EQ(logits(true, 0.001), narrow) << "whatever is in memory";
  const auto engine = open_or_fail(reference_options(model));
  ASSERT_NE(engine, nullptr);
  EXPECT_GT(relative_l2(all_logits(*engine, tokens), wide), 1e-2) << "what was left out says something";
}

INSTANTIATE_TEST_SUITE_P(Models, LatentExperts,
                         ::testing::Values(LatentFamily{"kimi-k3.F32", "kimi-k3.expert_latent_length",
                                                        "ffn_routed_down", "ffn_routed_up", "ffn_routed_norm",
                                                        1e-3},
                                           LatentFamily{"maion-coder.F32", "maion-coder.moe_latent_size",
                                                        "ffn_latent_down", "ffn_latent_up", "none", 1e-5}),
                         [](const auto& test) { return test_name(test.param.file); });

}  // namespace
}  // namespace odmoe::latent_experts_test
