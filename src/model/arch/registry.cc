#include "model/arch/registry.h"

#include <array>
#include <string>

#include "format/printable.h"

namespace odmoe {
namespace {

struct Family {
  std::string_view name;  // general.architecture
  Result<std::unique_ptr<Architecture>> (*make)(Account& account);
};

// Sorted by name.
constexpr std::array kFamilies = {
    Family{"deepseek2", make_deepseek2},
    Family{"qwen2moe", make_qwen2moe},
    Family{"qwen3moe", make_qwen3moe},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kFamilies.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kFamilies[i].name;
  return names;
}();

}  // namespace

std::span<const std::string_view> known_architectures() { return kNames; }

Result<std::unique_ptr<Architecture>> make_architecture(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const std::string name, account.get_string("general.architecture"));
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.name == name) return family.make(account);
    known += (known.empty() ? "" : ", ") + std::string(family.name);
  }
  return fail(ErrorKind::kUnsupported, "{}: architecture '{}' is not supported; supported are {}",
              account.file().path().string(), printable(name), known);
}

}  // namespace odmoe
