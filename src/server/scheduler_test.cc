#include "server/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <latch>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "deadline.h"
#include "engine/engine_impl.h"
#include "format/checkpoint.h"
#include "grammar/json_schema.h"
#include "io/fake_reader.h"
#include "odmoe/format.h"
#include "server/generation_keeper.h"

namespace odmoe::server {
namespace {

// Other tests may run meanwhile.
std::filesystem::path own_directory(std::string_view name) {
  return std::filesystem::path(::testing::TempDir()) / odmoe::format("{}-{}", name, getpid());
}

using ::testing::ElementsAre;

// Keeps what it is given; may be told when to have enough.
class RecordingSink final : public GenerationSink {
 public:
  void on_prompt(const GeneratedToken& token) override {
    const MutexLock lock(mutex_);
    prompt_.push_back(token);
  }
  bool on_token(const GeneratedToken& token) override {
    if (on_each_) on_each_();
    MutexLock lock(mutex_);
    tokens_.push_back(token);
    changed_.notify_all();
    return tokens_.size() < enough_;
  }
  void on_end(const GenerationEnd& end) override {
    const MutexLock lock(mutex_);
    EXPECT_FALSE(end_.has_value()) << "it may only end once";
    end_ = end;
    changed_.notify_all();
  }
  GenerationEnd wait() {
    const auto limit = std::chrono::steady_clock::now() + odmoe::testing::kDeadline;
    const MutexLock lock(mutex_);
    while (!end_) {
      if (changed_.wait_until(mutex_, limit)) continue;
      ADD_FAILURE() << "a generation did not end after " << tokens_.size() << " tokens";
      return {};
    }
    return *end_;
  }
  void wait_for_tokens(size_t n) {
    const auto limit = std::chrono::steady_clock::now() + odmoe::testing::kDeadline;
    const MutexLock lock(mutex_);
    while (!end_ && tokens_.size() < n) {
      if (changed_.wait_until(mutex_, limit)) continue;
      ADD_FAILURE() << tokens_.size() << " tokens came, not " << n;
      return;
    }
  }
  std::vector<Token> tokens() {
    const MutexLock lock(mutex_);
    std::vector<Token> ids;
    for (const GeneratedToken& token : tokens_) ids.push_back(token.token);
    return ids;
  }
  size_t enough_ = SIZE_MAX;
  std::function<void()> on_each_;  // called with each token, by the scheduler's thread
  std::vector<GeneratedToken> prompt_, tokens_;

 private:
  Mutex mutex_;
  Condition changed_;
  std::optional<GenerationEnd> end_;
};

// What tells the bits of every token that was written.
std::vector<float> bits_of(const RecordingSink& sink) {
  std::vector<float> all;
  for (const GeneratedToken& token : sink.tokens_) {
    all.push_back(token.logprob);
    for (const TokenLogprob& other : token.top) all.push_back(other.logprob);
  }
  return all;
}

class SchedulerTest : public ::testing::Test {
 protected:
  static constexpr int kSessions = 2;
  static constexpr int kChunk = 16;
  void start(size_t max_queue = 8) {
    scheduler_.reset();
    const EngineOptions options{.model = model_,
                                .memory = parse_memory_budget("50%").value(),
                                .context = context_,
                                .threads = 1,
                                .chunk = chunk_,
                                .sessions = kSessions + options_.patient_sessions,
                                .prompts = options_.prompts};
    engine_ = Engine::open(options).value();
    options_.sessions = kSessions;
    options_.chunk = chunk_;
    options_.max_queue = max_queue;
    cache_options_.states_hold_every_length = engine_->model().state_holds_every_length;
    std::unique_ptr<TurnLedger> ledger;
    if (options_.reuse == PromptReuse::kConversation) {
      ledger = std::make_unique<TurnLedger>(
          TurnLedgerOptions{.chunk = chunk_, .memory_bytes = ledger_bytes_, .file = ledger_file_});
    }
    scheduler_ =
        Scheduler::create(*engine_, options_, PromptCache::create(cache_options_).value(), std::move(ledger))
            .value();
  }
  Generation ask(std::string_view text, int32_t max_tokens) const {
    return {.prompt = engine_->encode(text),
            .sampling = {.temperature = 0},
            .max_tokens = max_tokens,
            .ignore_eos = true};
  }
  std::vector<Token> generate(Generation generation) {
    auto sink = std::make_shared<RecordingSink>();
    auto ticket = scheduler_->submit(std::move(generation), sink);
    EXPECT_TRUE(ticket.has_value());
    last_ = sink->wait();
    return sink->tokens();
  }
  std::filesystem::path model_ = ODMOE_SOURCE_DIR "/models/demo.gguf";
  int32_t chunk_ = kChunk, context_ = 256;
  uint64_t ledger_bytes_ = 1U << 20;
  std::filesystem::path ledger_file_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Scheduler> scheduler_;
  SchedulerOptions options_;
  PromptCacheOptions cache_options_{.chunk = kChunk};
  GenerationEnd last_;
};

constexpr const char* kText = "KING RICHARD: Now is the winter of our discontent made glorious summer";

TEST_F(SchedulerTest, SaysWhatTheEngineAloneSays) {
  start();
  const std::vector<Token> served = generate(ask(kText, 20));
  EXPECT_EQ(last_.ending, Ending::kLength);
  EXPECT_EQ(last_.generated_tokens, 20);
  scheduler_.reset();  // gives the sessions back
  const auto session = engine_->new_session().value();
  const auto alone =
      engine_->generate(*session, engine_->encode(kText),
                        {.sampling = {.temperature = 0}, .max_tokens = 20, .ignore_eos = true}, {});
  EXPECT_EQ(engine_->decode(served), alone.value().text);
}

TEST_F(SchedulerTest, WhatIsServedBesideDoesNotChangeAText) {
  start();
  const std::vector<Token> alone = generate(ask(kText, 24));
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Scheduler::Ticket> tickets;
  for (const char* text : {"A horse", kText, "My kingdom for", kText, "First Citizen"}) {
    sinks.push_back(std::make_shared<RecordingSink>());
    tickets.push_back(scheduler_->submit(ask(text, 24), sinks.back()).value());
  }
  for (const auto& sink : sinks) sink->wait();
  EXPECT_EQ(sinks[1]->tokens(), alone);
  EXPECT_EQ(sinks[3]->tokens(), alone);
}

TEST_F(SchedulerTest, APromptThatWasThereIsNotEvaluatedAgain) {
  start();
  generate(ask(kText, 4));
  EXPECT_EQ(last_.reused_tokens, 0);
  const int32_t size = last_.prompt_tokens;
  ASSERT_GT(size, kChunk);
  generate(ask("Something else", 4));  // the other session takes it
  generate(ask(kText, 4));
  EXPECT_EQ(last_.reused_tokens, (size - 1) / kChunk * kChunk)
      << "whole chunks, so that no bit depends on it";
}

TEST_F(SchedulerTest, AllThatIsEqualIsReusedWhereThatIsAskedFor) {
  options_.reuse = cache_options_.reuse = PromptReuse::kLongest;
  start();
  generate(ask(kText, 4));
  const int32_t size = last_.prompt_tokens;
  generate(ask(kText, 4));
  EXPECT_EQ(last_.reused_tokens, size - 1);
}

TEST_F(SchedulerTest, PromptsReadInCompanyChangeNoBit) {
  options_.reuse = cache_options_.reuse = PromptReuse::kExact;
  chunk_ = cache_options_.chunk = 128;
  context_ = 512;
  start();
  std::string long_text;
  for (int i = 0; i < 8; ++i) long_text += std::string(kText) + " by this sun of York; ";
  const std::vector<std::string> texts = {long_text, "A horse", kText, "My kingdom for " + long_text,
                                          "First Citizen"};
  const auto generation = [&](const std::string& text, int32_t tokens) {
    Generation asked = ask(text, tokens);
    asked.top_logprobs = 5;
    return asked;
  };
  std::vector<std::vector<float>> wanted;
  for (size_t i = 0; i < texts.size(); ++i) {
    start();
    const auto sink = std::make_shared<RecordingSink>();
    const auto ticket = scheduler_->submit(generation(texts[i], 8 + static_cast<int32_t>(i)), sink).value();
    sink->wait();
    wanted.push_back(bits_of(*sink));
  }
  options_.prompts = 2;
  start();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Scheduler::Ticket> tickets;
  for (size_t i = 0; i < texts.size(); ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    tickets.push_back(
        scheduler_->submit(generation(texts[i], 8 + static_cast<int32_t>(i)), sinks.back()).value());
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    sinks[i]->wait();
    EXPECT_EQ(bits_of(*sinks[i]), wanted[i]) << texts[i];
  }
}

TEST_F(SchedulerTest, WhoBeginsAlikeWaitsForTheBeginningAndTakesItUp) {
  options_.reuse = cache_options_.reuse = PromptReuse::kExact;
  options_.prompts = 2;
  options_.waits_for_beginnings = true;
  cache_options_.memory_bytes = 8U << 20;
  start();
  const std::vector<Token> alone = generate(ask(std::string(kText) + " by this sun", 6));
  start();
  std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> asked;
  const auto first = std::make_shared<RecordingSink>(), second = std::make_shared<RecordingSink>();
  asked.emplace_back(ask(std::string(kText) + " and all the clouds", 6), first);
  asked.emplace_back(ask(std::string(kText) + " by this sun", 6), second);
  const auto shared =
      static_cast<int32_t>(std::ranges::mismatch(asked[0].first.prompt, asked[1].first.prompt).in1 -
                           asked[0].first.prompt.begin());
  ASSERT_GT(shared, kChunk);
  const auto tickets = scheduler_->submit_all(std::move(asked)).value();
  EXPECT_EQ(first->wait().reused_tokens, 0);
  EXPECT_EQ(second->wait().reused_tokens, shared / kChunk * kChunk);
  EXPECT_EQ(second->tokens(), alone);
}

// Keeps a generation in memory.
class MemoryKeeper final : public GenerationKeeper {
 public:
  KeptGeneration kept() override { return {}; }
  int32_t restorable(std::span<const Token> text, const Division& division) override {
    const auto n = static_cast<int32_t>(tokens_.size());
    const bool is_there = tokens_.size() <= text.size() && division.shared(division_, n) == n &&
                          std::ranges::equal(tokens_, text.first(tokens_.size()));
    return is_there ? n : 0;
  }
  int32_t restore(Session& session) override {
    ++n_restored;
    if (loses) return 0;
    std::span<const std::byte> rest = state_;
    const auto give = [&](std::span<std::byte> piece) -> Status {
      std::ranges::copy(rest.first(piece.size()), piece.begin());
      rest = rest.subspan(piece.size());
      return {};
    };
    EXPECT_TRUE(session.read_state(tokens_, division_, give).has_value());
    return static_cast<int32_t>(tokens_.size());
  }
  void wrote(const GeneratedToken& /*token*/) override {}
  bool went_on(const Session& /*session*/, double /*seconds*/) override { return ++n_went_on == saved_at; }
  bool save(const Session& session) override {
    ++n_begun;
    n_begun.notify_all();
    is_held.wait(true);
    tokens_.assign(session.tokens().begin(), session.tokens().end());
    division_ = session.division();
    state_.clear();
    EXPECT_TRUE(session
                    .write_state([&](std::span<const std::byte> piece) -> Status {
                      state_.insert(state_.end(), piece.begin(), piece.end());
                      return {};
                    })
                    .has_value());
    ++n_saved;
    return true;
  }
  void ended(Ending ending) override { ending_ = ending; }
  bool interrupted(const Session& /*session*/, double /*seconds*/) override {
    ++n_interrupted;
    return true;
  }

