// Chat templates as a hostile model would bring them, with a conversation as a hostile client would write it.
// Whatever they do ends within its bounds, and what comes out says of each byte who wrote it.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/template.h"

namespace {

using Json = nlohmann::ordered_json;

// What the conversation says has a sign in it that no template does.
constexpr std::string_view kSign = "\x01";

Json messages() {
  const std::string sign(kSign);
  return Json::array(
      {{{"role", "system"}, {"content", "Be kind" + sign}},
       {{"role", "user"}, {"content", Json::array({{{"type", "text"}, {"text", sign + " <b> é\n" + sign}}})}},
       {{"role", "assistant"},
        {"content", nullptr},
        {"tool_calls",
         Json::array({{{"function", {{"name", "f"}, {"arguments", {{"n", 1.5}, {"k", sign}}}}}}})}},
       {{"role", "tool"}, {"content", "x, y"}}});
}

bool is_said(const std::vector<odmoe::jinja::Span>& spans, size_t at) {
  for (const auto& span : spans) {
    if (span.begin <= at && at < span.end) return true;
  }
  return false;
}

void try_template(std::string_view source, odmoe::jinja::Rules rules) {
  const auto parsed = odmoe::jinja::Template::parse(source, rules);
  if (!parsed.has_value()) {
    if (!parsed.error().message.contains("line ")) __builtin_trap();
    return;
  }
  odmoe::jinja::RenderOptions options;
  options.limits = {.steps = 20'000, .memory_bytes = size_t{4} << 20, .output_bytes = size_t{1} << 16};
  const std::vector<odmoe::jinja::Input> inputs = {
      {.name = "messages", .value = messages()},
      {.name = "tools", .value = nullptr},
      {.name = "add_generation_prompt", .value = true, .said = false},
      {.name = "bos_token", .value = "<s>", .said = false}};
  const auto rendered = parsed->render(inputs, options);
  if (!rendered.has_value()) {
    if (!rendered.error().message.contains("line ")) __builtin_trap();
    return;
  }
  size_t done = 0;
  for (const auto& span : rendered->said) {
    if (span.begin < done || span.end <= span.begin || span.end > rendered->text.size()) __builtin_trap();
    done = span.end;
  }
  // A template that spells the sign itself (or makes it of an escape) may print it.
  if (source.contains(kSign) || source.contains('\\') || source.contains("%c") || source.contains("format"))
    return;
  for (size_t at = rendered->text.find(kSign); at != std::string::npos;
       at = rendered->text.find(kSign, at + 1)) {
    if (!is_said(rendered->said, at)) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  try_template(source, odmoe::jinja::Rules::kTransformers);
  try_template(source, odmoe::jinja::Rules::kWider);
  return 0;
}
