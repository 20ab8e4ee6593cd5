// Decodes for as long as it is told while everything goes wrong that may: reads fail or are short, the arena
// is made larger and smaller at random moments, and the machine seems to run out of memory and to have plenty
// again.  Every token is compared with those of an engine that holds the whole model and is left in peace,
// and the process's memory is compared with what it was when everything had happened once.
//
//   odmoe_soak MODEL --seconds 3600 [--percent 25] [--seed 1]
//
// Exit status 1 with a line on standard error when a token was wrong or memory grew.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/memory_info.h"
#include "base/units.h"
#include "bench/scenarios/forwarding_reader.h"
#include "engine/engine_impl.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

using std::chrono::steady_clock;

struct Options {
  std::string model;
  double seconds = 20;
  double percent = 25;
  uint64_t seed = 1;
  int32_t n_prompt = 4;
  int32_t n_decode = 30;
  double short_percent = 3, error_percent = 1;
};

// What the drive does wrong, once `on`; shared by the readers of one engine.
struct Faults {
  std::atomic<bool> on = false;
  double short_percent = 0, error_percent = 0;
  uint64_t seed = 1;
  std::atomic<uint64_t> n_short = 0, n_error = 0;
};

// A real reader some of whose reads fail or end early.
class FaultyReader final : public ForwardingReader {
 public:
  FaultyReader(std::unique_ptr<AsyncReader> inner, std::shared_ptr<Faults> faults)
      : ForwardingReader(std::move(inner)), faults_(std::move(faults)), random_(faults_->seed) {
    failed_.reserve(wrapped().depth());
  }
  uint32_t in_flight() const override {
    return wrapped().in_flight() + static_cast<uint32_t>(failed_.size());
  }

  void submit(const ReadRequest& request) override {
    const double luck = faults_->on ? std::uniform_real_distribution<>(0, 100)(random_) : 100;
    if (luck < faults_->error_percent) {
      ++faults_->n_error;
      failed_.push_back({.id = request.id, .result = -EIO});
      return;
    }
    ReadRequest asked = request;
    const uint32_t unit = alignment().offset_bytes;
    if (luck < faults_->error_percent + faults_->short_percent && asked.bytes > unit) {
      ++faults_->n_short;
      asked.bytes = static_cast<uint32_t>(round_down(asked.bytes / 2, unit));
      asked.bytes = std::max(asked.bytes, unit);
    }
    wrapped().submit(asked);
  }
  size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) override {
    if (failed_.empty()) return wrapped().wait(out, timeout);
    const size_t n = std::min(out.size(), failed_.size());
    std::copy_n(failed_.end() - static_cast<ptrdiff_t>(n), n, out.begin());
    failed_.resize(failed_.size() - n);
    return n;
  }

 private:
  std::shared_ptr<Faults> faults_;
  std::mt19937_64 random_;
  std::vector<ReadCompletion> failed_;
};

using Timeline = std::vector<Token>;

Timeline prompt_of(int32_t index, int32_t n_vocab) {
  std::mt19937_64 random(1000 + static_cast<uint64_t>(index));
  Timeline prompt(static_cast<size_t>(3 + 17 * index));
  for (Token& token : prompt) token = static_cast<Token>(random() % static_cast<uint64_t>(n_vocab));
  return prompt;
}

Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

// Evaluates, as often as the drive's errors make it fail.
Status insist(Session& session, std::span<const Token> tokens, uint64_t& n_failed) {
  for (int tries = 0;; ++tries) {
    const Status status = session.evaluate(tokens);
    if (status.has_value() || status.error().kind != ErrorKind::kIo || tries == 100) return status;
    ++n_failed;
  }
}

// The tokens that follow a prompt, likeliest first.
Result<Timeline> decode(Session& session, const Timeline& prompt, int32_t n, uint64_t& n_failed,
                        const std::function<void()>& between) {
  session.truncate(0);
  Timeline tokens;
  ODMOE_RETURN_IF_ERROR(insist(session, prompt, n_failed));
  for (int32_t i = 0; i < n; ++i) {
    tokens.push_back(likeliest(session.logits()));
    if (between) between();
    ODMOE_RETURN_IF_ERROR(insist(session, {&tokens.back(), 1}, n_failed));
  }
  return tokens;
}

