#include "format/expert_source.h"

#include <algorithm>

namespace odmoe {

uint64_t RecordLayout::gate_up_bytes() const {
  const auto begin = [this](const Projection& projection) {
    uint64_t sum = projection.offset;
    for (int i = 0; i < projection.slice; ++i) sum += slices[static_cast<size_t>(i)].bytes;
    return sum;
  };
  const uint64_t end = std::max(begin(gate) + gate.bytes, begin(up) + up.bytes);
  return begin(down) >= end ? begin(down) : bytes();
}

uint64_t ExpertSource::total_bytes() const {
  uint64_t sum = 0;
  for (int layer = 0; layer < n_layer(); ++layer) {
    if (n_expert(layer) > 0) sum += layout(layer).bytes() * static_cast<uint64_t>(n_expert(layer));
  }
  return sum;
}

}  // namespace odmoe
