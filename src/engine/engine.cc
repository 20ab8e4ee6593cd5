#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include "base/memory_info.h"
#include "base/mutex.h"
#include "base/processors.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/kept_prefetching.h"
#include "engine/limits.h"
#include "engine/live_stale_gate.h"
#include "engine/memory_plan.h"
#include "engine/routed_model.h"
#include "engine/site_figures.h"
#include "format/mirror.h"
#include "model/left_over.h"
#include "model/tokenizer/jinja_chat_template.h"
#include "model/tokenizer/model_tokens.h"
#include "predict/coactivation.h"
#include "predict/previous_token.h"
#include "predict/shadow_model.h"

namespace odmoe {
namespace {

// A prediction that reads less than this is made sooner than another thread is woken for it
// (docs/shadow-model.md).
constexpr uint64_t kLeastForThread = 256 << 10;
// Whether a single token that follows `length` tokens is the first that is written after what was read.
bool begins_generation(const Division& division, int64_t length) {
  return division.length() == length && !division.ends_singly();
}

}  // namespace

Result<StatePlan> plan_state(const Decoder& decoder, const EngineOptions& options) {
  constexpr int32_t kDefaultContext = 4096;
  const int32_t context =
      options.context > 0 ? options.context : std::min(decoder.shape().n_context_train, kDefaultContext);
  return StatePlan::make(decoder.state_layout(),
                         {.type = options.cache_type,
                          .context = context,
                          .chunk = options.chunk,
                          .snapshots = options.snapshots,
                          .transposes = options.flash_attention != FlashAttention::kOn});
}

ModelInfo describe_model(const Account& account, const Decoder& decoder, const DenseWeights& weights,
                         const ExpertSource& source, const StatePlan& state) {
  const ModelShape& shape = decoder.shape();
  ModelInfo info;
  info.architecture = shape.architecture;
  info.name = shape.name;
  info.n_layer = shape.n_layer;
  info.n_layer_dense_lead = shape.n_layer_dense_lead;
  info.n_expert_layer = static_cast<int32_t>(decoder.expert_layers().size());
  info.n_embd = shape.n_embd;
  info.n_vocab = shape.n_vocab;
  info.n_context_train = shape.n_context_train;
  info.n_head = shape.n_head;
  info.n_head_kv = shape.n_head_kv;
  info.n_expert = shape.router.n_expert;
  info.n_expert_used = shape.router.n_expert_used;
  info.n_ff_exp = shape.n_ff_exp;
  const Checkpoint& file = account.file();
  info.left_over = left_over(account, shape);
  info.file_bytes = file.total_bytes();
  info.expert_bytes = source.total_bytes();
  info.dense_bytes = weights.file_bytes();
  info.context = static_cast<int32_t>(state.options().context);
  info.kv_bytes_per_token = state.bytes_per_token();
  info.fixed_state_bytes = state.fixed_bytes();
  info.state_holds_every_length = state.holds_every_length();
  for (const int layer : decoder.expert_layers()) {
    info.cycle_bytes += source.layout(layer).bytes() * static_cast<uint64_t>(shape.router.n_expert_used);
  }
  std::map<std::string, uint64_t> by_type;
  for (const TensorInfo& tensor : file.tensors()) {
    by_type[ggml_type_name(tensor.type)] += tensor.bytes;
    if (tensor.repacked) info.repacked_bytes += tensor.bytes;
  }
  if (file.repacked() != nullptr) info.repacked_layout = file.repacked()->layout;
  info.bytes_per_type.assign(by_type.begin(), by_type.end());
  std::ranges::stable_sort(info.bytes_per_type, std::greater<>(),
                           [](const auto& entry) { return entry.second; });
  return info;
}

EngineImpl::EngineImpl(const EngineOptions& options, const EngineDependencies& dependencies)
    : options_(options), dependencies_(dependencies), clock_(dependencies.clock) {}

EngineImpl::~EngineImpl() {
  if (dependencies_.before_end) dependencies_.before_end();
  keep_experience();
}

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options, const LoadProgress& progress) {
  return EngineImpl::open(options, progress);
}

Result<MemoryPlan> Engine::memory_plan(const EngineOptions& options) {
  return EngineImpl::memory_plan(options);
}

Result<MemoryPlan> EngineImpl::memory_plan(const EngineOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  EngineImpl engine(options, {});
  ODMOE_RETURN_IF_ERROR(engine.read_metadata());
  ODMOE_RETURN_IF_ERROR(engine.settle_device({}, /*measures=*/false));
  ODMOE_ASSIGN_OR_RETURN(const auto reader, engine.reserve_memory());
  return engine.plan_;
}

Result<std::unique_ptr<EngineImpl>> EngineImpl::open(const EngineOptions& options,
                                                     const LoadProgress& progress,
                                                     const EngineDependencies& dependencies) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  std::unique_ptr<EngineImpl> engine(new EngineImpl(options, dependencies));
  ODMOE_RETURN_IF_ERROR(engine->read_metadata());
  if (const ExpertShare* share = engine->file_->share(); share != nullptr && !dependencies.make_sites) {
    return fail(
        ErrorKind::kUsage,
        "{} has {} of the model's experts alone: start {} ranks with mpirun, each with its own share, or "
        "open the whole model",
        options.model.string(), share->name(), share->sizes.size());
  }
  ODMOE_RETURN_IF_ERROR(check_left_over(engine->info_.left_over, options.model.string()));
  ODMOE_RETURN_IF_ERROR(engine->settle_device(progress, /*measures=*/true));
  ODMOE_ASSIGN_OR_RETURN(auto reader, engine->reserve_memory());
  ODMOE_RETURN_IF_ERROR(engine->load(std::move(reader), progress));
  return engine;
}

Result<std::unique_ptr<AsyncReader>> EngineImpl::make_reader(uint32_t depth) const {
  return dependencies_.make_reader({.kind = reader_kind(options_.reader), .depth = depth, .direct = true});
}

