#include "engine/device_site.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <numeric>
#include <utility>

#include "base/units.h"
#include "engine/interrupt.h"
#include "engine/pending_experts.h"
#include "model/blocks/device_trial.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

std::string types_of(const LayerExperts& experts) {
  return odmoe::format("{}, {}, {}", ggml_type_name(experts.gate.type), ggml_type_name(experts.up.type),
                       ggml_type_name(experts.down.type));
}

}  // namespace

DeviceSite::DeviceSite(Backend& device, Backend& host, const ModelShape& shape,
                       std::span<const int> expert_layers, const Options& options)
    : device_(&device),
      host_(&host),
      shape_(shape),
      expert_layers_(expert_layers.begin(), expert_layers.end()),
      options_(options),
      layers_(static_cast<size_t>(shape.n_layer)) {
  const auto n_expert = static_cast<size_t>(shape.router.n_expert);
  pending_.reserve(n_expert);
  leases_.reserve(n_expert);
  ready_.reserve(n_expert);
  ahead_.reserve(n_expert);
  hints_.reserve(ExpertStore::kMaxHints);
  const int64_t most = std::max(options.max_tokens, options.max_tokens_together);
  pairs_.reserve(static_cast<size_t>(most * shape.router.n_expert_used));
  part_.reserve(pairs_.capacity());
}

Result<std::unique_ptr<DeviceSite>> DeviceSite::create(Backend& device, Backend& host, const Decoder& decoder,
                                                       const Checkpoint& file, const Options& options) {
  const ModelShape& shape = decoder.shape();
  const std::string path = file.path().string();
  if (file.repacked() != nullptr) {
    return fail(ErrorKind::kUnsupported,
                "{}: its experts are repacked for a processor, which {} cannot compute with; use "
                "--expert-placement cpu "
                "or the model that they were repacked from",
                path, device.description());
  }
  std::unique_ptr<DeviceSite> site(new DeviceSite(device, host, shape, decoder.expert_layers(), options));
  site->path_ = path;
  ODMOE_ASSIGN_OR_RETURN(site->compute_, DeviceExperts::create(device, host, shape, options.max_tokens));
  site->kernels_.data_bytes = std::max(kDataAlignment, device.least_alignment());
  site->kernels_.slot_multiples.resize(static_cast<size_t>(shape.n_layer), 1);
  for (const int layer : decoder.expert_layers()) {
    DeviceLayer& of = site->layers_[static_cast<size_t>(layer)];
    ODMOE_ASSIGN_OR_RETURN(of.experts, describe_experts(file, shape, layer, nullptr));
    of.experts.terms = decoder.expert_terms(layer);
    uint64_t& multiple = site->kernels_.slot_multiples[static_cast<size_t>(layer)];
    for (const ExpertMatrix* matrix : {&of.experts.gate, &of.experts.up, &of.experts.down}) {
      multiple = std::lcm(multiple, static_cast<uint64_t>(ggml_type_size(matrix->type)));
    }
    // What the slots are like is not known yet: one after the other without a gap.
    of.experts.slot_bytes = 0;
    for (const ExpertMatrix* matrix : {&of.experts.gate, &of.experts.up, &of.experts.down}) {
      const uint64_t bytes = ggml_row_size(matrix->type, matrix->n_in) * static_cast<uint64_t>(matrix->n_out);
      of.experts.slot_bytes = std::max(of.experts.slot_bytes, bytes);
    }
    ODMOE_RETURN_IF_ERROR(site->check(of, layer));
  }
  return site;
}

Status DeviceSite::check(const DeviceLayer& of, int layer) const {
  if (const ExpertMatrix* padded = compute_->padded(of.experts); padded != nullptr) {
    return fail(ErrorKind::kUnsupported,
                "{}: {} wants room behind the experts of layer {} in {}, whose rows have {} values, and in a "
                "slot there is none; use --expert-placement cpu",
                path_, device_->description(), layer, ggml_type_name(padded->type), padded->n_in);
  }
  const std::string lacking = compute_->lacking(of.experts, 1);
  if (lacking.empty()) return {};
  return fail(ErrorKind::kUnsupported,
              "{}: {} cannot compute the experts of layer {} ({}): it lacks {}; use --expert-placement cpu",
              path_, device_->description(), layer, types_of(of.experts), lacking);
}

