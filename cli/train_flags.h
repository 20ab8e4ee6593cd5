// The options of training, which `odmoe train` and the program that trains share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "predict/train_options.h"

namespace odmoe::cli {

// What is trained, and how; not --data and --output.
void add_training_options(CLI::App& command, TrainOptions& options);
// The arguments that say the same, --data and --output included.
std::vector<std::string> training_arguments(const TrainOptions& options);

}  // namespace odmoe::cli