Status EngineImpl::read_metadata() {
  ODMOE_ASSIGN_OR_RETURN(file_, open_checkpoint(options_.model));
  Account account(*file_);
  weights_ = std::make_unique<DenseWeights>(account);
  ODMOE_ASSIGN_OR_RETURN(decoder_, Decoder::create(account, *weights_, dependencies_.make_architecture));
  const ModelShape& shape = decoder_->shape();
  ODMOE_ASSIGN_OR_RETURN(
      source_, file_->expert_source(shape.n_layer, shape.router.n_expert, shape.router.n_expert_used));
  ODMOE_ASSIGN_OR_RETURN(tokenizer_, Tokenizer::create(account));
  if (tokenizer_->n_vocab() != shape.n_vocab) {
    return fail(ErrorKind::kBadFile, "{}: the vocabulary has {} tokens, but token_embd.weight has {} rows",
                options_.model.string(), tokenizer_->n_vocab(), shape.n_vocab);
  }
  copies_.push_back({.files = file_->files(), .drive = {}});
  for (const std::filesystem::path& path : options_.mirrors) {
    ODMOE_ASSIGN_OR_RETURN(auto files, open_mirror(*file_, path));
    copies_.push_back({.files = std::move(files), .drive = {}});
  }
  ODMOE_ASSIGN_OR_RETURN(identity_, ModelIdentity::of(*file_, *source_, copies_, dependencies_.stamp_file));
  ODMOE_ASSIGN_OR_RETURN(StatePlan state, plan_state(*decoder_, options_));
  options_.context = static_cast<int32_t>(state.options().context);
  state_plan_ = std::make_shared<const StatePlan>(std::move(state));
  info_ = describe_model(account, *decoder_, *weights_, *source_, *state_plan_);
  return {};
}

Result<std::unique_ptr<AsyncReader>> EngineImpl::reserve_memory() {
  ODMOE_ASSIGN_OR_RETURN(backend_, Backend::create({.threads = options_.threads,
                                                    .device = options_.device,
                                                    .memory_of_its_own = dependencies_.memory_of_its_own,
                                                    .shares_host_memory = dependencies_.shares_host_memory,
                                                    .fault = dependencies_.device_fault,
                                                    .memory_fault = dependencies_.device_memory_fault,
                                                    .clock = clock_}));
  MemoryPlan::Device device;  // 0 available bytes: it does not say
  bool device_is_bounded = false;
  if (!backend_->computes_on_host_memory()) {
    ODMOE_ASSIGN_OR_RETURN(host_backend_, Backend::create(options_.threads));
    device.name = backend_->name();
    device.shares_host_memory = backend_->shares_host_memory();
    device.available_bytes = dependencies_.device_bytes.value_or(backend_->available_bytes());
    const uint64_t most = options_.device_memory_bytes;
    device_is_bounded = most > 0 && (device.available_bytes == 0 || most < device.available_bytes);
    if (device_is_bounded) device.available_bytes = most;
    // Its memory is taken at once, not as it is used: what cannot be is known before.
    device.dense_bytes = weights_->file_bytes();
    device.kv_bytes = state_plan_->tensor_bytes() * static_cast<uint64_t>(options_.sessions);
    ODMOE_RETURN_IF_ERROR(check_device(device, backend_->description(), device_is_bounded));
  } else if (options_.device_memory_bytes > 0) {
    return fail(ErrorKind::kUsage,
                "--device-memory bounds the memory of a device, and {} computes in that of the host, which "
                "--memory bounds; name a --device",
                backend_->name());
  }
  options_.threads = host_backend().threads();
  ODMOE_RETURN_IF_ERROR(check_placement());

  // Everything is reserved as addresses, which costs nothing; what it will cost is known from then on.
  ODMOE_RETURN_IF_ERROR(weights_->reserve(*backend_, host_backend(),
                                          /*experts_on_device=*/options_.experts != ExpertPlacement::kHost));
  const MutexLock lock(free_mutex_);  // nobody else is there yet
  for (int i = 0; i < options_.sessions; ++i) {
    ODMOE_ASSIGN_OR_RETURN(auto state, SequenceState::create(*backend_, state_plan_));
    free_.push_back({.state = std::move(state), .lane = i});
  }
  const SequenceState& state = *free_.front().state;
  bool flash = options_.flash_attention != FlashAttention::kOff;
  if (flash && !DensePass::supports_flash_attention(*backend_, *decoder_, state)) {
    if (options_.flash_attention == FlashAttention::kOn) {
      return fail(ErrorKind::kUnsupported,
                  "{} has no flash attention for this model and cache type; use auto or off",
                  backend_->description());
    }
    flash = false;
  }
  options_.flash_attention = flash ? FlashAttention::kOn : FlashAttention::kOff;
  ODMOE_RETURN_IF_ERROR(set_up_evaluation(state));

  ODMOE_RETURN_IF_ERROR(set_up_predictor());

  ODMOE_ASSIGN_OR_RETURN(auto reader, make_reader(kDefaultDepth));
  // The dense weights come from the model itself; mirrors are here for what they ask of alignment.
  for (const ModelCopy& copy : copies_) {
    for (const auto& path : copy.files) ODMOE_RETURN_IF_ERROR(reader->add_file(path));
  }
  const auto n_session = static_cast<uint64_t>(options_.sessions);
  // Its graphs, logits and tokens; of one session they are in kProcessSlack.
  const uint64_t session_bytes = dense_->graph_bytes() +
                                 static_cast<uint64_t>(info_.n_vocab) * sizeof(float) +
                                 static_cast<uint64_t>(options_.context) * sizeof(Token);
  const uint64_t more_site_bytes =
      dependencies_.site_bytes ? dependencies_.site_bytes(decoder_->shape(), options_) : 0;
  MemoryNeeds needs{
      .dense_bytes = weights_->bytes(),
      .kv_bytes = state_plan_->bytes() * n_session,
      .buffer_bytes = weights_->host_bytes() + dense_->host_bytes() +
                      (site_ ? site_->buffer_bytes() : device_site_->host_bytes()) +
                      forward_->buffer_bytes() + more_site_bytes + (n_session - 1) * session_bytes +
                      resident_bytes() + kProcessSlack,
      .reserved_bytes =
          options_.reserved_bytes + options_.reserved_bytes_per_token * static_cast<uint64_t>(info_.n_vocab),
      .load_bytes = weights_->load_bytes(),
      .device = {},
      .device_name = {},
      .device_is_bounded = device_is_bounded,
  };
  add_experts(needs, *source_, reader->alignment(), slot_kernels());
  if (!backend_->computes_on_host_memory()) {
    device.dense_bytes = std::exchange(needs.dense_bytes, 0);
    const uint64_t stale_gate_bytes = stale_gate_ != nullptr ? stale_gate_->bytes() : 0;
    device.buffer_bytes =
        dense_->device_bytes() + stale_gate_bytes + (device_site_ ? device_site_->device_bytes() : 0);
    device.minimum_bytes = device.bytes();
    needs.buffer_bytes -= stale_gate_bytes;  // of the predictor's, which are in those of forward_
    needs.kv_bytes -= device.kv_bytes;
    needs.device = std::move(device);
    needs.device_name = backend_->description();
    if (options_.experts == ExpertPlacement::kDevice) {
      needs.buffer_bytes += DeviceArena::staging_bytes(device_site_->arena_plan(*source_));
      ODMOE_RETURN_IF_ERROR(plan_device_arena(needs));
    }
  }
  ODMOE_ASSIGN_OR_RETURN(plan_, plan_memory(options_.memory, needs));
  plan_.n_slot = ExpertStore::slots_within(*source_, reader->alignment(), plan_.arena_bytes, slot_kernels());
  for (const int layer : decoder_->expert_layers()) plan_.n_expert_total += source_->n_expert(layer);
  limits_ = MemoryGovernor::limits_of(options_.memory, needs, plan_);
  // A device holds the pages that it reads in place, so none is given back.
  if (options_.experts == ExpertPlacement::kInPlace)
    limits_.min_arena_bytes = limits_.max_arena_bytes = plan_.arena_bytes;
  return reader;
}

