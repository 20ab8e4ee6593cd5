#include "cli/top_screen.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ftxui/dom/elements.hpp>
#include <ftxui/screen/color.hpp>
#include <ftxui/screen/screen.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "base/units.h"
#include "cli/report.h"
#include "odmoe/format.h"
#include "server/expert_map.h"

namespace odmoe::cli {
namespace {

using server::LiveFigures;
using server::LiveView;

constexpr const char* kUnknown = "-";

std::string known_percent(std::optional<double> share) {
  return share ? odmoe::format("{:.1f} %", 100 * *share) : kUnknown;
}

std::string speed(std::optional<double> tokens) {
  return tokens ? odmoe::format("{:.{}f} tokens/s", *tokens, *tokens < 100 ? 1 : 0) : kUnknown;
}

std::string bytes_per_second(std::optional<double> bytes) {
  return bytes && *bytes >= 0 ? format_rate(*bytes) : kUnknown;
}

// How many experts are where.
struct Places {
  size_t resident = 0, loading = 0, evicted = 0, unused = 0;
};

Places count_places(const std::string& letters) {
  Places places;
  for (const char letter : letters) {
    switch (server::at_rest(letter)) {
      case 'r':
        ++places.resident;
        break;
      case 'l':
        ++places.loading;
        break;
      case 'e':
        ++places.evicted;
        break;
      default:
        ++places.unused;
    }
  }
  return places;
}

std::string places_text(const Places& places) {
  return odmoe::format("{} in memory, {} loading, {} evicted, {} never used", places.resident, places.loading,
                       places.evicted, places.unused);
}

// A figure: what it is called, what it says, and its share of what it could be, where it has one.
struct Figure {
  std::string name, text;
  std::optional<double> share;
};

// Of a device with memory of its own (docs/devices.md).
void add_device(std::vector<Figure>& rows, const std::string& name, const LiveFigures& f) {
  const auto device = [&f](const char* figure) { return f.count("device", figure); };
  const uint64_t taken =
      device("dense_bytes") + device("kv_bytes") + device("buffer_bytes") + device("arena_bytes");
  const uint64_t most = device("budget_bytes");
  std::optional<double> share;
  if (most > 0) share = static_cast<double>(taken) / static_cast<double>(most);
  rows.push_back({"device",
                  odmoe::format("{}: {}{}{}", name, format_bytes(taken),
                                most > 0 ? odmoe::format(" of {}", format_bytes(most)) : "",
                                f.flag("device", "shares_host_memory") ? ", of the memory above" : ""),
                  share});
  if (device("slots") > 0) {
    const std::optional<double> hits = f.number("device", "hit_rate");
    rows.push_back(
        {"on device",
         odmoe::format("{} of {} experts, hit rate {}; {} copied there, {} made room, {} of them still "
                       "on the host",
                       device("experts"), device("slots"), known_percent(hits),
                       format_bytes(device("copied_bytes")), device("evictions"), device("evicted_to_host")),
         hits});
  }
  if (f.number("device", "sent_bytes_per_layer")) {
    rows.push_back(
        {"exchange",
         odmoe::format("{} there and {} back for each layer: {} us, {} to launch, {} to wait; {:.0f} graphs "
                       "for each token",
                       format_bytes(device("sent_bytes_per_layer")),
                       format_bytes(device("fetched_bytes_per_layer")), device("exchange_us_per_layer"),
                       device("launch_us_per_layer"), device("wait_us_per_layer"),
                       f.number("device", "graphs_per_token").value_or(0)),
         std::nullopt});
  }
}

std::vector<Figure> rows_of(const LiveView& view) {
  const LiveFigures& f = view.figures();
  const auto now = [&f](const char* name) { return f.number("now", name); };
  const auto total = [&f](const char* name) { return f.number("total", name); };
  const auto memory = [&f](const char* name) { return f.count("memory", name); };
  const auto sessions = [&f](const char* name) { return f.count("sessions", name); };

  const std::optional<double> reads = now("read_bytes_per_second");
  const std::optional<double> probed = f.number("drive", "probed_bytes_per_second");
  const uint64_t resident = memory("resident_bytes"), budget = memory("budget_bytes");
  std::optional<double> read_share, memory_share;
  if (reads && probed && *probed > 0) read_share = *reads / *probed;
  if (budget > 0) memory_share = static_cast<double>(resident) / static_cast<double>(budget);
  const std::string drive = probed ? odmoe::format("of {} that the drive can do", bytes_per_second(probed))
                                   : "the drive was not tried out";
  const std::string name = f.text("predictor", "name");
  const std::string predictor = name.empty() || name == "none"
                                    ? "no predictor"
                                    : odmoe::format("{}, {}, {} of what it read was used", name,
                                                    f.flag("predictor", "prefetching") ? "on" : "off",
                                                    known_percent(f.number("predictor", "accuracy")));
  std::vector<Figure> rows = {
      {"writing",
       odmoe::format("{}, prompts {}; {} tokens since the start", speed(now("tokens_per_second")),
                     speed(now("prefill_tokens_per_second")), f.count("total", "tokens")),
       std::nullopt},
      {"hit rate",
       odmoe::format("{}, since the start {}", known_percent(now("hit_rate")),
                     known_percent(total("hit_rate"))),
       now("hit_rate")},
      {"late hits",
       odmoe::format("{}, since the start {}", known_percent(now("late_hit_rate")),
                     known_percent(total("late_hit_rate"))),
       now("late_hit_rate")},
      {"stall", odmoe::format("{} of the time, waiting for the drive", known_percent(now("stall_share"))),
       now("stall_share")},
      {"reads", odmoe::format("{}, {}", bytes_per_second(reads), drive), read_share},
      {"read ahead", predictor, std::nullopt},
      {"memory",
       odmoe::format("{} of {}, room for {} experts", format_bytes(resident), format_bytes(budget),
                     memory("slots")),
       memory_share},
      {"sessions",
       odmoe::format("{} of {}, {} waiting", sessions("running"), sessions("most"), sessions("queued")),
       std::nullopt},
  };
  if (std::string device = f.text("device", "name"); !device.empty()) add_device(rows, device, f);
  for (const LiveFigures::Rank& rank : f.ranks()) {
    const std::string waited =
        rank.rank == 0 ? "the head"
                       : odmoe::format("waited for {:.1f} s", static_cast<double>(rank.wait_us) * 1e-6);
    rows.push_back({odmoe::format("rank {}", rank.rank),
                    odmoe::format("{}: {} experts in {}, hit rate {}, read {}, {}", rank.host, rank.n_expert,
                                  format_bytes(rank.arena_bytes), known_percent(rank.hit_rate),
                                  format_bytes(rank.read_bytes), waited),
                    rank.hit_rate});
  }
  return rows;
}

struct Rgb {
  double r = 0, g = 0, b = 0;
};

Rgb color_of(char letter) {
  switch (letter) {
    case 'r':
      return {.r = 33, .g = 95, .b = 134};
    case 'S':
      return {.r = 90, .g = 150, .b = 185};
    case 'R':
      return {.r = 181, .g = 235, .b = 255};
    case 'l':
    case 'M':
      return {.r = 190, .g = 130, .b = 40};
    case 'L':
      return {.r = 255, .g = 217, .b = 120};
    case 'e':
      return {.r = 84, .g = 48, .b = 50};
    case 'F':
    case 'E':
      return {.r = 181, .g = 86, .b = 76};
    default:
      return {.r = 44, .g = 52, .b = 62};
  }
}

ftxui::Color to_color(const Rgb& rgb) {
  const auto byte = [](double value) {
    return static_cast<uint8_t>(std::clamp(std::lround(value), 0L, 255L));
  };
  return ftxui::Color::RGB(byte(rgb.r), byte(rgb.g), byte(rgb.b));
}

// The map on so many columns and half rows; several experts in one cell give it their mean.
class Map {
 public:
  Map(const LiveView& view, int columns, int half_rows) : view_(&view) {
    for (const LiveView::Layer& layer : view.layers()) widest_ = std::max(widest_, layer.n_expert);
    columns_ = std::clamp(columns, 1, std::max(widest_, 1));
    rows_ = std::clamp<int>(half_rows, 1, std::max<int>(static_cast<int>(view.layers().size()), 1));
    // Few experts get several columns each.
    scale_ = std::max(1, std::min(columns / columns_, 4));
  }

