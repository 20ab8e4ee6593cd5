// Whether experts that were repacked (docs/expert-directory.md) are laid out as this machine's kernels
// expect.
#pragma once

#include <memory>

#include "backend/repacked_layout.h"
#include "format/checkpoint.h"
#include "odmoe/result.h"

namespace odmoe {

// The layout of the repacked experts of a checkpoint, null where none are.  What decides is what this ggml
// makes of the matrices that the checkpoint has fingerprints of; versions and processors only say why.
// kUnsupported: it makes something else of one, or has no such layout; the message says whose it was.
Result<std::unique_ptr<RepackedLayout>> layout_of_repacked(const Checkpoint& file, const Backend& backend);

}  // namespace odmoe
