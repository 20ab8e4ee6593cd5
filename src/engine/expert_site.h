// A place where routed experts are computed: memory of this machine (local_site.h), or another machine
// (cluster/remote_site.h).
//
// Each expert of a layer has one site, always the same.  For each layer a forward pass begins the work of all
// sites that have experts in it, does what it has to do meanwhile, and finishes with each of them; so sites
// work at the same time and may be ready in any order.  What they give is summed by the caller, by rank, so
// that the order says nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "engine/layer_demand.h"
#include "engine/warming.h"
#include "format/expert_source.h"
#include "model/blocks/experts.h"
#include "odmoe/result.h"
#include "store/prefetch_depth.h"

namespace odmoe {

// The work of one site on one layer.  What it points at stays as it is until the work has ended.
struct ExpertWork {
  // Rounding depends on which tokens are computed together.
  enum class Tokens {
    kOne,        // a single one
    kChunk,      // of one timeline, in columns 0, 1, ...: together they are what defines the bits
    kTimelines,  // of several timelines, in any columns: each gets the bits that it gets alone
  };
  // Neighbouring columns that are a chunk of one timeline, where there are several timelines.
  struct Chunk {
    int32_t first = 0, n_token = 0;
    ExpertColumns columns;    // of them alone
    ExpertColumns on_device;  // as ExpertWork::on_device
  };
  Tokens tokens = Tokens::kOne;
  const LayerDemand* demand = nullptr;
  // Of the demand's experts those of the site, in the demand's order; at least one.
  std::span<const int32_t> experts;
  // Which experts of the next layer are the site's; empty: there is no such layer.
  int next_layer = -1;
  std::span<const int32_t> next_experts;
  // Of kTimelines; tokens in other columns are single ones.
  std::span<const Chunk> chunks;
  // Activations::expert_input, or ffn_input where that is what experts see, is read and expert_output
  // written, in the columns of the demand's pairs, on the host.
  ExpertColumns columns;
  // The same for a site on the device of the dense weights, which reads and writes there: input and output
  // are the device's, weights the host's.  Of kTimelines they are those of `lanes`, a column each, by the
  // number of the column, and of the chunks.
  ExpertColumns on_device;
  std::span<const ExpertColumns> lanes;

  // A chunk that wants nearly all of the site's experts in this layer will want nearly all of them in the
  // next one, which can be asked for before that router has spoken, once the drive has nothing left to read
  // for this layer.
  bool foretells_next_layer() const {
    return !next_experts.empty() && experts.size() * 4 >= next_experts.size() * 3;
  }
};

// One owner: calls come from the thread that evaluates, but for hint().
class ExpertSite {
 public:
  virtual ~ExpertSite() = default;

  // Starts what takes time (reads, messages) and returns.  The work before has ended.
  virtual Status begin(const ExpertWork& work) = 0;

  // Returns when expert_output has the results of all of the work's pairs, or it failed; in both cases the
  // work has ended.  Returns a pair within whose computation a value was not finite that its output may not
  // show (model/finite_watch.h), the first that was found; its output and those of others may be missing
  // then.  Errors: of reading an expert; kInterrupted.
  virtual Result<std::optional<DemandPair>> finish() = 0;

  // Ends work that was begun, if there is any: nobody wants it any more.
  virtual void abandon() = 0;

  // Experts of the site that are likely to be wanted, best first, instead of those that it was told of before
  // (ExpertStore::prefetch, for a token's choice); and how many reads for them may be in flight.  Any thread,
  // one at a time.  Never waits.
  virtual void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) = 0;

  // Begins to read experts of the site before anybody asks for them, likeliest first, as many as there is
  // room for, and returns; how far that is.  Any thread, one at a time, while hints may come meanwhile.
  virtual void warm(std::span<const ExpertKey> experts) = 0;
  virtual Result<Warmth> warmed() = 0;
};

}  // namespace odmoe