  ftxui::Element draw() const {
    using namespace ftxui;
    Elements lines;
    for (int row = 0; row < rows_; row += 2) {
      Elements cells;
      for (int column = 0; column < columns_; ++column) {
        std::string block;
        for (int i = 0; i < scale_; ++i) block += "▀";
        Element cell = text(block) | color(to_color(mean(row, column)));
        if (row + 1 < rows_) cell = cell | bgcolor(to_color(mean(row + 1, column)));
        cells.push_back(std::move(cell));
      }
      lines.push_back(hbox(std::move(cells)));
    }
    return vbox(std::move(lines));
  }

 private:
  Rgb mean(int row, int column) const {
    const auto& layers = view_->layers();
    Rgb sum;
    double n = 0;
    for (size_t layer = layers.size() * row / rows_; layer < layers.size() * (row + 1) / rows_; ++layer) {
      const int64_t first = int64_t{widest_} * column / columns_,
                    end = int64_t{widest_} * (column + 1) / columns_;
      for (int64_t i = first; i < std::min<int64_t>(end, layers[layer].n_expert); ++i) {
        const Rgb one = color_of(view_->letters()[layers[layer].first + static_cast<size_t>(i)]);
        sum = {.r = sum.r + one.r, .g = sum.g + one.g, .b = sum.b + one.b};
        ++n;
      }
    }
    return n > 0 ? Rgb{.r = sum.r / n, .g = sum.g / n, .b = sum.b / n} : Rgb{};
  }

