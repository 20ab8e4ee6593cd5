#include "cluster/head.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/units.h"
#include "cluster/hello.h"
#include "cluster/recorded_uses.h"
#include "cluster/share.h"

namespace odmoe {
namespace {

constexpr std::chrono::milliseconds kLookAgain{50};

}  // namespace

Head::Head(Transport& transport, Options options)
    : transport_(transport),
      options_(std::move(options)),
      hellos_(static_cast<size_t>(transport.n_rank())),
      ready_(hellos_.size()),
      pulse_(
          transport, options_.pulse, [this](int from, const ReadNote& note) { on_note(from, note); },
          [this](const Error&) { on_broken(); }) {
  for (int rank = 0; rank < transport.n_rank(); ++rank) {
    names_.push_back(rank_name(transport, rank));
    figures_.push_back(std::make_shared<RankFigures>());
  }
  mender_ = JoiningThread([this] { mend_what_breaks(); });
}

Head::~Head() {
  {
    const MutexLock lock(mutex_);
    ending_ = true;
  }
  came_.notify_all();
  mender_.join();
  (void)tell_all(make_note(NoteKind::kEnd));
}

// The lock is not held here by whoever waits for what has broken.
void Head::on_broken() {
  {
    const MutexLock lock(mutex_);
    broken_ = true;
  }
  came_.notify_all();
}

void Head::mend_what_breaks() {
  MutexLock lock(mutex_);
  while (true) {
    while (!ending_ && !broken_) came_.wait(mutex_);
    if (ending_) return;
    broken_ = false;
    EngineImpl* const engine = engine_;
    mending_ = true;
    lock.unlock();
    const bool mended = engine != nullptr && mend(*engine).has_value();
    if (!mended && options_.on_end) options_.on_end();
    lock.lock();
    mending_ = false;
    came_.notify_all();
  }
}

Status Head::mend(EngineImpl& engine) {
  if (pulse_.status().has_value()) return {};  // it was, meanwhile
  if (!transport_.can_regroup()) return pulse_.status();
  const Status mended = engine.change_owners([this] { return regroup(); });
  if (!mended.has_value()) spdlog::error("{}", mended.error().message);
  return mended;
}

// Whether all that are left have all experts.
Status Head::check_whole(const Error& lost) const {
  for (size_t rank = 0; rank < introduced_.size(); ++rank) {
    const std::optional<ExpertShare>& share = introduced_[rank].share;
    if (!share || !transport_.is_there(static_cast<int>(rank))) continue;
    return fail(lost.kind, "{}; {} has {} of the experts alone, so the others cannot go on without it",
                lost.message, names_[rank], share->name());
  }
  return {};
}

// No evaluation is under way.
Result<std::vector<ExpertOwners::Owns>> Head::regroup() {
  while (true) {
    pulse_.stop();
    const Error lost = pulse_.status().error();
    ODMOE_RETURN_IF_ERROR(check_whole(lost));
    ODMOE_RETURN_IF_ERROR(transport_.regroup(options_.pulse.silence));
    for (RemoteSite* site : sites_) site->forget();
    {
      const MutexLock lock(mutex_);
      ready_.assign(ready_.size(), std::nullopt);
    }
    pulse_.restart();
    const auto ownership = agree_on_owners();
    if (ownership.has_value()) {
      spdlog::warn("{}: going on with the {} of {} ranks that are left", lost.message, there_.size(),
                   names_.size());
      return owners_of_sites(*ownership);
    }
    pulse_.break_with(ownership.error());  // which the transport may know before it does
    if (!transport_.can_regroup()) return std::unexpected(ownership.error());
  }
}

void Head::on_note(int from, const ReadNote& note) {
  const std::string text(reinterpret_cast<const char*>(note.body.data()), note.body.size());
  const auto rank = static_cast<size_t>(from);
  switch (note.kind) {
    case NoteKind::kHello: {
      const MutexLock lock(mutex_);
      hellos_[rank] = text;
      break;
    }
    case NoteKind::kReady: {
      const MutexLock lock(mutex_);
      ready_[rank] = text;
      break;
    }
    case NoteKind::kWarmed:
      if (const auto warmed = read_warmed(note.body)) figures_[rank]->set_warmed(*warmed);
      return;
    case NoteKind::kLeave:
      if (options_.on_end) options_.on_end();
      break;
    default:
      break;
  }
  came_.notify_all();
}

Status Head::tell_all(const std::string& note) {
  Status all;
  for (int rank = 1; rank < transport_.n_rank(); ++rank) {
    if (!transport_.is_there(rank)) continue;
    const Status told = transport_.send_note(rank, std::as_bytes(std::span(note)));
    if (all.has_value()) all = told;
  }
  return all;
}

// Until `ready`, which is asked with the lock held.
template <typename Ready>
Status Head::await(const Ready& ready) {
  MutexLock lock(mutex_);
  while (!ready()) {
    if (options_.leave && options_.leave()) return fail(ErrorKind::kInterrupted, "interrupted");
    ODMOE_RETURN_IF_ERROR(pulse_.status());
    came_.wait_until(mutex_, std::chrono::steady_clock::now() + kLookAgain);
  }
  return {};
}

// The first that cannot take part ends it: others may never answer.
Result<std::vector<Hello>> Head::gather_hellos(const Hello& own) {
  std::vector<Hello> hellos{own};
  for (size_t rank = 1; rank < names_.size(); ++rank) {
    std::optional<std::string> text;
    ODMOE_RETURN_IF_ERROR(await([&]() ODMOE_NO_THREAD_SAFETY_ANALYSIS {  // await() has the lock
      text = hellos_[rank];
      return text.has_value();
    }));
    auto hello = Hello::read(*text);
    if (!hello.has_value()) {
      return fail(hello.error().kind, "{}: {}", names_[rank], hello.error().message);
    }
    if (!hello->error.empty()) return fail(ErrorKind::kUnsupported, "{}: {}", names_[rank], hello->error);
    hellos.push_back(std::move(*hello));
  }
  return hellos;
}

Status Head::await_ready() {
  for (size_t rank = 1; rank < names_.size(); ++rank) {
    if (!transport_.is_there(static_cast<int>(rank))) continue;
    std::optional<std::string> error;
    ODMOE_RETURN_IF_ERROR(await([&]() ODMOE_NO_THREAD_SAFETY_ANALYSIS {  // as above
      error = ready_[rank];
      return error.has_value();
    }));
    if (!error->empty()) return fail(ErrorKind::kUnsupported, "{}: {}", names_[rank], *error);
  }
  return {};
}

Result<std::unique_ptr<EngineImpl>> Head::open(const EngineOptions& options, const LoadProgress& progress,
                                               EngineDependencies dependencies) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  ODMOE_RETURN_IF_ERROR(tell_all(make_note(
      NoteKind::kBegin,
      Begin{.chunk = options.chunk, .sessions = options.sessions, .prompts = options.prompts}.json())));
  dependencies.make_sites = [this](const auto& context) { return make_sites(context); };
  dependencies.site_bytes = [n = names_.size() - 1](const ModelShape& shape, const EngineOptions& used) {
    return n * RemoteSite::bytes(WireShape::of(shape, used));
  };
  dependencies.rank_stats = [this] { return stats(); };
  dependencies.before_end = [this] {
    MutexLock lock(mutex_);
    engine_ = nullptr;
    while (mending_) came_.wait(mutex_);
  };
  ODMOE_ASSIGN_OR_RETURN(auto engine, EngineImpl::open(options, progress, dependencies));
  const MutexLock lock(mutex_);
  engine_ = engine.get();
  return engine;
}