  // Lets it save.
  void let_go() {
    is_held = false;
    is_held.notify_all();
  }

  bool loses = false;                 // what is saved
  int saved_at = 0;                   // of the times that it went on; 0: at none
  std::atomic<bool> is_held = false;  // what saves it waits
  std::atomic<int> n_begun = 0, n_saved = 0, n_restored = 0, n_went_on = 0, n_interrupted = 0;
  std::optional<Ending> ending_;

 private:
  std::vector<Token> tokens_;
  Division division_{1};
  std::vector<std::byte> state_;
};

TEST_F(SchedulerTest, WhatPatientOnesRememberIsParkedWhileOthersAreServed) {
  options_.patient_sessions = 2;
  options_.prompts = 2;
  options_.park_after = std::chrono::milliseconds(0);
  options_.reuse = cache_options_.reuse = PromptReuse::kExact;
  start(2);
  const std::vector<Token> alone = generate(ask(kText, 150)), other = generate(ask("A horse", 150));
  for (const bool loses : {false, true}) {
    std::vector<std::shared_ptr<MemoryKeeper>> keepers;
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::vector<Scheduler::Ticket> tickets;
    for (const char* text : {kText, "A horse"}) {
      Generation asked = ask(text, 150);
      asked.patient = true;
      asked.keeper = keepers.emplace_back(std::make_shared<MemoryKeeper>());
      keepers.back()->loses = loses;
      tickets.push_back(
          scheduler_->submit(std::move(asked), sinks.emplace_back(std::make_shared<RecordingSink>()))
              .value());
    }
    for (const auto& sink : sinks) sink->wait_for_tokens(3);
    const auto beside = std::make_shared<RecordingSink>();
    // One that is being parked is there at the next token.
    beside->on_each_ = [&] {
      for (const auto& keeper : keepers) {
        while (keeper->n_begun > keeper->n_saved) std::this_thread::yield();
      }
    };
    const auto ticket = scheduler_->submit(ask("Something else", 100), beside).value();
    beside->wait();
    for (const auto& sink : sinks) EXPECT_EQ(sink->wait().ending, Ending::kLength);
    EXPECT_EQ(sinks[0]->tokens(), alone);
    EXPECT_EQ(sinks[1]->tokens(), other);
    for (const auto& keeper : keepers) {
      EXPECT_GE(keeper->n_saved, 1);
      EXPECT_GE(keeper->n_restored, 1);
      EXPECT_EQ(keeper->ending_, Ending::kLength);
    }
  }
}

TEST_F(SchedulerTest, NobodyWaitsForTheDriveButWhoIsSaved) {
  options_.patient_sessions = 2;
  options_.prompts = 2;
  options_.reuse = cache_options_.reuse = PromptReuse::kExact;
  start();
  const std::vector<Token> alone = generate(ask(kText, 30)), other = generate(ask("A horse", 30));
  for (const bool leaves : {false, true}) {
    std::atomic<bool> cancelled = false;
    std::vector<std::shared_ptr<MemoryKeeper>> keepers;
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::vector<Scheduler::Ticket> tickets;
    for (const char* text : {kText, "A horse"}) {
      Generation asked = ask(text, 30);
      asked.patient = true;
      asked.keeper = keepers.emplace_back(std::make_shared<MemoryKeeper>());
      sinks.push_back(std::make_shared<RecordingSink>());
      if (keepers.size() == 1) {
        keepers[0]->is_held = true;
        keepers[0]->saved_at = leaves ? 0 : 5;
        // In the scheduler's thread.
        if (leaves) {
          sinks[0]->on_each_ = [&, n = 0]() mutable {
            if (++n == 5) cancelled.wait(false);
          };
        }
      }
      tickets.push_back(scheduler_->submit(std::move(asked), sinks.back()).value());
    }
    if (leaves) {
      sinks[0]->wait_for_tokens(4);
      tickets[0].cancel(Ending::kCancelled);
      cancelled = true;
      cancelled.notify_all();
    }
    keepers[0]->n_begun.wait(0);
    EXPECT_EQ(generate(ask("Something else", 10)).size(), 10U) << "who comes is served";
    EXPECT_EQ(sinks[1]->wait().ending, Ending::kLength) << "others of the batch go on";
    EXPECT_EQ(keepers[0]->n_saved, 0);
    EXPECT_LE(sinks[0]->tokens().size(), 6U) << "it takes no part";
    keepers[0]->let_go();
    EXPECT_EQ(sinks[0]->wait().ending, leaves ? Ending::kCancelled : Ending::kLength);
    EXPECT_EQ(keepers[0]->n_saved, 1);
    EXPECT_EQ(sinks[1]->tokens(), other);
    if (leaves) continue;
    EXPECT_EQ(sinks[0]->tokens(), alone);
  }
}

// Nobody noted that it was over.
TEST_F(SchedulerTest, WhatWasWrittenToItsEndIsOver) {
  for (const bool patient : {false, true}) {
    options_.patient_sessions = 1;
    options_.prompts = 2;
    options_.reuse = cache_options_.reuse = PromptReuse::kExact;
    start();
    Generation asked = ask(kText, 5);
    asked.patient = patient;
    for (const Token token : generate(asked)) asked.written.push_back({.token = token});
    const auto keeper = std::make_shared<MemoryKeeper>();
    asked.keeper = keeper;
    EXPECT_THAT(generate(asked), ElementsAre());
    EXPECT_EQ(last_.ending, Ending::kLength);
    EXPECT_EQ(last_.generated_tokens, 5);
    EXPECT_EQ(keeper->ending_, Ending::kLength);
    asked.written.pop_back();
    EXPECT_EQ(generate(asked).size(), 1U);
  }
}

TEST_F(SchedulerTest, NothingOfPatientOnesIsSavedOrBroughtBackBetweenTheTokensOfOthers) {
  options_.patient_sessions = 1;
  options_.prompts = 2;
  options_.reuse = cache_options_.reuse = PromptReuse::kExact;
  start();
  Generation asked = ask(kText, 40);
  const std::vector<Token> alone = generate(asked);
  asked.patient = true;
  const auto keeper = std::make_shared<MemoryKeeper>();
  asked.keeper = keeper;
  const auto patient = std::make_shared<RecordingSink>(), beside = std::make_shared<RecordingSink>();
  Scheduler::Ticket ticket_beside;
  int n_went_on = -1, n_changes = 0;
  size_t n_token = 0;
  std::atomic<bool> cancelled = false;
  // In the scheduler's thread, when there is something to save.
  patient->on_each_ = [&] {
    if (++n_token == 3) {
      n_went_on = keeper->n_went_on;
      ticket_beside = scheduler_->submit(ask("Something else", 10), beside).value();
    }
    while (n_token == 6 && !cancelled) std::this_thread::yield();
  };
  beside->on_each_ = [&] { n_changes += keeper->n_went_on - n_went_on; };
  auto first = scheduler_->submit(asked, patient).value();
  beside->wait();
  EXPECT_EQ(n_changes, 0);
  patient->wait_for_tokens(5);
  first.cancel(Ending::kCancelled);
  cancelled = true;
  EXPECT_EQ(patient->wait().ending, Ending::kCancelled);
  EXPECT_GT(keeper->n_went_on, n_went_on);
  ASSERT_EQ(keeper->n_interrupted, 1);
  Generation other = ask("A horse", 3);
  other.patient = true;
  generate(other);  // has the session meanwhile

  for (const Token token : patient->tokens()) asked.written.push_back({.token = token});
  const auto again = std::make_shared<RecordingSink>(), late = std::make_shared<RecordingSink>();
  Scheduler::Ticket ticket_again;
  n_token = 0;
  late->on_each_ = [&] {
    if (++n_token == 3) ticket_again = scheduler_->submit(asked, again).value();
    n_changes += keeper->n_restored;
  };
  const auto ticket = scheduler_->submit(ask("My kingdom", 10), late).value();
  late->wait();
  EXPECT_EQ(n_changes, 0);
  EXPECT_EQ(again->wait().ending, Ending::kLength);
  EXPECT_EQ(keeper->n_restored, 1);
  std::vector<Token> all = patient->tokens();
  const std::vector<Token> rest = again->tokens();
  all.insert(all.end(), rest.begin(), rest.end());
  EXPECT_EQ(all, alone);
}

TEST_F(SchedulerTest, AtTheEndPatientOnesAreSavedWhenOthersAreDone) {
  options_.patient_sessions = 1;
  options_.prompts = 2;
  start();
  Generation asked = ask(kText, 150);
  asked.patient = true;
  const auto keeper = std::make_shared<MemoryKeeper>();
  asked.keeper = keeper;
  const auto patient = std::make_shared<RecordingSink>(), beside = std::make_shared<RecordingSink>();
  Scheduler::Ticket ticket_beside;
  size_t n_patient = 0, n_token = 0;
  int n_saved = 0;
  patient->on_each_ = [&] {
    if (++n_patient == 3) ticket_beside = scheduler_->submit(ask("Something else", 20), beside).value();
  };
  beside->on_each_ = [&] {
    if (++n_token == 3) scheduler_->drain();
    n_saved += keeper->n_interrupted;
  };
  const auto ticket = scheduler_->submit(asked, patient).value();
  EXPECT_EQ(beside->wait().ending, Ending::kLength);
  EXPECT_EQ(n_saved, 0);
  EXPECT_EQ(patient->wait().ending, Ending::kCancelled);
  EXPECT_EQ(keeper->n_interrupted, 1);
}

TEST_F(SchedulerTest, PatientOnesGoOnWhileNobodyElseDoesAndChangeNoBit) {
  chunk_ = cache_options_.chunk = 128;
  context_ = 512;
  start();
  std::string long_text;
  for (int i = 0; i < 8; ++i) long_text += std::string(kText) + " by this sun of York; ";
  const std::vector<Token> beside = generate(ask(kText, 20));
  std::vector<std::vector<Token>> wanted;
  for (const std::string& text : {long_text, std::string("A horse"), "My kingdom for " + long_text}) {
    start();
    wanted.push_back(generate(ask(text, 40)));
  }
  options_.prompts = 2;
  options_.patient_sessions = 2;
  start();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Scheduler::Ticket> tickets;
  for (const std::string& text : {long_text, std::string("A horse"), "My kingdom for " + long_text}) {
    sinks.push_back(std::make_shared<RecordingSink>());
    Generation asked = ask(text, 40);
    asked.patient = true;
    tickets.push_back(scheduler_->submit(std::move(asked), sinks.back()).value());
  }
  for (int i = 0; i < 4; ++i) {
    // What the others have when each of its tokens comes.
    std::vector<size_t> others;
    const auto sink = std::make_shared<RecordingSink>();
    sink->on_each_ = [&] {
      size_t n = 0;
      for (const auto& patient : sinks) n += patient->tokens().size();
      others.push_back(n);
    };
    const auto ticket = scheduler_->submit(ask(kText, 20), sink).value();
    EXPECT_FALSE(sink->wait().patient);
    EXPECT_EQ(sink->tokens(), beside);
    ASSERT_EQ(others.size(), beside.size());
    EXPECT_EQ(others.front(), others.back()) << "they wait from its first token to its last";
  }
  for (size_t i = 0; i < sinks.size(); ++i) {
    const GenerationEnd end = sinks[i]->wait();
    EXPECT_EQ(end.ending, Ending::kLength);
    EXPECT_TRUE(end.patient);
    EXPECT_EQ(sinks[i]->tokens(), wanted[i]);
  }
}

TEST_F(SchedulerTest, PatientOnesAreCountedApartAndEndWhenItDrains) {
  options_.patient_sessions = 1;
  start(1);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Scheduler::Ticket> tickets;
  for (int i = 0; i < 3; ++i) sinks.push_back(std::make_shared<RecordingSink>());
  // The first one writes no more until they are told to end.
  std::latch came(1), drained(1);
  sinks[0]->on_each_ = [&, first = true]() mutable {
    if (!std::exchange(first, false)) return;
    came.count_down();
    drained.wait();
  };
  for (const auto& sink : sinks) {
    Generation asked = ask(kText, 200);
    asked.patient = true;
    tickets.push_back(scheduler_->submit(std::move(asked), sink).value());
  }
  came.wait();
  const Scheduler::Load load = scheduler_->load();
  EXPECT_EQ(load.patient_running, 1U);
  EXPECT_EQ(load.patient_queued, 2U);
  EXPECT_EQ(load.running + load.queued, 0U);
  scheduler_->drain();
  drained.count_down();
  for (const auto& sink : sinks) EXPECT_EQ(sink->wait().ending, Ending::kCancelled);
  EXPECT_TRUE(scheduler_->wait_idle(std::chrono::seconds(60)));
}

// Conversations whose prompts hold what was written before, and begin alike, asked for one by one and all at
// once, with caches that hold nothing, too little, and files as well: every logit of every token is what a
// server that has just started computes.  The chunk is one that tells: below 64 tokens in a row the kernels
// round this model's numbers alike however they are divided, and nothing that is reused could be wrong.
TEST_F(SchedulerTest, WhatIsReusedChangesNoBit) {
  options_.reuse = PromptReuse::kExact;
  chunk_ = 128;
  context_ = 512;
  constexpr int kTokens = 30;
  struct Request {
    std::vector<Token> prompt;
    std::vector<float> bits;
  };
  const auto generation = [&](const Request& request) -> Generation {
    return {.prompt = request.prompt,
            .sampling = {.temperature = 0},
            .max_tokens = kTokens,
            .top_logprobs = engine_->model().n_vocab,
            .ignore_eos = true};
  };
  std::string common;
  for (int i = 0; i < 8; ++i) common += std::string(kText) + " by this sun of York; ";
  std::vector<Request> requests;
  start();
  std::vector<Token> words = engine_->encode(common);
  ASSERT_GT(words.size(), 235U);
  for (const size_t size : {235U, 110U}) {
    std::vector<Token> prompt(words.begin(), words.begin() + static_cast<ptrdiff_t>(size));
    for (int turn = 0; turn < 3; ++turn) {
      start();
      Request& request = requests.emplace_back(Request{.prompt = prompt, .bits = {}});
      const auto sink = std::make_shared<RecordingSink>();
      const auto ticket = scheduler_->submit(generation(request), sink).value();
      ASSERT_EQ(sink->wait().reused_tokens, 0);
      request.bits = bits_of(*sink);
      ASSERT_EQ(request.bits.size(), kTokens * (1 + static_cast<size_t>(engine_->model().n_vocab)));
      // What was written crosses into the next chunk, which then was not read as one.
      const std::vector<Token> written = sink->tokens(), said = engine_->encode(" And thou? Speak,", false);
      prompt.insert(prompt.end(), written.begin(), written.end());
      prompt.insert(prompt.end(), said.begin(), said.end());
    }
  }

  const auto directory = own_directory("odmoe-reuse-test");
  std::filesystem::remove_all(directory);
  constexpr uint64_t kTooLittle = 500U << 10;  // for two chunks, not for four
  std::array<PromptCacheOptions, 3> caches;
  for (PromptCacheOptions& cache : caches) {
    cache.chunk = chunk_;
    cache.reuse = PromptReuse::kExact;
  }
  caches[1].memory_bytes = caches[2].memory_bytes = kTooLittle;
  caches[2].directory = directory;
  caches[2].disk_bytes = 8U << 20;
  caches[2].identity = "demo";
  for (size_t cache = 0; cache < caches.size(); ++cache) {
    cache_options_ = caches[cache];
    std::mt19937 random(static_cast<unsigned>(cache));
    int32_t reused = 0;
    for (int round = 0; round < 3; ++round) {
      if (round != 1) start(requests.size());  // then only files are left of what was
      std::ranges::shuffle(requests, random);
      std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> asked;
      std::vector<std::shared_ptr<RecordingSink>> sinks;
      for (const Request& request : requests) {
        sinks.push_back(std::make_shared<RecordingSink>());
        asked.emplace_back(generation(request), sinks.back());
      }
      std::vector<Scheduler::Ticket> tickets;
      if (round == 0) {  // one by one
        for (size_t i = 0; i < asked.size(); ++i) {
          tickets.push_back(scheduler_->submit(std::move(asked[i].first), asked[i].second).value());
          sinks[i]->wait();
        }
      } else {
        tickets = scheduler_->submit_all(std::move(asked)).value();
      }
      for (size_t i = 0; i < sinks.size(); ++i) {
        const GenerationEnd end = sinks[i]->wait();
        reused += end.reused_tokens;
        EXPECT_TRUE(bits_of(*sinks[i]) == requests[i].bits)
            << "cache " << cache << ", round " << round << ", " << end.reused_tokens << " of "
            << end.prompt_tokens << " tokens reused";
      }
    }
    EXPECT_GT(reused, 4 * chunk_) << "cache " << cache;
  }
  scheduler_.reset();
  std::filesystem::remove_all(directory);
}

// Models of every kind of state that families have.  What tells is a chunk beyond 64 tokens for some, and
// quantised weights for others.
constexpr auto kConversationModels =
    std::to_array<const char*>({"",                  // the bundled one: the rows of all tokens
                                "gpt-oss.F32",       // windows
                                "deepseek4.MXFP4",   // windows, and blocks
                                "minimax-m3.F32",    // rows that an indexer chooses
                                "qwen3next.Q4_K_M",  // a delta net and convolutions
                                "kimi-k3.F32"});     // a delta rule; streams that are banked

class Conversations : public SchedulerTest {
 protected:
  static constexpr int32_t kTurns = 5;
  static constexpr int32_t kAnswer = 20;
  struct Turn {
    std::vector<Token> prompt, answer;
    std::vector<float> bits;
    int32_t reused = 0;
  };
  using Conversation = std::vector<Turn>;

