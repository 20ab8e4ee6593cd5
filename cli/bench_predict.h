// odmoe bench predict: how long a guess of the learned predictor takes, and what memory it holds.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe::cli {

struct PredictOptions {
  int32_t n_embd = 7168, n_expert = 384, n_layer = 60, hidden = 1024, lookahead = 4;  // Kimi-K2.5
  std::vector<std::string> types = {"q8_0", "q4_0"};
  bool repack = true;
  int32_t samples = 200;
};

// The options that only `bench predict` takes.
void add_predict_options(CLI::App& command, PredictOptions& options);

// `shadow`: a shadow model's file to measure instead of networks of these shapes; empty: none.
Result<int> bench_predict(const PredictOptions& options, const std::filesystem::path& shadow, bool json);

}  // namespace odmoe::cli
