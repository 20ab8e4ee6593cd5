// The seam between HTTP and inference: who generates when.
//
// Requests wait in a bounded queue, in order, for one of the engine's sessions: the free one whose timeline
// shares most with the prompt and is of the same owner, so that its KV cache is used again.  Those that write
// get a token each in one pass through the model (Engine::step), and between two such steps one of those that
// have a prompt to read gets a chunk of it, in turns: neither stops the other.  Where nobody waits for single
// tokens, all of them go on in one pass (SchedulerOptions::prompts).  Nothing here waits for a client: a sink
// takes what is made or ends its request.
//
// Patient generations have sessions of their own and all the time that the others leave: their pass ends as
// soon as anybody else comes, and is made again when all others are done.  Where that takes long, what they
// remember goes to the drive, and the experts have its memory.
//
// What is saved there is written by a thread of its own, one session after the other: nobody waits for the
// drive but who is saved, which takes no part in passes meanwhile.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "engine/token_chooser.h"
#include "grammar/token_mask.h"
#include "odmoe/engine.h"
#include "server/pass_rule.h"
#include "server/prompt_cache.h"
#include "server/thought_limit.h"
#include "server/turn_ledger.h"

namespace odmoe::server {

struct TokenLogprob {
  Token token = -1;
  float logprob = 0;  // natural logarithm, of the model's own distribution before any sampling option
};

struct GeneratedToken {
  Token token = -1;
  float logprob = 0;              // 0 unless logprobs were asked for
  std::vector<TokenLogprob> top;  // the likeliest, best first; as many as were asked for
};

enum class Ending {
  kEndToken,
  kGrammar,  // what the grammar describes is complete
  kLength,   // max_tokens
  kContextFull,
  kSink,       // the sink had enough
  kCancelled,  // Ticket::cancel()
  kDeadline,
  kForbidden,  // the request's bias leaves no token that may follow
  kError,
};

struct GenerationEnd {
  Ending ending = Ending::kEndToken;
  Error error = {};  // of kError and kForbidden
  int32_t prompt_tokens = 0;
  int32_t reused_tokens = 0;  // of the prompt, from a KV cache that was there
  int32_t generated_tokens = 0;
  double queue_ms = 0;
  double ttft_ms = 0;    // from submission to the first token; 0: there was none
  double decode_ms = 0;  // from the first token to the end
  bool patient = false;  // Generation::patient
};

// Takes what one request generates.  Called from the scheduler's thread (on_end() also from whoever cancels),
// one call after another; must not block nor call the scheduler.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  // Only with prompt_logprobs: every token of the prompt in order; the first one's logprob means nothing.
  virtual void on_prompt(const GeneratedToken& token) = 0;
  virtual bool on_token(const GeneratedToken& token) = 0;  // false: enough
  virtual void on_end(const GenerationEnd& end) = 0;       // once, the last call
};

class GenerationKeeper;  // generation_keeper.h

struct Generation {
  std::string owner;          // whose earlier texts may be used again: those of the same owner alone
  std::vector<Token> prompt;  // 1..context tokens
  SamplingOptions sampling;
  int32_t max_tokens = -1;                          // -1: until the model ends or the context is full
  std::vector<std::pair<Token, float>> logit_bias;  // of tokens of the model; added; -infinity forbids
  int32_t top_logprobs = -1;                        // alternatives reported; -1: not even the token's own
  bool prompt_logprobs = false;                     // evaluates the whole prompt, whatever is cached
  bool penalize_prompt = false;                     // penalties count its tokens too
  // End tokens are never drawn, but where the grammar may end: nothing of it could follow.
  bool ignore_eos = false;
  std::shared_ptr<const grammar::TokenMasks> grammar;  // what may be written; null: anything
  std::shared_ptr<const ThoughtLimit> thought;         // how long a thought may be; null: any length
  std::optional<std::chrono::steady_clock::time_point> deadline;
  // Goes on while nobody else does.  Its prompt is divided as by PromptReuse::kExact, and nothing of it is
  // taken from the prompt cache or kept there.
  bool patient = false;
  // Of one that was begun by an earlier process: what was written, all of which the sink has had.  It goes on
  // behind that.
  std::vector<GeneratedToken> written;
  std::shared_ptr<GenerationKeeper> keeper;  // told of all that is needed to go on; null: nobody is
};

