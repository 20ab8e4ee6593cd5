// One create function per family; registry.cc lists them.
#pragma once

#include <memory>

#include "model/arch/architecture.h"
#include "model/arch/metadata.h"

namespace odmoe {

// `m` is of the architecture that the file names: some functions make several.
using MakeFamily = Result<std::unique_ptr<Architecture>>(const Metadata& m);

MakeFamily make_afmoe, make_arctic, make_bailingmoe, make_bailingmoe2, make_bailingmoe3, make_cohere2moe,
    make_dbrx, make_deepseek, make_deepseek2, make_deepseek32, make_deepseek4, make_dots1, make_dots3note,
    make_ernie4_5_moe, make_exaone_moe, make_gemma4, make_glm4moe, make_glm5_next, make_glm_dsa, make_gpt_oss,
    make_granitehybrid, make_granitemoe, make_grok, make_grovemoe, make_hunyuan_moe, make_hy_v3, make_hy_v4,
    make_jamba, make_k2_horizon, make_kimi_k3, make_kimi_linear, make_laguna, make_lfm2moe, make_llama,
    make_llama4, make_maion_coder, make_maple, make_mellum, make_mimo2, make_minicpm, make_minimax_01,
    make_minimax_m2, make_minimax_m3, make_nemotron_h_moe, make_olmoe, make_phimoe, make_qwen2moe,
    make_qwen3moe, make_qwen3next, make_qwen4exp, make_smallthinker, make_step35;

}  // namespace odmoe