  // False: it is one of the reference data, which are not here.
  bool use(const std::string& model) {
    if (model.empty()) return true;
    const char* shared = std::getenv("ODMOE_SHARED");
    if (shared == nullptr || *shared == 0) return false;
    model_ = std::filesystem::path(shared) / "models/families" / (model + ".gguf");
    return true;
  }
  void SetUp() override {
    chunk_ = 96;
    context_ = 1024;
    cache_options_ = {.chunk = chunk_};
    directory_ = own_directory("odmoe-conversation");
    std::filesystem::remove_all(directory_);
  }
  void TearDown() override {
    scheduler_.reset();
    std::filesystem::remove_all(directory_);
  }

  static std::vector<Token> some_text(unsigned seed, size_t n) {
    std::mt19937 random(seed);
    std::vector<Token> tokens(n);
    for (Token& token : tokens) token = static_cast<Token>(random() % 256);
    return tokens;
  }
  static Generation generation_of(std::vector<Token> prompt, int32_t tokens) {
    return {.prompt = std::move(prompt),
            .sampling = {.temperature = 0},
            .max_tokens = tokens,
            .top_logprobs = 200,
            .ignore_eos = true};
  }
  // What comes after an answer: the next question.  One turn loses the end of its answer on the way.
  static std::vector<Token> next_prompt(const Turn& turn, int32_t number) {
    std::vector<Token> prompt = turn.prompt;
    const auto lost = number == 3 ? 4 : 0;
    prompt.insert(prompt.end(), turn.answer.begin(), turn.answer.end() - lost);
    const std::vector<Token> said =
        some_text(static_cast<unsigned>(number), 60 + 20 * static_cast<size_t>(number));
    prompt.insert(prompt.end(), said.begin(), said.end());
    return prompt;
  }
  void ask(Turn& turn) {
    const auto sink = std::make_shared<RecordingSink>();
    const auto ticket = scheduler_->submit(generation_of(turn.prompt, kAnswer), sink).value();
    const GenerationEnd end = sink->wait();
    ASSERT_EQ(end.ending, Ending::kLength) << end.error.message;
    turn.answer = sink->tokens();
    turn.bits = bits_of(*sink);
    turn.reused = end.reused_tokens;
  }
  // All turns; `between` comes before each but the first.
  Conversation have(const std::function<void(Turn& next)>& between) {
    Conversation turns;
    Turn turn{.prompt = some_text(100, 150)};
    for (int32_t i = 1; i <= kTurns; ++i) {
      if (i > 1) between(turn);
      ask(turn);
      turns.push_back(turn);
      turn = {.prompt = next_prompt(turn, i)};
    }
    return turns;
  }
  void ask_others(unsigned seed, int n) {
    for (int i = 0; i < n; ++i) {
      Turn other{.prompt = some_text(seed + static_cast<unsigned>(i), 130)};
      ask(other);
    }
  }
  static void expect_same(const Conversation& had, const Conversation& wanted, const char* how) {
    ASSERT_EQ(had.size(), wanted.size());
    for (size_t i = 0; i < had.size(); ++i) {
      EXPECT_TRUE(had[i].bits == wanted[i].bits) << how << ": turn " << i + 1 << ", " << had[i].reused
                                                 << " of " << had[i].prompt.size() << " reused";
      EXPECT_EQ(had[i].answer, wanted[i].answer);
    }
  }
  std::filesystem::path directory_;
};

// A conversation of several turns has the same bits, of every token and with every logit, whatever is there
// of the turns before and whoever is served beside.
class ConversationTest : public Conversations, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (!use(GetParam())) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
    Conversations::SetUp();
  }
};

