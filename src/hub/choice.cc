#include "hub/choice.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <ranges>
#include <utility>

#include "base/units.h"
#include "format/printable.h"
#include "hub/quantisation.h"
#include "hub/shards.h"

namespace odmoe::hub {
namespace {

constexpr size_t kMaxShown = 24;  // of candidates in a message

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// What is beside a model and is none: llama.cpp's names for it.
bool goes_with_a_model(std::string_view path) {
  constexpr std::array<std::string_view, 3> kAnywhere = {"mmproj", "imatrix", "-lora"};
  constexpr std::array<std::string_view, 4> kBegins = {"mtp-", "eagle3-", "dflash-", "ggml-vocab"};
  const std::string_view name = file_name(path);
  return std::ranges::any_of(kAnywhere, [&](std::string_view word) { return name.contains(word); }) ||
         std::ranges::any_of(kBegins, [&](std::string_view word) { return name.starts_with(word); });
}

std::string shown(const std::vector<Candidate>& all) {
  // By quantisation where that says which; by file where it does not.
  std::map<std::string_view, int> n_of;
  for (const Candidate& candidate : all) ++n_of[candidate.quantisation];
  std::string text;
  for (const Candidate& candidate : all | std::views::take(kMaxShown)) {
    const bool unique = !candidate.quantisation.empty() && n_of[candidate.quantisation] == 1;
    text += odmoe::format("{}{} ({})", text.empty() ? "" : ", ",
                          unique ? candidate.quantisation : printable(candidate.files.front().path),
                          format_bytes(candidate.bytes));
  }
  if (all.size() > kMaxShown) text += odmoe::format(" and {} more", all.size() - kMaxShown);
  return text;
}

std::vector<Candidate> those(const std::vector<Candidate>& all, auto&& wanted) {
  std::vector<Candidate> found;
  std::ranges::copy_if(all, std::back_inserter(found), wanted);
  return found;
}

Result<Candidate> checked(const Candidate& candidate, std::string_view place) {
  if (candidate.complete()) return candidate;
  return fail(ErrorKind::kBadFile, "{} has {} of the {} files of {}: the model is not complete there", place,
              candidate.files.size(), candidate.n_file, printable(candidate.stem));
}

Result<Candidate> only(const std::vector<Candidate>& found, std::string_view what, std::string_view place) {
  if (found.size() == 1) return checked(found.front(), place);
  return fail(ErrorKind::kUsage, "{} has {}{}: name one of {}", place, found.size(), what, shown(found));
}

Result<Candidate> by_file(const Listing& listing, const RepoName& name, std::string_view place) {
  const auto has = [&](const Candidate& candidate) {
    return std::ranges::contains(candidate.files, name.file, &ListedFile::path);
  };
  const std::vector<Candidate> found = those(candidates(listing), has);
  if (!found.empty()) return checked(found.front(), place);
  const auto file = std::ranges::find(listing.files, name.file, &ListedFile::path);
  if (file == listing.files.end()) {
    return fail(ErrorKind::kNotFound, "{} has no file {}", place, printable(name.file));
  }
  if (!is_gguf(file->path)) {
    return fail(ErrorKind::kUsage, "{} is not a GGUF, which is what can be run from where it is",
                printable(name.file));
  }
  return Candidate{.stem = shard_of(file->path).stem,
                   .quantisation = quantisation_of(file->path),
                   .files = {*file},
                   .bytes = file->bytes};
}

}  // namespace

std::vector<Candidate> candidates(const Listing& listing) {
  std::map<std::pair<std::string, int>, std::map<int, const ListedFile*>> models;  // shards by number
  for (const ListedFile& file : listing.files) {
    if (!is_gguf(file.path) || goes_with_a_model(file.path)) continue;
    const Shard shard = shard_of(file.path);
    models[{shard.stem, shard.count}].try_emplace(shard.number, &file);
  }
  std::vector<Candidate> all;
  for (const auto& [key, shards] : models) {
    Candidate candidate{.stem = key.first,
                        .quantisation = quantisation_of(shards.begin()->second->path),
                        .files = {},
                        .n_file = key.second};
    for (const auto& [number, file] : shards) {
      candidate.files.push_back(*file);
      candidate.bytes += file->bytes;
    }
    all.push_back(std::move(candidate));
  }
  return all;
}

Result<Candidate> choose(const Listing& listing, const RepoName& name, std::string_view place) {
  if (!name.file.empty()) return by_file(listing, name, place);
  const std::vector<Candidate> all = candidates(listing);
  if (all.empty()) return fail(ErrorKind::kNotFound, "{} has no GGUF", place);
  if (!name.quantisation.empty()) {
    for (const bool loosely : {false, true}) {
      const auto is = [&](const Candidate& c) {
        return is_quantisation(name.quantisation, c.quantisation, loosely);
      };
      const std::vector<Candidate> found = those(all, is);
      if (!found.empty()) return only(found, " models in " + name.quantisation, place);
    }
    return fail(ErrorKind::kNotFound, "{} has no {}, but {}", place, name.quantisation, shown(all));
  }
  if (all.size() == 1) return checked(all.front(), place);
  for (const std::string_view preferred : preferred_quantisations()) {
    const std::vector<Candidate> found =
        those(all, [&](const Candidate& c) { return c.quantisation == preferred; });
    if (!found.empty()) return only(found, odmoe::format(" models in {}", preferred), place);
  }
  return only(all, " models", place);
}

}  // namespace odmoe::hub
