#include "model/blocks/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <span>
#include <string_view>

#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr auto kFactorKeys = std::to_array<std::string_view>({"scaling.factor", "scale_linear"});
constexpr auto kYarnKeys = std::to_array<std::string_view>(
    {"scaling.original_context_length", "scaling.yarn_ext_factor", "scaling.yarn_attn_factor",
     "scaling.yarn_beta_fast", "scaling.yarn_beta_slow"});

Result<float> float_or(Account& file, const std::string& key, float otherwise) {
  if (!file.has(key)) return otherwise;
  ODMOE_ASSIGN_OR_RETURN(const double value, file.get_float(key));
  return static_cast<float>(value);
}

// rope.scaling.factor, or rope.scale_linear as older files have it; 0 is none.
Status read_factor(Account& file, const std::string& rope, RopeOptions& options) {
  const bool older = !file.has(rope + "scaling.factor");
  const std::string key = rope + (older ? "scale_linear" : "scaling.factor");
  if (!older) file.pass_over_key(rope + "scale_linear", "rope.scaling.factor is there, which goes before it");
  ODMOE_ASSIGN_OR_RETURN(const float factor, float_or(file, key, 0));
  if (!(factor >= 0)) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}; a positive number was expected",
                file.file().path().string(), key, factor);
  }
  options.freq_scale = factor == 0 ? 1 : 1 / factor;
  return {};
}

// Between which pairs of dimensions YaRN goes over from frequencies as they are to scaled ones: the pair that
// turns `beta_fast` times in the original context, and the one that turns `beta_slow` times (Peng et al.,
// "YaRN: Efficient Context Window Extension of Large Language Models", 2023, section 3.2; rounded as ggml
// does by default).
std::array<float, 2> yarn_range(int32_t n_rot, int32_t n_ctx_orig, float freq_base, float beta_fast,
                                float beta_slow) {
  const auto pair_that_turns = [&](float times) {
    const float wavelength = static_cast<float>(n_ctx_orig) / (times * 2 * std::numbers::pi_v<float>);
    return static_cast<float>(n_rot) * std::log(wavelength) / (2 * std::log(freq_base));
  };
  return {std::max(0.0F, std::floor(pair_that_turns(beta_fast))),
          std::min(static_cast<float>(n_rot - 1), std::ceil(pair_that_turns(beta_slow)))};
}

// What a file may say of YaRN's other numbers: these families' models were all made with YaRN's own, and
// llama.cpp takes those whatever the file says.  Other numbers are refused where they would make a
// difference.
Status check_yarn(Account& file, const std::string& rope, const RopeOptions& options) {
  const auto refuse = [&](const std::string& key, float value, float usual) {
    return fail(
        ErrorKind::kUnsupported,
        "{}: {} is {}; such models are computed with {}, so results would be wrong: use another file of "
        "the model",
        file.file().path().string(), key, value, usual);
  };
  for (const char* name : {"scaling.yarn_ext_factor", "scaling.yarn_attn_factor"}) {
    ODMOE_ASSIGN_OR_RETURN(const float factor, float_or(file, rope + name, 1));
    if (factor != 1) return refuse(rope + name, factor, 1);
  }
  const auto range = [&options](float beta_fast, float beta_slow) {
    return yarn_range(options.n_rot, options.n_ctx_orig, options.freq_base, beta_fast, beta_slow);
  };
  const std::string fast_key = rope + "scaling.yarn_beta_fast";
  const std::string slow_key = rope + "scaling.yarn_beta_slow";
  ODMOE_ASSIGN_OR_RETURN(const float fast, float_or(file, fast_key, options.beta_fast));
  ODMOE_ASSIGN_OR_RETURN(const float slow, float_or(file, slow_key, options.beta_slow));
  const auto usual = range(options.beta_fast, options.beta_slow);
  if (range(fast, options.beta_slow) != usual) return refuse(fast_key, fast, options.beta_fast);
  if (range(options.beta_fast, slow) != usual) return refuse(slow_key, slow, options.beta_slow);
  return {};
}

}  // namespace