TEST_P(ConversationTest, HasItsBitsWhateverIsThereOfIt) {
  start();
  const Conversation wanted = have([](Turn&) {});
  const bool whole = engine_->model().state_holds_every_length;
  for (int32_t i = 1; i < kTurns; ++i) {
    const auto before = static_cast<int32_t>(wanted[static_cast<size_t>(i) - 1].prompt.size());
    // All but the last token of an answer was evaluated; of the one that lost its end, what is left.
    const int32_t written = i == 3 ? kAnswer - 4 : kAnswer - 1;
    const int32_t reused = wanted[static_cast<size_t>(i)].reused;
    if (i == 3 && !whole && reused == before)
      continue;  // it cannot be taken back to the middle of the answer
    EXPECT_EQ(reused, before + written) << "turn " << i + 1;
  }

  start();
  unsigned seed = 1000;
  const Conversation evicted = have([&](Turn&) { ask_others(seed += 10, kSessions); });
  expect_same(evicted, wanted, "nothing is there");
  for (const Turn& turn : evicted) EXPECT_EQ(turn.reused, 0);

  cache_options_.memory_bytes = 64U << 20;
  start();
  const Conversation kept = have([&](Turn&) { ask_others(seed += 10, kSessions); });
  expect_same(kept, wanted, "all is in the prompt cache");
  for (int32_t i : {1, 2, 4})
    EXPECT_EQ(kept[static_cast<size_t>(i)].reused, wanted[static_cast<size_t>(i)].reused);

  // Too little for all; each turn finds something else.
  cache_options_.memory_bytes = wanted[1].prompt.size() * 1024;
  start();
  expect_same(have([&](Turn&) { ask_others(seed += 10, kSessions); }), wanted, "some is there");
}

