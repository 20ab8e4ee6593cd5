#include "convert/hf_rope.h"

#include <algorithm>
#include <optional>

#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// transformers 5 has one object for all; before, rope_theta stood by itself.
std::optional<HfConfig> rope_parameters(HfModelBuilder& b) {
  auto parameters = b.value_or_fail(b.config().object_or_none("rope_parameters"));
  return parameters ? parameters : b.value_or_fail(b.config().object_or_none("rope_scaling"));
}

}  // namespace

double map_rope(HfModelBuilder& b, HfYarn yarn) {
  const HfConfig& config = b.config();
  const bool deepseek = yarn == HfYarn::kDeepSeek;
  const auto scaling = rope_parameters(b);
  const bool has_theta = scaling && scaling->has("rope_theta");
  b.set_f32("rope.freq_base", b.value_or_fail(has_theta ? scaling->number("rope_theta")
                                                        : config.number_or("rope_theta", 10000)));
  if (!scaling) return 0;
  std::string type = b.value_or_fail(scaling->string_or("rope_type", ""));
  if (type.empty()) type = b.value_or_fail(scaling->string_or("type", "default"));
  if (type == "default") return 0;
  if (type != "yarn" && type != "linear") {
    b.fail_with({ErrorKind::kUnsupported,
                 odmoe::format("{}: RoPE scaling '{}' is not known; known are yarn and linear", config.name(),
                               printable(type, 40))});
    return 0;
  }
  const double factor = b.value_or_fail(scaling->number("factor"));
  b.set_string("rope.scaling.type", type);
  b.set_f32("rope.scaling.factor", factor);
  if (type == "linear") return 0;
  if (!b.value_or_fail(scaling->boolean_or("truncate", true))) {
    if (yarn != HfYarn::kGptOss) b.refuse("YaRN with truncate false");
    b.note(
        "YaRN's range is rounded to whole dimensions, as in llama.cpp, though config.json says truncate "
        "false");
  }
  b.set_u32("rope.scaling.original_context_length",
            b.value_or_fail(scaling->integer("original_max_position_embeddings", 1, INT32_MAX)));
  b.set_f32("rope.scaling.yarn_beta_fast", b.value_or_fail(scaling->number_or("beta_fast", 32)));
  b.set_f32("rope.scaling.yarn_beta_slow", b.value_or_fail(scaling->number_or("beta_slow", 1)));
  const double all = b.value_or_fail(scaling->number_or("mscale_all_dim", 0));
  const double one = b.value_or_fail(scaling->number_or("mscale", deepseek ? 1 : 0));
  const bool plain = !scaling->has("attention_factor");
  // Where the two differ, or an attention factor is given, cos and sin have a factor of their own.
  if (deepseek ? one != all || !plain : scaling->has("mscale") || scaling->has("mscale_all_dim") || !plain) {
    b.fail_with({ErrorKind::kUnsupported,
                 odmoe::format("{}: YaRN with mscale {}, mscale_all_dim {}{} is not read", config.name(), one,
                               all, plain ? "" : " and an attention_factor")});
  }
  return all;
}

void map_rope_part(HfModelBuilder& b, int64_t head_dim, double otherwise) {
  constexpr std::string_view kKey = "partial_rotary_factor";
  const auto parameters = rope_parameters(b);
  const HfConfig& from = parameters && parameters->has(kKey) ? *parameters : b.config();
  const double part = b.value_or_fail(from.number_or(kKey, otherwise));
  if (!(part > 0 && part <= 1)) return b.refuse(odmoe::format("{} is {}", kKey, part));
  b.set_u32("rope.dimension_count", static_cast<int64_t>(static_cast<double>(head_dim) * part));
}

void map_rope_sections(HfModelBuilder& b, const std::vector<int64_t>& otherwise) {
  constexpr size_t kSections = 4;
  std::vector<int64_t> sections = otherwise;
  const auto parameters = rope_parameters(b);
  const nlohmann::json* list = parameters ? parameters->find("mrope_section") : nullptr;
  if (list != nullptr) {
    const auto is_count = [](const auto& it) {
      return it.is_number_integer() && it.template get<int64_t>() >= 0 &&
             it.template get<int64_t>() <= 1 << 16;
    };
    if (!list->is_array() || list->size() > kSections || !std::ranges::all_of(*list, is_count)) {
      return b.fail_with(
          {ErrorKind::kBadFile, odmoe::format("{}: mrope_section is not a list of up to {} numbers",
                                              parameters->name(), kSections)});
    }
    sections = list->get<std::vector<int64_t>>();
  }
  sections.resize(kSections);
  b.set_i32s("rope.dimension_sections", sections);
}

}  // namespace odmoe