// A block is filled up with rows for a slot that none of its experts is in.
Status DeviceSite::check_windows(const DeviceSlots& slots, int layer) const {
  for (int32_t window = 0; window < slots.n_window(); ++window) {
    if (slots.n_slot(window) > 1) continue;
    return fail(ErrorKind::kBudget,
                "{}: of the memory for the experts of layer {} one is alone in what {} takes as one operand, "
                "and two are the least; use a little more {}, or --expert-placement cpu",
                path_, layer, device_->description(), options_.in_place ? "--memory" : "--device-memory");
  }
  return {};
}

uint64_t DeviceSite::host_bytes() const {
  return compute_->host_bytes() + (pairs_.capacity() + part_.capacity()) * sizeof(ExpertPair);
}

// Unless it was with a layer that is the same for kernels.
Status DeviceSite::try_out(int layer, int32_t most_in_window) {
  DeviceLayer& of = layers_[static_cast<size_t>(layer)];
  const auto same = [&](int tried) {
    const DeviceLayer& other = layers_[static_cast<size_t>(tried)];
    return same_kind(of.experts.gate, other.experts.gate) && same_kind(of.experts.up, other.experts.up) &&
           same_kind(of.experts.down, other.experts.down) &&
           of.experts.slot_bytes == other.experts.slot_bytes && of.gate_offset == other.gate_offset &&
           of.up_offset == other.up_offset && of.down_offset == other.down_offset;
  };
  if (const auto like = std::ranges::find_if(tried_, same); like != tried_.end()) {
    of.any_of_token = layers_[static_cast<size_t>(*like)].any_of_token;
    return {};
  }
  ODMOE_ASSIGN_OR_RETURN(of.any_of_token, try_experts(*device_, *host_, *compute_, shape_, of, most_in_window,
                                                      options_.in_place));
  tried_.push_back(layer);
  return {};
}

// How many slots of a class one window can have for a layer that begins its projections there.
Result<int32_t> DeviceSite::lay_out(int layer, uint64_t slot_bytes, int32_t n_slot, const SlotLayout& at) {
  DeviceLayer& of = layers_[static_cast<size_t>(layer)];
  of.experts.slot_bytes = slot_bytes;
  of.gate_offset = at.gate_offset;
  of.up_offset = at.up_offset;
  of.down_offset = at.down_offset;
  for (const uint64_t offset : {of.gate_offset, of.up_offset, of.down_offset}) {
    if (offset % device_->least_alignment() == 0) continue;
    return fail(
        ErrorKind::kUnsupported,
        "{}: a projection of the experts of layer {} begins at byte {} of a slot, and {} wants multiples "
        "of {}; use --expert-placement cpu",
        path_, layer, offset, device_->description(), device_->least_alignment());
  }
  ODMOE_RETURN_IF_ERROR(check(of, layer));
  const int32_t most = compute_->most_slots(of.experts, n_slot);
  const DeviceSlots::Shape shape{.slot_bytes = slot_bytes, .n_slot = n_slot, .most_in_window = most};
  const int32_t in_window = DeviceSlots::slots_in_window(*device_, shape);
  if (in_window == 0) {
    return fail(
        ErrorKind::kUnsupported,
        "{}: an expert of layer {} takes {}, more than {} has in one piece; use --expert-placement cpu",
        path_, layer, format_bytes(slot_bytes), device_->description());
  }
  if (in_window == 1 && n_slot > 1) {
    return fail(ErrorKind::kUnsupported,
                "{}: an expert of layer {} takes {}, and {} does not take two as one operand, which are the "
                "least; use --expert-placement cpu",
                path_, layer, format_bytes(slot_bytes), device_->description());
  }
  ODMOE_RETURN_IF_ERROR(try_out(layer, most));
  return most;
}

