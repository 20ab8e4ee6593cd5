#include "cli/time_left.h"

#include <algorithm>

#include "base/units.h"
#include "odmoe/format.h"

namespace odmoe::cli {

std::string TimeLeft::text(uint64_t done, uint64_t total, bool rate) const {
  const double seconds = static_cast<double>(clock_->now_us() - start_us_) * 1e-6;
  std::string text = odmoe::format("{} of {}", format_bytes(done), format_bytes(total));
  if (done <= begin_ || seconds < 1) return text;
  const double bytes_per_second = static_cast<double>(done - begin_) / seconds;
  if (rate) text += odmoe::format(", {}/s", format_bytes(static_cast<uint64_t>(bytes_per_second)));
  const auto left =
      static_cast<int64_t>(static_cast<double>(total - std::min(done, total)) / bytes_per_second);
  if (left >= 3600)
    return text + odmoe::format(", {}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60);
  return text + odmoe::format(", {}:{:02} left", left / 60, left % 60);
}

}  // namespace odmoe::cli