// Chooses the tokens of `generation`, of which it keeps a copy of what it needs.  `ends`: the model's end
// tokens; `suppressed`: Engine::suppressed_tokens().
TokenChooser chooser_of(const Generation& generation, std::span<const Token> ends, int32_t n_vocab,
                        std::span<const Token> suppressed = {});
// What ends a generation that finds no token.
Ending ending_of(const NoToken& none);

struct SchedulerOptions {
  int32_t sessions = 1;
  int32_t patient_sessions = 0;  // beside those: of patient generations
  int32_t chunk = 512;           // EngineOptions::chunk: tokens of a prompt in one turn
  // EngineOptions::prompts, at most.  1: chunks of prompts come between the steps of those that write, so
  // that these wait for one at a time; else all go on together, which takes fewer reads in all.  Where there
  // are patient sessions it is of theirs alone.
  int32_t prompts = 1;
  // Who begins as one that is being read does waits until that beginning is read, to take it up; with a
  // prompt cache and kExact.
  bool waits_for_beginnings = false;
  size_t max_queue = 64;  // patient ones apart, of which kMaxGenerations and kBatchAhead may wait
  // How long patient ones wait before what they remember goes to the drive, where they have a keeper.
  std::chrono::milliseconds park_after = std::chrono::seconds(30);
  PromptReuse reuse = PromptReuse::kConversation;    // of what a session or the prompt cache holds already
  std::function<void(const GenerationEnd&)> on_end;  // of every request, for the metrics; may be empty
};

// Why a request was not taken.
struct Refusal {
  bool draining = false;  // else the queue is full
  int retry_after_s = 1;
};

// Thread-safe.
class Scheduler {
 public:
  // Takes the engine's sessions; nobody else may use them, nor interrupt the engine.  `cache`, if given,
  // keeps the timelines that sessions forget; `ledger` how they were divided (of kConversation alone, and
  // then there is one in any case).
  static Result<std::unique_ptr<Scheduler>> create(Engine& engine, const SchedulerOptions& options,
                                                   std::unique_ptr<PromptCache> cache = nullptr,
                                                   std::unique_ptr<TurnLedger> ledger = nullptr);
  // Cancels what is still there, and saves the sessions' timelines.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  class Job;
  // A request on its way; cancels it when it goes.  Movable; one owner.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&&) noexcept = default;
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { cancel(Ending::kCancelled); }
    // Ends the request within a step, also in the middle of a chunk of its prompt.  No effect at the end.
    void cancel(Ending why);