// Of each class, how many of its slots one window can have.
Result<std::vector<int32_t>> DeviceSite::lay_out_classes(const SlotPlan& plan) {
  std::vector<int32_t> most_in_window;
  for (const SlotClass& of : plan.classes()) {
    int32_t most = of.n_slot;
    for (const int layer : of.layers) {
      ODMOE_ASSIGN_OR_RETURN(const int32_t most_here,
                             lay_out(layer, of.slot_bytes, of.n_slot, plan.layout(layer)));
      most = std::min(most, most_here);
    }
    most_in_window.push_back(most);
  }
  return most_in_window;
}

Status DeviceSite::try_slots(const SlotPlan& plan) {
  ODMOE_RETURN_IF_ERROR(lay_out_classes(plan));
  return {};
}

Status DeviceSite::attach(ExpertStore& store) {
  store_ = &store;
  for (const int layer : expert_layers_) {
    const SlotView view = store.slot_view(layer);
    auto known = std::ranges::find(slots_, view.first_slot_offset,
                                   [](const auto& slots) { return slots->first_offset; });
    if (known != slots_.end()) continue;
    DeviceSlots::Shape shape{
        .slot_bytes = view.slot_bytes, .n_slot = view.n_slot, .most_in_window = view.n_slot};
    auto slots = std::make_unique<SlotsOfClass>();
    slots->first_offset = view.first_slot_offset;
    for (const int other : expert_layers_) {
      const SlotView at = store.slot_view(other);
      if (at.first_slot_offset != view.first_slot_offset) continue;
      const SlotLayout layout{.extents = {},
                              .slot_bytes = at.slot_bytes,
                              .gate_offset = at.gate_offset,
                              .up_offset = at.up_offset,
                              .down_offset = at.down_offset};
      ODMOE_ASSIGN_OR_RETURN(const int32_t most, lay_out(other, at.slot_bytes, at.n_slot, layout));
      shape.most_in_window = std::min(shape.most_in_window, most);
      layers_[static_cast<size_t>(other)].slots = &slots->slots;
    }
    ODMOE_ASSIGN_OR_RETURN(slots->slots,
                           DeviceSlots::over(*device_, store.arena(), view.first_slot_offset, shape));
    ODMOE_RETURN_IF_ERROR(check_windows(slots->slots, layer));
    slots_.push_back(std::move(slots));
  }
  return {};
}

Status DeviceSite::attach(ExpertStore& store, const ExpertSource& source, uint64_t arena_bytes) {
  store_ = &store;
  SlotPlan plan = arena_plan(source);
  plan.divide(arena_bytes);
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> most_in_window, lay_out_classes(plan));
  const auto on_host = [&store](ExpertKey key) { return store.residency(key) == Residency::kResident; };
  ODMOE_ASSIGN_OR_RETURN(arena_, DeviceArena::create(*device_, *host_, source, std::move(plan),
                                                     most_in_window, options_.policy, on_host));
  for (const int layer : expert_layers_) {
    ODMOE_RETURN_IF_ERROR(check_windows(arena_->slots_of(layer), layer));
    layers_[static_cast<size_t>(layer)].slots = &arena_->slots_of(layer);
  }
  return {};
}

Status DeviceSite::on_routing(const RoutingEvent& event) {
  store_->observe(event.layer, event.experts, event.weights);
  if (arena_) arena_->observe(event.layer, event.experts, event.weights);
  return {};
}

Status DeviceSite::begin(const ExpertWork& work) {
  assert(leases_.empty() && ready_.empty() && !work.experts.empty());
  work_ = work;
  pending_.clear();
  for (const int32_t expert : work.experts) {
    const auto slot = arena_ ? arena_->hold({work.demand->layer(), expert}) : std::nullopt;
    if (slot) {
      ready_.push_back({.expert = expert, .slot = *slot});
    } else {
      pending_.push_back(expert);
    }
  }
  lease_pending();
  return {};
}

