#include "cli/evaluation_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const RoutedModel kModel{.architecture = "test",
                         .name = "a <model>",
                         .fingerprint = "0123",
                         .n_embd = 4,
                         .n_expert = 4,
                         .n_expert_used = 1,
                         .layers = {1, 2}};

// Two layers, two ahead.  "right" foresees layer 2 from layer 1 in one of two tokens, "early" guesses layer 1
// before any has run.
EvaluationResult example() {
  EvaluationResult result{.n_token = 2, .n_document = 1};
  const std::array scores = {4.0F, 3.0F, 2.0F, 1.0F};
  const std::array weight = {1.0F};
  result.control.emplace(2, 1, 4, 1);
  result.control->add(0, 1, scores, false, std::array{0}, weight);
  PredictionMetrics right(2, 2, 4, 1), early(2, 2, 4, 1);
  right.add(1, 1, scores, false, std::array{0}, weight);
  right.add(1, 1, scores, false, std::array{3}, weight);
  early.add(0, 1, scores, true, std::array{0}, weight);
  result.scores.push_back({.name = "right", .bytes = 2048, .metrics = right});
  result.scores.push_back({.name = "early & first", .calibrated = true, .metrics = early});
  return result;
}

TEST(EvaluationReport, TheTableHasAllPredictorsSideBySide) {
  const std::string text = evaluation_table(example(), kModel);
  EXPECT_THAT(text, HasSubstr("2 tokens of 1 documents; 2 layers, 1 of 4 experts"));
  EXPECT_THAT(text, HasSubstr("finds 100.000 % of the experts"));
  EXPECT_THAT(text, HasSubstr("right           50.00       -"));
  EXPECT_THAT(text, HasSubstr("early & first       -       -"));
  EXPECT_THAT(text, HasSubstr("2.00 KiB"));
  EXPECT_THAT(text, Not(HasSubstr("interrupted")));
}

TEST(EvaluationReport, AnInterruptedOneSaysSo) {
  EvaluationResult result = example();
  result.interrupted = true;
  EXPECT_THAT(evaluation_table(result, kModel), HasSubstr("interrupted"));
  EXPECT_TRUE(nlohmann::json::parse(evaluation_json(result, kModel))["interrupted"]);
}

TEST(EvaluationReport, TheJsonHasTheFiguresByLayer) {
  const auto json = nlohmann::json::parse(evaluation_json(example(), kModel));
  EXPECT_EQ(json["control"]["recall"], 1.0);
  const auto& ahead = json["predictors"][0]["lookahead"][0];
  EXPECT_EQ(ahead["ahead"], 1);
  EXPECT_EQ(ahead["recall"], 0.5);
  EXPECT_EQ(ahead["layers"][0]["layer"], 2);
  EXPECT_EQ(ahead["hints"][1]["n"], 2);
  EXPECT_EQ(ahead["hints"][1]["precision"], 0.25);
  EXPECT_FALSE(ahead.contains("calibration_error"));
  EXPECT_EQ(json["predictors"][1]["calibrated"], true);
}

TEST(EvaluationReport, ThePictureHasAPanelForEachAndACellForEachFigure) {
  const std::string svg = evaluation_picture(example(), kModel);
  EXPECT_TRUE(svg.starts_with("<svg "));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("a &lt;model&gt;"));
  EXPECT_THAT(svg, HasSubstr(">right</text>"));
  EXPECT_THAT(svg, HasSubstr(">early &amp; first</text>"));
  EXPECT_THAT(svg, HasSubstr(">50</text>"));
  EXPECT_THAT(svg, HasSubstr(">100</text>"));
}

TEST(EvaluationReport, NoPredictorsIsNoCrash) {
  EvaluationResult result;
  EXPECT_THAT(evaluation_table(result, kModel), HasSubstr("no control"));
  EXPECT_TRUE(evaluation_picture(result, kModel).ends_with("</svg>\n"));
}

}  // namespace
}  // namespace odmoe::cli
