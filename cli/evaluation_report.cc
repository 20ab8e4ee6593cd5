#include "cli/evaluation_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

size_t name_width(const EvaluationResult& result) {
  size_t width = 9;
  for (const PredictorScore& score : result.scores) width = std::max(width, score.name.size());
  return width;
}

std::string percent(double share) { return odmoe::format("{:>8.2f}", 100 * share); }
std::string percent_or_none(const PredictionCell& cell, double share) {
  return cell.routings > 0 ? percent(share) : odmoe::format("{:>8}", "-");
}

// A row for each predictor, a column for each number of layers ahead, of the layers that all can guess from
// there.
std::string by_distance(const EvaluationResult& result, const std::string& title,
                        const std::function<double(const PredictionCell&)>& figure) {
  const size_t width = name_width(result);
  std::string text = odmoe::format("\n{:<{}}", title, std::max(width, title.size()));
  const int32_t lookahead = result.scores.empty() ? 0 : result.scores.front().metrics.lookahead();
  text += "\n" + std::string(width, ' ');
  for (int32_t d = 1; d <= lookahead; ++d) text += odmoe::format("{:>8}", d);
  text += "  layers ahead\n";
  for (const PredictorScore& score : result.scores) {
    text += odmoe::format("{:<{}}", score.name, width);
    for (int32_t d = 1; d <= lookahead; ++d) {
      const PredictionCell cell = score.metrics.total(d, static_cast<size_t>(d));
      text += percent_or_none(cell, figure(cell));
    }
    text += "\n";
  }
  return text;
}

std::string by_hints(const EvaluationResult& result, int32_t distance) {
  const size_t width = name_width(result);
  std::string text = odmoe::format(
      "\nprecision and share of the experts covered, %, over hints given {} ahead\n{}",
      distance == 1 ? "1 layer" : odmoe::format("{} layers", distance), std::string(width, ' '));
  for (const int32_t hints : PredictionCell::kHints) text += odmoe::format("{:>12}", hints);
  text += "  hints\n";
  for (const PredictorScore& score : result.scores) {
    const PredictionCell cell = score.metrics.total(distance, static_cast<size_t>(distance));
    if (cell.routings == 0) continue;
    text += odmoe::format("{:<{}}", score.name, width);
    for (size_t i = 0; i < PredictionCell::kHints.size(); ++i) {
      text += odmoe::format("{:>6.1f}{:>6.1f}", 100 * cell.precision(i), 100 * cell.coverage(i));
    }
    text += "\n";
  }
  return text;
}

std::string by_layer(const PredictorScore& score, const RoutedModel& model) {
  const PredictionMetrics& metrics = score.metrics;
  std::string text = odmoe::format("\n{}, recall by layer, %\n{:>8}", score.name, "layer");
  for (int32_t d = 1; d <= metrics.lookahead(); ++d) text += odmoe::format("{:>8}", d);
  text += "  layers ahead\n";
  for (size_t layer = 0; layer < metrics.n_layer(); ++layer) {
    text += odmoe::format("{:>8}", model.layers[layer]);
    for (int32_t d = 1; d <= metrics.lookahead(); ++d) {
      const PredictionCell& cell = metrics.cell(layer, d);
      text += percent_or_none(cell, cell.recall());
    }
    text += "\n";
  }
  return text;
}

