#include "server/scheduler.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <system_error>
#include <utility>

#include "base/joining_thread.h"
#include "server/generation_keeper.h"
#include "server/grammar_constraint.h"
#include "server/limits.h"
#include "server/pass_rule.h"

namespace odmoe::server {
namespace {

using Time = std::chrono::steady_clock::time_point;
constexpr int kMaxRetryAfter = 60;
// Tokens of a prompt that were written and are read again, in one turn: they take about as long as a chunk.
constexpr int32_t kSinglyInTurn = 32;

double ms_between(Time from, Time to) { return std::chrono::duration<double, std::milli>(to - from).count(); }

// Of one position: the logarithm of the sum of all likelihoods, for log-probabilities.
double log_sum(std::span<const float> logits) {
  const float best = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - best);
  return best + std::log(sum);
}

GeneratedToken with_logprobs(Token token, std::span<const float> logits, int32_t n_top) {
  const double total = log_sum(logits);
  const auto logprob = [&](Token t) { return static_cast<float>(logits[static_cast<size_t>(t)] - total); };
  GeneratedToken result{.token = token, .logprob = logprob(token)};
  if (n_top <= 0) return result;
  std::vector<Token> best(std::min(static_cast<size_t>(n_top), logits.size()));
  std::vector<Token> all(logits.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Token>(i);
  std::ranges::partial_sort_copy(all, best, [&](Token a, Token b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  });
  for (const Token t : best) result.top.push_back({.token = t, .logprob = logprob(t)});
  return result;
}

}  // namespace

TokenChooser chooser_of(const Generation& generation, std::span<const Token> ends, int32_t n_vocab,
                        std::span<const Token> suppressed) {
  TokenChooserOptions options{.sampling = generation.sampling,
                              .logit_bias = generation.logit_bias,
                              .never_drawn = never_drawn(suppressed, ends, generation.ignore_eos)};
  if (generation.grammar != nullptr) {
    options.constraint = std::make_unique<GrammarConstraint>(*generation.grammar);
  }
  if (generation.thought != nullptr) {
    options.constraint = std::make_unique<LimitedThought>(generation.thought, std::move(options.constraint),
                                                          options.never_drawn);
  }
  return {std::move(options), n_vocab};
}

Ending ending_of(const NoToken& none) {
  switch (none.why) {
    case NoToken::Why::kComplete:
      return Ending::kGrammar;
    case NoToken::Why::kForbidden:
      return Ending::kForbidden;
    default:
      return Ending::kError;
  }
}

class Scheduler::Job {
 public:
  Job(Generation generation, std::shared_ptr<GenerationSink> listener)
      : work(std::move(generation)), sink(std::move(listener)) {
    if (!work.written.empty()) {
      end.generated_tokens = static_cast<int32_t>(work.written.size());
      pending = work.written.back().token;
      begun = work.prompt;
      for (const GeneratedToken& token : std::span(work.written).first(work.written.size() - 1)) {
        begun.push_back(token.token);
      }
    }
  }

  // What is read before it writes: the prompt, and all but the last of what was written earlier.
  std::span<const Token> text() const { return begun.empty() ? work.prompt : begun; }
  // How it is divided.
  Division divided(int32_t chunk) const {
    const auto n_prompt = static_cast<int32_t>(work.prompt.size());
    Division division = Division::in_chunks(chunk, n_prompt);
    const auto n_written = static_cast<int32_t>(text().size()) - n_prompt;
    if (n_written > 0) division.append(n_written, /*singly=*/true);
    return division;
  }

  Generation work;
  std::shared_ptr<GenerationSink> sink;
  Time submitted = std::chrono::steady_clock::now();

  // Of the scheduler's thread, from admission on.
  Time admitted, first_token;
  TurnLedger::Place place{.division = Division(1)};  // of the prompt, and how it is divided
  std::optional<TokenChooser> tokens;
  GenerationEnd end;
  std::vector<Token> begun;    // text() where it is not the prompt
  std::optional<Ending> over;  // with what was written earlier, which nobody noted
  bool prefilled = false;
  double evaluated_s = 0;        // that its keeper was not told of
  bool leaves = false;           // it was cancelled, and has to be saved yet
  bool stays = false;            // what it remembers cannot be parked
  size_t n_reported = 0;         // of the prompt, to on_prompt()
  std::optional<Token> pending;  // chosen, not evaluated yet

  std::atomic<bool> stopped = false;  // somebody cancelled; stop_reason was set before
  std::atomic<Ending> stop_reason = Ending::kCancelled;
  bool ended = false;  // under mutex_: on_end() is called or about to be
};

struct Scheduler::Seat {
  std::unique_ptr<Session>
      session;               // null: what it remembers is on the drive, and whose that is has the seat
  std::string owner;         // of the timeline; of the scheduler's thread
  std::shared_ptr<Job> job;  // null: free
  bool patient = false;      // for those alone
  uint64_t last_used = 0;
};

struct Scheduler::Saving {
  Seat* seat = nullptr;
  Saved then = Saved::kGoesOn;
  std::atomic<bool> done = false;
  bool saved = false;    // once it is done
  JoiningThread thread;  // the last member: it uses the others
};

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options)
    : engine_(&engine), options_(options), ends_(end_tokens(engine)) {}

