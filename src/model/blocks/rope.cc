#include "model/blocks/rope.h"

#include "format/printable.h"

namespace odmoe {
namespace {

Result<float> float_or(const Checkpoint& file, const std::string& key, float otherwise) {
  if (!file.has(key)) return otherwise;
  ODMOE_ASSIGN_OR_RETURN(const double value, file.get_float(key));
  return static_cast<float>(value);
}

}  // namespace

Result<RopeOptions> read_rope(const Checkpoint& file, const std::string& arch, RopePairs pairs,
                              int32_t n_rot) {
  const std::string rope = arch + ".rope.";
  RopeOptions options;
  options.pairs = pairs;
  options.n_rot = n_rot;
  if (file.has(rope + "dimension_count")) {
    ODMOE_ASSIGN_OR_RETURN(const int64_t value, file.get_int(rope + "dimension_count"));
    if (value < 2 || value > n_rot || value % 2 != 0) {
      return fail(ErrorKind::kBadFile, "{}: {}dimension_count is {}; an even number up to {} was expected",
                  file.path().string(), rope, value, n_rot);
    }
    options.n_rot = static_cast<int32_t>(value);
  }
  ODMOE_ASSIGN_OR_RETURN(options.freq_base, float_or(file, rope + "freq_base", 10000));
  if (!(options.freq_base > 0)) {
    return fail(ErrorKind::kBadFile, "{}: {}freq_base is {}; a positive number was expected",
                file.path().string(), rope, options.freq_base);
  }

  std::string type = "none";
  if (file.has(rope + "scaling.type")) {
    ODMOE_ASSIGN_OR_RETURN(type, file.get_string(rope + "scaling.type"));
  }
  if (type != "none" && type != "linear" && type != "yarn") {
    return fail(ErrorKind::kUnsupported,
                "{}: RoPE scaling '{}' is not known; known are none, linear and yarn", file.path().string(),
                printable(type));
  }
  if (type == "none") return options;

  ODMOE_ASSIGN_OR_RETURN(const float factor, float_or(file, rope + "scaling.factor", 1));
  if (!(factor > 0)) {
    return fail(ErrorKind::kBadFile, "{}: {}scaling.factor is {}; a positive number was expected",
                file.path().string(), rope, factor);
  }
  options.freq_scale = 1 / factor;
  ODMOE_ASSIGN_OR_RETURN(options.attn_factor, float_or(file, rope + "scaling.attn_factor", 1));
  if (type == "linear") return options;

  int64_t n_ctx_orig = 0;
  const std::string original = rope + "scaling.original_context_length";
  ODMOE_ASSIGN_OR_RETURN(n_ctx_orig, file.get_int(file.has(original) ? original : arch + ".context_length"));
  if (n_ctx_orig < 1 || n_ctx_orig > INT32_MAX) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}; a positive number was expected", file.path().string(),
                original, n_ctx_orig);
  }
  options.n_ctx_orig = static_cast<int32_t>(n_ctx_orig);
  ODMOE_ASSIGN_OR_RETURN(options.ext_factor, float_or(file, rope + "scaling.yarn_ext_factor", 1));
  ODMOE_ASSIGN_OR_RETURN(const float yarn_attn, float_or(file, rope + "scaling.yarn_attn_factor", 1));
  options.attn_factor *= yarn_attn;
  ODMOE_ASSIGN_OR_RETURN(options.beta_fast, float_or(file, rope + "scaling.yarn_beta_fast", 32));
  ODMOE_ASSIGN_OR_RETURN(options.beta_slow, float_or(file, rope + "scaling.yarn_beta_slow", 1));
  ODMOE_ASSIGN_OR_RETURN(options.log_multiplier, float_or(file, rope + "scaling.yarn_log_multiplier", 0));
  return options;
}

ggml_tensor* rope(ggml_context* ctx, ggml_tensor* x, ggml_tensor* positions, const RopeOptions& o) {
  const int mode = o.pairs == RopePairs::kHalves ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
  return ggml_rope_ext(ctx, x, positions, nullptr, o.n_rot, mode, o.n_ctx_orig, o.freq_base, o.freq_scale,
                       o.ext_factor, o.attn_factor, o.beta_fast, o.beta_slow);
}

}  // namespace odmoe