// `state`: any session's.
Status EngineImpl::set_up_evaluation(const SequenceState& state) {
  const DensePass::Options dense{.chunk = options_.chunk,
                                 .lanes = max_lanes(options_),
                                 .places = max_places(options_),
                                 .timelines = options_.sessions,
                                 .flash_attention = options_.flash_attention == FlashAttention::kOn,
                                 .experts_on_device = options_.experts != ExpertPlacement::kHost,
                                 .least_joint_bytes = dependencies_.least_joint_bytes};
  ODMOE_ASSIGN_OR_RETURN(dense_,
                         DensePass::create(*backend_, host_backend(), *decoder_, *file_, state, dense));
  const LocalSite::Options local = local_site_options(options_, &interrupted_);
  if (options_.experts == ExpertPlacement::kHost) {
    ODMOE_ASSIGN_OR_RETURN(site_, LocalSite::create(host_backend(), *decoder_, *file_, local));
  } else {
    ODMOE_ASSIGN_OR_RETURN(device_site_,
                           DeviceSite::create(*backend_, host_backend(), *decoder_, *file_,
                                              {.max_tokens = local.max_tokens,
                                               .max_tokens_together = local.max_tokens_together,
                                               .in_place = options_.experts == ExpertPlacement::kInPlace,
                                               .policy = options_.policy,
                                               .fill = options_.fill,
                                               .interrupted = local.interrupted}));
  }
  forward_ = std::make_unique<ForwardPass>(
      *decoder_, *dense_,
      ForwardPass::Options{.dense = dense, .clock = clock_, .interrupted = &interrupted_});
  if (site_) {
    forward_->add_site(*site_);
    forward_->tell_first(*site_);
  } else {
    forward_->add_site(*device_site_);
    forward_->tell_first(*device_site_);
  }
  return {};
}

// Whether the experts can be where they are to be.
Status EngineImpl::check_placement() const {
  if (options_.experts == ExpertPlacement::kHost) return {};
  const std::string_view name = placement_name(options_.experts);
  if (backend_->computes_on_host_memory()) {
    return fail(
        ErrorKind::kUsage,
        "--expert-placement {} is for a device, and {} computes in the host's memory{}; name a --device",
        name, backend_->name(), device_choice_.empty() ? "" : " (" + device_choice_ + ")");
  }
  if (dependencies_.make_sites) {
    return fail(ErrorKind::kUsage,
                "ranks compute experts on their processors: --expert-placement {} is for one alone", name);
  }
  if (options_.experts == ExpertPlacement::kInPlace && !backend_->reads_host_memory()) {
    return fail(ErrorKind::kUnsupported,
                "{} does not compute on the host's memory where it is; use --expert-placement cpu",
                backend_->description());
  }
  return {};
}

// What is left of the device's memory is for experts; where that is the host's too, of the budget.
Status EngineImpl::plan_device_arena(MemoryNeeds& needs) const {
  MemoryPlan::Device& device = needs.device;
  SlotPlan slots = device_site_->arena_plan(*source_);
  device.arena_bytes = slots.min_bytes();
  device.minimum_bytes = device.bytes();
  if (device.available_bytes == 0) {
    return fail(ErrorKind::kUsage,
                "{} does not say how much memory it has left for experts; say how much may be taken, with "
                "--device-memory {}MiB or more",
                backend_->description(), (device.bytes() + kMiB - 1) / kMiB);
  }
  if (device.bytes() > device.available_bytes) return {};  // plan_memory() refuses it
  const uint64_t margin = needs.device_is_bounded ? 0 : auto_margin(device.available_bytes);
  uint64_t left = device.available_bytes - device.bytes();
  left -= std::min(left, margin);
  if (device.shares_host_memory) left = std::min(left, left_of_budget(options_.memory, needs));
  slots.divide(std::min(slots.max_bytes(), device.arena_bytes + left));
  device.arena_bytes = slots.bytes();
  device.n_slot = slots.n_slot();
  return {};
}

