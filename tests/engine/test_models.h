// Models for tests of the whole engine, and how they are run.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/engine_impl.h"

namespace odmoe::testing {

// The demo model of this repository.
inline std::filesystem::path bundled_model() {
  return std::filesystem::path(ODMOE_SOURCE_DIR) / "models/demo.gguf";
}

// A file of the reference data that ODMOE_SHARED names (see CONTRIBUTING.md); empty without it.
inline std::filesystem::path shared_file(const std::string& relative) {
  const char* shared = std::getenv("ODMOE_SHARED");
  if (shared == nullptr || *shared == '\0') return {};
  return std::filesystem::path(shared) / relative;
}

#define ODMOE_SHARED_OR_SKIP(variable, relative)                                  \
  const std::filesystem::path variable = ::odmoe::testing::shared_file(relative); \
  if (variable.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << (relative)

// A name that a test may have.
inline std::string test_name(std::string text) {
  std::ranges::replace_if(text, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return text;
}

inline std::vector<float> read_floats(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<float> values(std::filesystem::file_size(path) / sizeof(float));
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline double relative_l2(std::span<const float> got, std::span<const float> wanted) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double d = static_cast<double>(got[i]) - static_cast<double>(wanted[i]);
    difference += d * d;
    norm += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
  }
  return std::sqrt(difference / norm);
}

// KL(softmax(wanted) || softmax(got)).
inline double kl_divergence(std::span<const float> got, std::span<const float> wanted) {
  const auto log_sum = [](std::span<const float> x) {
    const double top = *std::ranges::max_element(x);
    double sum = 0;
    for (const float v : x) sum += std::exp(static_cast<double>(v) - top);
    return top + std::log(sum);
  };
  const double norm_got = log_sum(got);
  const double norm_wanted = log_sum(wanted);
  double kl = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double log_wanted = static_cast<double>(wanted[i]) - norm_wanted;
    kl += std::exp(log_wanted) * (log_wanted - (static_cast<double>(got[i]) - norm_got));
  }
  return kl;
}

// The address sanitizer keeps freed blocks and shadows all memory, so what the process takes means nothing.
#ifdef ODMOE_ADDRESS_SANITIZER
#define ODMOE_SKIP_UNDER_ASAN(reason) GTEST_SKIP() << "not with the address sanitizer: " << (reason)
#else
#define ODMOE_SKIP_UNDER_ASAN(reason) static_cast<void>(0)
#endif

// As reference.json was made, but for what the test is about.
inline EngineOptions reference_options(const std::filesystem::path& model) {
  EngineOptions options;
  options.model = model;
  options.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 100};
  options.context = 256;
  options.cache_type = CacheType::kF32;
  // Threads wait for each other more than they work in models as small as these: two for the bundled one
  // alone.
  options.threads = model == bundled_model() ? 2 : 1;
  return options;
}

inline std::unique_ptr<EngineImpl> open_or_fail(const EngineOptions& options,
                                                const EngineDependencies& dependencies = {}) {
  auto engine = EngineImpl::open(options, {}, dependencies);
  if (!engine.has_value()) {
    ADD_FAILURE() << engine.error().message;
    return nullptr;
  }
  return std::move(*engine);
}

// The logits of every position of a text, [n_vocab, n_position].
inline std::vector<float> all_logits(EngineImpl& engine, std::span<const Token> tokens) {
  auto session = engine.new_session();
  if (!session.has_value()) {
    ADD_FAILURE() << session.error().message;
    return {};
  }
  std::vector<float> logits;
  const Status status = (*session)->evaluate(tokens, [&](int32_t, std::span<const float> values) {
    logits.insert(logits.end(), values.begin(), values.end());
  });
  EXPECT_TRUE(status.has_value()) << (status.has_value() ? "" : status.error().message);
  return logits;
}

}  // namespace odmoe::testing
