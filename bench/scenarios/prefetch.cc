// What prefetching is worth: the same tokens decoded with it and without, in turns, on this machine's drive
// or one as slow as is asked for, with a predictor as good as it is or made worse.
//
//   odmoe_prefetch MODEL [--memory 25%] [--predictor stale-gate] [--lookahead 1] [--recall 0.9,0.8]
//                  [--drive real] [--rounds 7] [--tokens 32] [--threads 0] [--prompt TEXT]
//   odmoe_prefetch MODEL --drive balanced|MB/s [--page-cache] [--latency-us 80] ...
//
// balanced: reading takes as long as computing, by what a first round without prefetching shows.  One line of
// JSON per run; a table is made of them by prefetch.py.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/units.h"
#include "bench/scenarios/slow_drive.h"
#include "bench/scenarios/throttled_reader.h"
#include "engine/engine_impl.h"

namespace odmoe {
namespace {

struct Options {
  std::string model, memory = "25%", predictor = "stale-gate", drive = "real", prompt, shadow;
  int32_t lookahead = 1;
  std::vector<double> recall;
  double near = 0;
  bool page_cache = false;
  int32_t rounds = 7, tokens = 32, threads = 0, context = 1024;
  int64_t latency_us = 80;
};

// A predictor that names wrong experts now and then: of those that it would have named first, each gives its
// rank to another with a probability that depends on how far ahead it is.  The others are drawn by how often
// the layer chose them, as what a router nearly chose is often chosen; of those that lost their rank, the
// share `near` comes right after the first ones.
class FilteredPredictor final : public Predictor {
 public:
  FilteredPredictor(std::unique_ptr<Predictor> inner, const PredictorShape& shape, const Options& options)
      : inner_(std::move(inner)),
        n_expert_(static_cast<size_t>(shape.n_expert)),
        n_layer_(shape.n_layer()),
        recall_(options.recall),
        near_(options.near),
        best_(static_cast<size_t>(shape.n_expert_used)),
        chosen_(n_layer_ * n_expert_, 1),
        random_(1) {
    named_.reserve(2 * best_.size());
    missed_.reserve(best_.size());
  }
  std::string_view name() const override { return inner_->name(); }
  Wants wants() const override { return inner_->wants(); }
  bool stands_alone() const override { return inner_->stands_alone(); }
  bool calibrated() const override { return false; }
  uint64_t bytes() const override { return inner_->bytes(); }
  uint64_t bytes_per_prediction() const override { return inner_->bytes_per_prediction(); }
  void begin_sequence() override { inner_->begin_sequence(); }
  void learn(const RoutingState& state) override {
    inner_->learn(state);
    for (const int32_t expert : state.experts)
      ++chosen_[state.layer * n_expert_ + static_cast<size_t>(expert)];
  }
  Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) override {
    ODMOE_ASSIGN_OR_RETURN(const int32_t n, inner_->begin_token(embedding, scores));
    spoil(0, n, scores);
    return n;
  }
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override {
    ODMOE_ASSIGN_OR_RETURN(const int32_t n, inner_->predict(state, scores));
    spoil(state.layer + 1, n, scores);
    return n;
  }

 private:
  void spoil(size_t first_target, int32_t n_row, std::span<float> scores) {
    for (size_t d = 0; d < static_cast<size_t>(n_row); ++d) {
      const std::span<float> row = scores.subspan(d * n_expert_, n_expert_);
      best_experts(row, best_);
      const double recall = recall_[std::min(d, recall_.size() - 1)];
      const auto counts = std::span(chosen_).subspan((first_target + d) % n_layer_ * n_expert_, n_expert_);
      named_.clear();
      missed_.clear();
      for (const int32_t expert : best_) {
        if (uniform() < recall) {
          named_.push_back(expert);
          continue;
        }
        named_.push_back(other(counts));
        if (uniform() < near_) missed_.push_back(expert);
      }
      named_.insert(named_.end(), missed_.begin(), missed_.end());
      std::ranges::fill(row, 0.0F);
      for (size_t i = 0; i < named_.size(); ++i)
        row[static_cast<size_t>(named_[i])] = static_cast<float>(named_.size() - i);
    }
  }
  double uniform() { return std::uniform_real_distribution<>(0, 1)(random_); }
  // One that was not named, right or wrong.
  int32_t other(std::span<const uint32_t> counts) {
    std::discrete_distribution<int32_t> draw(counts.begin(), counts.end());
    while (true) {
      const int32_t expert = draw(random_);
      if (!std::ranges::contains(best_, expert) && !std::ranges::contains(named_, expert)) return expert;
    }
  }

