#include "model/arch/registry.h"

#include <algorithm>
#include <array>
#include <string>

#include "format/printable.h"

namespace odmoe {
namespace {

struct Family {
  FamilyInfo info;
  MakeFamily* make;
};

constexpr std::string_view kTiny = "F32";

// Sorted by name.
constexpr auto kFamilies = std::to_array<Family>({
    {{"afmoe", "Arcee Trinity: Nano, Mini, Large", kTiny, ""}, make_afmoe},
    {{"arctic", "Snowflake Arctic", kTiny, ""}, make_arctic},
    {{"bailingmoe", "Ling-lite, Ling-plus", kTiny, ""}, make_bailingmoe},
    {{"bailingmoe2", "Ling-2.0 and Ring-2.0: mini, flash, 1T", kTiny, "speculation (MTP)"}, make_bailingmoe2},
    {{"bailingmoe3", "Ling-3.0 and Ring-3.0", kTiny, "speculation (MTP)"}, make_bailingmoe3},
    {{"cohere2moe", "Command A with experts", kTiny, "speculation (MTP)"}, make_cohere2moe},
    {{"dbrx", "DBRX", kTiny, ""}, make_dbrx},
    {{"deepseek", "DeepSeek-MoE-16B", kTiny, ""}, make_deepseek},
    {{"deepseek2",
      "DeepSeek-V2, V2-Lite, V3, V3.1, R1; Kimi-K2, Kimi-K2.5 (text); Mistral Large 3; GLM-4.7-Flash",
      "F32, Q8_0 experts, merged gate and up, YaRN, query temperature", "speculation (MTP)"},
     make_deepseek2},
    {{"deepseek32", "DeepSeek-V3.2-Exp, V3.2, V3.2-Speciale", kTiny, "speculation (MTP)"}, make_deepseek32},
    {{"deepseek4", "DeepSeek-V4: Flash, Pro", "F32, MXFP4 experts", "speculation (MTP)"}, make_deepseek4},
    {{"dots1", "dots.llm1", kTiny, ""}, make_dots1},
    {{"dots3note", "dots.3-note (text)", kTiny, "images and sound; layers that take an earlier one's choice"},
     make_dots3note},
    {{"ernie4_5-moe", "ERNIE-4.5-21B-A3B, 300B-A47B", "F32, experts in every layer behind the lead",
      "an interleave_moe_layer_step above 1 has no reference"},
     make_ernie4_5_moe},
    {{"exaone-moe", "K-EXAONE-236B-A23B", kTiny, "speculation (MTP)"}, make_exaone_moe},
    {{"gemma4", "Gemma 4 26B-A4B", "F32, Q4_0", "images; models without experts"}, make_gemma4},
    {{"glm-dsa", "GLM-5, GLM-5.1, GLM-5.2", "F32 with an indexer in every layer and in some",
      "speculation (MTP)"},
     make_glm_dsa},
    {{"glm4moe", "GLM-4.5, GLM-4.5-Air, GLM-4.6", "F32 with and without norms of queries and keys, Q4_K_M",
      "speculation (MTP); images (GLM-4.5V)"},
     make_glm4moe},
    {{"glm5-next", "GLM-5.3-Flash", kTiny,
      "speculation (MTP); SwiGLU limits; layers that take the pools of an earlier one"},
     make_glm5_next},
    {{"gpt-oss", "gpt-oss-20b, gpt-oss-120b", "F32, MXFP4 experts", ""}, make_gpt_oss},
    {{"granitehybrid", "Granite-4.0-H: tiny, small", kTiny, "models without experts"}, make_granitehybrid},
    {{"granitemoe", "Granite-3.0-1B-A400M, 3B-A800M", "F32 with and without a shared expert", ""},
     make_granitemoe},
    {{"grok", "Grok-1, Grok-2", kTiny,
      "Grok-2's cap on router logits, which llama.cpp does not compute either; attention.temperature_length "
      "is "
      "refused"},
     make_grok},
    {{"grovemoe", "GroveMoE-Inst", kTiny, ""}, make_grovemoe},
    {{"hunyuan-moe", "Hunyuan-A13B", kTiny, ""}, make_hunyuan_moe},
    {{"hy_v3", "Hunyuan 3", kTiny, "speculation (MTP)"}, make_hy_v3},
    {{"hy_v4", "Hunyuan 4", kTiny, "speculation (MTP)"}, make_hy_v4},
    {{"jamba", "Jamba-1.5, 1.6, 1.7: mini, large", kTiny, ""}, make_jamba},
    {{"k2-horizon", "K2 Horizon with experts", kTiny, "models without experts"}, make_k2_horizon},
    {{"kimi-k3", "Kimi-K3 (text)", kTiny, "images"}, make_kimi_k3},
    {{"kimi-linear", "Kimi-Linear-48B-A3B", kTiny, ""}, make_kimi_linear},
    {{"laguna", "Laguna XS.2, M.1", kTiny, "gates for each value (M.1) have no reference"}, make_laguna},
    {{"lfm2moe", "LFM2-8B-A1B, LFM2-24B-A2B", kTiny, ""}, make_lfm2moe},
    {{"llama", "Mixtral-8x7B, Mixtral-8x22B, merges of Llamas with experts", kTiny,
      "files of before 2024 with a tensor for each expert; Llamas without experts"},
     make_llama},
    {{"llama4", "Llama-4-Scout-17B-16E, Maverick-17B-128E",
      "F32, experts in every layer and in every second one; 8300 tokens by hand",
      "images; Maverick's heads without norms have no reference"},
     make_llama4},
    {{"maion-coder", "Maion Coder", kTiny, "experts of several widths in one model"}, make_maion_coder},
    {{"maple", "Maple-20B", kTiny, ""}, make_maple},
    {{"mellum", "Mellum2-12B-A2.5B", kTiny, ""}, make_mellum},
    {{"mimo2", "MiMo-V2-Flash", kTiny, "speculation (MTP); files with a joint attn_qkv"}, make_mimo2},
    {{"minicpm", "MiniCPM-MoE-8x2B", kTiny, "files without keys for the scales"}, make_minicpm},
    {{"minimax-01", "MiniMax-Text-01, MiniMax-M1", kTiny,
      "llama.cpp never gives tokens from 200032 on; here they are as likely as the model says"},
     make_minimax_01},
    {{"minimax-m2", "MiniMax-M2, M2.1", kTiny, ""}, make_minimax_m2},
    {{"minimax-m3", "MiniMax-M3 (text)",
      "F32; with chosen blocks against llama.cpp's flash attention, which rounds to half precision",
      "images"},
     make_minimax_m3},
    {{"mistral4", "Mistral Small 4", "F32, merged gate and up, YaRN, query temperature", "images"},
     make_deepseek2},
    {{"nemotron_h_moe", "Nemotron-3: Nano-30B-A3B, Super", kTiny, "dense layers; latent experts"},
     make_nemotron_h_moe},
    {{"olmoe", "OLMoE-1B-7B", kTiny, ""}, make_olmoe},
    {{"phimoe", "Phi-3.5-MoE, Phi-mini-MoE", "F32, contexts up to the original one",
      "contexts beyond the original one have no reference"},
     make_phimoe},
    {{"qwen2moe", "Qwen2-57B-A14B, Qwen1.5-MoE-A2.7B", "F32, trained demo model in Q8_0", ""}, make_qwen2moe},
    {{"qwen35moe", "Qwen3.5-35B-A3B, 122B-A10B, 397B-A17B", kTiny, "speculation (MTP); images"},
     make_qwen3next},
    {{"qwen3moe", "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder", "F32, Q4_K_M, Q3_K_M, Q2_K, IQ4_XS", ""},
     make_qwen3moe},
    {{"qwen3next", "Qwen3-Next-80B-A3B, Qwen3-Coder-Next", "F32, Q4_K_M",
      "speculation (MTP); files with a joint ssm_in have no reference of their own"},
     make_qwen3next},
    {{"qwen3vlmoe", "Qwen3-VL-30B-A3B, 235B-A22B", kTiny, "images"}, make_qwen3moe},
    {{"qwen4exp", "Qwen3.8-Flash-Next", kTiny,
      "embeddings of n-grams, which the published model has; speculation (MTP); images"},
     make_qwen4exp},
    {{"smallthinker", "SmallThinker-4BA0.6B, 21BA3B", "F32; 4300 tokens by hand", ""}, make_smallthinker},
    {{"step35", "Step-3.5-Flash", kTiny, "speculation (MTP)"}, make_step35},
});

static_assert(std::ranges::is_sorted(kFamilies, {}, [](const Family& f) { return f.info.name; }));

constexpr auto kInfos = [] {
  std::array<FamilyInfo, kFamilies.size()> infos;
  for (size_t i = 0; i < infos.size(); ++i) infos[i] = kFamilies[i].info;
  return infos;
}();

}  // namespace

std::span<const FamilyInfo> known_families() { return kInfos; }

Result<std::unique_ptr<Architecture>> make_architecture(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const std::string name, account.get_string("general.architecture"));
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.info.name == name) return family.make(Metadata(account, name));
    known += (known.empty() ? "" : ", ") + std::string(family.info.name);
  }
  return fail(ErrorKind::kUnsupported, "{}: architecture '{}' is not supported; supported are {}",
              account.file().path().string(), printable(name), known);
}

}  // namespace odmoe