nlohmann::ordered_json cell_json(const PredictionCell& cell, bool calibrated) {
  nlohmann::ordered_json json = {{"routings", cell.routings}, {"recall", cell.recall()}};
  for (size_t i = 0; i < cell.ks.size(); ++i) json["recall_at"][std::to_string(cell.ks[i])] = cell.recall(i);
  json["weight_share"] = cell.weight_share();
  for (size_t i = 0; i < PredictionCell::kHints.size(); ++i) {
    json["hints"].push_back({{"n", PredictionCell::kHints[i]},
                             {"precision", cell.precision(i)},
                             {"coverage", cell.coverage(i)},
                             {"weight", cell.weight_coverage(i)}});
  }
  if (!calibrated) return json;
  json["calibration_error"] = cell.calibration_error();
  for (const auto& bin : cell.probabilities) {
    const auto n = static_cast<double>(std::max<uint64_t>(bin.experts, 1));
    json["calibration"].push_back({{"experts", bin.experts},
                                   {"mean_probability", bin.sum / n},
                                   {"share_chosen", static_cast<double>(bin.chosen) / n}});
  }
  return json;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

// From dark blue over green to yellow; brightness rises all the way, so that it can be read without colour.
std::string colour(double share) {
  constexpr std::array<std::array<double, 3>, 5> kStops = {
      {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}}};
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(kStops.size() - 1);
  const auto low = std::min(static_cast<size_t>(at), kStops.size() - 2);
  const double part = at - static_cast<double>(low);
  std::array<int, 3> rgb{};
  for (size_t i = 0; i < 3; ++i) {
    rgb[i] = static_cast<int>(std::lround(kStops[low][i] + part * (kStops[low + 1][i] - kStops[low][i])));
  }
  return odmoe::format("rgb({},{},{})", rgb[0], rgb[1], rgb[2]);
}

}  // namespace

std::string evaluation_table(const EvaluationResult& result, const RoutedModel& model) {
  std::string text =
      odmoe::format("{} tokens of {} documents; {} layers, {} of {} experts chosen in each\n", result.n_token,
                    result.n_document, model.layers.size(), model.n_expert_used, model.n_expert);
  if (result.control) {
    text += odmoe::format(
        "control: each layer's own router on its recorded state finds {:.3f} % of the experts\n",
        100 * result.control->total(1).recall());
  } else {
    text += "no control: the routers' inputs were not recorded\n";
  }
  if (result.scores.empty()) return text;
  const std::vector<int32_t>& ks = result.scores.front().metrics.cell(0, 1).ks;
  for (size_t i = ks.size(); i-- > 0;) {
    text += by_distance(result, odmoe::format("recall of the top {}, %", ks[i]),
                        [i](const PredictionCell& cell) { return cell.ks.empty() ? 0 : cell.recall(i); });
  }
  text += by_distance(result, odmoe::format("router weight covered by the first {}, %", model.n_expert_used),
                      [](const PredictionCell& cell) { return cell.weight_share(); });
  text += by_distance(result, "calibration error, %",
                      [](const PredictionCell& cell) { return cell.calibration_error(); });
  for (int32_t d = 1; d <= result.scores.front().metrics.lookahead(); ++d) text += by_hints(result, d);

  const size_t width = name_width(result);
  text += odmoe::format("\n{:<{}}{:>12}{:>12}{:>16}\n", "", width, "memory", "us each", "first layer, %");
  for (const PredictorScore& score : result.scores) {
    const PredictionCell& first = score.metrics.cell(0, 1);
    text += odmoe::format("{:<{}}{:>12}{:>12.1f}{:>8}{}\n", score.name, width, format_bytes(score.bytes),
                          score.mean_us, "", percent_or_none(first, first.recall()));
  }
  for (const PredictorScore& score : result.scores) text += by_layer(score, model);
  if (result.interrupted) text += "interrupted; this is what was seen until then\n";
  return text;
}