  std::unique_ptr<Predictor> inner_;
  size_t n_expert_, n_layer_;
  std::vector<double> recall_;
  double near_;
  std::vector<int32_t> best_, named_, missed_;
  std::vector<uint32_t> chosen_;  // [n_expert, n_layer], times
  std::mt19937_64 random_;
};

struct Turn {
  double tokens_per_second = 0, compute_seconds = 0, stall_seconds = 0, busy_seconds = 0, seconds = 0;
  double read_bytes = 0;
};

// One engine and its timeline.
class Player {
 public:
  static Result<std::unique_ptr<Player>> open(const Options& options, bool prefetch,
                                              const std::shared_ptr<std::atomic<double>>& bytes_per_us) {
    EngineOptions engine;
    engine.model = options.model;
    ODMOE_ASSIGN_OR_RETURN(engine.memory, parse_memory_budget(options.memory));
    engine.context = options.context;
    engine.threads = options.threads;
    engine.lookahead = options.lookahead;
    engine.predictor = PredictorKind::kNone;
    if (prefetch) {
      ODMOE_ASSIGN_OR_RETURN(engine.predictor, parse_predictor(options.predictor));
      engine.shadow = options.shadow;
    }
    EngineDependencies world;
    if (options.drive != "real") {
      world.make_reader = [bytes_per_us,
                           options](const ReaderOptions& reader) -> Result<std::unique_ptr<AsyncReader>> {
        if (options.page_cache) {
          return std::make_unique<SlowDrive>(reader.depth, bytes_per_us, options.latency_us);
        }
        ODMOE_ASSIGN_OR_RETURN(auto inner, make_reader(reader));
        return std::make_unique<ThrottledReader>(std::move(inner), bytes_per_us, options.latency_us);
      };
    }
    if (!options.recall.empty()) {
      world.wrap_predictor = [options](std::unique_ptr<Predictor> inner, const PredictorShape& shape) {
        return std::make_unique<FilteredPredictor>(std::move(inner), shape, options);
      };
    }
    auto player = std::make_unique<Player>();
    ODMOE_ASSIGN_OR_RETURN(player->engine_, EngineImpl::open(engine, {}, world));
    ODMOE_ASSIGN_OR_RETURN(player->session_, player->engine_->new_session());
    player->prompt_ = player->engine_->encode(options.prompt, true, true);
    return player;
  }

  // Decodes so many more tokens; starts over when the context is full.
  Result<Turn> play(int32_t n_token) {
    if (session_->tokens().empty() ||
        std::cmp_greater_equal(static_cast<int64_t>(session_->tokens().size()) + n_token, limit_)) {
      session_->truncate(0);
      ODMOE_RETURN_IF_ERROR(session_->evaluate(prompt_));
    }
    const Stats before = engine_->stats();
    for (int32_t i = 0; i < n_token; ++i) {
      const std::span<const float> logits = session_->logits();
      const auto token = static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
      ODMOE_RETURN_IF_ERROR(session_->evaluate({&token, 1}));
      text_.push_back(token);
    }
    const Stats after = engine_->stats();
    Turn turn;
    turn.seconds = after.decode.seconds - before.decode.seconds;
    turn.tokens_per_second = n_token / turn.seconds;
    turn.stall_seconds = after.decode.stall_seconds - before.decode.stall_seconds;
    turn.compute_seconds = turn.seconds - turn.stall_seconds;
    turn.busy_seconds = static_cast<double>(after.io.read_busy_us - before.io.read_busy_us) * 1e-6;
    turn.read_bytes = static_cast<double>(after.io.demand_read_bytes + after.io.prefetch_read_bytes -
                                          before.io.demand_read_bytes - before.io.prefetch_read_bytes);
    return turn;
  }
  Stats stats() const { return engine_->stats(); }
  const std::vector<Token>& text() const { return text_; }
  void limit(int32_t n) { limit_ = n; }

 private:
  std::unique_ptr<EngineImpl> engine_;
  std::unique_ptr<Session> session_;
  std::vector<Token> prompt_, text_;
  int32_t limit_ = 1 << 30;
};

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
  return values[values.size() / 2];
}