Result<std::unique_ptr<Scheduler>> Scheduler::create(Engine& engine, const SchedulerOptions& options,
                                                     std::unique_ptr<PromptCache> cache,
                                                     std::unique_ptr<TurnLedger> ledger) {
  std::unique_ptr<Scheduler> scheduler(new Scheduler(engine, options));
  scheduler->cache_ = std::move(cache);
  scheduler->ledger_ = std::move(ledger);
  if (options.reuse == PromptReuse::kConversation && scheduler->ledger_ == nullptr) {
    scheduler->ledger_ = std::make_unique<TurnLedger>(
        TurnLedgerOptions{.chunk = options.chunk, .memory_bytes = kTurnLedgerBytes});
  }
  for (int32_t i = 0; i < options.sessions + options.patient_sessions; ++i) {
    ODMOE_ASSIGN_OR_RETURN(auto session, engine.new_session());
    scheduler->context_ = session->context();
    auto seat = std::make_unique<Seat>();
    seat->session = std::move(session);
    seat->patient = i >= options.sessions;
    scheduler->seats_.push_back(std::move(seat));
  }
  scheduler->writing_.reserve(scheduler->seats_.size());
  scheduler->batch_.reserve(scheduler->seats_.size());
  scheduler->together_.reserve(scheduler->seats_.size());
  scheduler->parts_.reserve(scheduler->seats_.size());
  scheduler->chosen_.reserve(scheduler->seats_.size());
  scheduler->does_.resize(scheduler->seats_.size());
  scheduler->thread_ = std::thread([raw = scheduler.get()] { raw->run(); });
  return scheduler;
}