   private:
    friend class Scheduler;
    Ticket(Scheduler* scheduler, std::shared_ptr<Job> job) : scheduler_(scheduler), job_(std::move(job)) {}
    Scheduler* scheduler_ = nullptr;
    std::shared_ptr<Job> job_;
  };

  std::expected<Ticket, Refusal> submit(Generation generation, std::shared_ptr<GenerationSink> sink);
  // All of them or none, as the choices of one request; all are patient, or none is.
  std::expected<std::vector<Ticket>, Refusal> submit_all(
      std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> generations);

  // Takes no more requests; those there are go on, but for patient ones, which are cancelled.
  void drain();
  // Ends all that wait or run.
  void cancel_all();
  // Waits until none are left, at most so long; false when it was too short.
  bool wait_idle(std::chrono::milliseconds limit);

  int32_t context() const { return context_; }  // the most tokens of a prompt and what follows it

  struct Load {
    size_t queued = 0, running = 0;
    size_t patient_queued = 0, patient_running = 0;  // beside those
    bool draining = false;
  };
  Load load() const;

 private:
  struct Seat;    // a session and who has it
  struct Saving;  // a session on its way to the drive
  Scheduler(Engine& engine, const SchedulerOptions& options);
  void run();
  void admit(bool patient) ODMOE_REQUIRES(mutex_);  // gives the lock up in between
  bool has_free_seat(bool patient) const;
  size_t n_running(bool patient) const ODMOE_REQUIRES(mutex_);
  std::deque<std::shared_ptr<Job>>& queue_of(bool patient) ODMOE_REQUIRES(mutex_) {
    return patient ? patient_queue_ : queue_;
  }
  std::vector<std::shared_ptr<Job>> all_jobs(bool patient) const ODMOE_REQUIRES(mutex_);
  void cancel(const std::vector<std::shared_ptr<Job>>& jobs);
  PromptReuse reuse_of(const Job& job) const;
  bool waits_for_beginning(const Job& job) const;
  void divide(Job& job);
  void note_written(const Seat& seat);
  void keep_ended(const Seat& seat, Ending ending);
  void leave(Seat& seat);
  enum class Saved { kGoesOn, kLeaves, kParked };
  void save(Seat& seat, Saved then);
  void end_saving(bool others);
  void wait_for_saving();
  bool takes_part(const Seat& seat) const;
  void park();
  void give_up_session(Seat& seat);
  bool unpark();
  void bring_back(Seat& seat);
  void take_session(Seat& seat);
  Seat* best_seat(const Job& job);
  int32_t reusable_of(const Job& job, const Seat& seat) const;
  int32_t reuse(const Job& job, Seat& seat);
  bool goes_on(Seat& seat);
  void release(Seat& seat, Ending ending, Error error = {});
  Status evaluate(const Job* only, const std::function<Status()>& work);
  Status evaluate_for(std::span<Seat* const> seats, const Job* only, const std::function<Status()>& work);
  std::pair<int32_t, bool> next_part(const Job& job, int32_t at) const;
  void take_turns();
  void advance_together();
  std::span<const Token> next_chunk(const Seat& seat) const;
  void read_prompt(Seat& seat);
  void has_read(Seat& seat);
  void write_tokens();
  struct End {
    Ending ending = Ending::kEndToken;
    Error error = {};
  };
  static std::optional<Ending> end_behind(const Job& job, bool may_go_on);
  std::optional<End> choose(Job& job, std::span<const float> model_logits);
  void finish(const std::shared_ptr<Job>& job, Ending ending, Error error = {});
  void cancel(const std::shared_ptr<Job>& job, Ending why);

  Engine* engine_;
  SchedulerOptions options_;
  std::unique_ptr<PromptCache> cache_;  // of the scheduler's thread; null: none
  std::unique_ptr<TurnLedger> ledger_;  // likewise
  mutable Mutex mutex_;
  Condition work_, idle_;
  std::deque<std::shared_ptr<Job>> queue_ ODMOE_GUARDED_BY(mutex_), patient_queue_ ODMOE_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Seat>> seats_;          // patient ones last; their jobs are set under mutex_
  std::span<const std::unique_ptr<Seat>> at_turn_;    // of the scheduler's thread: those of seats_ that go on
  bool evaluating_ ODMOE_GUARDED_BY(mutex_) = false;  // an evaluation is under way or about to be
  bool evaluating_patient_ ODMOE_GUARDED_BY(mutex_) = false;      // and for nobody else
  const Job* evaluating_for_ ODMOE_GUARDED_BY(mutex_) = nullptr;  // for whom alone; null: for several
  std::vector<Seat*> writing_;                                    // of the scheduler's thread
  std::vector<NextToken> batch_;
  std::vector<Seat*> together_;    // of advance_together()
  std::vector<NextTokens> parts_;  // likewise
  std::vector<SeatDoes> does_;     // likewise, by seat
  std::vector<size_t> chosen_;     // likewise
  size_t next_prompt_ = 0;         // of at_turn_: whose turn it is to read a prompt
  int32_t context_ = 0;
  std::unique_ptr<Saving> saving_;                                   // of the scheduler's thread
  std::optional<std::chrono::steady_clock::time_point> wait_since_;  // since when patient ones wait
  std::vector<Token> ends_;                                          // tokens that end a text
  uint64_t turn_ = 0;
  double mean_job_s_ ODMOE_GUARDED_BY(mutex_) = 1;  // of late, for Retry-After
  bool draining_ ODMOE_GUARDED_BY(mutex_) = false, stop_ ODMOE_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace odmoe::server