  const LiveView* view_;
  int32_t widest_ = 0;
  int columns_ = 1, rows_ = 1, scale_ = 1;
};

std::string model_text(const LiveView& view) {
  return odmoe::format("{}  {}  {}  context {}", view.id(), view.architecture(),
                       format_bytes(view.file_bytes()), view.context());
}

}  // namespace

std::string top_text(const LiveView& view) {
  std::vector<std::pair<std::string, std::string>> rows = {{"model", model_text(view)}};
  for (const Figure& row : rows_of(view)) rows.emplace_back(row.name, row.text);
  rows.emplace_back("experts", places_text(count_places(view.letters())));
  for (const LiveView::Layer& layer : view.layers()) {
    rows.emplace_back(odmoe::format("layer {}", layer.number),
                      view.letters().substr(layer.first, static_cast<size_t>(layer.n_expert)));
  }
  return table(rows, Align::kLeft);
}

std::string top_screen(const LiveView& view, const std::string& url, const std::string& status, int columns,
                       int rows) {
  using namespace ftxui;
  Elements lines;
  const bool known = !view.id().empty();
  Element legend = text("");
  lines.push_back(hbox({text("odmoe top  ") | bold, text(known ? model_text(view) : url), filler()}));
  if (known) {
    const std::vector<Figure> figures = rows_of(view);
    const int head_rows = 1 + static_cast<int>(figures.size());  // lines above the map
    for (const Figure& row : figures) {
      Element bar = row.share
                        ? gauge(static_cast<float>(std::clamp(*row.share, 0.0, 1.0))) | color(Color::SkyBlue1)
                        : text("");
      lines.push_back(hbox({text(row.name) | dim | size(WIDTH, EQUAL, 12),
                            std::move(bar) | size(WIDTH, EQUAL, 20), text("  "), text(row.text), filler()}));
    }
    if (rows > head_rows + 3) {
      lines.push_back(separator());
      lines.push_back(Map(view, columns, 2 * (rows - head_rows - 3)).draw());
    }
    const auto key = [](char letter, const char* name) {
      return hbox({text("■ ") | color(to_color(color_of(letter))), text(name), text("  ")});
    };
    legend = hbox({key('r', "in memory"), key('R', "just used"), key('l', "loading"), key('e', "evicted"),
                   key('a', "never used")});
  }
  // What there is to say of the connection goes before the legend, which says the same all the time.
  lines.push_back(filler());
  lines.push_back(hbox({status.empty() ? std::move(legend) : text(status) | bold | color(Color::Yellow),
                        filler(), text("q quits") | dim}));
  auto screen = Screen::Create(Dimension::Fixed(std::max(columns, 1)), Dimension::Fixed(std::max(rows, 1)));
  Render(screen, vbox(std::move(lines)));
  return screen.ToString();
}

}  // namespace odmoe::cli
