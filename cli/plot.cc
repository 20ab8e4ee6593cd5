#include "cli/plot.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "odmoe/format.h"

namespace odmoe::cli {

std::string bar_chart(const std::vector<Bar>& bars, int columns) {
  static constexpr std::array<const char*, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  size_t label_width = 0;
  double most = 0;
  for (const Bar& bar : bars) {
    label_width = std::max(label_width, bar.label.size());
    most = std::max(most, bar.value);
  }
  std::string text;
  for (const Bar& bar : bars) {
    const double share = most > 0 ? bar.value / most : 0;
    auto eighths = static_cast<int>(std::lround(share * columns * 8));
    if (eighths == 0 && bar.value > 0) eighths = 1;
    std::string blocks;
    for (int i = 0; i < eighths / 8; ++i) blocks += "█";
    blocks += kEighths[static_cast<size_t>(eighths % 8)];
    const int drawn = (eighths + 7) / 8;
    text += odmoe::format("  {:>{}} {}{} {}\n", bar.label, label_width, blocks,
                          std::string(static_cast<size_t>(columns - drawn), ' '), bar.note);
  }
  return text;
}

}  // namespace odmoe::cli
