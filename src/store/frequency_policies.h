// The classics, of all layers together: what ours is measured against.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "store/residency_policy.h"

namespace odmoe {

// Least recently used.  Hits nothing when there are fewer slots than one token's cycle through the layers.
std::unique_ptr<ResidencyPolicy> make_lru(std::span<const PolicyLayer> layers, int32_t n_slot);

// Least often used, of equals the least recently used.  Counts outlive eviction.
std::unique_ptr<ResidencyPolicy> make_lfu(std::span<const PolicyLayer> layers, int32_t n_slot);

// The same with counts that fade by kFrequencyFade for every token that observe() tells of: LRFU (Lee et al.,
// IEEE Transactions on Computers 50(12), 2001) with lambda = -log2(kFrequencyFade) and the token as unit of
// time.
inline constexpr double kFrequencyFade = 0.97;
std::unique_ptr<ResidencyPolicy> make_lfu_aging(std::span<const PolicyLayer> layers, int32_t n_slot,
                                                int32_t n_expert_used);

}  // namespace odmoe
