#include "train/learning_curve.h"

#include <algorithm>
#include <array>
#include <map>

#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr double kWidth = 720, kHeight = 320, kLeft = 56, kRight = 56, kTop = 28, kBottom = 40;
constexpr std::array kColours = {"#1b6ca8", "#2a9d8f", "#e9a23b", "#c8553d"};
constexpr const char* kLossColour = "#888888";

// What all groups have after an epoch, in the mean.
struct Point {
  double loss = 0;
  std::vector<double> recall;
};

std::vector<Point> means(const std::vector<TrainedEpoch>& epochs) {
  std::map<int32_t, std::vector<const TrainedEpoch*>> groups;
  size_t longest = 0, n_ahead = 0;
  for (const TrainedEpoch& epoch : epochs) {
    groups[epoch.first_source].push_back(&epoch);
    longest = std::max(longest, groups[epoch.first_source].size());
    n_ahead = std::max(n_ahead, epoch.recall.size());
  }
  std::vector<Point> points(longest);
  for (size_t i = 0; i < longest; ++i) {
    points[i].recall.resize(n_ahead);
    std::vector<int> count(n_ahead);
    for (const auto& [source, of_group] : groups) {
      const TrainedEpoch& epoch = *of_group[std::min(i, of_group.size() - 1)];
      points[i].loss += epoch.loss / static_cast<double>(groups.size());
      for (size_t d = 0; d < epoch.recall.size(); ++d) {
        points[i].recall[d] += epoch.recall[d];
        ++count[d];
      }
    }
    for (size_t d = 0; d < n_ahead; ++d) points[i].recall[d] /= std::max(count[d], 1);
  }
  return points;
}

class Chart {
 public:
  Chart(size_t n_epoch) : n_epoch_(n_epoch) {
    svg_ = odmoe::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" "
        "font-size=\"11\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        kWidth, kHeight);
  }
  void text(double x, double y, const char* anchor, const std::string& what, const char* colour = "#333333") {
    svg_ += odmoe::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" fill=\"{}\">{}</text>\n", x, y,
                          anchor, colour, what);
  }
  // `values` from 0 at the bottom to 1 at the top.
  void line(const std::vector<double>& values, const char* colour) {
    svg_ += odmoe::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"", colour);
    for (size_t i = 0; i < values.size(); ++i) svg_ += odmoe::format("{:.1f},{:.1f} ", x(i), y(values[i]));
    svg_ += "\"/>\n";
  }
  void axes() {
    for (int i = 0; i <= 4; ++i) {
      const double share = i / 4.0;
      svg_ +=
          odmoe::format("<path d=\"M{} {:.1f}H{}\" stroke=\"#dddddd\"/>\n", kLeft, y(share), kWidth - kRight);
    }
    const size_t step = std::max<size_t>(1, n_epoch_ / 10);
    for (size_t i = 0; i < n_epoch_; i += step)
      text(x(i), kHeight - kBottom + 16, "middle", std::to_string(i + 1));
    text(kWidth / 2, kHeight - 8, "middle", "epoch");
  }
  double y(double share) const { return kHeight - kBottom - share * (kHeight - kTop - kBottom); }
  std::string finish() { return svg_ + "</svg>\n"; }

 private:
  double x(size_t i) const {
    return kLeft + (kWidth - kLeft - kRight) *
                       (n_epoch_ < 2 ? 0.5 : static_cast<double>(i) / static_cast<double>(n_epoch_ - 1));
  }
  size_t n_epoch_;
  std::string svg_;
};

}  // namespace

std::string learning_curve(const std::vector<TrainedEpoch>& epochs) {
  const std::vector<Point> points = means(epochs);
  Chart chart(points.size());
  if (points.empty()) return chart.finish();
  double most_loss = 0, least = 1;
  for (const Point& point : points) {
    most_loss = std::max(most_loss, point.loss);
    for (const double recall : point.recall) least = std::min(least, recall);
  }
  least = std::max(0.0, least - 0.05);
  chart.axes();
  for (int i = 0; i <= 4; ++i) {
    const double share = i / 4.0;
    chart.text(kLeft - 6, chart.y(share) + 4, "end",
               odmoe::format("{:.0f} %", 100 * (least + share * (1 - least))));
    chart.text(kWidth - kRight + 6, chart.y(share) + 4, "start", odmoe::format("{:.3f}", share * most_loss),
               kLossColour);
  }
  std::vector<double> loss;
  for (const Point& point : points) loss.push_back(most_loss > 0 ? point.loss / most_loss : 0);
  chart.line(loss, kLossColour);
  double legend = kLeft;
  for (size_t d = 0; d < points.front().recall.size(); ++d) {
    std::vector<double> recall;
    for (const Point& point : points) recall.push_back((point.recall[d] - least) / (1 - least));
    const char* colour = kColours[d % kColours.size()];
    chart.line(recall, colour);
    const std::string label = odmoe::format("recall {} ahead", d + 1);
    chart.text(legend, 16, "start", label, colour);
    legend += 110;
  }
  chart.text(kWidth - kRight, 16, "end", "loss", kLossColour);
  return chart.finish();
}

}  // namespace odmoe
