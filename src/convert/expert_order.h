// Which experts of a layer should lie next to each other in its file.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/tensor_source.h"
#include "odmoe/result.h"
#include "trace/routing_trace.h"

namespace odmoe {

// By layer of the model, its experts in an order in which those that the trace uses for the same token are
// near each other: beginning with the most used, always the one that was chosen most often together with the
// last kNeighbours.  Layers without experts, or of which the trace says nothing, have an empty order.
// kUsage when the trace is of a model with other numbers of layers or experts.
Result<std::vector<std::vector<int32_t>>> order_by_trace(const RoutingTrace& trace,
                                                         const TensorSource& source);

// How many of the experts before it a new one is chosen by.
inline constexpr size_t kNeighbours = 4;

}  // namespace odmoe