Status EngineImpl::set_up_sites() {
  if (dependencies_.make_sites) {
    ODMOE_ASSIGN_OR_RETURN(more_sites_,
                           dependencies_.make_sites({.options = options_,
                                                     .decoder = *decoder_,
                                                     .file = *file_,
                                                     .source = *source_,
                                                     .host_backend = host_backend(),
                                                     .site = *site_,
                                                     .local = local_site_options(options_, &interrupted_),
                                                     .plan = plan_,
                                                     .copies = copies_}));
  }
  for (const auto& more : more_sites_) forward_->add_site(*more.site, more.owns);
  HintSink* hints = forward_->hint_sink();
  if (device_site_ && device_site_->arena() != nullptr) hints = device_site_.get();
  if (foresight_ != nullptr) foresight_->attach(*store_, hints);
  if (batch_foresight_ != nullptr) batch_foresight_->attach(*store_, hints);
  return {};
}

Status EngineImpl::change_owners(const MakeOwners& make) {
  const MutexLock lock(evaluation_mutex_);
  ODMOE_ASSIGN_OR_RETURN(const std::vector<ExpertOwners::Owns> owns, make());
  forward_->change_owners(owns);
  fill_own();
  return {};
}

// Free slots, with experts that are computed here.
void EngineImpl::fill_own() {
  if (!options_.fill) return;
  store_->fill_only(
      [this](ExpertKey key) { return forward_->owners().site_of_layer(key.layer, key.expert) == 0; });
  store_->set_fill(true);
}

Status EngineImpl::set_up_predictor() {
  const ModelShape& shape = decoder_->shape();
  PredictorShape predicted{.layers = decoder_->expert_layers(),
                           .n_embd = shape.n_embd,
                           .n_expert = shape.router.n_expert,
                           .n_expert_used = shape.router.n_expert_used,
                           .lookahead = options_.lookahead};
  std::unique_ptr<Predictor> predictor;
  switch (options_.predictor) {
    case PredictorKind::kNone:
      return {};
    case PredictorKind::kPreviousToken:
      predictor = std::make_unique<PreviousToken>(predicted);
      break;
    case PredictorKind::kCoactivation:
      predictor = std::make_unique<Coactivation>(predicted);
      break;
    case PredictorKind::kStaleGate: {
      ODMOE_ASSIGN_OR_RETURN(auto gate, LiveStaleGate::create(*backend_, *decoder_, options_.lookahead));
      stale_gate_ = gate.get();
      predictor = std::move(gate);
      break;
    }
    case PredictorKind::kShadow: {
      ODMOE_ASSIGN_OR_RETURN(const RoutedModelData routed, read_routed_model(*file_, shape));
      ODMOE_ASSIGN_OR_RETURN(auto shadow, ShadowModel::load(options_.shadow, {}));
      ODMOE_RETURN_IF_ERROR(check_shadow_model(shadow->spec(), routed.model, options_.shadow.string()));
      predicted = shadow->shape();
      predictor = std::move(shadow);
      break;
    }
  }
  if (dependencies_.wrap_predictor) predictor = dependencies_.wrap_predictor(std::move(predictor), predicted);
  // Where all cores compute, a thread of its own would only take one from them.
  const bool has_core = usable_processors() > options_.threads;
  const bool worth_a_thread =
      predictor->stands_alone() && predictor->bytes_per_prediction() >= kLeastForThread;
  const auto ask = has_core && worth_a_thread ? Foresight::Ask::kOnItsOwnThread : Foresight::Ask::kHere;
  const int32_t lookahead = std::min(options_.lookahead, predicted.lookahead);
  Predictor& asked = *predictor;
  auto foresight = std::make_unique<Foresight>(std::move(predictor), predicted, lookahead, ask);
  foresight_ = foresight.get();
  forward_->use_foresight(std::move(foresight));
  if (options_.sessions > 1 && ask == Foresight::Ask::kHere && !asked.remembers()) {
    auto batch_foresight =
        std::make_unique<BatchForesight>(asked, std::move(predicted), lookahead, options_.sessions);
    batch_foresight_ = batch_foresight.get();
    forward_->use_batch_foresight(std::move(batch_foresight));
  }
  return {};
}

// What trials of prefetching find holds for this model, as much of it in memory, on these drives, by these
// kernels.
void EngineImpl::trust_earlier_run() {
  if (options_.prefetching_file.empty() || foresight_ == nullptr || plan_.n_slot >= plan_.n_expert_total)
    return;
  // Budgets that differ by less than a fifth are the same.
  const long quarters = std::lround(4 * std::log2(static_cast<double>(plan_.n_slot)));
  prefetching_key_ =
      odmoe::format("{}, 2^({}/4) slots, {} {} {} ahead, {} threads, {}", identity_->value().hex(), quarters,
                    predictor_name(options_.predictor), options_.shadow.filename().string(),
                    options_.lookahead, options_.threads, io_.reader);
  for (const ModelCopy& copy : copies_) {
    prefetching_key_ += odmoe::format(", {}", copy.drive ? copy.drive->name : "a drive that is not known");
  }
  prefetching_key_ += odmoe::format(", ggml {}, {}", ggml_build(), backend_->description());
  if (options_.experts != ExpertPlacement::kHost) {
    prefetching_key_ += odmoe::format(", experts {}", placement_name(options_.experts));
  }
  if (const auto earlier = load_experience(options_.prefetching_file, prefetching_key_)) {
    foresight_->trust(*earlier);
  }
}