TEST_P(ConversationTest, HasItsBitsAfterARestart) {
  start();
  const Conversation wanted = have([](Turn&) {});

  cache_options_.memory_bytes = 64U << 20;
  cache_options_.directory = directory_;
  cache_options_.disk_bytes = 256U << 20;
  cache_options_.identity = "it";
  ASSERT_TRUE(PromptCache::prepare(directory_).has_value());
  ledger_file_ = TurnLedger::file_in(directory_, "it");
  start();
  const Conversation restarted = have([&](Turn&) { start(); });
  expect_same(restarted, wanted, "from the disk");
  for (int32_t i : {1, 2, 4}) {
    EXPECT_EQ(restarted[static_cast<size_t>(i)].reused, wanted[static_cast<size_t>(i)].reused);
  }

  // The files of KV caches are lost, what is remembered of the divisions is not.
  scheduler_.reset();  // saves what it has
  std::filesystem::remove_all(directory_);
  ASSERT_TRUE(PromptCache::prepare(directory_).has_value());
  start();
  const Conversation lost = have([&](Turn&) {
    scheduler_.reset();
    for (const auto& file : std::filesystem::directory_iterator(directory_)) {
      if (file.path().extension() == ".odmoe-kv") std::filesystem::remove(file.path());
    }
    start();
  });
  expect_same(lost, wanted, "from nothing");
  for (const Turn& turn : lost) EXPECT_EQ(turn.reused, 0);
}

TEST_P(ConversationTest, HasItsBitsInCompany) {
  start();
  const Conversation wanted = have([](Turn&) {});
  for (const uint64_t memory : {0U, 64U << 20}) {
    cache_options_.memory_bytes = memory;
    start(32);
    // Of itself, too: the turns before are asked again while the next one is.
    Conversation turns;
    Turn turn{.prompt = some_text(100, 150)};
    for (int32_t i = 1; i <= kTurns; ++i) {
      std::vector<std::shared_ptr<RecordingSink>> sinks;
      std::vector<Scheduler::Ticket> tickets;
      std::vector<std::pair<size_t, std::shared_ptr<RecordingSink>>> again;
      const auto submit = [&](std::vector<Token> prompt) {
        sinks.push_back(std::make_shared<RecordingSink>());
        tickets.push_back(
            scheduler_->submit(generation_of(std::move(prompt), kAnswer), sinks.back()).value());
        return sinks.back();
      };
      for (size_t earlier = 0; earlier < turns.size(); ++earlier)
        again.emplace_back(earlier, submit(turns[earlier].prompt));
      submit(some_text(static_cast<unsigned>(i), 140));
      const auto ours = submit(turn.prompt);
      submit(some_text(static_cast<unsigned>(10 + i), 90));
      for (const auto& sink : sinks) ASSERT_EQ(sink->wait().ending, Ending::kLength);
      for (const auto& [earlier, sink] : again) {
        EXPECT_TRUE(bits_of(*sink) == wanted[earlier].bits) << "turn " << earlier + 1 << " again";
      }
      turn.answer = ours->tokens();
      turn.bits = bits_of(*ours);
      turns.push_back(turn);
      turn = {.prompt = next_prompt(turn, i)};
    }
    expect_same(turns, wanted, "in company");
  }
}