Status run(const Options& options) {
  if (options.page_cache && options.drive == "real") {
    return fail(ErrorKind::kUsage, "--page-cache is for a --drive that is not the real one");
  }
  auto bytes_per_us = std::make_shared<std::atomic<double>>(0);
  ODMOE_ASSIGN_OR_RETURN(auto without, Player::open(options, false, bytes_per_us));
  ODMOE_ASSIGN_OR_RETURN(auto with, Player::open(options, true, bytes_per_us));
  // A replay repeats its trace's steps, of which there are no more than this.
  for (Player* player : {without.get(), with.get()}) player->limit(options.context);
  if (options.drive != "real" && options.drive != "balanced") *bytes_per_us = std::stod(options.drive);
  ODMOE_RETURN_IF_ERROR(without->play(options.tokens));
  ODMOE_RETURN_IF_ERROR(with->play(options.tokens));
  if (options.drive == "balanced") {
    ODMOE_ASSIGN_OR_RETURN(const Turn turn, without->play(options.tokens));
    ODMOE_RETURN_IF_ERROR(with->play(options.tokens));
    *bytes_per_us = turn.read_bytes / (turn.compute_seconds * 1e6);
  }
  std::vector<double> ratios, off, on, idle, idle_on, stall_off, stall_on;
  for (int32_t round = 0; round < options.rounds; ++round) {
    Turn turns[2];
    for (const int which : {round % 2, 1 - round % 2}) {
      ODMOE_ASSIGN_OR_RETURN(turns[which], (which == 0 ? without : with)->play(options.tokens));
    }
    off.push_back(turns[0].tokens_per_second);
    on.push_back(turns[1].tokens_per_second);
    ratios.push_back(on.back() / off.back());
    idle.push_back(1 - std::min(turns[0].busy_seconds / turns[0].seconds, 1.0));
    idle_on.push_back(1 - std::min(turns[1].busy_seconds / turns[1].seconds, 1.0));
    stall_off.push_back(turns[0].stall_seconds / turns[0].seconds);
    stall_on.push_back(turns[1].stall_seconds / turns[1].seconds);
  }
  if (with->text() != without->text()) {
    return fail(ErrorKind::kBadFile, "prefetching has changed a token, which it must never");
  }
  const Stats stats = with->stats();
  nlohmann::ordered_json line;
  line["model"] = std::filesystem::path(options.model).filename().string();
  line["memory"] = options.memory;
  line["predictor"] = options.predictor;
  line["lookahead"] = options.lookahead;
  line["recall"] = nlohmann::ordered_json::array();
  for (const auto& ahead : stats.predictor.ahead) {
    line["recall"].push_back(static_cast<double>(ahead.foreseen) /
                             static_cast<double>(std::max<uint64_t>(ahead.wanted, 1)));
  }
  line["threads"] = options.threads;
  line["drive"] = options.drive;
  line["page_cache"] = options.page_cache;
  line["latency_us"] = options.drive == "real" ? 0 : options.latency_us;
  line["drive_bytes_per_second"] = *bytes_per_us * 1e6;
  line["rounds"] = options.rounds;
  line["tokens"] = options.tokens;
  line["tokens_per_second_without"] = median(off);
  line["tokens_per_second_with"] = median(on);
  line["ratio"] = median(ratios);
  line["ratios"] = ratios;
  line["drive_idle_without"] = median(idle);
  line["drive_idle_with"] = median(idle_on);
  line["stalled_without"] = median(stall_off);
  line["stalled_with"] = median(stall_on);
  line["prefetched"] = stats.predictor.prefetched;
  line["prefetched_used"] = stats.predictor.prefetched_used;
  line["prefetched_late"] = stats.predictor.prefetched_late;
  line["misses"] = stats.experts.misses;
  line["prefetching"] = stats.predictor.prefetching;
  line["many_reads"] = stats.predictor.many_reads;
  line["gain"] = stats.predictor.gain;
  line["trials"] = stats.predictor.trials;
  std::cout << line.dump() << std::endl;
  return {};
}

}  // namespace
}  // namespace odmoe

int main(int argc, char** argv) try {
  odmoe::Options options;
  options.prompt = "And it came to pass";
  CLI::App app("Decodes with and without prefetching, in turns");
  app.add_option("model", options.model)->required();
  app.add_option("--memory", options.memory);
  app.add_option("--predictor", options.predictor);
  app.add_option("--shadow", options.shadow);
  app.add_option("--lookahead", options.lookahead);
  app.add_option("--recall", options.recall, "Of right guesses, how many are left, by distance")
      ->delimiter(',');
  app.add_option("--near", options.near, "Of the others, how many come right after");
  app.add_option("--drive", options.drive, "real, balanced, or bytes per microsecond (MB/s)");
  app.add_flag("--page-cache", options.page_cache,
               "A drive that is not the real one reads from the page cache: for small experts");
  app.add_option("--latency-us", options.latency_us);
  app.add_option("--rounds", options.rounds);
  app.add_option("--tokens", options.tokens, "In a round, of each");
  app.add_option("--threads", options.threads);
  app.add_option("--context", options.context, "After so many tokens the timeline starts over");
  app.add_option("--prompt", options.prompt);
  CLI11_PARSE(app, argc, argv);
  const odmoe::Status status = odmoe::run(options);
  if (status.has_value()) return 0;
  std::fprintf(stderr, "odmoe_prefetch: %s\n", status.error().message.c_str());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "odmoe_prefetch: %s\n", error.what());
  return 1;
}
