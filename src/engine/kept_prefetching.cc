#include "engine/kept_prefetching.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "io/kept_file.h"

namespace odmoe {
namespace {

constexpr std::array<std::string_view, 3> kVerdicts = {"off", "few", "many"};  // by Prefetching

KeptFile kept(const std::filesystem::path& file) { return {file, "prefetching", "whether prefetching pays"}; }

}  // namespace

std::optional<PrefetchGovernor::Experience> load_experience(const std::filesystem::path& file,
                                                            const std::string& key) {
  const auto entry = kept(file).load(key);
  if (!entry) return std::nullopt;
  const auto said = entry->find("verdict");
  if (said == entry->end() || !said->is_string()) return std::nullopt;
  const auto verdict = std::ranges::find(kVerdicts, said->get<std::string>());
  const auto missing = kept_number(*entry, "missing", 0, 1e9);
  const auto hold = kept_number(*entry, "hold", 0, 1e9);
  const auto few = kept_number(*entry, "gain_of_few", 0, 1e9);
  const auto many = kept_number(*entry, "gain_of_many", 0, 1e9);
  if (verdict == kVerdicts.end() || !missing || !hold || !few || !many) return std::nullopt;
  return PrefetchGovernor::Experience{.verdict = static_cast<Prefetching>(verdict - kVerdicts.begin()),
                                      .missing = *missing,
                                      .hold = static_cast<int>(*hold),
                                      .gains = {*few, *many}};
}

Status save_experience(const std::filesystem::path& file, const std::string& key,
                       const PrefetchGovernor::Experience& experience) {
  return kept(file).save(key, {{"verdict", kVerdicts[static_cast<size_t>(experience.verdict)]},
                               {"missing", experience.missing},
                               {"hold", experience.hold},
                               {"gain_of_few", experience.gains[0]},
                               {"gain_of_many", experience.gains[1]}});
}

}  // namespace odmoe