// That the tests above would find what they look for.  Which models round otherwise when their text is
// divided otherwise depends on ggml and the processor.
TEST_F(Conversations, WouldHaveOtherBitsDividedOtherwise) {
  for (const char* model : kConversationModels) {
    if (!use(model)) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test more models";
    start();
    for (const Turn& turn : have([](Turn&) {})) {
      start();  // nothing is remembered
      Turn fresh{.prompt = turn.prompt};
      ask(fresh);
      EXPECT_EQ(fresh.reused, 0);
      if (fresh.bits != turn.bits) return;
    }
  }
  FAIL() << "no model has other bits";
}

INSTANTIATE_TEST_SUITE_P(Models, ConversationTest, ::testing::ValuesIn(kConversationModels),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace_if(
                               name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
                           return name.empty() ? "Bundled" : name;
                         });

TEST_F(SchedulerTest, ATextWhoseSessionWasGivenAwayIsTakenUpAgain) {
  cache_options_ = {.memory_bytes = 8U << 20, .chunk = kChunk};
  start();
  generate(ask(kText, 4));
  const int32_t size = last_.prompt_tokens;
  for (const char* text : {"My kingdom for a horse, a horse of course, and a very good horse",
                           "Friends, Romans, countrymen, lend me your ears; I come to bury Caesar",
                           "To be, or not to be, that is the question: whether it is nobler in the mind"}) {
    generate(ask(text, 4));  // more than there are sessions
  }
  generate(ask(kText, 4));
  EXPECT_EQ(last_.reused_tokens, (size - 1) / kChunk * kChunk);
}

TEST_F(SchedulerTest, TextsSurviveARestartInTheirDirectory) {
  const auto directory = own_directory("odmoe-scheduler-test");
  std::filesystem::remove_all(directory);
  cache_options_ = {.memory_bytes = 8U << 20,
                    .directory = directory,
                    .disk_bytes = 8U << 20,
                    .identity = "demo",
                    .chunk = kChunk};
  start();
  const std::vector<Token> first = generate(ask(kText, 8));
  const int32_t size = last_.prompt_tokens;
  start();
  EXPECT_EQ(generate(ask(kText, 8)), first);
  EXPECT_EQ(last_.reused_tokens, (size - 1) / kChunk * kChunk);
  scheduler_.reset();
  std::filesystem::remove_all(directory);
}

TEST_F(SchedulerTest, TextsAreUsedAgainForTheirOwnerAlone) {
  const auto directory = own_directory("odmoe-scheduler-owners");
  std::filesystem::remove_all(directory);
  const auto reused = [&](const char* owner) {
    Generation generation = ask(kText, 4);
    generation.owner = owner;
    generate(std::move(generation));
    return last_.reused_tokens;
  };
  for (const PromptReuse reuse : {PromptReuse::kExact, PromptReuse::kConversation, PromptReuse::kLongest}) {
    options_.reuse = reuse;
    cache_options_ = {.chunk = kChunk, .reuse = reuse};  // of the sessions alone
    start();
    EXPECT_EQ(reused("anna"), 0);
    const int32_t all = reuse == PromptReuse::kLongest ? last_.prompt_tokens - 1
                                                       : (last_.prompt_tokens - 1) / kChunk * kChunk;
    EXPECT_EQ(reused("bert"), 0);
    EXPECT_EQ(reused(""), 0) << "who has no key is not everybody";
    EXPECT_EQ(reused("bert"), all) << "his session is not the one that was used longest ago";
    EXPECT_EQ(reused("anna"), 0) << "her session went to who has no key, and nothing kept its text";

    cache_options_ = {.memory_bytes = 8U << 20,
                      .directory = directory,
                      .disk_bytes = 8U << 20,
                      .identity = "demo",
                      .chunk = kChunk,
                      .reuse = reuse};
    start();
    EXPECT_EQ(reused("anna"), 0);
    EXPECT_EQ(reused("bert"), 0);
    EXPECT_EQ(reused("cara"), 0);
    EXPECT_EQ(reused("anna"), all) << "from memory";
    start();
    EXPECT_EQ(reused("dora"), 0);
    EXPECT_EQ(reused("bert"), all) << "from the disk";
    scheduler_.reset();
    std::filesystem::remove_all(directory);
  }
}

TEST_F(SchedulerTest, WhatIsBeingServedIsTakenUpForItsOwnerAlone) {
  cache_options_ = {.memory_bytes = 8U << 20, .chunk = kChunk};
  start();
  Generation long_one = ask(kText, 100);
  long_one.owner = "anna";
  const auto sink = std::make_shared<RecordingSink>();
  const auto ticket = scheduler_->submit(std::move(long_one), sink).value();
  sink->wait_for_tokens(1);  // her prompt is read
  Generation same = ask(kText, 1);
  same.owner = "bert";
  generate(same);
  EXPECT_EQ(last_.reused_tokens, 0);
  same.owner = "anna";
  generate(same);
  EXPECT_EQ(last_.reused_tokens, (last_.prompt_tokens - 1) / kChunk * kChunk);
}

TEST_F(SchedulerTest, ThoseWhoWriteShareAStepAndAPromptComesBetween) {
  start();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Scheduler::Ticket> tickets;
  for (const char* text : {kText, "A horse"}) {
    sinks.push_back(std::make_shared<RecordingSink>());
    tickets.push_back(scheduler_->submit(ask(text, 60), sinks.back()).value());
  }
  for (const auto& sink : sinks) EXPECT_EQ(sink->wait().ending, Ending::kLength);
  const Stats stats = engine_->stats();
  // Each has its first token from its prompt; a few steps were one's alone, before the other had begun.
  EXPECT_EQ(stats.decode.tokens, 2U * 59U);
  EXPECT_LT(stats.decode.steps, 80U);
  EXPECT_GE(stats.decode.steps, 59U);
}

TEST_F(SchedulerTest, EndsWithinATokenWhenCancelled) {
  start();
  auto sink = std::make_shared<RecordingSink>();
  auto ticket = scheduler_->submit(ask(kText, -1), sink).value();
  sink->wait_for_tokens(3);
  ticket.cancel(Ending::kCancelled);
  EXPECT_EQ(sink->wait().ending, Ending::kCancelled);
  EXPECT_LT(sink->tokens().size(), 200);
  EXPECT_TRUE(scheduler_->wait_idle(std::chrono::seconds(10)));
  generate(ask(kText, 3));  // the session is free and sound
  EXPECT_EQ(last_.ending, Ending::kLength);
}

TEST_F(SchedulerTest, ATicketThatGoesEndsItsRequest) {
  start();
  auto sink = std::make_shared<RecordingSink>();
  {
    auto ticket = scheduler_->submit(ask(kText, -1), sink).value();
    sink->wait_for_tokens(1);
  }
  EXPECT_EQ(sink->wait().ending, Ending::kCancelled);
}