void EngineImpl::keep_experience() const {
  if (prefetching_key_.empty()) return;
  const auto experience = foresight_->governor().experience();
  if (!experience) return;
  const Status kept = save_experience(options_.prefetching_file, prefetching_key_, *experience);
  if (!kept.has_value()) spdlog::debug("{}", kept.error().message);
}

// With all slots free, none of which is filled before it is said.
Status EngineImpl::start_store() {
  ODMOE_RETURN_IF_ERROR(know_drives(copies_, *source_,
                                    {.options = options_,
                                     .arena_bytes = plan_.arena_bytes,
                                     .make_reader = dependencies_.make_reader,
                                     .clock = clock_,
                                     .interrupted = &interrupted_}));
  ExpertStoreOptions options;
  options.arena_bytes = plan_.arena_bytes;
  options.max_arena_bytes = limits_.max_arena_bytes;
  options.kernels = slot_kernels();
  options.policy = options_.policy;
  options.fill = options_.fill ? ExpertStoreOptions::Fill::kWhenTold : ExpertStoreOptions::Fill::kNever;
  options.clock = clock_;
  const uint32_t depth = plan_reads(*source_, copies_, options_.read_depth, options);
  ODMOE_ASSIGN_OR_RETURN(auto reader, make_reader(depth));  // the store adds the files itself
  io_.reader = reader->name();
  io_.depth = depth;
  io_.read_bytes = options.read_bytes;
  for (const ModelCopy& copy : copies_) {
    io_.copies.push_back({.path = copy.files.front().string(),
                          .probed_bytes_per_second = copy.drive ? copy.drive->profile.bytes_per_second : 0});
  }
  ODMOE_ASSIGN_OR_RETURN(store_, ExpertStore::create(*source_, std::move(reader), options));
  return {};
}

Status EngineImpl::load(std::unique_ptr<AsyncReader> reader, const LoadProgress& progress) {
  if (info_.repacked_bytes > 0) {
    spdlog::info("{} of {} of experts are repacked ({})", format_bytes(info_.repacked_bytes),
                 format_bytes(info_.expert_bytes), info_.repacked_layout);
  }
  ODMOE_RETURN_IF_ERROR(start_store());
  // While the last dense weights are laid out the drive has nothing else to do than to fill the arena.  What
  // they are staged in is in memory beside it, in the place of KV caches that are empty yet.
  // Where there are several sites it is not known yet with which ones.
  const bool fill_at_once = options_.fill && !dependencies_.make_sites;
  const bool early = fill_at_once && weights_->load_bytes() <= plan_.kv_bytes;
  const uint64_t total = weights_->bytes();
  ODMOE_RETURN_IF_ERROR(weights_->load(*reader, {.threads = options_.threads,
                                                 .progress =
                                                     [&](uint64_t done) {
                                                       if (interrupted_.load(std::memory_order_relaxed))
                                                         return false;
                                                       return !progress ||
                                                              progress(std::min(done, total), total);
                                                     },
                                                 .all_read = [&] { store_->set_fill(early); }}));
  store_->set_fill(fill_at_once);
  reader.reset();
  decoder_->read_biases();
  ODMOE_RETURN_IF_ERROR(decoder_->check_experts_of_tokens(options_.model.string()));
  ODMOE_RETURN_IF_ERROR(dense_->check_router_biases());
  switch (options_.experts) {
    case ExpertPlacement::kHost:
      ODMOE_RETURN_IF_ERROR(site_->attach(*store_));
      break;
    case ExpertPlacement::kInPlace:
      ODMOE_RETURN_IF_ERROR(device_site_->attach(*store_));
      break;
    case ExpertPlacement::kDevice:
      ODMOE_RETURN_IF_ERROR(device_site_->attach(*store_, *source_, plan_.device.arena_bytes));
      break;
  }
  ODMOE_RETURN_IF_ERROR(set_up_sites());
  if (!fill_at_once) fill_own();
  if (stale_gate_ != nullptr) stale_gate_->copy_routers();
  file_.reset();  // all that is needed of the metadata has been copied
  plan_.n_slot = store_->stats().n_slot;
  trust_earlier_run();
  governor_ = std::make_unique<MemoryGovernor>(*store_, limits_);
  if (options_.memory.kind == MemoryBudget::Kind::kAuto && options_.experts != ExpertPlacement::kInPlace)
    return governor_->follow(dependencies_.sample_memory);
  return {};
}

// Before n more tokens are evaluated.  The experts go that were in the memory which they need.  Where a
// timeline could not be taken back to what it is now, and that is worth it, a snapshot is taken: at a
// `boundary`, where a prompt that is divided alike can go on, and where text begins to be generated.
void EngineImpl::make_room(SequenceState& state, int64_t n, bool boundary) {
  const bool generation_begins = n == 1 && state.last_commit() > 1;
  const bool keep = (boundary || generation_begins) && state.worth_keeping();
  if (const uint64_t more = state.count(state.length() + n, keep); more > 0) governor_->take_kv(more);
  if (keep) state.keep();
}

Result<std::unique_ptr<Session>> EngineImpl::new_session() {
  const MutexLock lock(free_mutex_);
  if (free_.empty()) {
    return fail(ErrorKind::kBudget, "all {} sessions are in use; the memory plan holds no more KV caches",
                options_.sessions);
  }
  FreeSession free = std::move(free_.back());
  free_.pop_back();
  return std::make_unique<SessionImpl>(*this, std::move(free.state), free.lane, options_.context);
}

void EngineImpl::set_routing_observer(RoutingObserver* observer) {
  const MutexLock lock(evaluation_mutex_);
  forward_->observe(observer);
}

