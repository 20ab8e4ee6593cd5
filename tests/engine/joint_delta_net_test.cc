// Older files of Qwen3-Next have one matrix, ssm_in, for attn_qkv and attn_gate, its rows ordered by key
// head: such a file, made of one that has both, gives what that gives (see CONTRIBUTING.md for the reference
// data).
#include <ggml-cpp.h>
#include <gguf.h>
#include <gtest/gtest.h>

#include <cstring>

#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::joint_delta_net_test {
namespace {

using namespace odmoe::testing;

// The reference file's ssm.state_size, group_count and time_step_rank.
constexpr size_t kDim = 16;
constexpr size_t kKeyHeads = 2;
constexpr size_t kHeads = 4;

// Returns how many layers have a joint matrix now.
int join(const std::filesystem::path& from, const std::filesystem::path& to) {
  ggml_context* read = nullptr;
  const gguf_context_ptr old(gguf_init_from_file(from.c_str(), {.no_alloc = false, .ctx = &read}));
  const ggml_context_ptr tensors(read);
  const ggml_context_ptr made(ggml_init({.mem_size = 1 << 22, .mem_buffer = nullptr, .no_alloc = false}));
  const gguf_context_ptr joint(gguf_init_empty());
  gguf_set_kv(joint.get(), old.get());
  int n_joint = 0;
  for (int64_t i = 0; i < gguf_get_n_tensors(old.get()); ++i) {
    const std::string name = gguf_get_tensor_name(old.get(), i);
    const ggml_tensor* tensor = ggml_get_tensor(tensors.get(), name.c_str());
    if (name.ends_with(".attn_gate.weight")) continue;
    if (!name.ends_with(".attn_qkv.weight")) {
      gguf_add_tensor(joint.get(), tensor);
      continue;
    }
    const std::string prefix = name.substr(0, name.find("attn_"));
    const ggml_tensor* z = ggml_get_tensor(tensors.get(), (prefix + "attn_gate.weight").c_str());
    ggml_tensor* both = ggml_new_tensor_2d(made.get(), tensor->type, tensor->ne[0], tensor->ne[1] + z->ne[1]);
    ggml_set_name(both, (prefix + "ssm_in.weight").c_str());
    auto* at = static_cast<std::byte*>(both->data);
    const auto add = [&](const ggml_tensor* source, size_t first, size_t n) {
      std::memcpy(at, static_cast<const std::byte*>(source->data) + first * source->nb[1], n * source->nb[1]);
      at += n * source->nb[1];
    };
    constexpr size_t kValues = kDim * kHeads / kKeyHeads;  // of a key head
    for (size_t head = 0; head < kKeyHeads; ++head) {
      add(tensor, head * kDim, kDim);
      add(tensor, (kKeyHeads + head) * kDim, kDim);
      add(tensor, 2 * kKeyHeads * kDim + head * kValues, kValues);
      add(z, head * kValues, kValues);
    }
    gguf_add_tensor(joint.get(), both);
    ++n_joint;
  }
  EXPECT_TRUE(gguf_write_to_file(joint.get(), to.c_str(), /*only_meta=*/false));
  return n_joint;
}

TEST(JointDeltaNet, AnOlderFileGivesTheLogitsOfANewOne) {
  ODMOE_SHARED_OR_SKIP(path, "models/families/qwen3next.F32.gguf");
  const TempDir dir;
  ASSERT_EQ(join(path, dir / "joint.gguf"), 3);
  std::vector<Token> tokens;
  for (Token token = 1; token < 60; ++token) tokens.push_back(token * 4 % 256);
  const auto engine = open_or_fail(reference_options(path));
  const auto joint_engine = open_or_fail(reference_options(dir / "joint.gguf"));
  ASSERT_NE(engine, nullptr);
  ASSERT_NE(joint_engine, nullptr);
  EXPECT_LT(relative_l2(all_logits(*joint_engine, tokens), all_logits(*engine, tokens)), 1e-5);
}

}  // namespace
}  // namespace odmoe::joint_delta_net_test