TEST_F(SchedulerTest, TheQueueIsBoundedAndSaysWhenToComeBack) {
  start(2);
  std::vector<Scheduler::Ticket> tickets;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::optional<Refusal> refusal;
  for (int i = 0; i < kSessions + 2 + 3 && !refusal; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    auto ticket = scheduler_->submit(ask(kText, -1), sinks.back());
    if (ticket.has_value()) {
      tickets.push_back(std::move(*ticket));
    } else {
      refusal = ticket.error();
    }
  }
  ASSERT_TRUE(refusal.has_value());
  EXPECT_FALSE(refusal->draining);
  EXPECT_GE(refusal->retry_after_s, 1);
  EXPECT_EQ(tickets.size(), kSessions + 2);
  tickets.clear();
  EXPECT_TRUE(scheduler_->wait_idle(std::chrono::seconds(10)));
}

TEST_F(SchedulerTest, ASinkThatHasEnoughEndsIt) {
  start();
  auto sink = std::make_shared<RecordingSink>();
  sink->enough_ = 5;
  auto ticket = scheduler_->submit(ask(kText, -1), sink).value();
  EXPECT_EQ(sink->wait().ending, Ending::kSink);
  EXPECT_EQ(sink->tokens().size(), 5);
}

TEST_F(SchedulerTest, ADeadlineEndsIt) {
  start();
  Generation generation = ask(kText, -1);
  generation.deadline = std::chrono::steady_clock::now();
  generate(std::move(generation));
  EXPECT_EQ(last_.ending, Ending::kDeadline);
}

TEST_F(SchedulerTest, TheContextEndsIt) {
  start();
  generate(ask(kText, -1));
  EXPECT_EQ(last_.ending, Ending::kContextFull);
  EXPECT_EQ(last_.prompt_tokens + last_.generated_tokens, 257);  // the last token needs no room
}

TEST_F(SchedulerTest, BiasAndLogprobsAreOfTheModelsOwnDistribution) {
  start();
  Generation generation = ask(kText, 1);
  generation.top_logprobs = 3;
  generation.prompt_logprobs = true;
  auto sink = std::make_shared<RecordingSink>();
  auto ticket = scheduler_->submit(generation, sink).value();
  sink->wait();
  ASSERT_EQ(sink->tokens_.size(), 1);
  const GeneratedToken first = sink->tokens_[0];
  ASSERT_EQ(first.top.size(), 3);
  EXPECT_EQ(first.top[0].token, first.token);
  EXPECT_EQ(first.top[0].logprob, first.logprob);
  EXPECT_GE(first.top[0].logprob, first.top[1].logprob);
  EXPECT_EQ(sink->prompt_.size(), generation.prompt.size());
  EXPECT_EQ(sink->prompt_.back().token, generation.prompt.back());
  EXPECT_LT(sink->prompt_.back().logprob, 0);

  generation.logit_bias = {{first.token, -std::numeric_limits<float>::infinity()}};
  const std::vector<Token> other = generate(generation);
  EXPECT_THAT(other, ElementsAre(first.top[1].token));
}

TEST_F(SchedulerTest, AGrammarIsKept) {
  start();
  const auto words = std::make_shared<grammar::Vocabulary>(
      engine_->model().n_vocab, [&](int32_t token) { return engine_->token_bytes(token); },
      [&](int32_t token) { return engine_->is_end(token); });
  Generation generation = ask(kText, 100);
  generation.ignore_eos = false;
  generation.sampling.temperature = 1;
  generation.grammar = std::make_shared<grammar::TokenMasks>(grammar::TokenMasks{
      .grammar =
          grammar::json_schema_grammar(
              nlohmann::ordered_json::parse(R"({"type":"array","items":{"enum":["a","b"]},"maxItems":4})"))
              .value(),
      .vocabulary = words});
  for (uint64_t seed = 0; seed < 5; ++seed) {
    generation.sampling.seed = seed;
    const std::vector<Token> tokens = generate(generation);
    const std::string text = engine_->decode(tokens);
    EXPECT_TRUE(nlohmann::json::accept(text)) << text;
    if (last_.ending != Ending::kGrammar) continue;
    // Where an earlier process ended before it noted that.
    Generation again = generation;
    for (const Token token : tokens) again.written.push_back({.token = token});
    again.max_tokens = static_cast<int32_t>(tokens.size());
    EXPECT_THAT(generate(again), ElementsAre());
    EXPECT_EQ(last_.ending, Ending::kGrammar) << "which comes before the length";
  }
}

TEST_F(SchedulerTest, TakesNothingMoreWhileItDrains) {
  start();
  auto sink = std::make_shared<RecordingSink>();
  auto ticket = scheduler_->submit(ask(kText, 30), sink).value();
  scheduler_->drain();
  auto late = scheduler_->submit(ask(kText, 1), std::make_shared<RecordingSink>());
  ASSERT_FALSE(late.has_value());
  EXPECT_TRUE(late.error().draining);
  EXPECT_TRUE(scheduler_->wait_idle(std::chrono::seconds(30)));
  EXPECT_EQ(sink->wait().ending, Ending::kLength);
}

TEST_F(SchedulerTest, ItsEndTellsWhoeverStillWaits) {
  start();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Scheduler::Ticket> tickets;
  for (int i = 0; i < 5; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    tickets.push_back(scheduler_->submit(ask(kText, -1), sinks.back()).value());
  }
  scheduler_->cancel_all();
  for (const auto& sink : sinks) EXPECT_EQ(sink->wait().ending, Ending::kCancelled);
}

TEST_F(SchedulerTest, StatsDoNotWaitForAnEvaluation) {
  start();
  auto sink = std::make_shared<RecordingSink>();
  auto ticket = scheduler_->submit(ask(kText, -1), sink).value();
  sink->wait_for_tokens(1);
  uint64_t before = 0;
  for (int i = 0; i < 50; ++i) {
    const Stats stats = engine_->stats();
    EXPECT_GE(stats.decode.tokens, before);
    before = stats.decode.tokens;
  }
  sink->wait();
  EXPECT_GT(engine_->stats().decode.tokens, 100);
}

