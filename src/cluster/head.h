// The rank that evaluates: its engine computes experts itself and has the other ranks compute theirs.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/joining_thread.h"
#include "base/mutex.h"
#include "cluster/greeting.h"
#include "cluster/ownership.h"
#include "cluster/pulse.h"
#include "cluster/remote_site.h"
#include "cluster/transport.h"
#include "engine/engine_impl.h"

namespace odmoe {

// One owner.  Outlives the engine that it opens, and tells the other ranks to end when it ends itself.
//
// A rank that goes: evaluations under way end with the error that names it.  Where the transport can do
// without it and all others have the whole model, the experts get other owners then, and evaluations work
// again.
class Head {
 public:
  struct Options {
    bool mixed_allowed = false;     // ranks may round otherwise
    std::filesystem::path balance;  // a trace whose uses decide who owns what as well; empty: none
    Pulse::Options pulse;
    // Called in threads of its own: nothing works any more, or a rank was asked to end.
    std::function<void()> on_end;
    std::function<bool()> leave;  // whether the wait for the others is to end: kInterrupted; null: never
  };
  // `transport` must outlive it.
  Head(Transport& transport, Options options);
  ~Head();
  Head(const Head&) = delete;
  Head& operator=(const Head&) = delete;

  // Opens the model here and, with what the other ranks have, makes them owners of their experts.  Errors:
  // those of Engine::open; those of another rank, with its name; kUnsupported: ranks do not suit each other;
  // kUsage: an option that does not go with several ranks.  `dependencies` are for tests.
  Result<std::unique_ptr<EngineImpl>> open(const EngineOptions& options, const LoadProgress& progress,
                                           EngineDependencies dependencies = {});

  // Why nothing works any more, or not for the moment; no error while all is well.
  Status status() const { return pulse_.status(); }

  // "rank 0 (mac1): 512 experts, 40.0 GiB for them, 3.1 GiB/s", a line for each rank, once it is open.
  std::string description() const { return description_; }

 private:
  void on_note(int from, const ReadNote& note);
  void on_broken();
  void mend_what_breaks();
  Status mend(EngineImpl& engine);
  Result<std::vector<ExpertOwners::Owns>> regroup();
  Status check_whole(const Error& lost) const;
  Result<std::vector<EngineDependencies::Site>> make_sites(const EngineDependencies::SiteContext& context);
  Result<std::vector<Hello>> gather_hellos(const Hello& own);
  Result<std::shared_ptr<const Ownership>> agree_on_owners();
  std::vector<ExpertOwners::Owns> owners_of_sites(const std::shared_ptr<const Ownership>& ownership) const;
  Status await_ready();
  template <typename Ready>
  Status await(const Ready& ready);
  Status tell_all(const std::string& note);
  std::vector<Stats::Rank> stats() const;

  Transport& transport_;
  Options options_;
  std::string description_;
  std::vector<std::string> names_;  // of the ranks, for people
  std::vector<std::shared_ptr<RankFigures>> figures_;
  // What owners are chosen by; once there are sites.
  std::vector<Hello> introduced_;   // by rank
  OwnershipFacts facts_;            // its ranks are those that are there
  std::vector<int> there_;          // their numbers
  std::vector<RemoteSite*> sites_;  // of all other ranks, in their order; the engine's

  mutable Mutex mutex_;
  Condition came_;
  std::vector<std::optional<std::string>> hellos_ ODMOE_GUARDED_BY(mutex_);  // by rank
  std::vector<std::optional<std::string>> ready_ ODMOE_GUARDED_BY(mutex_);
  std::vector<std::optional<int32_t>> n_owned_ ODMOE_GUARDED_BY(mutex_);  // by rank; nothing: it is not there
  bool broken_ ODMOE_GUARDED_BY(mutex_) = false;                          // and nobody has looked at it yet
  bool mending_ ODMOE_GUARDED_BY(mutex_) = false;                         // the engine is in use for that
  bool ending_ ODMOE_GUARDED_BY(mutex_) = false;
  EngineImpl* engine_ ODMOE_GUARDED_BY(mutex_) = nullptr;  // while it is open
  Pulse pulse_;
  JoiningThread mender_;  // last: it uses the others
};

}  // namespace odmoe
