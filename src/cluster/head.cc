#include "cluster/head.h"

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
          [this](const Error&) {
            came_.notify_all();
            if (options_.on_end) options_.on_end();
          }) {
  for (int rank = 0; rank < transport.n_rank(); ++rank) {
    names_.push_back(rank_name(transport, rank));
    figures_.push_back(std::make_shared<RankFigures>());
  }
}

Head::~Head() { (void)tell_all(make_note(NoteKind::kEnd)); }

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
  if (options.fill) {
    return fail(ErrorKind::kUsage,
                "--fill does not go with several ranks: it would fill memory with experts of others");
  }
  ODMOE_RETURN_IF_ERROR(tell_all(
      make_note(NoteKind::kBegin, Begin{.chunk = options.chunk, .sessions = options.sessions}.json())));
  dependencies.make_sites = [this](const auto& context) { return make_sites(context); };
  dependencies.site_bytes = [n = names_.size() - 1](const ModelShape& shape, int64_t max_tokens) {
    return n * RemoteSite::bytes(WireShape::of(shape, max_tokens));
  };
  dependencies.rank_stats = [this] { return stats(); };
  return EngineImpl::open(options, progress, dependencies);
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
  ODMOE_ASSIGN_OR_RETURN(const std::vector<Hello> hellos, gather_hellos(own));
  ODMOE_RETURN_IF_ERROR(check_hellos(hellos, names_, options_.mixed_allowed));
  std::vector<std::string> hosts;
  for (int rank = 0; rank < transport_.n_rank(); ++rank) hosts.push_back(transport_.host(rank));
  ODMOE_RETURN_IF_ERROR(check_memory(hellos, hosts));

  ODMOE_RETURN_IF_ERROR(check_shares(hellos, names_));

  OwnershipFacts facts = facts_of(context.decoder, context.source, hellos);
  apply_shares(hellos, facts);
  facts.uses = std::move(uses);
  const auto ownership = std::make_shared<const Ownership>(Ownership::of(facts));
  ODMOE_RETURN_IF_ERROR(
      check_held(*ownership, 0, facts.expert_layers, facts.n_expert, context.file, context.source));
  const WireShape shape = WireShape::of(context.decoder.shape(), context.local.max_tokens);
  ODMOE_RETURN_IF_ERROR(transport_.make_room(max_result_bytes(shape)));
  ODMOE_RETURN_IF_ERROR(
      tell_all(make_note(NoteKind::kSetup, RankList{.ranks = facts.ranks,
                                                    .expert_bytes = facts.expert_bytes,
                                                    .owners = ownership->fingerprint().hex()}
                                               .json())));
  ODMOE_RETURN_IF_ERROR(await_ready());

  description_.clear();
  std::vector<EngineDependencies::Site> sites;
  for (size_t rank = 0; rank < names_.size(); ++rank) {
    n_owned_.push_back(ownership->n_owned(static_cast<int>(rank)));
    const uint64_t bandwidth = hellos[rank].drive_bytes_per_second;
    description_ +=
        odmoe::format("{}: {} experts, {} for them, {}\n", names_[rank], n_owned_[rank],
                      format_bytes(hellos[rank].memory_bytes),
                      bandwidth > 0 ? format_bytes(bandwidth) + "/s" : "a drive that was not tried");
    if (rank == 0) continue;
    ODMOE_ASSIGN_OR_RETURN(auto site, RemoteSite::create(transport_, pulse_, figures_[rank],
                                                         {.rank = static_cast<int>(rank),
                                                          .shape = shape,
                                                          .interrupted = context.local.interrupted}));
    std::vector<size_t> index(static_cast<size_t>(context.decoder.shape().n_layer));
    for (size_t i = 0; i < facts.expert_layers.size(); ++i) {
      index[static_cast<size_t>(facts.expert_layers[i])] = i;
    }
    sites.push_back({.site = std::move(site),
                     .owns = [ownership, rank, index = std::move(index)](int layer, int32_t expert) {
                       return std::cmp_equal(ownership->owner(index[static_cast<size_t>(layer)], expert),
                                             rank);
                     }});
  }
  return sites;
}

std::vector<Stats::Rank> Head::stats() const {
  std::vector<Stats::Rank> ranks;
  for (size_t rank = 0; rank < n_owned_.size(); ++rank) {
    Stats::Rank& one = ranks.emplace_back();
    one.rank = static_cast<int32_t>(rank);
    one.host = transport_.host(static_cast<int>(rank));
    one.n_expert = n_owned_[rank];
    if (rank > 0) figures_[rank]->read(one);
  }
  return ranks;
}

}  // namespace odmoe
