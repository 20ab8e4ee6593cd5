// What ties recorded data and predictors to a model: its shapes and its routers' weights.
#pragma once

#include <vector>

#include "format/checkpoint.h"
#include "model/shape.h"
#include "odmoe/result.h"
#include "predict/routing_data.h"

namespace odmoe {

struct RoutedModelData {
  RoutedModel model;
  std::vector<RouterWeights> routers;  // of the layers with experts, in order
};

// Reads the routers of a model from its file, whatever type they have in it, by plain reads: they are small.
// Errors: kBadFile (missing, of another shape, or the file ends before them), kIo.
Result<RoutedModelData> read_routed_model(const Checkpoint& file, const ModelShape& shape);
// The same of a file that is not open yet.
Result<RoutedModelData> read_routed_model(const std::filesystem::path& path);

}  // namespace odmoe
