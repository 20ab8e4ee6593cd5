// RoutedModel as JSON.
#pragma once

#include <string>

#include "predict/recorded_json.h"
#include "predict/routing_data.h"

namespace odmoe {

Json routed_model_to_json(const RoutedModel& model);
// kBadFile, beginning with `where`: something is missing, of the wrong type or beyond the bounds.
Result<RoutedModel> routed_model_from_json(const Json& json, const std::string& where);

}  // namespace odmoe