void DeviceSite::lease_pending() { odmoe::lease_pending(*store_, work_.demand->layer(), pending_, leases_); }

void DeviceSite::read_ahead() {
  if (!work_.foretells_next_layer()) return;
  ahead_.clear();
  for (const int32_t expert : work_.next_experts) {
    const ExpertKey key{work_.next_layer, expert};
    if (!arena_ || !arena_->resident(key)) ahead_.push_back(key);
  }
  store_->prefetch(ahead_, Reach::kShare);
}

Result<std::optional<DemandPair>> DeviceSite::finish() {
  auto not_finite = arena_ ? finish_in_arena() : finish_in_place();
  const bool whole = not_finite.has_value() && !*not_finite;
  assert(!whole || (leases_.empty() && pending_.empty() && ready_.empty()));
  if (!whole) abandon();
  return not_finite;
}

void DeviceSite::abandon() {
  compute_->forget();
  if (arena_) arena_->release();
  ready_.clear();
  leases_.clear();
  pending_.clear();
}

void DeviceSite::hint(std::span<const ExpertKey> experts, PrefetchDepth depth) {
  store_->set_prefetch_depth(depth);
  if (!arena_) return store_->prefetch(experts, Reach::kBorrow);
  hints_.clear();
  for (const ExpertKey key : experts) {
    if (hints_.size() < hints_.capacity() && !arena_->resident(key)) hints_.push_back(key);
  }
  store_->prefetch(hints_, Reach::kBorrow);
}

void DeviceSite::warm(std::span<const ExpertKey> experts) { warming_.begin(*store_, experts, options_.fill); }

Result<Warmth> DeviceSite::warmed() { return warming_.go_on(); }

// Pairs for which it is worth to begin: blocks have a fixed size, and one that is not full costs as much.
size_t DeviceSite::enough_pairs() const {
  return static_cast<size_t>(DeviceExperts::block_rows(shape_, work_.demand->n_token()));
}

Result<std::optional<DemandPair>> DeviceSite::finish_in_place() {
  bool ahead = false;
  while (!leases_.empty()) {
    ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
    if (pending_.empty() && !std::exchange(ahead, true)) read_ahead();
    ODMOE_ASSIGN_OR_RETURN(const size_t n_ready, wait());
    for (const ExpertLease& lease : std::span(leases_).first(n_ready)) {
      ready_.push_back({.expert = lease.key().expert, .slot = lease.slot()});
    }
    ODMOE_ASSIGN_OR_RETURN(const auto not_finite, compute());
    if (not_finite) return not_finite;
    leases_.erase(leases_.begin(), leases_.begin() + static_cast<ptrdiff_t>(n_ready));
    lease_pending();
  }
  return std::nullopt;
}

// Moves leases that are ready to the front, as soon as they are enough or all; returns how many.
Result<size_t> DeviceSite::wait() {
  const size_t enough = enough_pairs();
  size_t n_ready = 0;
  for (size_t n_pair = 0; n_ready < leases_.size() && n_pair < enough;) {
    ODMOE_ASSIGN_OR_RETURN(const size_t n, store_->wait_any(std::span(leases_).subspan(n_ready)));
    for (size_t i = 0; i < n; ++i) n_pair += n_pair_of(leases_[n_ready + i].key().expert);
    n_ready += n;
    // What a token has in memory is computed while the drive brings the others.
    const bool first = n_ready == n && leases_.size() == work_.experts.size();
    if (work_.tokens == ExpertWork::Tokens::kOne && first) break;
  }
  return n_ready;
}