std::string evaluation_json(const EvaluationResult& result, const RoutedModel& model) {
  nlohmann::ordered_json json = {{"tokens", result.n_token},
                                 {"documents", result.n_document},
                                 {"interrupted", result.interrupted},
                                 {"model",
                                  {{"architecture", model.architecture},
                                   {"name", model.name},
                                   {"fingerprint", model.fingerprint},
                                   {"layers", model.layers},
                                   {"n_embd", model.n_embd},
                                   {"n_expert", model.n_expert},
                                   {"n_expert_used", model.n_expert_used}}}};
  if (result.control) {
    json["control"] = cell_json(result.control->total(1), false);
    for (size_t layer = 0; layer < result.control->n_layer(); ++layer) {
      json["control"]["recall_by_layer"].push_back(result.control->cell(layer, 1).recall());
    }
  }
  json["predictors"] = nlohmann::ordered_json::array();
  for (const PredictorScore& score : result.scores) {
    nlohmann::ordered_json object = {{"name", score.name},
                                     {"calibrated", score.calibrated},
                                     {"bytes", score.bytes},
                                     {"mean_us", score.mean_us}};
    for (int32_t d = 1; d <= score.metrics.lookahead(); ++d) {
      nlohmann::ordered_json ahead =
          cell_json(score.metrics.total(d, static_cast<size_t>(d)), score.calibrated);
      ahead["ahead"] = d;
      for (size_t layer = 0; layer < score.metrics.n_layer(); ++layer) {
        const PredictionCell& cell = score.metrics.cell(layer, d);
        if (cell.routings == 0) continue;
        nlohmann::ordered_json of_layer = cell_json(cell, score.calibrated);
        of_layer["layer"] = model.layers[layer];
        ahead["layers"].push_back(std::move(of_layer));
      }
      object["lookahead"].push_back(std::move(ahead));
    }
    json["predictors"].push_back(std::move(object));
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string evaluation_picture(const EvaluationResult& result, const RoutedModel& model) {
  constexpr int kCellWidth = 34, kCellHeight = 22, kLeft = 60, kTop = 56, kPanelGap = 52, kLegend = 60;
  const auto n_layer = static_cast<int>(model.layers.size());
  const int lookahead = result.scores.empty() ? 0 : result.scores.front().metrics.lookahead();
  const int panel = lookahead * kCellHeight + kPanelGap;
  const int width = kLeft + n_layer * kCellWidth + 20;
  const int height = kTop + static_cast<int>(result.scores.size()) * panel + kLegend;
  std::string svg = odmoe::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"22\" font-size=\"15\">Recall of the top {3}, % ({4})</text>\n"
      "<text x=\"{2}\" y=\"38\" fill=\"#555\">by layer (across) and how many layers ahead it was guessed "
      "(down)</text>\n",
      std::max(width, 420), height, 12, model.n_expert_used,
      escaped(model.name.empty() ? model.architecture : model.name));
  int top = kTop;
  for (const PredictorScore& score : result.scores) {
    svg +=
        odmoe::format("<text x=\"12\" y=\"{}\" font-size=\"13\">{}</text>\n", top + 14, escaped(score.name));
    const int cells = top + 22;
    for (int d = 1; d <= lookahead; ++d) {
      const int y = cells + (d - 1) * kCellHeight;
      svg += odmoe::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 8, y + 15, d);
      for (int layer = 0; layer < n_layer; ++layer) {
        const PredictionCell& cell = score.metrics.cell(static_cast<size_t>(layer), d);
        if (cell.routings == 0) continue;
        const int x = kLeft + layer * kCellWidth;
        const double recall = cell.recall();
        svg += odmoe::format(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/><text x=\"{}\" y=\"{}\" "
            "text-anchor=\"middle\" fill=\"{}\">{:.0f}</text>\n",
            x, y, kCellWidth - 1, kCellHeight - 1, colour(recall), x + kCellWidth / 2, y + 15,
            recall > 0.6 ? "black" : "white", 100 * recall);
      }
    }
    for (int layer = 0; layer < n_layer; ++layer) {
      svg += odmoe::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{}</text>\n",
                           kLeft + layer * kCellWidth + kCellWidth / 2, cells + lookahead * kCellHeight + 13,
                           model.layers[static_cast<size_t>(layer)]);
    }
    top += panel;
  }
  constexpr int kSteps = 20, kStep = 12;
  for (int i = 0; i < kSteps; ++i) {
    svg += odmoe::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"12\" fill=\"{}\"/>\n",
                         kLeft + i * kStep, top + 18, kStep, colour((i + 0.5) / kSteps));
  }
  svg += odmoe::format(
      "<text x=\"{}\" y=\"{}\">0 %</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">100 %</text>\n", kLeft,
      top + 44, kLeft + kSteps * kStep, top + 44);
  return svg + "</svg>\n";
}

}  // namespace odmoe::cli
