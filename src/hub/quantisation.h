// The names of quantisations: as files carry them, and as GGUF numbers them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace odmoe::hub {

// The quantisation that a file's name ends in, in capitals: "UD-Q4_K_XL" of "m-UD-q4_k_xl.gguf"; what says
// that it is a shard of several does not count.  Empty: none.
std::string quantisation_of(std::string_view file_name);

// Whether one who asks for `wanted` means `quantisation`: the same but for case.  "Q4_K_XL" is also what a
// name calls UD-Q4_K_XL, where nothing is called Q4_K_XL alone; that is `loosely`.
bool is_quantisation(std::string_view wanted, std::string_view quantisation, bool loosely = false);

// What is taken where nobody said which, the best first: four bits as most people run them, then what is next
// to them.
std::span<const std::string_view> preferred_quantisations();

// The name of general.file_type; empty: one that is not known here.
std::string_view file_type_name(int64_t file_type);

}  // namespace odmoe::hub