Result<std::optional<DemandPair>> DeviceSite::finish_in_arena() {
  bool ahead = false;
  // What a token has on the device is computed while the others come.
  bool now = work_.tokens == ExpertWork::Tokens::kOne;
  while (!ready_.empty() || !leases_.empty()) {
    ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
    if (pending_.empty() && !std::exchange(ahead, true)) read_ahead();
    size_t n_pair = 0;
    for (const Ready& one : ready_) n_pair += n_pair_of(one.expert);
    if (leases_.empty() || n_pair >= enough_pairs() || (n_pair > 0 && std::exchange(now, false))) {
      ODMOE_ASSIGN_OR_RETURN(const auto not_finite, compute());
      if (not_finite) return not_finite;
      arena_->release();
      continue;
    }
    ODMOE_ASSIGN_OR_RETURN(const bool all, bring());
    if (!all) now = true;
    lease_pending();
  }
  return std::nullopt;
}

// Sends experts that have arrived on the host to the device, whose leases end with that.  False: there is no
// slot for one of them before others are computed.
Result<bool> DeviceSite::bring() {
  ODMOE_ASSIGN_OR_RETURN(const size_t n_ready, store_->wait_any(leases_));
  const SlotView view = store_->slot_view(work_.demand->layer());
  size_t n_brought = 0;
  for (; n_brought < n_ready; ++n_brought) {
    const ExpertLease& lease = leases_[n_brought];
    const std::byte* record = store_->arena().data() + view.first_slot_offset +
                              static_cast<uint64_t>(lease.slot()) * view.slot_bytes;
    ODMOE_ASSIGN_OR_RETURN(const auto slot,
                           arena_->bring(lease.key(), record + view.gate_offset, record + view.up_offset,
                                         record + view.down_offset));
    if (!slot) break;
    ready_.push_back({.expert = lease.key().expert, .slot = *slot});
  }
  leases_.erase(leases_.begin(), leases_.begin() + static_cast<ptrdiff_t>(n_brought));
  return n_brought == n_ready;
}

// ready_, which is empty afterwards.
Result<std::optional<DemandPair>> DeviceSite::compute() {
  pairs_.clear();
  for (const auto& [expert, slot] : ready_) {
    for (const DemandPair& pair : work_.demand->pairs(expert)) {
      pairs_.push_back({.token = pair.column, .rank = pair.rank, .slot = slot, .expert = expert});
    }
  }
  ready_.clear();
  ODMOE_RETURN_IF_ERROR(add());
  ODMOE_ASSIGN_OR_RETURN(const auto not_finite, compute_->finish());
  if (!not_finite) return std::nullopt;
  return DemandPair{.column = not_finite->token, .rank = not_finite->rank};
}

Status DeviceSite::add() {
  switch (work_.tokens) {
    case ExpertWork::Tokens::kOne:
      return compute_->add_token(layer(), work_.on_device, 0, pairs_);
    case ExpertWork::Tokens::kChunk:
      return compute_->add_chunk(layer(), work_.on_device, 0, work_.demand->n_token(), pairs_);
    case ExpertWork::Tokens::kTimelines:
      return add_timelines();
  }
  std::unreachable();
}

// pairs_: each chunk and each token as it is computed alone.
Status DeviceSite::add_timelines() {
  const auto take = [&](int32_t first, int32_t n_token) {
    part_.clear();
    for (ExpertPair pair : pairs_) {
      if (pair.token < first || pair.token >= first + n_token) continue;
      pair.token -= first;
      part_.push_back(pair);
    }
  };
  for (const ExpertWork::Chunk& chunk : work_.chunks) {
    take(chunk.first, chunk.n_token);
    ODMOE_RETURN_IF_ERROR(compute_->add_chunk(layer(), chunk.on_device, chunk.first, chunk.n_token, part_));
  }
  for (int32_t lane = 0; std::cmp_less(lane, work_.lanes.size()); ++lane) {
    take(lane, 1);
    ODMOE_RETURN_IF_ERROR(compute_->add_token(layer(), work_.lanes[static_cast<size_t>(lane)], lane, part_));
  }
  return {};
}

}  // namespace odmoe
