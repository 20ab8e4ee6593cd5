// What `odmoe evaluate` shows of predictors on recorded data: tables, JSON and a heat map of the same
// figures.
#pragma once

#include <string>

#include "predict/evaluation.h"

namespace odmoe::cli {

std::string evaluation_table(const EvaluationResult& result, const RoutedModel& model);
std::string evaluation_json(const EvaluationResult& result, const RoutedModel& model);
// SVG: recall by layer and how far ahead, one panel for each predictor.
std::string evaluation_picture(const EvaluationResult& result, const RoutedModel& model);

}  // namespace odmoe::cli
