// A picture of how training went.
#pragma once

#include <string>
#include <vector>

#include "train/train.h"

namespace odmoe {

// An SVG: over the epochs, the loss and the recall for each lookahead, means of all groups; one that stopped
// early counts on with its last epoch.
std::string learning_curve(const std::vector<TrainedEpoch>& epochs);

}  // namespace odmoe