EngineOptions engine_options(const Options& options) {
  EngineOptions engine;
  engine.model = options.model;
  engine.context = 512;
  engine.chunk = 64;
  return engine;
}

Result<std::vector<Timeline>> right_tokens(const Options& options) {
  EngineOptions whole = engine_options(options);
  whole.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 100};
  ODMOE_ASSIGN_OR_RETURN(const auto engine, EngineImpl::open(whole, {}));
  ODMOE_ASSIGN_OR_RETURN(const auto session, engine->new_session());
  std::vector<Timeline> right;
  for (int32_t i = 0; i < options.n_prompt; ++i) {
    uint64_t failed = 0;
    ODMOE_ASSIGN_OR_RETURN(Timeline tokens, decode(*session, prompt_of(i, engine->model().n_vocab),
                                                   options.n_decode, failed, {}));
    right.push_back(std::move(tokens));
  }
  return right;
}

// Calls `act` at random moments until it is destroyed.
class NowAndThen {
 public:
  NowAndThen(uint64_t seed, std::chrono::milliseconds most, std::function<void(std::mt19937_64&)> act)
      : thread_([this, seed, most, act = std::move(act)] {
          std::mt19937_64 random(seed);
          std::unique_lock lock(mutex_);
          while (!changed_.wait_for(lock, most * static_cast<int>(random() % 1000) / 1000,
                                    [this] { return stopping_; })) {
            act(random);
          }
        }) {}
  ~NowAndThen() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  NowAndThen(const NowAndThen&) = delete;
  NowAndThen& operator=(const NowAndThen&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

Status soak(const Options& options) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<Timeline> right, right_tokens(options));

  const auto faults = std::make_shared<Faults>();
  faults->short_percent = options.short_percent;
  faults->error_percent = options.error_percent;
  faults->seed = options.seed;
  std::atomic<uint64_t> machine_bytes = uint64_t{1} << 50U;
  EngineDependencies dependencies;
  dependencies.make_reader = [&](const ReaderOptions& reader) -> Result<std::unique_ptr<AsyncReader>> {
    ODMOE_ASSIGN_OR_RETURN(auto inner, make_reader(reader));
    return std::make_unique<FaultyReader>(std::move(inner), faults);
  };
  dependencies.sample_memory = [&] {
    MemorySample sample = sample_memory();
    sample.resident_bytes = 0;
    sample.available_bytes = machine_bytes;
    return sample;
  };
  ODMOE_ASSIGN_OR_RETURN(const auto engine, EngineImpl::open(engine_options(options), {}, dependencies));
  faults->on = true;
  const MemoryPlan& plan = engine->plan();
  const auto share = static_cast<uint64_t>(static_cast<double>(plan.expert_bytes) * options.percent / 100);
  const uint64_t others = plan.dense_bytes + plan.buffer_bytes + plan.kv_bytes;
  std::atomic<uint64_t> n_pressure = 0;

