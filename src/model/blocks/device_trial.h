// Whether a device computes experts out of slots as it should, tried out before it is trusted with any.
#pragma once

#include "backend/backend.h"
#include "model/blocks/device_experts.h"
#include "model/shape.h"
#include "odmoe/result.h"

namespace odmoe {

// ggml's kernels may be wrong where slots lie apart without saying so, and their rounding might depend on
// what else a block has.  So made-up experts, two of them in two slots each, are computed in slots like those
// of `layer` (the types, shapes, offsets and distance of its matrices), alone and in company, in blocks of
// each size that chunks have and as those of one token.  kUnsupported when any of them has other bits than
// its like, or the processor, `host`, gets something else than rounding explains. `in_place`: slots in memory
// of the host, or else in the device's own.  A few slots of memory are taken, and given back.  kIo: there is
// none. Returns DeviceLayer::any_of_token.
Result<bool> try_experts(Backend& device, Backend& host, DeviceExperts& experts, const ModelShape& shape,
                         const DeviceLayer& layer, int32_t most_in_window, bool in_place);

}  // namespace odmoe