// Of those that are there, each of which finds the same.
Result<std::shared_ptr<const Ownership>> Head::agree_on_owners() {
  there_.clear();
  facts_.ranks.clear();
  std::vector<Hello> hellos;
  for (int rank = 0; rank < transport_.n_rank(); ++rank) {
    if (!transport_.is_there(rank)) continue;
    const Hello& hello = introduced_[static_cast<size_t>(rank)];
    there_.push_back(rank);
    facts_.ranks.push_back(
        {.memory_bytes = hello.memory_bytes, .drive_bytes_per_second = hello.drive_bytes_per_second});
    hellos.push_back(hello);
  }
  OwnershipFacts facts = facts_;
  apply_shares(hellos, facts);
  auto ownership = std::make_shared<const Ownership>(Ownership::of(facts));
  ODMOE_RETURN_IF_ERROR(
      tell_all(make_note(NoteKind::kSetup, RankList{.numbers = there_,
                                                    .ranks = facts.ranks,
                                                    .expert_bytes = facts.expert_bytes,
                                                    .owners = ownership->fingerprint().hex()}
                                               .json())));
  ODMOE_RETURN_IF_ERROR(await_ready());
  const MutexLock lock(mutex_);
  n_owned_.assign(names_.size(), std::nullopt);
  for (size_t i = 0; i < there_.size(); ++i) {
    n_owned_[static_cast<size_t>(there_[i])] = ownership->n_owned(static_cast<int>(i));
  }
  return ownership;
}

