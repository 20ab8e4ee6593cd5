// Any bytes as the file of a saved KV cache.
//
//   saved_state_fuzzer -max_total_time=60 -rss_limit_mb=2048 NEW fuzz/corpus/saved_state
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/checksum.h"
#include "server/saved_state.h"

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

bool is_of_this_version(std::span<const std::byte> bytes) {
  return bytes.size() >= 8 && std::memcmp(bytes.data(), "ODMOEKV2", 8) == 0;
}

// Nothing would get behind the checksum by chance.
void set_checksum(std::span<std::byte> bytes) {
  constexpr size_t kFixedBytes = 48, kChecksumOffset = 40;
  if (bytes.size() < kFixedBytes) return;
  std::array<uint32_t, 4> n{};  // bytes of the identity, tokens, stretches, bytes of the owner
  std::memcpy(n.data(), bytes.data() + 8, sizeof(n));
  const uint64_t stretches = is_of_this_version(bytes) ? n[2] : 0;
  const uint64_t end = kFixedBytes + uint64_t{n[0]} + uint64_t{n[3]} + uint64_t{n[1]} * sizeof(odmoe::Token) +
                       stretches * sizeof(uint32_t);
  if (end > bytes.size()) return;
  odmoe::Checksum checksum;
  checksum.add(bytes.first(kChecksumOffset));
  checksum.add(bytes.subspan(kFixedBytes, end - kFixedBytes));
  const uint64_t value = checksum.value();
  std::memcpy(bytes.data() + kChecksumOffset, &value, sizeof(value));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace odmoe::server;
  std::vector<std::byte> bytes(size);
  std::ranges::copy(std::as_bytes(std::span(data, size)), bytes.begin());
  (void)parse_header(bytes, size, "fuzz");
  set_checksum(bytes);
  const auto header = parse_header(bytes, size, "fuzz");
  if (!header.has_value()) return 0;
  must(is_saved_state(bytes));
  must(!header->tokens.empty());
  must(odmoe::Division::are_valid(header->stretches));
  must(header->stretches.empty() ||
       static_cast<size_t>(header->stretches.back().end) <= header->tokens.size());
  must(header->file_bytes() == size);
  if (!is_of_this_version(bytes)) return 0;
  // What was read is what would be written.
  const auto again = encode_header(*header);
  must(again.size() == header->state_offset());
  must(std::equal(again.begin(), again.end(), bytes.begin()));
  return 0;
}
