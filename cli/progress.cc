#include "cli/progress.h"

#include <algorithm>
#include <ftxui/dom/elements.hpp>
#include <ftxui/screen/screen.hpp>
#include <ftxui/screen/terminal.hpp>
#include <utility>

#include "odmoe/format.h"

namespace odmoe::cli {

Progress::Progress(std::string label, const Clock& clock)
    : label_(std::move(label)),
      clock_(&clock),
      enabled_(terminal_.is_terminal()),
      next_draw_us_(clock.now_us() + kPatienceUs) {}

std::string Progress::line(std::string_view label, double fraction, std::string_view detail, int columns) {
  using namespace ftxui;
  const auto done = static_cast<float>(std::clamp(fraction, 0.0, 1.0));
  // The bar gives way to what is written beside it.
  constexpr int kLeastBar = 8, kLongestBar = 30, kShare = 7;
  const auto written = static_cast<int>(std::min<size_t>(label.size() + 1 + detail.size(), 1000)) + kShare;
  const auto document = hbox({
      text(std::string(label) + " "),
      gauge(done) | size(WIDTH, EQUAL, std::clamp(columns - written, kLeastBar, kLongestBar)),
      text(odmoe::format(" {:3.0f} % ", 100 * done)),
      text(std::string(detail)),
      filler(),
  });
  auto screen = Screen::Create(Dimension::Fixed(std::max(columns, 1)), Dimension::Fixed(1));
  Render(screen, document);
  return screen.ToString();
}

void Progress::update(double fraction, std::string_view detail) {
  if (!enabled_ || clock_->now_us() < next_draw_us_) return;
  next_draw_us_ = clock_->now_us() + kRedrawUs;
  shown_ = true;
  // One column short of the edge, so that no terminal wraps the line.
  (void)terminal_.write("\r" + line(label_, fraction, detail, ftxui::Terminal::Size().dimx - 1));
}

void Progress::finish() {
  if (std::exchange(shown_, false)) (void)terminal_.write("\r\033[K");
  enabled_ = false;
}

}  // namespace odmoe::cli
