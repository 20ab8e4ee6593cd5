// Time and memory along a long context: evaluates a prompt chunk by chunk, and at positions a power of two
// apart decodes some tokens, which are forgotten again.  Writes a line of CSV for each such position.
//
//   odmoe_long_context MODEL --tokens 32768 --memory 25% [--cache-type q8_0] > long_context.csv
//
// bench/scenarios/long_context.py runs it and plots.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <random>
#include <vector>

#include "base/memory_info.h"
#include "odmoe/engine.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Options {
  EngineOptions engine;
  int32_t tokens = 32768;
  int32_t decode = 8;
  std::string prompt = "random";
};

Result<std::vector<Token>> prompt_tokens(const Options& options, const Engine& engine) {
  std::vector<Token> tokens;
  if (options.prompt == "random") {
    std::mt19937 random(1);
    for (int32_t i = 0; i < options.tokens; ++i) {
      tokens.push_back(static_cast<Token>(random() % static_cast<uint32_t>(engine.model().n_vocab)));
    }
    return tokens;
  }
  // A replay model walks through its trace when each token is the one that it predicts.
  tokens = engine.encode(options.prompt);
  if (tokens.empty()) return fail(ErrorKind::kUsage, "the prompt has no tokens; give --prompt a text");
  const std::vector<Token> once = tokens;
  while (std::cmp_less(tokens.size(), options.tokens)) tokens.insert(tokens.end(), once.begin(), once.end());
  tokens.resize(static_cast<size_t>(options.tokens));
  return tokens;
}

Status measure(const Options& options) {
  ODMOE_ASSIGN_OR_RETURN(const auto engine, Engine::open(options.engine));
  ODMOE_ASSIGN_OR_RETURN(const auto session, engine->new_session());
  ODMOE_ASSIGN_OR_RETURN(const std::vector<Token> tokens, prompt_tokens(options, *engine));
  std::cout << "position,prefill_ms_per_token,decode_ms_per_token,resident_bytes,peak_resident_bytes,"
               "budget_bytes,arena_bytes,kv_bytes_in_use,kv_bytes_planned,hit_rate\n";
  const auto chunk = static_cast<size_t>(options.engine.chunk);
  const std::span<const Token> all(tokens);
  size_t next_stop = chunk;
  for (size_t done = 0; done < all.size();) {
    const size_t n = std::min(chunk, all.size() - done);
    const double begin = seconds_now();
    ODMOE_RETURN_IF_ERROR(session->evaluate(all.subspan(done, n)));
    const double prefill = seconds_now() - begin;
    done += n;
    if (done < next_stop && done < all.size()) continue;
    next_stop = done < 4096 ? done * 2 : done + 4096;
    const auto decodable = std::min(options.decode, session->context() - static_cast<int32_t>(done));
    const double decode_begin = seconds_now();
    for (int32_t i = 0; i < decodable; ++i) {
      const auto logits = session->logits();
      const auto token = static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
      ODMOE_RETURN_IF_ERROR(session->evaluate({&token, 1}));
    }
    const double decode = seconds_now() - decode_begin;
    session->truncate(static_cast<int32_t>(done));
    const Stats stats = engine->stats();
    std::cout << odmoe::format("{},{:.3f},{:.3f},{},{},{},{},{},{},{:.4f}\n", done,
                               1e3 * prefill / static_cast<double>(n), 1e3 * decode / std::max(decodable, 1),
                               resident_bytes(), stats.peak_resident_bytes, stats.memory.budget_bytes,
                               stats.arena_bytes_now, stats.kv_bytes_in_use, stats.memory.kv_bytes,
                               stats.experts.hit_rate())
              << std::flush;
  }
  return {};
}

}  // namespace
}  // namespace odmoe

int main(int argc, char** argv) {
  using namespace odmoe;
  Options options;
  std::string memory = "auto";
  std::string cache_type = "f16";
  CLI::App app("Time and memory along a long context, as CSV.", "odmoe_long_context");
  app.add_option("MODEL", options.engine.model, "A GGUF file")->required();
  app.add_option("--tokens", options.tokens, "Length of the prompt")
      ->check(CLI::Range(1, 1 << 27))
      ->capture_default_str();
  app.add_option("--decode", options.decode, "Tokens decoded at each position measured")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--prompt", options.prompt, "Text that is repeated; random: random tokens")
      ->capture_default_str();
  app.add_option("--memory", memory, "As of odmoe run")->capture_default_str();
  app.add_option("--cache-type", cache_type, "f16, bf16, q8_0 or f32")
      ->check(CLI::IsMember({"f16", "bf16", "q8_0", "f32"}))
      ->capture_default_str();
  app.add_option("--chunk", options.engine.chunk, "As of odmoe run")->capture_default_str();
  app.add_option("-t,--threads", options.engine.threads, "As of odmoe run")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto budget = parse_memory_budget(memory);
  if (!budget.has_value()) {
    std::cerr << budget.error().message << "\n";
    return 2;
  }
  options.engine.memory = *budget;
  options.engine.cache_type = cache_type == "q8_0"   ? CacheType::kQ8_0
                              : cache_type == "bf16" ? CacheType::kBF16
                              : cache_type == "f32"  ? CacheType::kF32
                                                     : CacheType::kF16;
  options.engine.context = options.tokens + options.decode;
  const Status status = measure(options);
  if (status.has_value()) return 0;
  std::cerr << status.error().message << "\n";
  return 1;
}
