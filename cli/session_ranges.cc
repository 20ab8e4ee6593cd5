#include "cli/session_ranges.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <system_error>

namespace odmoe::cli {

Result<std::vector<SessionRange>> parse_sessions(const std::vector<std::string>& items) {
  std::vector<SessionRange> ranges;
  for (const std::string& item : items) {
    std::array<uint32_t, 3> parts = {0, UINT32_MAX, 1};
    size_t n = 0;
    bool good = true;
    const char* at = item.data();
    const char* const end = item.data() + item.size();
    while (good) {
      if (at == end || *at == ':') {  // left out: as it is by default
        good = n > 0 || at != end;
      } else {
        const auto [rest, error] = std::from_chars(at, end, parts[n]);
        good = error == std::errc{};
        at = rest;
      }
      ++n;
      if (at == end) break;
      good = good && *at == ':' && n < parts.size();
      ++at;
    }
    if (!good || parts[2] == 0) {
      return fail(ErrorKind::kUsage, "'{}' names no sessions; write 7, 0:100 or 0:421:60 (first:end:step)",
                  item);
    }
    SessionRange range{.first = parts[0], .end = parts[1], .step = parts[2]};
    if (n == 1) range.end = range.first == UINT32_MAX ? UINT32_MAX : range.first + 1;
    ranges.push_back(range);
  }
  return ranges;
}

}  // namespace odmoe::cli
