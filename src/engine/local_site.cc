#include "engine/local_site.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

#include "engine/interrupt.h"
#include "engine/pending_experts.h"
#include "engine/repacked_check.h"
#include "model/blocks/exact_rows.h"

namespace odmoe {
namespace {

// Experts that are computed at once, at least, of several tokens: threads meet a dozen times for each call.
// Of what is leased no more than a part, so that the drive is at work meanwhile, and there is little left to
// compute when the last one has come.
constexpr size_t kExpertsAtOnce = 8;
constexpr size_t kPartAtOnce = 4;

}  // namespace

LocalSite::LocalSite(Backend& backend, const ModelShape& shape, std::span<const int> expert_layers,
                     const Options& options)
    : backend_(&backend),
      shape_(shape),
      expert_layers_(expert_layers.begin(), expert_layers.end()),
      options_(options),
      layers_(static_cast<size_t>(shape.n_layer)) {
  const auto n_expert = static_cast<size_t>(shape.router.n_expert);
  pending_.reserve(n_expert);
  leases_.reserve(n_expert);
  hints_.reserve(n_expert);
}

Result<std::unique_ptr<LocalSite>> LocalSite::create(Backend& backend, const Decoder& decoder,
                                                     const Checkpoint& file, const Options& options) {
  const ModelShape& shape = decoder.shape();
  const std::vector<int>& expert_layers = decoder.expert_layers();
  std::unique_ptr<LocalSite> site(new LocalSite(backend, shape, expert_layers, options));
  ODMOE_ASSIGN_OR_RETURN(site->layout_, layout_of_repacked(file, backend));
  ODMOE_ASSIGN_OR_RETURN(site->compute_, ExpertCompute::create(backend, shape, options.max_tokens));
  const int64_t most = std::max(options.max_tokens, options.max_tokens_together);
  site->pairs_.reserve(
      static_cast<size_t>(std::max(site->compute_->max_pairs(), most * shape.router.n_expert_used)));
  site->chunk_pairs_.reserve(site->pairs_.capacity());
  for (const int layer : expert_layers) {
    LayerExperts& experts = site->layers_[static_cast<size_t>(layer)];
    ODMOE_ASSIGN_OR_RETURN(experts, describe_experts(file, shape, layer, site->layout_.get()));
    experts.terms = decoder.expert_terms(layer);
    if (!site->compute_->supported(experts)) {
      return fail(ErrorKind::kUnsupported,
                  "{}: this ggml cannot compute the experts of layer {} ({}, {}, {})", file.path().string(),
                  layer, ggml_type_name(experts.gate.type), ggml_type_name(experts.up.type),
                  ggml_type_name(experts.down.type));
    }
  }
  return site;
}

uint64_t LocalSite::buffer_bytes() const {
  // The pairs are reserved alone: what is written at once is in what the process has already.
  const uint64_t pairs = (pairs_.capacity() + chunk_pairs_.capacity()) * sizeof(ExpertPair);
  return ExpertCompute::bytes(shape_, options_.max_tokens) + pairs;
}

Status LocalSite::attach(ExpertStore& store) {
  store_ = &store;
  arena_ = backend_->wrap(store.arena());
  for (const int layer : expert_layers_) {
    const SlotView view = store.slot_view(layer);
    std::byte* first = store.arena().data() + view.first_slot_offset;
    LayerExperts& experts = layers_[static_cast<size_t>(layer)];
    experts.slot_bytes = view.slot_bytes;
    experts.gate.slot0 = first + view.gate_offset;
    experts.up.slot0 = first + view.up_offset;
    experts.down.slot0 = first + view.down_offset;
  }
  return find_exact_rows();
}

Status LocalSite::find_exact_rows() {
  struct Tried {
    ExpertMatrix matrix;
    int32_t rows;
  };
  std::vector<Tried> tried;  // most layers have what another one has
  const auto rows_of = [&](const ExpertMatrix& m) -> Result<int32_t> {
    const auto same = std::ranges::find_if(tried, [&](const Tried& t) { return same_kind(t.matrix, m); });
    if (same != tried.end()) return same->rows;
    ODMOE_ASSIGN_OR_RETURN(const int32_t rows,
                           exact_rows(*backend_, m.type, m.n_in, m.n_out, options_.rows_tried, m.layout));
    tried.push_back({.matrix = m, .rows = rows});
    return rows;
  };
  for (const int layer : expert_layers_) {
    LayerExperts& experts = layers_[static_cast<size_t>(layer)];
    experts.exact_rows = options_.rows_tried;
    for (const ExpertMatrix* matrix : {&experts.gate, &experts.up, &experts.down}) {
      ODMOE_ASSIGN_OR_RETURN(const int32_t rows, rows_of(*matrix));
      experts.exact_rows = std::min(experts.exact_rows, rows);
    }
  }
  return {};
}

Result<Fingerprint::Value> LocalSite::kernel_fingerprint() {
  constexpr int32_t kRows = 16;  // beyond the last change of kernels that was seen (8)
  std::vector<ExpertMatrix> tried;
  Fingerprint all;
  for (const int layer : expert_layers_) {
    const LayerExperts& experts = layers_[static_cast<size_t>(layer)];
    for (const ExpertMatrix* m : {&experts.gate, &experts.up, &experts.down}) {
      if (std::ranges::any_of(tried, [&](const ExpertMatrix& t) { return same_kind(t, *m); })) continue;
      tried.push_back(*m);
      ODMOE_ASSIGN_OR_RETURN(const Fingerprint::Value value,
                             product_fingerprint(*backend_, m->type, m->n_in, m->n_out, kRows, m->layout));
      all.add(value);
    }
  }
  return all.value();
}

Status LocalSite::on_routing(const RoutingEvent& event) {
  store_->observe(event.layer, event.experts, event.weights);
  return {};
}

Status LocalSite::begin(const ExpertWork& work) {
  assert(leases_.empty() && !work.experts.empty());
  work_ = work;
  pending_.assign(work.experts.begin(), work.experts.end());
  lease_pending();
  return {};
}

Result<std::optional<DemandPair>> LocalSite::finish() {
  auto not_finite = work_.tokens == ExpertWork::Tokens::kOne ? compute_one_token() : compute_all();
  const bool whole = not_finite.has_value() && !*not_finite;
  assert(!whole || (leases_.empty() && pending_.empty()));
  if (!whole) abandon();
  return not_finite;
}

void LocalSite::abandon() {
  not_finite_.reset();
  leases_.clear();
  pending_.clear();
}

void LocalSite::hint(std::span<const ExpertKey> experts, PrefetchDepth depth) {
  store_->set_prefetch_depth(depth);
  store_->prefetch(experts, Reach::kBorrow);
}

void LocalSite::warm(std::span<const ExpertKey> experts) { warming_.begin(*store_, experts, options_.fill); }

Result<Warmth> LocalSite::warmed() { return warming_.go_on(); }

void LocalSite::lease_pending() { odmoe::lease_pending(*store_, work_.demand->layer(), pending_, leases_); }

void LocalSite::read_ahead() {
  if (!work_.foretells_next_layer()) return;
  hints_.clear();
  for (const int32_t expert : work_.next_experts) hints_.push_back({work_.next_layer, expert});
  store_->prefetch(hints_, Reach::kShare);
}

Result<std::optional<DemandPair>> LocalSite::compute_all() {
  bool ahead = false;
  while (!leases_.empty()) {
    if (pending_.empty() && !std::exchange(ahead, true)) read_ahead();
    const size_t at_once = std::clamp<size_t>(leases_.size() / kPartAtOnce, 1, kExpertsAtOnce);
    size_t n_ready = 0;
    while (n_ready < at_once) {
      ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
      ODMOE_ASSIGN_OR_RETURN(const size_t n, store_->wait_any(std::span(leases_).subspan(n_ready)));
      n_ready += n;
    }
    ODMOE_ASSIGN_OR_RETURN(const size_t n_done, compute_some(n_ready));
    if (not_finite_) return std::exchange(not_finite_, std::nullopt);
    leases_.erase(leases_.begin(), leases_.begin() + static_cast<ptrdiff_t>(n_done));
    lease_pending();
  }
  return std::nullopt;
}

// A single token waits for its experts more than it computes, so gate and up start before down has arrived.
Result<std::optional<DemandPair>> LocalSite::compute_one_token() {
  const ExpertColumns& a = work_.columns;
  size_t n_begun = 0;  // of the leases, those in front whose gate and up are computed
  while (!leases_.empty()) {
    ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
    const std::span<ExpertLease> leases(leases_);
    ODMOE_ASSIGN_OR_RETURN(const ExpertStore::Landed landed,
                           store_->wait_landed(leases.first(n_begun), leases.subspan(n_begun)));
    const std::span<ExpertLease> fresh = leases.subspan(n_begun);
    if (landed.ready > 0) {
      collect_pairs(leases.first(landed.ready));
      ODMOE_RETURN_IF_ERROR(compute_->run_down(experts(), arena_.get(), a, pairs_));
    }
    if (landed.ready_new > 0) {
      collect_pairs(fresh.first(landed.ready_new));
      ODMOE_RETURN_IF_ERROR(compute_->run(experts(), arena_.get(), a, 1, pairs_));
    }
    if (landed.gate_up_new > 0) {
      collect_pairs(fresh.subspan(landed.ready_new, landed.gate_up_new));
      ODMOE_RETURN_IF_ERROR(compute_->run_gate_up(experts(), arena_.get(), a, pairs_));
    }
    note_not_finite(0);
    if (not_finite_) return std::exchange(not_finite_, std::nullopt);
    const auto at = [&](size_t i) { return leases_.begin() + static_cast<ptrdiff_t>(i); };
    leases_.erase(at(n_begun), at(n_begun + landed.ready_new));
    leases_.erase(at(0), at(landed.ready));
    n_begun += landed.gate_up_new - landed.ready;
    lease_pending();
  }
  return std::nullopt;
}

// Of the leases' first n_ready, which are ready, computes as many as suit; returns how many.
Result<size_t> LocalSite::compute_some(size_t n_ready) {
  // Slots that others wait for are given back early, so that the drive is at work meanwhile.
  const int64_t n_chunk = std::max<int64_t>(1, std::ssize(work_.chunks));
  const int64_t enough = n_chunk * (pending_.empty() ? compute_->max_pairs() : compute_->max_pairs() / 4);
  const bool all = n_ready == work_.experts.size();
  pairs_.clear();
  size_t n_done = 0;
  for (; n_done < n_ready; ++n_done) {
    const size_t n_pair = work_.demand->pairs(leases_[n_done].key().expert).size();
    if (!all && !pairs_.empty() && std::cmp_greater(pairs_.size() + n_pair, enough)) break;
    add_pairs(leases_[n_done]);
  }
  const ExpertColumns& a = work_.columns;
  if (work_.tokens == ExpertWork::Tokens::kTimelines) {
    ODMOE_RETURN_IF_ERROR(compute_timelines());
  } else {
    ODMOE_RETURN_IF_ERROR(compute_->run(experts(), arena_.get(), a, work_.demand->n_token(), pairs_));
    note_not_finite(0);
  }
  return n_done;
}

// pairs_: each chunk as it is computed alone, and the single tokens.
Status LocalSite::compute_timelines() {
  const auto in = [](const ExpertWork::Chunk& chunk) {
    return [&chunk](const ExpertPair& pair) {
      return pair.token >= chunk.first && pair.token < chunk.first + chunk.n_token;
    };
  };
  for (const ExpertWork::Chunk& chunk : work_.chunks) {
    chunk_pairs_.clear();
    std::ranges::copy_if(pairs_, std::back_inserter(chunk_pairs_), in(chunk));
    if (chunk_pairs_.empty()) continue;
    for (ExpertPair& pair : chunk_pairs_) pair.token -= chunk.first;
    ODMOE_RETURN_IF_ERROR(compute_->run(experts(), arena_.get(), chunk.columns, chunk.n_token, chunk_pairs_));
    note_not_finite(chunk.first);
  }
  chunk_pairs_.clear();
  std::ranges::copy_if(pairs_, std::back_inserter(chunk_pairs_), [&](const ExpertPair& pair) {
    return std::ranges::none_of(work_.chunks, [&](const auto& chunk) { return in(chunk)(pair); });
  });
  if (chunk_pairs_.empty()) return {};
  ODMOE_RETURN_IF_ERROR(compute_->run_columns(experts(), arena_.get(), work_.columns, chunk_pairs_));
  note_not_finite(0);
  return {};
}

// The pairs of the leased experts, into pairs_.
void LocalSite::collect_pairs(std::span<const ExpertLease> leases) {
  pairs_.clear();
  for (const ExpertLease& lease : leases) add_pairs(lease);
}

void LocalSite::add_pairs(const ExpertLease& lease) {
  for (const DemandPair& pair : work_.demand->pairs(lease.key().expert)) {
    pairs_.push_back(
        {.token = pair.column, .rank = pair.rank, .slot = lease.slot(), .expert = lease.key().expert});
  }
}

// Of what was computed last, in columns from this one on.
void LocalSite::note_not_finite(int32_t first_column) {
  const std::optional<ExpertPair> bad = compute_->take_not_finite();
  if (bad && !not_finite_) not_finite_ = DemandPair{.column = first_column + bad->token, .rank = bad->rank};
}

}  // namespace odmoe