void EngineImpl::return_state(std::unique_ptr<SequenceState> state, int32_t lane) {
  const uint64_t bytes = state->counted_bytes();
  state->clear();
  governor_->return_kv(bytes);
  const MutexLock lock(free_mutex_);
  free_.push_back({.state = std::move(state), .lane = lane});
}

void EngineImpl::restore(SequenceState& state, int64_t n, int64_t state_length,
                         std::span<const std::byte> saved) {
  const MutexLock lock(evaluation_mutex_);  // the arena shrinks as in an evaluation
  governor_->take_kv(state.count(n, /*will_keep=*/false));
  state.restore(n, state_length, saved);
}

Status EngineImpl::restore_from(SequenceState& state, int64_t n, const SequenceState::GiveBytes& give) {
  const MutexLock lock(evaluation_mutex_);
  governor_->take_kv(state.count(n, /*will_keep=*/false));
  const Status status = state.restore_from(n, give);
  if (!status.has_value()) {
    const uint64_t bytes = state.counted_bytes();
    state.clear();
    governor_->return_kv(bytes);
  }
  return status;
}

Status EngineImpl::step(std::span<const NextToken> batch) {
  if (batch.empty() || std::cmp_greater(batch.size(), options_.sessions)) {
    return fail(ErrorKind::kUsage, "a step takes 1 to {} sessions, not {}", options_.sessions, batch.size());
  }
  std::array<SessionImpl*, kMaxSessions> sessions{};
  std::array<ForwardPass::Step, kMaxSessions> steps;
  for (size_t i = 0; i < batch.size(); ++i) {
    auto* session = static_cast<SessionImpl*>(batch[i].session);
    assert(session->engine_ == this);
    assert(!std::ranges::contains(std::span(sessions).first(i), session));
    ODMOE_RETURN_IF_ERROR(session->check_next({&batch[i].token, 1}));
    sessions[i] = session;
    steps[i] = {.state = session->state_.get(), .graphs = &session->decode_graphs_, .token = batch[i].token};
  }
  MutexLock lock(evaluation_mutex_);
  if (forward_->observed()) {
    lock.unlock();
    return step_in_turn(batch);
  }
  const int64_t begin_us = clock_->now_us();
  const ExpertStoreStats before = store_->stats();
  for (const SessionImpl* session : std::span(sessions).first(batch.size())) {
    SequenceState& state = *session->state_;
    make_room(state, 1, begins_generation(session->division_, state.length()));
  }
  const auto deliver = [&](int64_t index, std::span<const float> logits) {
    std::ranges::copy(logits, sessions[static_cast<size_t>(index)]->logits_.begin());
  };
  ODMOE_RETURN_IF_ERROR(forward_->step(std::span(steps).first(batch.size()), std::ref(deliver)));
  for (size_t i = 0; i < batch.size(); ++i) sessions[i]->append({&batch[i].token, 1}, /*singly=*/true);
  publish_if_wanted();
  count(decode_, batch.size(), 1, begin_us, before);
  return {};
}

Status EngineImpl::advance(std::span<const NextTokens> parts) {
  const auto several = std::ranges::count_if(parts, [](const auto& part) { return part.tokens.size() > 1; });
  if (parts.empty() || std::cmp_greater(parts.size(), options_.sessions) ||
      std::cmp_greater(several, options_.prompts)) {
    return fail(ErrorKind::kUsage, "a pass takes 1 to {} sessions and {} prompts, not {} and {}",
                options_.sessions, options_.prompts, parts.size(), several);
  }
  std::array<SessionImpl*, kMaxSessions> sessions{};
  std::array<ForwardPass::Part, kMaxSessions> forward_parts;
  size_t n_token = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    auto* session = static_cast<SessionImpl*>(parts[i].session);
    assert(session->engine_ == this && std::cmp_less_equal(parts[i].tokens.size(), options_.chunk));
    assert(!std::ranges::contains(std::span(sessions).first(i), session));
    ODMOE_RETURN_IF_ERROR(session->check_next(parts[i].tokens));
    sessions[i] = session;
    forward_parts[i] = {
        .state = session->state_.get(), .graphs = &session->decode_graphs_, .tokens = parts[i].tokens};
    n_token += parts[i].tokens.size();
  }
  MutexLock lock(evaluation_mutex_);
  if (forward_->observed()) {
    lock.unlock();
    return advance_in_turn(parts);
  }
  const int64_t begin_us = clock_->now_us();
  const ExpertStoreStats before = store_->stats();
  for (size_t i = 0; i < parts.size(); ++i) {
    SequenceState& state = *sessions[i]->state_;
    const auto n = std::ssize(parts[i].tokens);
    make_room(state, n, is_boundary(sessions[i]->division_, state.length(), n));
  }
  const auto deliver = [&](int64_t index, std::span<const float> logits) {
    std::ranges::copy(logits, sessions[static_cast<size_t>(index)]->logits_.begin());
  };
  ODMOE_RETURN_IF_ERROR(forward_->advance(std::span(forward_parts).first(parts.size()), std::ref(deliver)));
  for (size_t i = 0; i < parts.size(); ++i) {
    sessions[i]->append(parts[i].tokens, /*singly=*/parts[i].tokens.size() == 1);
  }
  publish_if_wanted();
  count(several > 0 ? prefill_ : decode_, n_token, 1, begin_us, before);
  return {};
}

Status EngineImpl::advance_in_turn(std::span<const NextTokens> parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const Status status = parts[i].session->evaluate(parts[i].tokens);
    if (status.has_value()) continue;
    for (const NextTokens& done : parts.first(i)) {
      done.session->truncate(static_cast<int32_t>(done.session->tokens().size() - done.tokens.size()));
    }
    return status;
  }
  return {};
}