// Of each rank but this one; those that are not there own none.
std::vector<ExpertOwners::Owns> Head::owners_of_sites(
    const std::shared_ptr<const Ownership>& ownership) const {
  std::vector<size_t> index(static_cast<size_t>(std::ranges::max(facts_.expert_layers)) + 1);
  for (size_t i = 0; i < facts_.expert_layers.size(); ++i) {
    index[static_cast<size_t>(facts_.expert_layers[i])] = i;
  }
  std::vector<ExpertOwners::Owns> owns;
  for (size_t rank = 1; rank < names_.size(); ++rank) {
    const auto owner = std::ranges::find(there_, static_cast<int>(rank)) - there_.begin();
    owns.emplace_back([ownership, owner, index](int layer, int32_t expert) {
      return std::cmp_equal(ownership->owner(index[static_cast<size_t>(layer)], expert), owner);
    });
  }
  return owns;
}

Result<std::vector<EngineDependencies::Site>> Head::make_sites(
    const EngineDependencies::SiteContext& context) {
  ODMOE_ASSIGN_OR_RETURN(std::vector<uint64_t> uses, recorded_uses(options_.balance, context.decoder));
  ODMOE_ASSIGN_OR_RETURN(const Hello own, make_hello({.file = context.file,
                                                      .source = context.source,
                                                      .backend = context.host_backend,
                                                      .site = context.site,
                                                      .copies = context.copies,
                                                      .memory = context.options.memory,
                                                      .arena_bytes = context.plan.arena_bytes,
                                                      .uses = uses}));
  ODMOE_ASSIGN_OR_RETURN(introduced_, gather_hellos(own));
  ODMOE_RETURN_IF_ERROR(check_hellos(introduced_, names_, options_.mixed_allowed));
  std::vector<std::string> hosts;
  for (int rank = 0; rank < transport_.n_rank(); ++rank) hosts.push_back(transport_.host(rank));
  ODMOE_RETURN_IF_ERROR(check_memory(introduced_, hosts));
  ODMOE_RETURN_IF_ERROR(check_shares(introduced_, names_));

  facts_ = facts_of(context.decoder, context.source, {});
  facts_.uses = std::move(uses);
  const WireShape shape = WireShape::of(context.decoder.shape(), context.options);
  ODMOE_RETURN_IF_ERROR(transport_.make_room(max_result_bytes(shape)));
  ODMOE_ASSIGN_OR_RETURN(const auto ownership, agree_on_owners());
  ODMOE_RETURN_IF_ERROR(
      check_held(*ownership, 0, facts_.expert_layers, facts_.n_expert, context.file, context.source));

  description_.clear();
  sites_.clear();
  std::vector<EngineDependencies::Site> sites;
  const std::vector<ExpertOwners::Owns> owns = owners_of_sites(ownership);
  for (size_t rank = 0; rank < names_.size(); ++rank) {
    const Hello& hello = introduced_[rank];
    const uint64_t bandwidth = hello.drive_bytes_per_second;
    description_ +=
        odmoe::format("{}: {} experts, {} for them, {}\n", names_[rank],
                      ownership->n_owned(static_cast<int>(rank)), format_bytes(hello.memory_bytes),
                      bandwidth > 0 ? format_bytes(bandwidth) + "/s" : "a drive that was not tried");
    if (rank == 0) continue;
    ODMOE_ASSIGN_OR_RETURN(auto site, RemoteSite::create(transport_, pulse_, figures_[rank],
                                                         {.rank = static_cast<int>(rank),
                                                          .shape = shape,
                                                          .interrupted = context.local.interrupted}));
    sites_.push_back(site.get());
    sites.push_back({.site = std::move(site), .owns = owns[rank - 1]});
  }
  return sites;
}

std::vector<Stats::Rank> Head::stats() const {
  const MutexLock lock(mutex_);
  std::vector<Stats::Rank> ranks;
  for (size_t rank = 0; rank < n_owned_.size(); ++rank) {
    if (!n_owned_[rank]) continue;
    Stats::Rank& one = ranks.emplace_back();
    one.rank = static_cast<int32_t>(rank);
    one.host = transport_.host(static_cast<int>(rank));
    one.n_expert = *n_owned_[rank];
    if (rank > 0) figures_[rank]->read(one);
  }
  return ranks;
}

}  // namespace odmoe
