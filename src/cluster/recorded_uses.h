// How often a recorded trace used each expert of a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "odmoe/result.h"

namespace odmoe {

// OwnershipFacts::uses; empty for an empty path.  The trace counts the model's layers with experts, or all of
// them.  Errors: those of read_trace(); kUsage: it was recorded from a model of another shape.
Result<std::vector<uint64_t>> recorded_uses(const std::filesystem::path& trace, const Decoder& decoder);

// In hexadecimal; empty for none.
std::string fingerprint_of_uses(std::span<const uint64_t> uses);

}  // namespace odmoe