// A drive that fails for a while.
TEST(SchedulerFaults, AReadErrorFailsItsRequestAndTheOthersGoOn) {
  const auto disk = std::make_shared<FakeDisk>();
  EngineDependencies dependencies;
  dependencies.make_reader = [disk](const ReaderOptions& options) -> Result<std::unique_ptr<AsyncReader>> {
    return std::make_unique<FakeReader>(disk, options.depth,
                                        ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
  };
  const EngineOptions options{.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                              .memory = parse_memory_budget("20%").value(),
                              .context = 256,
                              .threads = 1,
                              .chunk = 16,
                              .sessions = 2};
  const auto engine = EngineImpl::open(options, {}, dependencies).value();
  const auto scheduler = Scheduler::create(*engine, {.sessions = 2, .chunk = 16}).value();
  const auto ask = [&](const std::shared_ptr<RecordingSink>& sink) {
    return scheduler
        ->submit({.prompt = engine->encode(kText, true, true),
                  .sampling = {.temperature = 0},
                  .max_tokens = 30,
                  .ignore_eos = true},
                 sink)
        .value();
  };
  const auto before = std::make_shared<RecordingSink>();
  auto first = ask(before);
  ASSERT_EQ(before->wait().ending, Ending::kLength);
  disk->inject({.path = {}, .error = EIO, .times = 300});
  int failed = 0;
  for (int i = 0; i < 200; ++i) {
    const auto sink = std::make_shared<RecordingSink>();
    auto ticket = ask(sink);
    const GenerationEnd end = sink->wait();
    if (end.ending == Ending::kLength) {
      EXPECT_EQ(sink->tokens(), before->tokens());  // as if nothing had been
      break;
    }
    ++failed;
    ASSERT_EQ(end.ending, Ending::kError);
    EXPECT_EQ(end.error.kind, ErrorKind::kIo);
    EXPECT_THAT(end.error.message, ::testing::HasSubstr("demo.gguf"));
  }
  EXPECT_GT(failed, 0);
  EXPECT_LT(failed, 200);

  // Of two who write together each fails for its own experts or not at all.
  int ended = 0;
  for (int i = 0; i < 20; ++i) {
    disk->inject({.path = {}, .error = EIO, .times = 6});
    const std::array sinks = {std::make_shared<RecordingSink>(), std::make_shared<RecordingSink>()};
    auto one = ask(sinks[0]);
    auto two = ask(sinks[1]);
    for (const auto& sink : sinks) {
      const GenerationEnd end = sink->wait();
      ASSERT_TRUE(end.ending == Ending::kLength || end.ending == Ending::kError);
      const std::vector<Token> said = sink->tokens(), wanted = before->tokens();
      EXPECT_TRUE(std::ranges::equal(said, std::span(wanted).first(said.size()))) << "nothing wrong was said";
      ended += end.ending == Ending::kLength ? 1 : 0;
    }
  }
  EXPECT_GT(ended, 0);
}

// How often each expert was asked for since the engine was opened, of all layers.
std::map<ExpertKey, uint32_t> uses(const Engine& engine) {
  std::map<ExpertKey, uint32_t> counts;
  std::vector<ExpertView> views(static_cast<size_t>(engine.model().n_expert));
  for (int32_t layer = 0; layer < engine.model().n_layer; ++layer) {
    const int32_t n = engine.view_experts(layer, views);
    for (int32_t i = 0; i < n; ++i) counts[{layer, i}] = views[static_cast<size_t>(i)].uses;
  }
  return counts;
}

// Three write together; a place of the drive is bad for good, where an expert lies that one of them alone
// comes to want.
TEST(SchedulerFaults, ABadPlaceOfTheDriveEndsOnlyWhoWantsItsExpertAndChangesNoBitOfTheOthers) {
  constexpr int kSessions = 3, kTokens = 16;
  const std::filesystem::path model = ODMOE_SOURCE_DIR "/models/demo.gguf";
  const std::array<std::string, kSessions> texts = {std::string(kText), "In the beginning",
                                                    "In the beginning God"};
  const auto disk = std::make_shared<FakeDisk>();
  std::unique_ptr<EngineImpl> engine;
  std::unique_ptr<Scheduler> scheduler;
  const auto start = [&] {
    scheduler.reset();
    engine.reset();
    EngineDependencies dependencies;
    dependencies.make_reader = [&](const ReaderOptions& options) -> Result<std::unique_ptr<AsyncReader>> {
      return std::make_unique<FakeReader>(disk, options.depth,
                                          ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
    };
    // Nothing is guessed, so that what is read is what is wanted.
    const EngineOptions options{.model = model,
                                .memory = parse_memory_budget("20%").value(),
                                .context = 256,
                                .threads = 1,
                                .chunk = 16,
                                .sessions = kSessions,
                                .predictor = PredictorKind::kNone};
    engine = EngineImpl::open(options, {}, dependencies).value();
    scheduler = Scheduler::create(*engine, {.sessions = kSessions, .chunk = 16}).value();
  };
  const auto generation = [&](size_t i, int32_t tokens) -> Generation {
    return {.prompt = engine->encode(texts[i], true, true),
            .sampling = {.temperature = 0},
            .max_tokens = tokens,
            .top_logprobs = 5,
            .ignore_eos = true};
  };
  const auto ask = [&](size_t i, int32_t tokens, const std::shared_ptr<RecordingSink>& sink) {
    return scheduler->submit(generation(i, tokens), sink).value();
  };
  // Who is the first is asked last, and writes less, so that the others write all the time that it does.
  const auto tokens_of = [](size_t i) { return i == 0 ? kTokens : kTokens + 8; };

  std::array<std::vector<float>, kSessions> alone;
  std::array<std::map<ExpertKey, uint32_t>, kSessions> wanted;
  std::map<ExpertKey, uint32_t> of_prompt;
  for (size_t i = 0; i < kSessions; ++i) {
    start();
    const auto sink = std::make_shared<RecordingSink>();
    const auto ticket = ask(i, tokens_of(i), sink);
    ASSERT_EQ(sink->wait().ending, Ending::kLength);
    alone[i] = bits_of(*sink);
    wanted[i] = uses(*engine);
  }
  start();
  {
    const auto sink = std::make_shared<RecordingSink>();
    const auto ticket = ask(0, 2, sink);
    ASSERT_EQ(sink->wait().ending, Ending::kLength);
    of_prompt = uses(*engine);
  }
  std::optional<ExpertKey> bad;
  for (const auto& [key, count] : wanted[0]) {
    if (count > 0 && of_prompt[key] == 0 && wanted[1][key] == 0 && wanted[2][key] == 0) bad = key;
  }
  ASSERT_TRUE(bad.has_value()) << "there must be an expert that only the first text wants, and not at once";

  start();
  const ModelInfo& info = engine->model();
  const auto source =
      open_checkpoint(model).value()->expert_source(info.n_layer, info.n_expert, info.n_expert_used).value();
  const uint64_t begin = source->locate(*bad, 0).offset / 512 * 512;
  disk->inject({.path = model, .begin = begin, .end = begin + 1, .error = EIO, .times = -1});
  std::array<std::shared_ptr<RecordingSink>, kSessions> sinks;
  std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> together;
  for (const size_t i : {1, 2, 0}) {
    sinks[i] = std::make_shared<RecordingSink>();
    together.emplace_back(generation(i, tokens_of(i)), sinks[i]);
  }
  const auto tickets = scheduler->submit_all(std::move(together)).value();
  const GenerationEnd failed = sinks[0]->wait();
  EXPECT_EQ(failed.ending, Ending::kError);
  EXPECT_EQ(failed.error.kind, ErrorKind::kIo);
  EXPECT_THAT(failed.error.message, ::testing::ContainsRegex(odmoe::format(
                                        "expert {} of .*layer {}.*demo.gguf", bad->expert, bad->layer)));
  EXPECT_GE(failed.generated_tokens, 2);
  const std::vector<float> said = bits_of(*sinks[0]);
  EXPECT_TRUE(std::ranges::equal(said, std::span(alone[0]).first(said.size()))) << "what it said was right";
  for (const size_t i : {1, 2}) {
    EXPECT_EQ(sinks[i]->wait().ending, Ending::kLength) << "it did not want that expert";
    EXPECT_EQ(bits_of(*sinks[i]), alone[i]);
  }
  const Stats stats = engine->stats();
  EXPECT_GT(stats.decode.tokens, stats.decode.steps) << "they wrote together";

  // It is the same for the next who wants it, and for nobody else.
  for (size_t i = 0; i < kSessions; ++i) {
    const auto sink = std::make_shared<RecordingSink>();
    const auto ticket = ask(i, tokens_of(i), sink);
    EXPECT_EQ(sink->wait().ending, i == 0 ? Ending::kError : Ending::kLength);
    EXPECT_EQ(bits_of(*sink), i == 0 ? said : alone[i]);
  }
}

}  // namespace
}  // namespace odmoe::server