Result<RopeOptions> read_rope(Account& file, const std::string& arch, RopePairs pairs, int32_t n_rot,
                              float beta_fast) {
  const std::string rope = arch + ".rope.";
  RopeOptions options;
  options.pairs = pairs;
  options.n_rot = n_rot;
  options.beta_fast = beta_fast;
  if (file.has(rope + "dimension_count")) {
    ODMOE_ASSIGN_OR_RETURN(const int64_t value, file.get_int(rope + "dimension_count"));
    if (value < 2 || value > n_rot || value % 2 != 0) {
      return fail(ErrorKind::kBadFile, "{}: {}dimension_count is {}; an even number up to {} was expected",
                  file.file().path().string(), rope, value, n_rot);
    }
    options.n_rot = static_cast<int32_t>(value);
  }
  ODMOE_ASSIGN_OR_RETURN(options.freq_base, float_or(file, rope + "freq_base", 10000));
  if (!(options.freq_base > 0)) {
    return fail(ErrorKind::kBadFile, "{}: {}freq_base is {}; a positive number was expected",
                file.file().path().string(), rope, options.freq_base);
  }

  // The same whatever the type, as in llama.cpp.
  ODMOE_ASSIGN_OR_RETURN(options.attn_factor, float_or(file, rope + "scaling.attn_factor", 1));
  std::string type = "linear";
  if (file.has(rope + "scaling.type")) {
    ODMOE_ASSIGN_OR_RETURN(type, file.get_string(rope + "scaling.type"));
  }
  if (type != "none" && type != "linear" && type != "yarn") {
    return fail(ErrorKind::kUnsupported, "{}: RoPE scaling '{}' is not supported; none, linear and yarn are",
                file.file().path().string(), printable(type));
  }
  const auto pass_over = [&](std::span<const std::string_view> names) {
    for (const std::string_view name : names) {
      file.pass_over_key(rope + std::string(name),
                         odmoe::format("says nothing with RoPE scaling '{}'", type));
    }
  };
  if (type != "yarn") pass_over(kYarnKeys);
  if (type == "none") {
    pass_over(kFactorKeys);
    return options;
  }
  ODMOE_RETURN_IF_ERROR(read_factor(file, rope, options));
  if (type == "linear") return options;

  int64_t n_ctx_orig = 0;
  const std::string original = rope + "scaling.original_context_length";
  ODMOE_ASSIGN_OR_RETURN(n_ctx_orig, file.get_int(file.has(original) ? original : arch + ".context_length"));
  if (n_ctx_orig < 1 || n_ctx_orig > INT32_MAX) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}; a positive number was expected",
                file.file().path().string(), original, n_ctx_orig);
  }
  options.n_ctx_orig = static_cast<int32_t>(n_ctx_orig);
  options.ext_factor = 1;
  ODMOE_RETURN_IF_ERROR(check_yarn(file, rope, options));
  return options;
}

namespace {

int mode_of(const RopeOptions& o) {
  return o.pairs == RopePairs::kHalves ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
}

}  // namespace

ggml_tensor* rope(ggml_context* ctx, ggml_tensor* x, ggml_tensor* positions, const RopeOptions& o,
                  ggml_tensor* factors) {
  if (o.n_rot == 0) return x;
  ggml_tensor* y = ggml_rope_ext(ctx, x, positions, factors, o.n_rot, mode_of(o), o.n_ctx_orig, o.freq_base,
                                 o.freq_scale, o.ext_factor, o.attn_factor, o.beta_fast, o.beta_slow);
  return o.first == 0 ? y : ggml_rope_set_offset(y, o.first);
}

ggml_tensor* rope_back(ggml_context* ctx, ggml_tensor* x, ggml_tensor* positions, const RopeOptions& o) {
  if (o.n_rot == 0) return x;
  ggml_tensor* y =
      ggml_rope_ext_back(ctx, x, positions, nullptr, o.n_rot, mode_of(o), o.n_ctx_orig, o.freq_base,
                         o.freq_scale, o.ext_factor, o.attn_factor, o.beta_fast, o.beta_slow);
  return o.first == 0 ? y : ggml_rope_set_offset(y, o.first);
}

}  // namespace odmoe