  uint64_t n_token = 0, n_failed = 0, n_wrong = 0, rounds = 0;
  uint64_t resident_after_warm_up = 0, resident = 0, most_resident = 0;
  const auto begin = steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(steady_clock::now() - begin).count(); };
  double reported = 0;
  while (elapsed() < options.seconds) {
    {
      const NowAndThen budgets(
          options.seed + 2 * rounds, std::chrono::milliseconds(50),
          [&](std::mt19937_64& random) { engine->store().resize(random() % (2 * share)); });
      const NowAndThen pressure(
          options.seed + 2 * rounds + 1, std::chrono::milliseconds(2000), [&](std::mt19937_64& random) {
            machine_bytes = random() % 2 == 0 ? uint64_t{1} << 50U : others + random() % (2 * share);
            ++n_pressure;
          });
      for (int32_t i = 0; i < options.n_prompt && elapsed() < options.seconds; ++i) {
        ODMOE_ASSIGN_OR_RETURN(const auto session, engine->new_session());
        ODMOE_ASSIGN_OR_RETURN(const Timeline tokens, decode(*session, prompt_of(i, engine->model().n_vocab),
                                                             options.n_decode, n_failed, {}));
        for (size_t t = 0; t < tokens.size(); ++t) {
          ++n_token;
          if (tokens[t] != right[static_cast<size_t>(i)][t]) ++n_wrong;
        }
        if (n_wrong > 0) {
          return fail(ErrorKind::kBadFile, "soak: {} of {} tokens after prompt {} are wrong", n_wrong,
                      tokens.size(), i);
        }
      }
    }
    // The same state every time: the arena of the share, filled as far as the round filled it.
    engine->store().resize(share);
    resident = resident_bytes();
    most_resident = std::max(most_resident, resident);
    ++rounds;
    if (elapsed() < options.seconds / 4) resident_after_warm_up = std::max(resident_after_warm_up, resident);
    if (elapsed() > reported + 60) {
      reported = elapsed();
      std::cerr << odmoe::format("soak: {:.0f} s, {} tokens, {} resident\n", reported, n_token,
                                 format_bytes(resident));
    }
  }
  const Stats stats = engine->stats();
  std::cout << odmoe::format(
      "{{\"seconds\": {:.0f}, \"rounds\": {}, \"tokens\": {}, \"wrong_tokens\": {}, \"resizes\": {}, "
      "\"evictions\": {}, \"misses\": {}, \"hit_rate\": {:.3f}, \"moments_of_pressure\": {}, "
      "\"short_reads\": {}, "
      "\"failed_reads\": {}, \"read_retries\": {}, \"evaluations_tried_again\": {}, "
      "\"resident_bytes_after_warm_up\": {}, \"resident_bytes_at_the_end\": {}}}\n",
      elapsed(), rounds, n_token, n_wrong, stats.arena_resizes, stats.experts.evictions, stats.experts.misses,
      stats.experts.hit_rate(), n_pressure.load(), faults->n_short.load(), faults->n_error.load(),
      stats.io.read_retries, n_failed, resident_after_warm_up, resident);
#ifdef ODMOE_ADDRESS_SANITIZER
  constexpr bool kMemoryMeansSomething = false;  // freed blocks are kept in quarantine
#else
  constexpr bool kMemoryMeansSomething = true;
#endif
  if (!kMemoryMeansSomething || rounds < 8 || resident_after_warm_up == 0) {
    std::cerr << "soak: too short, or built with a sanitizer, to tell whether memory grows\n";
    return {};
  }
  // Allocator slack and pages at the arena's edges come and go.
  const uint64_t allowed = std::max<uint64_t>(resident_after_warm_up / 50, 8 * kMiB);
  if (resident > resident_after_warm_up + allowed) {
    return fail(ErrorKind::kBudget, "soak: {} were resident after warming up, {} at the end",
                format_bytes(resident_after_warm_up), format_bytes(resident));
  }
  return {};
}

}  // namespace
}  // namespace odmoe

int main(int argc, char** argv) try {
  odmoe::Options options;
  CLI::App app("Decodes under read errors, changing budgets and memory pressure; every token is checked.",
               "odmoe_soak");
  app.add_option("MODEL", options.model, "A GGUF file")->required();
  app.add_option("--seconds", options.seconds, "How long")->capture_default_str();
  app.add_option("--percent", options.percent, "Share of the experts around which the arena changes")
      ->check(CLI::Range(0.1, 50.0))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of the errors and the changes")->capture_default_str();
  app.add_option("--errors", options.error_percent, "Reads in a hundred that fail")->capture_default_str();
  app.add_option("--short", options.short_percent, "Reads in a hundred that end early")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const odmoe::Status status = odmoe::soak(options);
  if (status.has_value()) return 0;
  std::cerr << status.error().message << "\n";
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "soak: %s\n", error.what());
  return 1;
}
