#include "cli/simulation_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ftxui/dom/canvas.hpp>
#include <ftxui/dom/elements.hpp>
#include <ftxui/screen/screen.hpp>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/units.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

constexpr int kPlotRows = 16;
constexpr int kAxisColumns = 6;  // "  50 %"

size_t count_policies(const std::vector<SimulationCell>& cells) {
  size_t n = 0;
  while (n < cells.size() && cells[n].n_slot == cells.front().n_slot &&
         (n == 0 || cells[n].policy != cells.front().policy)) {
    ++n;
  }
  return n;
}

std::string percent_text(double percent) { return odmoe::format("{:.4g} %", percent); }

}  // namespace

std::string simulation_table(const std::vector<SimulationCell>& cells) {
  const size_t n_policy = count_policies(cells);
  if (n_policy == 0) return "";
  std::string text = odmoe::format("{:>10} {:>11} {:>7}", "experts", "bytes", "slots");
  for (size_t i = 0; i < n_policy; ++i) text += odmoe::format(" {:>10}", cells[i].policy);
  text += "\n";
  for (size_t row = 0; row < cells.size(); row += n_policy) {
    text += odmoe::format("{:>10} {:>11} {:>7}", percent_text(cells[row].percent),
                          format_bytes(cells[row].budget_bytes), cells[row].n_slot);
    for (size_t i = 0; i < n_policy; ++i) text += odmoe::format(" {:>10.4f}", cells[row + i].hit_rate());
    text += "\n";
  }
  return text + odmoe::format("{} demands of experts\n", cells.front().demands);
}

std::string simulation_csv(const std::vector<SimulationCell>& cells) {
  std::string text = "policy,default,percent,budget_bytes,slots,demands,hits,hit_rate\n";
  for (const SimulationCell& cell : cells) {
    text +=
        odmoe::format("{},{},{},{},{},{},{},{}\n", cell.policy, cell.is_default ? "true" : "false",
                      cell.percent, cell.budget_bytes, cell.n_slot, cell.demands, cell.hits, cell.hit_rate());
  }
  return text;
}

std::string simulation_json(const std::vector<SimulationCell>& cells) {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const SimulationCell& cell : cells) {
    array.push_back({{"policy", cell.policy},
                     {"default", cell.is_default},
                     {"budget_percent", cell.percent},
                     {"budget_bytes", cell.budget_bytes},
                     {"slots", cell.n_slot},
                     {"demands", cell.demands},
                     {"hits", cell.hits},
                     {"hit_rate", cell.hit_rate()}});
  }
  return array.dump(2) + "\n";
}

std::string simulation_plot(const std::vector<SimulationCell>& cells, int columns, bool colour) {
  using namespace ftxui;
  const size_t n_policy = count_policies(cells);
  if (n_policy == 0 || cells.size() < 2 * n_policy) return "";
  const auto [least, most] = std::ranges::minmax(cells, {}, &SimulationCell::n_slot);
  const double span = std::log(static_cast<double>(most.n_slot) / static_cast<double>(least.n_slot));
  if (!(span > 0)) return "";
  const int width = std::clamp(columns - kAxisColumns - 2, 20, 100), height = kPlotRows;
  Canvas canvas(2 * width, 4 * height);
  const auto x_of = [&](const SimulationCell& cell) {
    const double part = std::log(static_cast<double>(cell.n_slot) / static_cast<double>(least.n_slot)) / span;
    return static_cast<int>(std::lround(part * (2 * width - 2)));
  };
  const auto y_of = [&](double rate) { return static_cast<int>(std::lround((1 - rate) * (4 * height - 1))); };
  constexpr std::array kColours = {Color::GreenLight, Color::BlueLight,    Color::YellowLight,
                                   Color::RedLight,   Color::MagentaLight, Color::White};
  Elements legend;
  // The first is drawn last, over the others.
  for (size_t p = n_policy; p-- > 0;) {
    const Color line = kColours[p % kColours.size()];
    const std::string letter(1, static_cast<char>('a' + p));
    std::vector<SimulationCell> points;
    for (size_t i = p; i < cells.size(); i += n_policy) points.push_back(cells[i]);
    std::ranges::stable_sort(points, {}, &SimulationCell::n_slot);
    for (size_t i = 0; i + 1 < points.size(); ++i) {
      canvas.DrawPointLine(x_of(points[i]), y_of(points[i].hit_rate()), x_of(points[i + 1]),
                           y_of(points[i + 1].hit_rate()), line);
    }
    for (const SimulationCell& point : points) {
      canvas.DrawText(x_of(point), y_of(point.hit_rate()), letter, line);
    }
    legend.insert(legend.begin(), text(letter + " " + cells[p].policy + "  ") | color(line));
  }
  Elements axis;
  for (int row = 0; row < height; ++row) {
    const bool labelled = row % 4 == 0 || row == height - 1;
    axis.push_back(text(labelled
                            ? odmoe::format("{:>4.0f} %", 100 * (1 - static_cast<double>(row) / (height - 1)))
                            : std::string(kAxisColumns, ' ')));
  }
  const std::string from = percent_text(least.percent), to = percent_text(most.percent) + " of the experts";
  const auto plot = vbox({
      hbox({vbox(std::move(axis)), separator(), ftxui::canvas(std::move(canvas))}),
      hbox({text(std::string(kAxisColumns + 1, ' ') + from), filler(), text(to)}),
      hbox({text(std::string(kAxisColumns + 1, ' ')), hflow(std::move(legend)) | xflex}),
  });
  const int full = width + kAxisColumns + 1;
  auto screen = Screen::Create(Dimension::Fixed(full), Dimension::Fixed(height + 2));
  Render(screen, plot);
  std::string drawn = screen.ToString();
  if (!colour) {
    std::string plain;
    for (size_t i = 0; i < drawn.size(); ++i) {
      if (drawn[i] == '\x1b') {
        while (i < drawn.size() && std::isalpha(static_cast<unsigned char>(drawn[i])) == 0) ++i;
      } else if (drawn[i] != '\r') {
        plain += drawn[i];
      }
    }
    drawn = std::move(plain);
  }
  return drawn + "\n";
}

}  // namespace odmoe::cli