Scheduler::~Scheduler() {
  {
    const MutexLock lock(mutex_);
    stop_ = draining_ = true;
    if (evaluating_) engine_->interrupt();
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (cache_ == nullptr) return;
  for (const auto& seat : seats_) {
    if (!seat->patient) cache_->save(seat->owner, *seat->session, 0, /*wait=*/true);
  }
}

Scheduler::Ticket& Scheduler::Ticket::operator=(Ticket&& other) noexcept {
  if (this != &other) {
    cancel(Ending::kCancelled);
    scheduler_ = other.scheduler_;
    job_ = std::move(other.job_);
  }
  return *this;
}

void Scheduler::Ticket::cancel(Ending why) {
  if (job_) scheduler_->cancel(job_, why);
}

std::expected<Scheduler::Ticket, Refusal> Scheduler::submit(Generation generation,
                                                            std::shared_ptr<GenerationSink> sink) {
  std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> one;
  one.emplace_back(std::move(generation), std::move(sink));
  auto tickets = submit_all(std::move(one));
  if (!tickets.has_value()) return std::unexpected(tickets.error());
  return std::move(tickets->front());
}

std::expected<std::vector<Scheduler::Ticket>, Refusal> Scheduler::submit_all(
    std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> generations) {
  std::vector<Ticket> tickets;
  const bool patient = generations.front().first.patient;
  const auto n_seat = static_cast<size_t>(patient ? options_.patient_sessions : options_.sessions);
  assert(n_seat > 0);
  {
    const MutexLock lock(mutex_);
    auto& queue = queue_of(patient);
    // Who asks for more than the queue holds is served when nobody waits.
    const size_t free = n_seat - n_running(patient);
    const size_t most = (patient ? kMaxGenerations + kBatchAhead : options_.max_queue) + free;
    const bool full = !queue.empty() && queue.size() + generations.size() > most;
    const bool closed = queue.size() >= most;
    if (draining_ || full || closed) {
      const double turns = static_cast<double>(queue.size() + 1) / static_cast<double>(n_seat);
      const auto wait = static_cast<int>(std::ceil(std::min(mean_job_s_ * turns, double{kMaxRetryAfter})));
      return std::unexpected(Refusal{.draining = draining_, .retry_after_s = std::max(1, wait)});
    }
    for (auto& [generation, sink] : generations) {
      auto job = std::make_shared<Job>(std::move(generation), std::move(sink));
      job->end.prompt_tokens = static_cast<int32_t>(job->work.prompt.size());
      job->end.patient = patient;
      queue.push_back(job);
      tickets.push_back(Ticket(this, std::move(job)));
    }
    if (!patient && evaluating_patient_) engine_->interrupt();
  }
  work_.notify_one();
  return tickets;
}

void Scheduler::drain() {
  std::vector<std::shared_ptr<Job>> jobs;
  {
    const MutexLock lock(mutex_);
    draining_ = true;
    jobs = all_jobs(/*patient=*/true);
  }
  cancel(jobs);
  // A wide pass would go on for long.
  const MutexLock lock(mutex_);
  if (evaluating_patient_) engine_->interrupt();
}

void Scheduler::cancel_all() {
  std::vector<std::shared_ptr<Job>> jobs, patient;
  {
    const MutexLock lock(mutex_);
    jobs = all_jobs(/*patient=*/false);
    patient = all_jobs(/*patient=*/true);
  }
  cancel(jobs);
  cancel(patient);
}

std::vector<std::shared_ptr<Scheduler::Job>> Scheduler::all_jobs(bool patient) const {
  const auto& queue = patient ? patient_queue_ : queue_;
  std::vector<std::shared_ptr<Job>> jobs(queue.begin(), queue.end());
  for (const auto& seat : seats_) {
    if (seat->job != nullptr && seat->patient == patient) jobs.push_back(seat->job);
  }
  return jobs;
}

void Scheduler::cancel(const std::vector<std::shared_ptr<Job>>& jobs) {
  for (const auto& job : jobs) cancel(job, Ending::kCancelled);
}

bool Scheduler::wait_idle(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  const MutexLock lock(mutex_);
  const auto is_idle = [&]() ODMOE_REQUIRES(mutex_) {
    return queue_.empty() && patient_queue_.empty() &&
           std::ranges::none_of(seats_, [](const auto& seat) { return seat->job != nullptr; });
  };
  while (!is_idle()) {
    if (!idle_.wait_until(mutex_, end)) return is_idle();
  }
  return true;
}

Scheduler::Load Scheduler::load() const {
  const MutexLock lock(mutex_);
  return {.queued = queue_.size(),
          .running = n_running(/*patient=*/false),
          .patient_queued = patient_queue_.size(),
          .patient_running = n_running(/*patient=*/true),
          .draining = draining_};
}

size_t Scheduler::n_running(bool patient) const {
  return static_cast<size_t>(std::ranges::count_if(
      seats_, [&](const auto& seat) { return seat->patient == patient && seat->job != nullptr; }));
}

void Scheduler::cancel(const std::shared_ptr<Job>& job, Ending why) {
  {
    const MutexLock lock(mutex_);
    if (job->ended || job->stopped) return;
    job->stop_reason = why;
    job->stopped = true;
    // A step of several goes on: it ends soon, and the others lose nothing.
    if (evaluating_for_ == job.get()) engine_->interrupt();
    auto& queue = queue_of(job->work.patient);
    const auto waiting = std::ranges::find(queue, job);
    if (waiting == queue.end()) return;  // the scheduler's thread sees it at its next step
    queue.erase(waiting);
    job->ended = true;
  }
  idle_.notify_all();
  job->end.ending = why;
  job->end.queue_ms = ms_between(job->submitted, std::chrono::steady_clock::now());
  if (options_.on_end) options_.on_end(job->end);
  job->sink->on_end(job->end);
}

void Scheduler::run() {
  MutexLock lock(mutex_);
  while (true) {
    admit(/*patient=*/false);
    admit(/*patient=*/true);
    const bool others = n_running(/*patient=*/false) > 0;
    const bool draining = draining_;
    if (stop_) break;
    if (!others && n_running(/*patient=*/true) == 0) {
      idle_.notify_all();
      while (!stop_ && queue_.empty() && patient_queue_.empty()) work_.wait(mutex_);
      continue;
    }
    lock.unlock();
    if (saving_ != nullptr && saving_->done) end_saving(others);
    for (const auto& seat : seats_) {
      if (seat->job == nullptr || (saving_ != nullptr && saving_->seat == seat.get())) continue;
      const bool gives_way = others && seat->patient;
      GenerationKeeper* const keeper = seat->job->work.keeper.get();
      if (!goes_on(*seat)) {
        // What it leaves on the drive may take longer than the others have until the end.
        if (draining && gives_way && keeper != nullptr) continue;
        leave(*seat);
      } else if (keeper != nullptr && seat->job->evaluated_s > 0 && seat->session != nullptr && !gives_way &&
                 saving_ == nullptr) {
        const double seconds = std::exchange(seat->job->evaluated_s, 0);
        if (keeper->went_on(*seat->session, seconds)) save(*seat, Saved::kGoesOn);
      }
    }
    if (others) park();
    if (!others && !unpark()) {  // somebody came
      lock.lock();
      continue;
    }
    const auto n_other = static_cast<size_t>(options_.sessions);
    at_turn_ = others ? std::span(seats_).first(n_other) : std::span(seats_).subspan(n_other);
    if (std::ranges::none_of(at_turn_, [this](const auto& seat) { return takes_part(*seat); })) {
      const bool all_left =
          std::ranges::none_of(at_turn_, [](const auto& seat) { return seat->job != nullptr; });
      if (!others || !all_left) wait_for_saving();  // or it is the patient ones' turn
      lock.lock();
      continue;
    }
    const bool together = options_.prompts > 1 && (!others || options_.patient_sessions == 0);
    together ? advance_together() : take_turns();
    lock.lock();
  }
  lock.unlock();
  const Seat* saved = saving_ != nullptr && saving_->then == Saved::kLeaves ? saving_->seat : nullptr;
  saving_.reset();
  for (const auto& seat : seats_) {
    Job* const job = seat->job.get();
    if (job == nullptr || job->work.keeper == nullptr || seat->session == nullptr || seat.get() == saved)
      continue;
    if (job->work.keeper->interrupted(*seat->session, job->evaluated_s))
      (void)job->work.keeper->save(*seat->session);
  }
  lock.lock();
  // Whoever waits is told.
  std::vector<std::shared_ptr<Job>> left(queue_.begin(), queue_.end());
  left.insert(left.end(), patient_queue_.begin(), patient_queue_.end());
  queue_.clear();
  patient_queue_.clear();
  for (const auto& seat : seats_) {
    if (seat->job == nullptr) continue;
    note_written(*seat);
    left.push_back(std::move(seat->job));
    seat->job = nullptr;
  }
  lock.unlock();
  for (const auto& job : left) finish(job, Ending::kCancelled);
  idle_.notify_all();
}

// Gives the free sessions to those who wait, first come first served.
void Scheduler::admit(bool patient) {
  auto& queue = queue_of(patient);
  while (!queue.empty() && !stop_ && has_free_seat(patient)) {
    const auto next =
        std::ranges::find_if(queue, [&](const auto& waiting) { return !waits_for_beginning(*waiting); });
    if (next == queue.end()) return;
    const std::shared_ptr<Job> job = *next;
    divide(*job);
    Seat* seat = best_seat(*job);
    queue.erase(next);
    seat->job = job;
    mutex_.unlock();
    job->admitted = std::chrono::steady_clock::now();
    job->end.queue_ms = ms_between(job->submitted, job->admitted);
    job->tokens.emplace(chooser_of(job->work, ends_, engine_->model().n_vocab, engine_->suppressed_tokens()));
    if (job->pending && job->work.penalize_prompt) {
      for (const Token token : job->work.prompt) job->tokens->read(token);
    }
    bool may_go_on = true;
    for (const GeneratedToken& token : job->work.written) {
      may_go_on = job->tokens->chose_earlier(token.token);
    }
    if (job->pending) job->over = end_behind(*job, may_go_on);
    if (!job->over) job->end.reused_tokens = reuse(*job, *seat);
    job->prefilled = job->pending && !job->over && seat->session != nullptr &&
                     seat->session->tokens().size() == job->text().size();
    mutex_.lock();
  }
}

// Whether one that is being read has more of the job's prompt ahead of it than there is already.
bool Scheduler::waits_for_beginning(const Job& job) const {
  if (!options_.waits_for_beginnings || cache_ == nullptr || options_.reuse != PromptReuse::kExact ||
      job.work.patient) {
    return false;
  }
  const std::span<const Token> prompt = job.text();
  int32_t ahead = 0;
  for (const auto& seat : seats_) {
    if (seat->patient || seat->job == nullptr || seat->job->prefilled ||
        seat->job->work.owner != job.work.owner) {
      continue;
    }
    const std::span<const Token> other = seat->job->text();
    const auto equal = std::ranges::mismatch(prompt, other).in1 - prompt.begin();
    const auto most = static_cast<int32_t>(std::min(equal, std::ssize(prompt) - 1));
    const int32_t whole = most - most % options_.chunk;
    if (std::cmp_less(seat->session->tokens().size(), whole)) ahead = std::max(ahead, whole);
  }
  if (ahead == 0) return false;
  const Division division = job.divided(options_.chunk);
  const DividedPrompt divided{.tokens = prompt, .division = division};
  const bool is_there =
      cache_->find(job.work.owner, divided) >= ahead || std::ranges::any_of(seats_, [&](const auto& seat) {
        return !seat->patient && seat->owner == job.work.owner &&
               reusable(divided, *seat->session, options_.reuse) >= ahead;
      });
  return !is_there;
}

bool Scheduler::has_free_seat(bool patient) const {
  return std::ranges::any_of(
      seats_, [&](const auto& seat) { return seat->patient == patient && seat->job == nullptr; });
}

PromptReuse Scheduler::reuse_of(const Job& job) const {
  return job.work.patient ? PromptReuse::kExact : options_.reuse;
}

// Decides how the prompt is divided, before anybody looks what of it is there.
void Scheduler::divide(Job& job) {
  const std::vector<Token>& prompt = job.work.prompt;
  if (ledger_ != nullptr && !job.work.patient) {
    // Who stops an answer, or does not wait for its end, may go on from what there is of it.
    for (const auto& seat : seats_) {
      if (seat->patient || seat->job == nullptr || !seat->job->prefilled ||
          seat->job->work.owner != job.work.owner) {
        continue;
      }
      const auto shared = std::ranges::mismatch(prompt, seat->session->tokens()).in1 - prompt.begin();
      if (std::cmp_greater(shared, seat->job->work.prompt.size())) note_written(*seat);
    }
    job.place = ledger_->divide(job.work.owner, prompt);
  } else {
    job.place.division = job.divided(options_.chunk);
  }
}

// What the job in this seat wrote, for those who go on from it.
void Scheduler::note_written(const Seat& seat) {
  const Job& job = *seat.job;
  if (ledger_ == nullptr || !job.prefilled || job.work.patient) return;
  ledger_->wrote(job.place, seat.session->tokens().subspan(job.work.prompt.size()));
}

// The job in this seat goes: an end of its own is for whoever goes on.
void Scheduler::keep_ended(const Seat& seat, Ending ending) {
  const Job& job = *seat.job;
  if (job.work.keeper == nullptr || seat.session == nullptr) return;
  switch (ending) {
    case Ending::kEndToken:
    case Ending::kGrammar:
    case Ending::kLength:
    case Ending::kContextFull:
      return job.work.keeper->ended(ending);
    default:
      return;
  }
}

// Its stop_reason ends the job in this seat, once what another process may go on from is saved.
void Scheduler::leave(Seat& seat) {
  Job& job = *seat.job;
  const bool was_cancelled = job.stop_reason == Ending::kCancelled;
  if (!was_cancelled || job.work.keeper == nullptr || seat.session == nullptr)
    return release(seat, job.stop_reason);
  job.leaves = true;
  if (saving_ != nullptr) return;  // it has its turn
  if (!job.work.keeper->interrupted(*seat.session, job.evaluated_s)) return release(seat, job.stop_reason);
  save(seat, Saved::kLeaves);
}

void Scheduler::save(Seat& seat, Saved then) {
  saving_ = std::make_unique<Saving>();
  saving_->seat = &seat;
  saving_->then = then;
  seat.job->evaluated_s = 0;
  const auto write = [this, saving = saving_.get(), keeper = seat.job->work.keeper.get(),
                      session = seat.session.get()] {
    saving->saved = keeper->save(*session);
    {
      const MutexLock lock(mutex_);
      saving->done = true;
    }
    work_.notify_all();
  };
  try {
    saving_->thread = JoiningThread(write);
  } catch (const std::system_error&) {
    write();  // there is no thread to be had
  }
}

// It is done.  `others`: whether somebody is served to whom its memory is worth something.
void Scheduler::end_saving(bool others) {
  const std::unique_ptr<Saving> ended = std::move(saving_);
  ended->thread.join();
  Seat& seat = *ended->seat;
  switch (ended->then) {
    case Saved::kGoesOn:
      return;
    case Saved::kLeaves:
      return release(seat, seat.job->stop_reason);
    case Saved::kParked:
      seat.job->stays = !ended->saved;
      if (ended->saved && others) give_up_session(seat);
  }
}

// Nobody takes part in a pass before it is done, unless somebody comes.
void Scheduler::wait_for_saving() {
  const MutexLock lock(mutex_);
  const auto somebody_comes = [&]() ODMOE_REQUIRES(mutex_) {
    return (!queue_.empty() && has_free_seat(/*patient=*/false)) ||
           (!patient_queue_.empty() && has_free_seat(/*patient=*/true));
  };
  while (!stop_ && saving_ != nullptr && !saving_->done && !somebody_comes()) work_.wait(mutex_);
}

// Whether the job in this seat, if there is one, goes on.
bool Scheduler::takes_part(const Seat& seat) const {
  const bool is_saved = saving_ != nullptr && saving_->seat == &seat;
  return seat.job != nullptr && !seat.job->leaves && !is_saved;
}

// What patient ones remember that wait for long goes to the drive, one after the other and while others are
// served.
void Scheduler::park() {
  const Time now = std::chrono::steady_clock::now();
  if (!wait_since_) wait_since_ = now;
  if (saving_ != nullptr) return;
  // What a device has in its own memory is none of the experts'.
  if (now - *wait_since_ < options_.park_after || !engine_->plan().device.name.empty()) return;
  for (const auto& seat : seats_) {
    const Job* const job = seat->job.get();
    if (!seat->patient || job == nullptr || job->work.keeper == nullptr || job->stays || job->leaves)
      continue;
    if (seat->session == nullptr || seat->session->tokens().empty()) continue;
    return save(*seat, Saved::kParked);
  }
}

// What it remembers is on the drive.
void Scheduler::give_up_session(Seat& seat) {
  Job& job = *seat.job;
  if (job.prefilled) {
    const std::span<const Token> tokens = seat.session->tokens();
    job.begun.assign(tokens.begin(), tokens.end());
    job.place.division = job.divided(options_.chunk);
    job.prefilled = false;
  }
  seat.session.reset();
}

// Of those that the engine has, the one that the seat gave up.
void Scheduler::take_session(Seat& seat) {
  auto session = engine_->new_session();
  assert(session.has_value());
  seat.session = std::move(*session);
}

// Nobody else is served; false when somebody has come before all of them are back.
bool Scheduler::unpark() {
  wait_since_.reset();
  for (const auto& seat : seats_) {
    if (seat->session != nullptr) {
      if (seat->job != nullptr) seat->job->stays = false;  // there may be room the next time
      continue;
    }
    {
      const MutexLock lock(mutex_);
      if (stop_ || draining_ || !queue_.empty()) return false;
    }
    bring_back(*seat);
  }
  return true;
}

// What cannot be brought back is read again.
void Scheduler::bring_back(Seat& seat) {
  take_session(seat);
  Job& job = *seat.job;
  GenerationKeeper& keeper = *job.work.keeper;
  if (keeper.restorable(job.text(), job.place.division) > 0) (void)keeper.restore(*seat.session);
  job.prefilled = job.pending && seat.session->tokens().size() == job.text().size();
}

// Brings the session to what it need not evaluate of the prompt; returns how many tokens that are.
int32_t Scheduler::reuse(const Job& job, Seat& seat) {
  const DividedPrompt prompt{.tokens = job.text(), .division = job.place.division};
  const std::string& owner = job.work.owner;
  Session& session = *seat.session;
  int32_t shared = job.work.prompt_logprobs ? 0 : reusable_of(job, seat);
  const std::string before = std::exchange(seat.owner, owner);
  if (GenerationKeeper* const keeper = job.work.keeper.get();
      keeper != nullptr && keeper->restorable(prompt.tokens, prompt.division) > shared) {
    const auto others_come = [&] {
      const MutexLock lock(mutex_);
      return n_running(/*patient=*/false) > 0 || !queue_.empty();
    };
    if (job.work.patient && others_come()) {
      seat.session.reset();  // as if it were parked
      return 0;
    }
    if (cache_ != nullptr && !job.work.patient) cache_->save(before, session, 0);
    if (const int32_t restored = keeper->restore(session); restored > 0) return restored;
    shared = 0;
  }
  if (job.work.patient) return session.truncate(shared);
  if (cache_ != nullptr && !job.work.prompt_logprobs) {
    int32_t found = cache_->find(owner, prompt);
    // Those who are served right now may have read as much as any before them.
    for (const auto& other : seats_) {
      const int32_t of_other = other.get() != &seat && !other->patient ? reusable_of(job, *other) : 0;
      if (of_other > std::max(shared, found)) {
        cache_->keep(other->owner, *other->session, of_other);
        found = cache_->find(owner, prompt);
      }
    }
    if (found > shared) {
      cache_->save(before, session, 0);
      if (const int32_t restored = cache_->restore(owner, prompt, session); restored > 0) return restored;
      shared = 0;
    }
  }
  if (cache_ != nullptr) cache_->save(before, session, shared);
  return session.truncate(shared);
}

int32_t Scheduler::reusable_of(const Job& job, const Seat& seat) const {
  if (seat.owner != job.work.owner) return 0;
  return reusable({.tokens = job.text(), .division = job.place.division}, *seat.session, reuse_of(job));
}

Scheduler::Seat* Scheduler::best_seat(const Job& job) {
  Seat* best = nullptr;
  ptrdiff_t best_shared = -1;
  for (const auto& seat : seats_) {
    if (seat->job != nullptr || seat->patient != job.work.patient) continue;
    const auto tokens = seat->session->tokens();
    ptrdiff_t shared = reusable_of(job, *seat);
    // Where little of either would be kept, the timeline is worth more to whoever comes back to it.
    if (shared * 2 < std::ssize(tokens) && shared * 2 < std::ssize(job.text())) shared = 0;
    if (shared > best_shared || (shared == best_shared && seat->last_used < best->last_used)) {
      best = seat.get();
      best_shared = shared;
    }
  }
  return best;
}

// What follows is called without the lock: only the scheduler's thread changes a session or a job that runs.

// Whether the job may have another turn; else why not is its stop_reason.
bool Scheduler::goes_on(Seat& seat) {
  Job& job = *seat.job;
  if (job.stopped) return false;
  if (job.over) {
    job.stop_reason = *job.over;
    return false;
  }
  if (job.work.deadline && std::chrono::steady_clock::now() >= *job.work.deadline) {
    job.stop_reason = Ending::kDeadline;
    return false;
  }
  if (job.prefilled && std::cmp_greater_equal(seat.session->tokens().size(), seat.session->context())) {
    job.stop_reason = Ending::kContextFull;
    return false;
  }
  return true;
}

void Scheduler::release(Seat& seat, Ending ending, Error error) {
  const std::shared_ptr<Job> job = seat.job;
  note_written(seat);
  keep_ended(seat, ending);
  if (seat.session == nullptr) take_session(seat);
  {
    const MutexLock lock(mutex_);
    seat.job = nullptr;
    seat.last_used = ++turn_;
    const double seconds = ms_between(job->admitted, std::chrono::steady_clock::now()) * 1e-3;
    if (!seat.patient) mean_job_s_ = 0.9 * mean_job_s_ + 0.1 * seconds;
  }
  finish(job, ending, std::move(error));
}

// Evaluates something that cancelling `only`, if given, may interrupt.  kInterrupted is somebody's cancel():
// that one's, or one that came as its evaluation ended; of patient ones also that somebody else came.
Status Scheduler::evaluate(const Job* only, const std::function<Status()>& work) {
  const bool patient = at_turn_.front()->patient;
  {
    const MutexLock lock(mutex_);
    const bool gives_way = patient && (draining_ || !queue_.empty());
    if (stop_ || gives_way || (only != nullptr && only->stopped)) {
      return fail(ErrorKind::kInterrupted, "interrupted");
    }
    evaluating_ = true;
    evaluating_patient_ = patient;
    evaluating_for_ = only;
  }
  const Status status = work();
  const MutexLock lock(mutex_);
  evaluating_ = evaluating_patient_ = false;
  evaluating_for_ = nullptr;
  if (!stop_) engine_->clear_interrupt();
  return status;
}

// The same, in which those in `seats` have a part each; their keepers are told how it went.
Status Scheduler::evaluate_for(std::span<Seat* const> seats, const Job* only,
                               const std::function<Status()>& work) {
  const Time begin = std::chrono::steady_clock::now();
  const Status status = evaluate(only, work);
  if (!status.has_value()) return status;
  const double seconds = ms_between(begin, std::chrono::steady_clock::now()) * 1e-3;
  for (Seat* const seat : seats) seat->job->evaluated_s += seconds / static_cast<double>(seats.size());
  return status;
}

// How many of the prompt's tokens from `at` on have their turn, and whether each is evaluated by itself.
std::pair<int32_t, bool> Scheduler::next_part(const Job& job, int32_t at) const {
  const Division& division = job.place.division;
  // What was taken up without regard to how it was divided may end anywhere.
  if (reuse_of(job) == PromptReuse::kLongest) {
    return {std::min(division.length() - at, options_.chunk), false};
  }
  const int32_t most = std::min({division.length(), at + kSinglyInTurn, at + options_.chunk});
  int32_t end = at;
  while (end < most && division.is_single(end)) ++end;
  return end > at ? std::pair(end - at, true) : std::pair(division.next(at) - at, false);
}

// A token for those that write, then a part of a prompt.
void Scheduler::take_turns() {
  write_tokens();
  for (size_t i = 0; i < at_turn_.size(); ++i) {
    Seat& seat = *at_turn_[(next_prompt_ + i) % at_turn_.size()];
    if (!takes_part(seat) || seat.job->prefilled) continue;
    next_prompt_ = (next_prompt_ + i + 1) % at_turn_.size();
    read_prompt(seat);
    break;
  }
}

// Of a prompt that is being read, what one evaluation takes; empty: it has to be read by itself.
std::span<const Token> Scheduler::next_chunk(const Seat& seat) const {
  const Job& job = *seat.job;
  const auto at = static_cast<int32_t>(seat.session->tokens().size());
  const auto [n, singly] = next_part(job, at);
  if (job.work.prompt_logprobs || (singly && n > 1)) return {};
  return job.text().subspan(static_cast<size_t>(at), static_cast<size_t>(n));
}

// A token for those that write and a part of several prompts in one pass.
void Scheduler::advance_together() {
  together_.clear();
  parts_.clear();
  const auto add = [&](Seat& seat, std::span<const Token> tokens) {
    together_.push_back(&seat);
    parts_.push_back({.session = seat.session.get(), .tokens = tokens});
  };
  for (size_t i = 0; i < at_turn_.size(); ++i) {
    const Job* const job = takes_part(*at_turn_[i]) ? at_turn_[i]->job.get() : nullptr;
    does_[i] = job == nullptr ? SeatDoes::kNothing : job->prefilled ? SeatDoes::kWrites : SeatDoes::kReads;
  }
  size_t n_writing = 0;
  next_prompt_ = choose_pass(std::span(does_).first(at_turn_.size()), next_prompt_ % at_turn_.size(),
                             options_.prompts, chosen_);
  Seat* alone = nullptr;
  for (const size_t i : chosen_) {
    Seat& seat = *at_turn_[i];
    if (does_[i] == SeatDoes::kWrites) {
      add(seat, {&*seat.job->pending, 1});
      ++n_writing;
    } else if (const std::span<const Token> chunk = next_chunk(seat); !chunk.empty()) {
      add(seat, chunk);
    } else if (alone == nullptr) {
      alone = &seat;
    }
  }
  if (alone != nullptr) read_prompt(*alone);
  if (parts_.size() == n_writing) return write_tokens();
  const Job* const only = parts_.size() == 1 ? together_[0]->job.get() : nullptr;
  const Status together = evaluate_for(together_, only, [this] { return engine_->advance(parts_); });
  if (!together.has_value() && together.error().kind == ErrorKind::kInterrupted) return;
  if (!together.has_value()) {
    // Who cannot go on is found out one by one.
    const std::vector<Seat*> readers(together_.begin() + static_cast<ptrdiff_t>(n_writing), together_.end());
    write_tokens();
    for (Seat* seat : readers) read_prompt(*seat);
    return;
  }
  for (size_t i = 0; i < together_.size(); ++i) {
    Seat& seat = *together_[i];
    if (i >= n_writing) {
      has_read(seat);
    } else if (auto end = choose(*seat.job, seat.session->logits())) {
      release(seat, end->ending, std::move(end->error));
    }
  }
}

// A part of a prompt.
void Scheduler::read_prompt(Seat& seat) {
  const std::shared_ptr<Job> job = seat.job;
  Session& session = *seat.session;
  const std::span<const Token> prompt = job->text();
  const size_t at = session.tokens().size();
  const auto [n, singly] = next_part(*job, static_cast<int32_t>(at));
  LogitsSink sink;
  if (job->work.prompt_logprobs) {
    // A chunk that was interrupted comes again; what it reported does not.
    if (job->n_reported == 0) job->sink->on_prompt({.token = prompt[job->n_reported++]});
    sink = [&](int32_t position, std::span<const float> logits) {
      if (std::cmp_not_equal(job->n_reported, position + 1) || job->n_reported == prompt.size()) return;
      job->sink->on_prompt(with_logprobs(prompt[job->n_reported++], logits, job->work.top_logprobs));
    };
  }
  const std::span<const Token> part = prompt.subspan(at, static_cast<size_t>(n));
  Seat* const alone = &seat;
  const Status status = evaluate_for({&alone, 1}, job.get(), [&, singly = singly] {
    return singly ? session.evaluate_singly(part, sink) : session.evaluate(part, sink);
  });
  if (!status.has_value()) {
    if (status.error().kind != ErrorKind::kInterrupted) release(seat, Ending::kError, status.error());
    return;
  }
  has_read(seat);
}

// A part of its prompt was evaluated.
void Scheduler::has_read(Seat& seat) {
  const std::shared_ptr<Job> job = seat.job;
  const Session& session = *seat.session;
  const std::vector<Token>& prompt = job->work.prompt;
  job->prefilled = session.tokens().size() == job->text().size();
  if (!job->prefilled || job->pending) return;
  if (job->work.penalize_prompt) {
    for (const Token token : prompt) job->tokens->read(token);
  }
  if (job->work.max_tokens == 0) return release(seat, Ending::kLength);
  if (auto end = choose(*job, session.logits())) release(seat, end->ending, std::move(end->error));
}

// A token for everybody who writes.
void Scheduler::write_tokens() {
  writing_.clear();
  batch_.clear();
  for (const auto& seat : at_turn_) {
    if (!takes_part(*seat) || !seat->job->prefilled) continue;
    writing_.push_back(seat.get());
    batch_.push_back({.session = seat->session.get(), .token = *seat->job->pending});
  }
  if (batch_.empty()) return;
  const Job* const only = writing_.size() == 1 ? writing_[0]->job.get() : nullptr;
  const Status together = evaluate_for(writing_, only, [this] { return engine_->step(batch_); });
  if (!together.has_value() && together.error().kind == ErrorKind::kInterrupted) return;
  for (size_t i = 0; i < writing_.size(); ++i) {
    Seat& seat = *writing_[i];
    if (!together.has_value()) {
      // Whose experts could not be read is found out one by one; the others go on.
      const Job* const job = seat.job.get();
      const Status alone = only != nullptr ? together : evaluate_for({&writing_[i], 1}, job, [&] {
        return engine_->step({&batch_[i], 1});
      });
      if (!alone.has_value()) {
        if (alone.error().kind != ErrorKind::kInterrupted) release(seat, Ending::kError, alone.error());
        continue;
      }
    }
    if (auto end = choose(*seat.job, seat.session->logits())) {
      release(seat, end->ending, std::move(end->error));
    }
  }
}

// What ends it behind the tokens that there are; the chooser says whether more may follow.
std::optional<Ending> Scheduler::end_behind(const Job& job, bool may_go_on) {
  if (!may_go_on) return Ending::kGrammar;
  const bool has_all = job.work.max_tokens >= 0 && job.end.generated_tokens >= job.work.max_tokens;
  return has_all ? std::optional(Ending::kLength) : std::nullopt;
}

// The next token: to the sink, and to be evaluated at the next turn unless it was the last.
std::optional<Scheduler::End> Scheduler::choose(Job& job, std::span<const float> model_logits) {
  auto chosen = job.tokens->choose(model_logits);
  if (!chosen.has_value()) {
    return End{.ending = ending_of(chosen.error()), .error = std::move(chosen.error().error)};
  }
  const Token token = *chosen;
  if (job.first_token == Time()) job.first_token = std::chrono::steady_clock::now();
  if (engine_->is_end(token)) return End{.ending = Ending::kEndToken};
  const bool may_go_on = job.tokens->accept(token);
  ++job.end.generated_tokens;
  const bool wants_logprob = job.work.top_logprobs >= 0;
  const GeneratedToken written = wants_logprob ? with_logprobs(token, model_logits, job.work.top_logprobs)
                                               : GeneratedToken{.token = token};
  if (job.work.keeper != nullptr) job.work.keeper->wrote(written);
  const bool goes_on = job.sink->on_token(written);
  if (!goes_on) return End{.ending = Ending::kSink};
  if (const auto ending = end_behind(job, may_go_on)) return End{.ending = *ending};
  job.pending = token;
  return std::nullopt;
}

void Scheduler::finish(const std::shared_ptr<Job>& job, Ending ending, Error error) {
  {
    const MutexLock lock(mutex_);
    if (job->ended) return;
    job->ended = true;
  }
  const Time now = std::chrono::steady_clock::now();
  job->end.ending = ending;
  job->end.error = std::move(error);
  if (job->first_token != Time()) {
    job->end.ttft_ms = ms_between(job->submitted, job->first_token);
    job->end.decode_ms = ms_between(job->first_token, now);
  }
  if (options_.on_end) options_.on_end(job->end);
  job->sink->on_end(job->end);
}

}  // namespace odmoe::server
