// odmoe bench fetch: what the drives can do, and how much of it the expert store gets.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <vector>

#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe::cli {

struct FetchOptions {
  bool direct = true;            // past the page cache
  std::vector<uint64_t> sizes;   // bytes of a read; empty: 64 KiB to 4 MiB
  std::vector<uint32_t> depths;  // reads in flight; empty: 1 to 64
  double seconds = 6;            // for the table; the store's part takes half as much again
};

// The options that only `bench fetch` takes.
void add_fetch_options(CLI::App& command, FetchOptions& options);

// Of `engine`: the model, its mirrors, the reader and the file of drives.
Result<int> bench_fetch(const EngineOptions& engine, const FetchOptions& options, bool json);

}  // namespace odmoe::cli