Status EngineImpl::evaluate(SequenceState& state, DecodeGraphs& graphs, std::span<const Token> tokens,
                            const Division& division, ForwardPass::Logits logits,
                            const ForwardPass::Sink& sink, const EvaluateProgress& progress) {
  const MutexLock lock(evaluation_mutex_);
  const int64_t begin_us = clock_->now_us();
  const ExpertStoreStats before = store_->stats();
  const int64_t first = state.length();
  const Status status = evaluate_chunks(state, graphs, tokens, division, logits, sink, progress);
  if (!status.has_value()) {
    [[maybe_unused]] const int64_t reached = state.rewind(first);
    assert(reached == first);
    return status;
  }
  const auto chunk = static_cast<size_t>(options_.chunk);
  count(tokens.size() == 1 ? decode_ : prefill_, tokens.size(), (tokens.size() + chunk - 1) / chunk, begin_us,
        before);
  return {};
}

Status EngineImpl::evaluate_chunks(SequenceState& state, DecodeGraphs& graphs, std::span<const Token> tokens,
                                   const Division& division, ForwardPass::Logits logits,
                                   const ForwardPass::Sink& sink, const EvaluateProgress& progress) {
  const auto chunk = static_cast<size_t>(options_.chunk);
  const bool known = division.length() == state.length();
  const bool more_of_what_is_written = tokens.size() == 1 && division.ends_singly();
  for (size_t done = 0; done < tokens.size();) {
    const size_t n = std::min(chunk, tokens.size() - done);
    const bool last = done + n == tokens.size();
    // An error in a later chunk takes it back to before the first one.
    const bool ends = known && n < chunk && !more_of_what_is_written;
    const bool boundary = (done == 0 && !last) || ends;
    make_room(state, static_cast<int64_t>(n), boundary);
    const auto wanted = logits == ForwardPass::Logits::kLast && !last ? ForwardPass::Logits::kNone : logits;
    ODMOE_RETURN_IF_ERROR(forward_->run(state, graphs, tokens.subspan(done, n), wanted,
                                        [&](int64_t index, std::span<const float> values) {
                                          sink(static_cast<int64_t>(done) + index, values);
                                        }));
    done += n;
    publish_if_wanted();
    if (progress) progress(static_cast<int32_t>(done), static_cast<int32_t>(tokens.size()));
  }
  return {};
}

Status EngineImpl::evaluate_singly(SequenceState& state, DecodeGraphs& graphs, std::span<const Token> tokens,
                                   const Division& division, ForwardPass::Logits logits,
                                   const ForwardPass::Sink& sink) {
  const MutexLock lock(evaluation_mutex_);
  const int64_t begin_us = clock_->now_us();
  const ExpertStoreStats before = store_->stats();
  // An observer sees one token after the other.
  const size_t together = forward_->observed() ? 1 : static_cast<size_t>(max_lanes(options_));
  const int64_t first = state.length();
  uint64_t passes = 0;
  for (size_t done = 0; done < tokens.size(); ++passes) {
    const size_t n = std::min(together, tokens.size() - done);
    const bool last = done + n == tokens.size();
    make_room(state, static_cast<int64_t>(n), done == 0 && begins_generation(division, first));
    const auto wanted = logits == ForwardPass::Logits::kLast && !last ? ForwardPass::Logits::kNone : logits;
    const auto deliver = [&](int64_t index, std::span<const float> values) {
      sink(static_cast<int64_t>(done) + index, values);
    };
    const Status status = n == 1 ? forward_->run(state, graphs, tokens.subspan(done, 1), wanted, deliver)
                                 : forward_->run_singly(state, tokens.subspan(done, n), wanted, deliver);
    if (!status.has_value()) {
      state.rewind(std::min(first, state.length()));
      return status;
    }
    done += n;
    publish_if_wanted();
  }
  count(prefill_, tokens.size(), passes, begin_us, before);
  return {};
}

// Whether a prompt that is divided alike can go on from where n tokens that are evaluated together begin.
bool EngineImpl::is_boundary(const Division& division, int64_t length, int64_t n) const {
  return division.length() == length && n < options_.chunk && !(n == 1 && division.ends_singly());
}

Status EngineImpl::step_in_turn(std::span<const NextToken> batch) {
  for (size_t i = 0; i < batch.size(); ++i) {
    const Status status = batch[i].session->evaluate({&batch[i].token, 1});
    if (status.has_value()) continue;
    for (const NextToken& done : batch.first(i)) {
      done.session->truncate(static_cast<int32_t>(done.session->tokens().size()) - 1);
    }
    return status;
  }
  return {};
}

void EngineImpl::publish_if_wanted() {
  if (!stats_wanted_.load(std::memory_order_relaxed)) return;
  const MutexLock stats_lock(stats_mutex_);
  stats_wanted_ = false;
  publish_stats();
}

void EngineImpl::count(Stats::Phase& phase, uint64_t tokens, uint64_t steps, int64_t begin_us,
                       const ExpertStoreStats& before) {
  const ExpertStoreStats after = store_->stats();
  phase.tokens += tokens;
  phase.steps += steps;
  phase.experts_read += after.misses - before.misses + after.prefetched - before.prefetched;
  phase.stall_seconds += static_cast<double>(after.stall_us - before.stall_us) * 1e-6;
  phase.read_bytes += after.demand_read_bytes - before.demand_read_bytes;
  const uint64_t dense = dense_->read_bytes();
  phase.dense_read_bytes += dense - std::exchange(counted_dense_bytes_, dense);
  phase.prefetch_bytes += after.prefetch_read_bytes - before.prefetch_read_bytes;
  phase.seconds += static_cast<double>(clock_->now_us() - begin_us) * 1e-6;
  if (backend_->computes_on_host_memory()) return;
  const DeviceTraffic traffic = backend_->traffic();
  phase.device += traffic.since(std::exchange(counted_traffic_, traffic));
  const ForwardPass::LayerTraffic layers = forward_->layer_traffic();
  const ForwardPass::LayerTraffic earlier = std::exchange(counted_layers_, layers);
  phase.layers += layers.layers - earlier.layers;
  phase.device_layers += layers.traffic.since(earlier.traffic);
}

