#include "hub/quantisation.h"

#include <algorithm>
#include <array>
#include <utility>

#include "hub/shards.h"

namespace odmoe::hub {
namespace {

constexpr std::array<std::string_view, 22> kPreferred = {
    "Q4_K_M", "UD-Q4_K_M", "UD-Q4_K_XL", "Q4_K_L", "Q4_K_S",     "MXFP4",  "MXFP4_MOE", "IQ4_NL",
    "IQ4_XS", "Q4_0",      "Q4_1",       "Q5_K_M", "UD-Q5_K_XL", "Q5_K_S", "Q6_K",      "Q8_0",
    "Q3_K_L", "Q3_K_M",    "UD-Q3_K_XL", "Q3_K_S", "IQ3_M",      "Q2_K"};

// llama.cpp's enum llama_ftype, which is what general.file_type holds.
constexpr std::array<std::pair<int64_t, std::string_view>, 35> kFileTypes = {
    {{0, "F32"},     {1, "F16"},     {2, "Q4_0"},       {3, "Q4_1"},    {7, "Q8_0"},     {8, "Q5_0"},
     {9, "Q5_1"},    {10, "Q2_K"},   {11, "Q3_K_S"},    {12, "Q3_K_M"}, {13, "Q3_K_L"},  {14, "Q4_K_S"},
     {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},    {18, "Q6_K"},   {19, "IQ2_XXS"}, {20, "IQ2_XS"},
     {21, "Q2_K_S"}, {22, "IQ3_XS"}, {23, "IQ3_XXS"},   {24, "IQ1_S"},  {25, "IQ4_NL"},  {26, "IQ3_S"},
     {27, "IQ3_M"},  {28, "IQ2_S"},  {29, "IQ2_M"},     {30, "IQ4_XS"}, {31, "IQ1_M"},   {32, "BF16"},
     {36, "TQ1_0"},  {37, "TQ2_0"},  {38, "MXFP4_MOE"}, {39, "NVFP4"},  {40, "Q1_0"}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

char capital(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

std::string capitals(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), capital);
  return out;
}

// Q4_K_M, IQ2_XXS, TQ1_0; F16, BF16, FP8; MXFP4_MOE, NVFP4.
bool looks_like_one(std::string_view word) {
  const auto begins = [&](std::string_view prefix) {
    return word.starts_with(prefix) && word.size() > prefix.size() && is_digit(word[prefix.size()]);
  };
  if (begins("Q") || begins("IQ") || begins("TQ")) {
    // One digit and an underscore: Q4_K, not Q12 of some other count.
    const size_t digit = word.find_first_of("0123456789");
    return word.size() == digit + 1 || word[digit + 1] == '_';
  }
  return begins("F") || begins("BF") || begins("FP") || begins("MXFP") || begins("NVFP");
}

}  // namespace

std::string quantisation_of(std::string_view file_name) {
  const std::string name = capitals(shard_of(file_name).stem);
  std::string_view stem = name;
  if (const size_t slash = stem.rfind('/'); slash != stem.npos) stem.remove_prefix(slash + 1);
  // The last word that is one, between dashes, dots or, where the whole name has only those, underscores.
  for (size_t end = stem.size(); end > 0;) {
    const size_t before = stem.find_last_of("-.", end - 1);
    const size_t begin = before == stem.npos ? 0 : before + 1;
    std::string_view word = stem.substr(begin, end - begin);
    while (!word.empty() && !looks_like_one(word)) {
      const size_t underscore = word.find('_');
      word = underscore == word.npos ? std::string_view() : word.substr(underscore + 1);
    }
    if (!word.empty()) {
      constexpr std::string_view kDynamic = "UD-";
      const bool dynamic =
          begin >= kDynamic.size() && stem.substr(begin - kDynamic.size(), kDynamic.size()) == kDynamic;
      return (dynamic ? std::string(kDynamic) : std::string()) + std::string(word);
    }
    end = before == stem.npos ? 0 : before;
  }
  return {};
}

bool is_quantisation(std::string_view wanted, std::string_view quantisation, bool loosely) {
  const std::string a = capitals(wanted), b = capitals(quantisation);
  return a == b || (loosely && "UD-" + a == b);
}

std::span<const std::string_view> preferred_quantisations() { return kPreferred; }

std::string_view file_type_name(int64_t file_type) {
  const auto found = std::ranges::find(kFileTypes, file_type, [](const auto& entry) { return entry.first; });
  return found == kFileTypes.end() ? std::string_view() : found->second;
}

}  // namespace odmoe::hub
