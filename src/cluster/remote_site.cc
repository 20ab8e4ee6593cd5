#include "cluster/remote_site.h"

#include <algorithm>
#include <array>
#include <utility>

#include "backend/tensor_memory.h"
#include "engine/interrupt.h"
#include "store/expert_store.h"

namespace odmoe {
namespace {

constexpr std::chrono::milliseconds kLook{50};  // how soon an interrupt, or a rank that has gone, is seen
// At the end work that was abandoned is waited for no longer: a drive that hangs holds nobody up.
constexpr std::chrono::seconds kPatience{5};

}  // namespace

void RankFigures::add_work(const SiteFigures& worker, uint64_t wait_us, uint64_t sent_bytes,
                           uint64_t received_bytes) {
  const MutexLock lock(mutex_);
  worker_ = worker;
  wait_us_ += wait_us;
  sent_bytes_ += sent_bytes;
  received_bytes_ += received_bytes;
}

void RankFigures::set_warmed(const WarmedNote& warmed) {
  const MutexLock lock(mutex_);
  warmed_ = warmed;
}

WarmedNote RankFigures::warmed() const {
  const MutexLock lock(mutex_);
  return warmed_;
}

void RankFigures::read(Stats::Rank& rank) const {
  const MutexLock lock(mutex_);
  tell_figures(worker_, rank);
  rank.wait_us = wait_us_;
  rank.sent_bytes = sent_bytes_;
  rank.received_bytes = received_bytes_;
}

RemoteSite::RemoteSite(Transport& transport, Pulse& pulse, std::shared_ptr<RankFigures> figures,
                       const Options& options)
    : transport_(transport),
      pulse_(pulse),
      figures_(std::move(figures)),
      options_(options),
      scratch_(static_cast<size_t>(options.shape.n_expert)),
      note_(kMaxHintsBytes) {
  pairs_.reserve(static_cast<size_t>(options.shape.max_tokens() * options.shape.n_expert_used));
}

Result<std::unique_ptr<RemoteSite>> RemoteSite::create(Transport& transport, Pulse& pulse,
                                                       std::shared_ptr<RankFigures> figures,
                                                       const Options& options) {
  std::unique_ptr<RemoteSite> site(new RemoteSite(transport, pulse, std::move(figures), options));
  ODMOE_ASSIGN_OR_RETURN(site->message_, AlignedBuffer::allocate(max_work_bytes(options.shape)));
  return site;
}

// What was sent is in memory of ours until the answer has come.  Where none will come it stays there, since a
// transport may still look at it; the process is about to end.
RemoteSite::~RemoteSite() {
  static auto* const kept = new std::vector<AlignedBuffer>;
  const Status ended = await_last(nullptr, std::chrono::steady_clock::now() + kPatience);
  if (!ended.has_value()) kept->push_back(std::move(message_));
}

Status RemoteSite::begin(const ExpertWork& work) {
  // Of work that was abandoned: its rows are wanted no more, but they must not be taken for this one's.
  ODMOE_RETURN_IF_ERROR(await_last(options_.interrupted));
  work_ = work;
  pairs_.clear();
  for (const int32_t expert : work.experts) {
    const std::span<const DemandPair> pairs = work.demand->pairs(expert);
    pairs_.insert(pairs_.end(), pairs.begin(), pairs.end());
  }
  const size_t n = write_work(message_.span(), options_.shape, ++sequence_, work, scratch_);
  if (const Status sent = transport_.send(options_.rank, message_.span().first(n)); !sent.has_value()) {
    pulse_.break_with(sent.error());
    return sent;
  }
  sent_bytes_ = n;
  received_bytes_ = 0;
  under_way_ = true;
  hinted_ = false;  // hints of a layer end with its demand, there too
  return {};
}

// The next result of the work under way.
Result<ReadResult> RemoteSite::next_result(const std::atomic<bool>* interrupted, Time until) {
  while (true) {
    ODMOE_RETURN_IF_ERROR(check_interrupt(interrupted));
    ODMOE_RETURN_IF_ERROR(pulse_.status());
    auto come = transport_.receive(options_.rank, kLook);
    if (!come.has_value()) {
      pulse_.break_with(come.error());
      return std::unexpected(come.error());
    }
    if (!*come) {
      if (std::chrono::steady_clock::now() < until) continue;
      return broken(ErrorKind::kIo, "does not end work that was abandoned");
    }
    auto result = read_result(**come, options_.shape);
    if (!result.has_value()) return broken(result.error().kind, result.error().message);
    if (result->header.sequence != sequence_) {
      return broken(ErrorKind::kIo,
                    odmoe::format("answered to work {} instead of {}", result->header.sequence, sequence_));
    }
    if (result->header.outcome == Outcome::kMore && result->header.n_row == 0) {
      return broken(ErrorKind::kIo, "sent a result without rows");
    }
    received_bytes_ += (*come)->size();
    if (result->header.outcome != Outcome::kMore) under_way_ = false;
    return result;
  }
}

Status RemoteSite::await_last(const std::atomic<bool>* interrupted, Time until) {
  while (under_way_) {
    const auto result = next_result(interrupted, until);
    if (!result.has_value()) return std::unexpected(result.error());
  }
  return {};
}

Result<std::optional<DemandPair>> RemoteSite::finish() {
  const int64_t begin_us = options_.clock->now_us();
  size_t n_row = 0;
  while (true) {
    ODMOE_ASSIGN_OR_RETURN(const ReadResult result, next_result(options_.interrupted));
    const ResultHeader& header = result.header;
    const auto waited = [&] {
      return static_cast<uint64_t>(std::max<int64_t>(options_.clock->now_us() - begin_us, 0));
    };
    if (!under_way_) figures_->add_work(header.figures, waited(), sent_bytes_, received_bytes_);
    switch (header.outcome) {
      case Outcome::kMore:
      case Outcome::kDone:
        if (header.first_row != n_row || header.n_row > pairs_.size() - n_row) {
          return broken(ErrorKind::kIo, "sent rows that it was not asked for");
        }
        scatter(header.first_row, result.rows);
        n_row += header.n_row;
        if (header.outcome == Outcome::kMore) continue;
        if (n_row == pairs_.size()) return std::nullopt;
        return broken(ErrorKind::kIo, odmoe::format("sent {} rows of {}", n_row, pairs_.size()));
      case Outcome::kNotFinite: {
        if (header.token < 0 || header.token >= work_.demand->n_token() || header.rank < 0 ||
            header.rank >= options_.shape.n_expert_used) {
          return broken(ErrorKind::kIo, "named a token that it was not asked for");
        }
        return DemandPair{.column = work_.demand->columns()[static_cast<size_t>(header.token)],
                          .rank = header.rank};
      }
      case Outcome::kFailed:
        return std::unexpected(
            named({.kind = static_cast<ErrorKind>(header.error_kind), .message = std::string(result.text)}));
    }
  }
}

void RemoteSite::scatter(uint32_t first, std::span<const float> rows) const {
  const auto width = static_cast<size_t>(options_.shape.width);
  const std::span<float> output = host_values<float>(work_.columns.output);
  for (size_t i = 0; i * width < rows.size(); ++i) {
    const DemandPair& pair = pairs_[first + i];
    const auto row = static_cast<size_t>(pair.column * options_.shape.n_expert_used + pair.rank);
    std::ranges::copy(rows.subspan(i * width, width), output.begin() + static_cast<ptrdiff_t>(row * width));
  }
}

void RemoteSite::abandon() {
  if (!under_way_) return;
  std::array<std::byte, 16> note{};
  const size_t n = write_abandon(note, sequence_);
  (void)transport_.send_note(options_.rank, std::span(note).first(n));  // it only ends the sooner
}

void RemoteSite::hint(std::span<const ExpertKey> experts, PrefetchDepth depth) {
  // Nothing replaces nothing.
  if (hinted_.exchange(!experts.empty()) || !experts.empty()) {
    const size_t n = write_hints(note_, experts, depth);
    (void)transport_.send_note(options_.rank, std::span(note_).first(n));  // it is only a hint
  }
}

void RemoteSite::warm(std::span<const ExpertKey> experts) {
  constexpr size_t kMostParts = 32;  // beyond, a rank that takes none would be waited for
  experts = experts.first(std::min(experts.size(), kMostParts * kMostOfWarmPart));
  warms_ = !experts.empty();
  warmth_ = {};
  ++n_warm_;
  while (!experts.empty() && warms_) {
    const size_t n = std::min(experts.size(), kMostOfWarmPart);
    const std::string note =
        make_warm_part({.number = n_warm_, .last = n == experts.size(), .experts = experts.first(n)});
    // It only takes longer without.
    if (!transport_.send_note(options_.rank, std::as_bytes(std::span(note))).has_value()) warms_ = false;
    experts = experts.subspan(n);
  }
}

// Where a rank has gone, whoever evaluates is told; what could not be warmed is read when it is asked for.
Result<Warmth> RemoteSite::warmed() {
  if (!pulse_.status().has_value() || !transport_.is_there(options_.rank)) warms_ = false;
  const WarmedNote said = figures_->warmed();
  if (warms_ && said.number == n_warm_) {
    warmth_ = {.n_read = said.n_read, .n_expert = said.n_expert};
    if (said.done != 0) warms_ = false;
  }
  warmth_.done = !warms_;
  return warmth_;
}

// What comes after cannot be told from what should have come: nothing works any more.
std::unexpected<Error> RemoteSite::broken(ErrorKind kind, std::string_view what) {
  const Error error = named({.kind = kind, .message = std::string(what)});
  pulse_.break_with(error);
  return std::unexpected(error);
}

Error RemoteSite::named(const Error& error) const {
  return {.kind = error.kind,
          .message = odmoe::format("{}: {}", rank_name(transport_, options_.rank), error.message)};
}

}  // namespace odmoe