void EngineImpl::note_first_token(double ttft_ms) {
  const MutexLock lock(evaluation_mutex_);
  ttft_ms_ = ttft_ms;
}

void EngineImpl::publish_stats() const {
  published_ = {.prefill = prefill_,
                .decode = decode_,
                .ttft_ms = ttft_ms_,
                .predictor = {},
                .routing = forward_->routing().summary()};
  const Foresight* foresight = forward_->foresight();
  if (foresight == nullptr) return;
  published_.predictor.ahead.assign(foresight->ahead().begin(), foresight->ahead().end());
  if (const BatchForesight* of_steps = forward_->batch_foresight()) {
    for (size_t i = 0; i < of_steps->ahead().size(); ++i) {
      published_.predictor.ahead[i].wanted += of_steps->ahead()[i].wanted;
      published_.predictor.ahead[i].foreseen += of_steps->ahead()[i].foreseen;
    }
  }
  const Prefetching verdict = foresight->governor().verdict();
  published_.predictor.prefetching = verdict != Prefetching::kOff;
  published_.predictor.many_reads = verdict == Prefetching::kMany;
  published_.predictor.gain = foresight->governor().gain();
  published_.predictor.trials = foresight->governor().n_trial();
}

Stats EngineImpl::stats() const {
  Stats stats;
  stats.memory = plan_;
  stats.peak_resident_bytes = peak_resident_bytes();
  stats.kv_bytes_in_use = governor_->kv_bytes_in_use();
  {
    const MutexLock lock(stats_mutex_);
    if (evaluation_mutex_.try_lock()) {
      publish_stats();
      evaluation_mutex_.unlock();
    } else {
      stats_wanted_ = true;
    }
    stats.prefill = published_.prefill;
    stats.decode = published_.decode;
    stats.ttft_ms = published_.ttft_ms;
    stats.predictor = published_.predictor;
    stats.routing = published_.routing;
  }
  const ExpertStoreStats store = store_->stats();
  stats.arena_bytes_now = store.arena_bytes;
  stats.n_slot_now = store.n_slot;
  stats.arena_resizes = store.resizes;
  stats.experts = {.demands = store.demands,
                   .hits = store.hits,
                   .late_hits = store.late_hits,
                   .misses = store.misses,
                   .evictions = store.evictions,
                   .working_set_experts = store.working_set};
  if (device_site_ && device_site_->arena() != nullptr) {
    const DeviceArena::Figures figures = device_site_->arena()->figures();
    stats.device_experts = {.hits = figures.hits,
                            .copies = figures.copies,
                            .copied_bytes = figures.copied_bytes,
                            .evictions = figures.evictions,
                            .evicted_to_host = figures.evicted_to_host,
                            .resident = figures.resident};
  }
  stats.io = io_;
  stats.io.demand_read_bytes = store.demand_read_bytes;
  stats.io.prefetch_read_bytes = store.prefetch_read_bytes;
  stats.io.fill_read_bytes = store.fill_read_bytes;
  stats.io.experts_filled = store.filled;
  stats.io.experts_filled_used = store.filled_used;
  stats.io.reads = store.reads;
  stats.io.read_retries = store.read_retries;
  stats.io.stall_us = store.stall_us;
  stats.io.read_busy_us = store.read_busy_us;
  const std::vector<ExpertCopyStats> copies = store_->copy_stats();
  for (size_t i = 0; i < copies.size(); ++i) {
    stats.io.copies[i].read_bytes = copies[i].read_bytes;
    stats.io.copies[i].failed = copies[i].failed;
  }
  if (dependencies_.rank_stats) stats.ranks = dependencies_.rank_stats();
  if (!stats.ranks.empty()) tell_figures(figures_of(store), stats.ranks.front());
  stats.predictor.name = predictor_name(options_.predictor);
  stats.predictor.prefetched = store.prefetched;
  stats.predictor.prefetched_used = store.prefetched_used;
  stats.predictor.prefetched_late = store.prefetched_late;
  return stats;
}

int32_t EngineImpl::view_experts(int32_t layer, std::span<ExpertView> experts) const {
  return layer >= 0 && layer < info_.n_layer ? store_->view(layer, experts) : 0;
}

std::vector<Token> EngineImpl::encode(std::string_view text, bool add_special, bool parse_special) const {
  return tokenizer_->encode(text, {.add_special = add_special, .parse_special = parse_special});
}

Result<std::vector<Token>> EngineImpl::encode_within(std::string_view text, bool add_special,
                                                     bool parse_special, const EncodeLimits& limits) const {
  return tokenizer_->encode(text, {.add_special = add_special, .parse_special = parse_special}, limits);
}

std::string EngineImpl::decode(std::span<const Token> tokens, bool special) const {
  return tokenizer_->decode(tokens, special);
}

bool EngineImpl::is_control(Token token) const {
  return tokenizer_->token_bytes(token, false).empty() && !tokenizer_->token_bytes(token, true).empty();
}

Result<std::unique_ptr<ChatTemplate>> EngineImpl::chat_template(const ChatTemplateChoice& choice) const {
  ChatTemplateChoice chosen = choice;
  if (chosen.source.empty()) chosen.source = tokenizer_->chat_template();
  return make_chat_template(chosen, special_tokens_of(*tokenizer_));
}

Result<std::vector<Token>> EngineImpl::encode_chat(const Conversation& conversation,
                                                   const ChatTemplate& chat_template,
                                                   const EncodeLimits& limits,
                                                   const ChatTemplateLimits& template_limits) const {
  ODMOE_ASSIGN_OR_RETURN(const ChatText text, chat_template.render(conversation, template_limits));
  return encode_chat_text(*tokenizer_, text, limits);
}

}  // namespace odmoe
