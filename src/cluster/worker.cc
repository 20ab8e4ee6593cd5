#include "cluster/worker.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <utility>

#include "backend/device_memory.h"
#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"
#include "base/memory_info.h"
#include "base/mutex.h"
#include "base/units.h"
#include "cluster/greeting.h"
#include "cluster/hello.h"
#include "cluster/ownership.h"
#include "cluster/recorded_uses.h"
#include "cluster/share.h"
#include "cluster/wire.h"
#include "engine/expert_owners.h"
#include "engine/layer_demand.h"
#include "engine/limits.h"
#include "engine/local_site.h"
#include "engine/memory_plan.h"
#include "format/account.h"
#include "format/mirror.h"
#include "model/decoder.h"
#include "model/weights.h"

namespace odmoe {
namespace {

constexpr std::chrono::milliseconds kLookAround{50};

class Worker {
 public:
  Worker(Transport& transport, const WorkerOptions& options)
      : transport_(transport),
        options_(options),
        engine_(options.engine),
        pulse_(
            transport, options.pulse, [this](int, const ReadNote& note) { on_note(note); },
            [this](const Error&) {
              interrupted_ = true;  // nobody wants the work under way any more
              came_.notify_all();
            }) {}

  Status run() {
    ODMOE_ASSIGN_OR_RETURN(const bool begins, begin());
    if (!begins) return {};
    if (const Status opened = open(); !opened.has_value()) {
      Hello hello;
      hello.error = opened.error().message;
      (void)tell(NoteKind::kHello, hello.json());
      return await_end(opened);
    }
    ODMOE_RETURN_IF_ERROR(introduce());
    while (true) {
      const Status status = agree_and_serve();
      if (status.has_value() || ended_ || !transport_.can_regroup()) return status;
      ODMOE_RETURN_IF_ERROR(regroup());
    }
  }

  bool ended() const { return ended_; }

 private:
  // Opening and agreeing: what the head says is waited for.  False, or nothing: it ends all.
  Result<bool> begin();
  Status open();
  Status make_store(std::unique_ptr<AsyncReader> reader);
  Status place_columns();
  Status introduce();
  Status agree_and_serve();
  Result<bool> agree();
  Status regroup();
  Result<std::optional<std::string>> await_note(NoteKind kind);
  Status await_end(Status outcome);
  Status tell(NoteKind kind, const std::string& body);
  void on_note(const ReadNote& note);
  void look_around();
  void take_warm(std::span<const std::byte> body);
  bool exist(std::span<const ExpertKey> experts) const;

  Status serve();
  Status go_on_warming();
  void begin_work(uint32_t sequence);
  Status answer(std::span<const std::byte> message);
  bool has_columns(const ExpertWork& work) const;
  bool has_experts(int layer) const {
    return layer_index_[static_cast<size_t>(layer)] < decoder_->expert_layers().size();
  }
  int32_t first_column(int32_t place) const { return shape_.lanes + place * shape_.chunk; }
  void take_in(const ReadWork& work);
  void take_token(const ReadWork& work, size_t token, int32_t column);
  Status send_rows(const ExpertWork& work, uint32_t sequence);
  Status send_result(ResultHeader header, std::string_view text = {});

  Transport& transport_;
  const WorkerOptions& options_;
  EngineOptions engine_;

  std::unique_ptr<Checkpoint> file_;
  std::unique_ptr<DenseWeights> weights_;  // of experts alone
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<ExpertSource> source_;
  std::unique_ptr<Backend> backend_;
  std::vector<ModelCopy> copies_;
  std::vector<uint64_t> uses_;  // OwnershipFacts::uses
  MemoryPlan plan_;
  MemoryGovernor::Limits limits_;
  std::unique_ptr<ExpertStore> store_;
  std::unique_ptr<LocalSite> site_;
  std::unique_ptr<MemoryGovernor> governor_;

  WireShape shape_;
  ggml_context_ptr context_;
  DeviceMemory memory_;
  ExpertColumns columns_;              // single tokens' lanes, and places for chunks, as the head has them
  std::vector<ExpertColumns> places_;  // those of a place alone
  std::vector<ExpertWork::Chunk> chunks_;
  AlignedBuffer result_;
  std::optional<LayerDemand> demand_;
  std::optional<ExpertOwners> owners_;
  std::vector<size_t> layer_index_;  // of a layer among those with experts; their number: it has none
  std::vector<int32_t> token_columns_;

  std::atomic<bool> interrupted_ = false;  // of the work under way
  bool leave_told_ = false;
  bool has_room_ = false;

  Mutex mutex_;
  Condition came_;
  uint32_t current_ ODMOE_GUARDED_BY(mutex_) = 0, abandoned_ ODMOE_GUARDED_BY(mutex_) = 0;  // works
  std::optional<std::string> begin_ ODMOE_GUARDED_BY(mutex_), setup_ ODMOE_GUARDED_BY(mutex_);
  std::vector<ExpertKey> warm_ ODMOE_GUARDED_BY(mutex_);  // to be read ahead
  uint32_t warm_number_ ODMOE_GUARDED_BY(mutex_) = 0;
  bool warm_is_whole_ ODMOE_GUARDED_BY(mutex_) = false;
  uint32_t warms_ = 0;  // number of what is being read ahead; 0: nothing is
  std::atomic<bool> ended_ = false;
  std::atomic<LocalSite*> hinted_ = nullptr;  // once it can be
  Pulse pulse_;                               // last: it uses the others
};

void Worker::on_note(const ReadNote& note) {
  const std::string_view text(reinterpret_cast<const char*>(note.body.data()), note.body.size());
  switch (note.kind) {
    case NoteKind::kBegin: {
      const MutexLock lock(mutex_);
      begin_ = text;
      break;
    }
    case NoteKind::kSetup: {
      const MutexLock lock(mutex_);
      setup_ = text;
      break;
    }
    case NoteKind::kHints:
      if (LocalSite* site = hinted_; site != nullptr) {
        const auto hints = read_hints(note.body);
        if (hints && exist(hints->experts)) site->hint(hints->experts, hints->depth);
      }
      return;
    case NoteKind::kWarm:
      take_warm(note.body);
      return;
    case NoteKind::kAbandon:
      if (const auto sequence = read_abandon(note.body)) {
        const MutexLock lock(mutex_);
        abandoned_ = *sequence;
        if (current_ == *sequence) interrupted_ = true;
      }
      return;
    case NoteKind::kEnd: {
      const MutexLock lock(mutex_);
      ended_ = true;
      interrupted_ = true;
      break;
    }
    default:
      return;
  }
  came_.notify_all();
}

void Worker::take_warm(std::span<const std::byte> body) {
  const auto part = read_warm_part(body);
  if (hinted_ == nullptr || !part || !exist(part->experts)) return;
  const MutexLock lock(mutex_);
  if (part->number != warm_number_) warm_.clear();
  warm_number_ = part->number;
  warm_.insert(warm_.end(), part->experts.begin(), part->experts.end());
  warm_is_whole_ = part->last;
}

// Between two works, and again and again while it is not done.
Status Worker::go_on_warming() {
  std::vector<ExpertKey> experts;
  {
    const MutexLock lock(mutex_);
    if (std::exchange(warm_is_whole_, false)) {
      experts.swap(warm_);
      warms_ = warm_number_;
    }
  }
  if (!experts.empty()) site_->warm(experts);
  if (warms_ == 0) return {};
  ODMOE_ASSIGN_OR_RETURN(const Warmth warmth, site_->warmed());
  const std::string note = make_warmed({.number = warms_,
                                        .done = warmth.done ? 1U : 0U,
                                        .n_read = warmth.n_read,
                                        .n_expert = warmth.n_expert});
  const Status told = transport_.send_note(0, std::as_bytes(std::span(note)));
  if (warmth.done && told.has_value()) warms_ = 0;
  return {};
}

bool Worker::exist(std::span<const ExpertKey> experts) const {
  return std::ranges::all_of(experts, [this](const ExpertKey& key) {
    return key.layer >= 0 && key.layer < shape_.n_layer && has_experts(key.layer) && key.expert >= 0 &&
           key.expert < shape_.n_expert;
  });
}

Status Worker::tell(NoteKind kind, const std::string& body) {
  const std::string note = make_note(kind, body);
  return transport_.send_note(0, std::as_bytes(std::span(note)));
}

void Worker::look_around() {
  if (!options_.leave || leave_told_ || !options_.leave()) return;
  leave_told_ = true;
  (void)tell(NoteKind::kLeave, {});
}

// Nothing: the head ends all.
Result<std::optional<std::string>> Worker::await_note(NoteKind kind) {
  MutexLock lock(mutex_);
  while (true) {
    const std::optional<std::string>& note = kind == NoteKind::kBegin ? begin_ : setup_;
    if (note) return note;
    if (ended_) return std::nullopt;
    ODMOE_RETURN_IF_ERROR(pulse_.status());
    look_around();
    came_.wait_until(mutex_, std::chrono::steady_clock::now() + kLookAround);
  }
}

// So that the head can say which rank cannot go on before all end.
Status Worker::await_end(Status outcome) {
  while (!ended_ && pulse_.status().has_value()) {
    look_around();
    MutexLock lock(mutex_);
    came_.wait_until(mutex_, std::chrono::steady_clock::now() + kLookAround);
  }
  return outcome;
}

Result<bool> Worker::begin() {
  ODMOE_ASSIGN_OR_RETURN(const auto text, await_note(NoteKind::kBegin));
  if (!text) return false;
  ODMOE_ASSIGN_OR_RETURN(const Begin begin, Begin::read(*text));
  engine_.chunk = begin.chunk;
  engine_.sessions = begin.sessions;
  engine_.prompts = begin.prompts;
  return true;
}

Status Worker::open() {
  ODMOE_RETURN_IF_ERROR(engine_.validate());
  if (options_.find_model) {
    ODMOE_ASSIGN_OR_RETURN(engine_.model, options_.find_model(engine_.model.string()));
  }
  ODMOE_ASSIGN_OR_RETURN(file_, open_checkpoint(engine_.model));
  Account account(*file_);
  weights_ = std::make_unique<DenseWeights>(account);
  ODMOE_ASSIGN_OR_RETURN(decoder_, Decoder::create(account, *weights_));
  ODMOE_RETURN_IF_ERROR(weights_->status());
  weights_->keep_only_of_experts();
  const ModelShape& model = decoder_->shape();
  ODMOE_ASSIGN_OR_RETURN(
      source_, file_->expert_source(model.n_layer, model.router.n_expert, model.router.n_expert_used));
  ODMOE_ASSIGN_OR_RETURN(uses_, recorded_uses(options_.balance, *decoder_));
  copies_.push_back({.files = file_->files(), .drive = {}});
  for (const std::filesystem::path& path : engine_.mirrors) {
    ODMOE_ASSIGN_OR_RETURN(auto files, open_mirror(*file_, path));
    copies_.push_back({.files = std::move(files), .drive = {}});
  }

  ODMOE_ASSIGN_OR_RETURN(backend_, Backend::create(engine_.threads));
  if (weights_->file_bytes() > 0) ODMOE_RETURN_IF_ERROR(weights_->reserve(*backend_, *backend_));
  const LocalSite::Options options = local_site_options(engine_, &interrupted_);
  ODMOE_ASSIGN_OR_RETURN(site_, LocalSite::create(*backend_, *decoder_, *file_, options));
  shape_ = WireShape::of(model, engine_);
  const std::vector<int>& layers = decoder_->expert_layers();
  layer_index_.assign(static_cast<size_t>(model.n_layer), layers.size());
  for (size_t i = 0; i < layers.size(); ++i) layer_index_[static_cast<size_t>(layers[i])] = i;
  ODMOE_RETURN_IF_ERROR(place_columns());

  ODMOE_ASSIGN_OR_RETURN(
      auto reader,
      options_.make_reader({.kind = reader_kind(engine_.reader), .depth = kDefaultDepth, .direct = true}));
  for (const ModelCopy& copy : copies_) {
    for (const auto& path : copy.files) ODMOE_RETURN_IF_ERROR(reader->add_file(path));
  }
  MemoryNeeds needs{
      .dense_bytes = weights_->bytes(),
      .buffer_bytes = site_->buffer_bytes() + memory_.size() + max_work_bytes(shape_) +
                      2 * max_result_bytes(shape_) + resident_bytes() + kProcessSlack,
      .load_bytes = weights_->load_bytes(),
      .device = {},
      .device_name = {},
      .device_is_bounded = false,
  };
  add_experts(needs, *source_, reader->alignment());
  auto plan = plan_memory(engine_.memory, needs);
  if (!plan.has_value() && engine_.prompts > 1) {
    plan.error().message +=
        odmoe::format("; the head has {} prompts read at once, and --prompts 1 takes less", engine_.prompts);
  }
  ODMOE_ASSIGN_OR_RETURN(plan_, std::move(plan));
  limits_ = MemoryGovernor::limits_of(engine_.memory, needs, plan_);
  return make_store(std::move(reader));
}

Status Worker::make_store(std::unique_ptr<AsyncReader> reader) {
  if (weights_->file_bytes() > 0) {
    ODMOE_RETURN_IF_ERROR(weights_->load(
        *reader,
        {.threads = backend_->threads(), .progress = [this](uint64_t) { return !ended_; }, .all_read = {}}));
  }
  ODMOE_RETURN_IF_ERROR(know_drives(copies_, *source_,
                                    {.options = engine_,
                                     .arena_bytes = plan_.arena_bytes,
                                     .make_reader = options_.make_reader,
                                     .interrupted = &ended_}));
  ExpertStoreOptions options;
  options.arena_bytes = plan_.arena_bytes;
  options.max_arena_bytes = limits_.max_arena_bytes;
  options.policy = engine_.policy;
  if (engine_.fill) options.fill = ExpertStoreOptions::Fill::kWhenTold;
  const uint32_t depth = plan_reads(*source_, copies_, engine_.read_depth, options);
  ODMOE_ASSIGN_OR_RETURN(
      reader, options_.make_reader({.kind = reader_kind(engine_.reader), .depth = depth, .direct = true}));
  ODMOE_ASSIGN_OR_RETURN(store_, ExpertStore::create(*source_, std::move(reader), options));
  ODMOE_RETURN_IF_ERROR(site_->attach(*store_));
  governor_ = std::make_unique<MemoryGovernor>(*store_, limits_);
  if (engine_.memory.kind == MemoryBudget::Kind::kAuto) return governor_->follow(options_.sample_memory);
  return {};
}

// What experts are computed from and what becomes of it, as the head has them.
Status Worker::place_columns() {
  const size_t n_tensor = 3 * (static_cast<size_t>(shape_.places) + 1);
  context_.reset(
      ggml_init({.mem_size = ggml_tensor_overhead() * n_tensor, .mem_buffer = nullptr, .no_alloc = true}));
  const auto matrix = [&](int64_t rows, int64_t columns) {
    return ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, rows, columns);
  };
  const auto columns_of = [&](int64_t n_token) {
    return ExpertColumns{.input = matrix(shape_.width, n_token),
                         .output = matrix(shape_.width, n_token * shape_.n_expert_used),
                         .weight = matrix(1, n_token * shape_.n_expert_used)};
  };
  columns_ = columns_of(shape_.max_tokens());
  uint64_t bytes = 0;
  const std::array all = {columns_.input, columns_.output, columns_.weight};
  for (const ggml_tensor* tensor : all) bytes += round_up(ggml_nbytes(tensor), kTensorAlignment);
  ODMOE_ASSIGN_OR_RETURN(memory_, DeviceMemory::allocate(*backend_, bytes, DeviceMemory::Use::kSparse));
  uint64_t offset = 0;
  for (ggml_tensor* tensor : all) {
    if (!memory_.place(tensor, offset)) return fail(ErrorKind::kIo, "ggml could not place the activations");
    offset += round_up(ggml_nbytes(tensor), kTensorAlignment);
  }
  for (int32_t i = 0; i < shape_.places; ++i) {
    const ExpertColumns& place = places_.emplace_back(columns_of(shape_.chunk));
    const auto within = [first = static_cast<uint64_t>(first_column(i))](
                            ggml_tensor* whole, ggml_tensor* part, int32_t of_token) {
      place_within(whole, part, first * static_cast<uint64_t>(of_token) * whole->nb[1]);
    };
    within(columns_.input, place.input, 1);
    within(columns_.output, place.output, shape_.n_expert_used);
    within(columns_.weight, place.weight, shape_.n_expert_used);
  }
  chunks_.reserve(places_.size());
  ODMOE_ASSIGN_OR_RETURN(result_, AlignedBuffer::allocate(max_result_bytes(shape_)));
  demand_.emplace(shape_.n_expert, shape_.n_expert_used, shape_.max_tokens());
  token_columns_.resize(static_cast<size_t>(shape_.max_tokens()));
  return {};
}

Status Worker::introduce() {
  auto hello = make_hello({.file = *file_,
                           .source = *source_,
                           .backend = *backend_,
                           .site = *site_,
                           .copies = copies_,
                           .memory = engine_.memory,
                           .arena_bytes = plan_.arena_bytes,
                           .uses = uses_});
  if (!hello.has_value()) {
    hello = Hello{.error = hello.error().message};
  } else if (options_.pretend) {
    options_.pretend(*hello);
  }
  return tell(NoteKind::kHello, hello->json());
}

Status Worker::agree_and_serve() {
  ODMOE_ASSIGN_OR_RETURN(const bool agreed, agree());
  return agreed ? serve() : Status();
}

// A rank has gone: those that are left find other owners.
Status Worker::regroup() {
  pulse_.stop();
  site_->abandon();
  {
    const MutexLock lock(mutex_);
    setup_.reset();
    warm_.clear();
    warm_is_whole_ = false;
    warms_ = 0;
    current_ = abandoned_ = 0;
    interrupted_ = false;
  }
  ODMOE_RETURN_IF_ERROR(transport_.regroup(options_.pulse.silence));
  pulse_.restart();
  return {};
}

Result<bool> Worker::agree() {
  const auto complain = [this](const Error& error) -> Result<bool> {
    (void)tell(NoteKind::kReady, error.message);
    ODMOE_RETURN_IF_ERROR(await_end(std::unexpected(error)));
    return false;
  };
  ODMOE_ASSIGN_OR_RETURN(const auto text, await_note(NoteKind::kSetup));
  if (!text) return false;
  const auto setup = RankList::read(*text);
  if (!setup.has_value()) return complain(setup.error());

  const auto self = std::ranges::find(setup->numbers, transport_.rank()) - setup->numbers.begin();
  const auto number = static_cast<int>(self);
  if (self == std::ssize(setup->numbers)) {
    return complain({.kind = ErrorKind::kUnsupported, .message = "is not among the head's ranks"});
  }

  OwnershipFacts facts = facts_of(*decoder_, *source_, {});
  facts.ranks = setup->ranks;
  facts.expert_bytes = setup->expert_bytes;
  facts.uses = uses_;
  const Ownership ownership = Ownership::of(facts);
  if (ownership.fingerprint().hex() != setup->owners) {
    return complain({.kind = ErrorKind::kUnsupported,
                     .message = odmoe::format("finds other owners of the experts ({}) than the head ({})",
                                              ownership.fingerprint().hex(), setup->owners)});
  }
  if (const Status held =
          check_held(ownership, number, facts.expert_layers, facts.n_expert, *file_, *source_);
      !held.has_value()) {
    return complain(held.error());
  }
  // Sites: all others together, and this one.
  owners_.emplace(facts.expert_layers, facts.n_expert);
  owners_->add_site({});
  owners_->add_site([&](int layer, int32_t expert) {
    return ownership.owner(layer_index_[static_cast<size_t>(layer)], expert) == number;
  });
  if (!has_room_) {
    if (const Status room = transport_.make_room(max_work_bytes(shape_)); !room.has_value()) {
      return complain(room.error());
    }
    has_room_ = true;
  }
  if (engine_.fill) {
    store_->fill_only([&](ExpertKey key) {
      return has_experts(key.layer) &&
             ownership.owner(layer_index_[static_cast<size_t>(key.layer)], key.expert) == number;
    });
    store_->set_fill(true);
  }
  hinted_ = site_.get();
  ODMOE_RETURN_IF_ERROR(tell(NoteKind::kReady, {}));
  return true;
}

Status Worker::serve() {
  while (!ended_) {
    ODMOE_RETURN_IF_ERROR(pulse_.status());
    look_around();
    ODMOE_RETURN_IF_ERROR(go_on_warming());
    ODMOE_ASSIGN_OR_RETURN(const auto message, transport_.receive(0, kLookAround));
    if (message) ODMOE_RETURN_IF_ERROR(answer(*message));
  }
  return {};
}

// A note that abandons the work before comes before this or after it, never in the middle, so that it cannot
// interrupt the wrong one.
void Worker::begin_work(uint32_t sequence) {
  const MutexLock lock(mutex_);
  current_ = sequence;
  interrupted_ = abandoned_ == sequence || ended_;
}

Status Worker::answer(std::span<const std::byte> message) {
  ODMOE_ASSIGN_OR_RETURN(const ReadWork work, read_work(message, shape_));
  if (!has_experts(work.layer)) return fail(ErrorKind::kIo, "the head asked for a layer without experts");
  begin_work(work.sequence);
  take_in(work);
  demand_->set(work.layer, work.chosen, std::span(token_columns_).first(static_cast<size_t>(work.n_token)));
  const size_t index = layer_index_[static_cast<size_t>(work.layer)];
  ExpertWork own{.tokens = work.tokens,
                 .demand = &*demand_,
                 .experts = owners_->share(1, index, demand_->experts()),
                 .chunks = chunks_,
                 .columns = columns_};
  const std::vector<int>& layers = decoder_->expert_layers();
  if (index + 1 < layers.size()) {
    own.next_layer = layers[index + 1];
    own.next_experts = owners_->experts(1, index + 1);
  }
  if (!has_columns(own)) return fail(ErrorKind::kIo, "the head asked for something else than its experts");
  ODMOE_RETURN_IF_ERROR(site_->on_routing({.index = index,
                                           .layer = work.layer,
                                           .n_token = work.n_token,
                                           .experts = work.chosen,
                                           .weights = work.weights}));
  ResultHeader header{.sequence = work.sequence, .outcome = Outcome::kDone};
  Status begun = site_->begin(own);
  auto outcome = begun.has_value() ? site_->finish() : std::unexpected(begun.error());
  if (!outcome.has_value()) {
    site_->abandon();
    header.outcome = Outcome::kFailed;
    header.error_kind = static_cast<uint32_t>(outcome.error().kind);
    return send_result(header, outcome.error().message);
  }
  if (*outcome) {
    header.outcome = Outcome::kNotFinite;
    header.token = static_cast<int32_t>(std::ranges::find(demand_->columns(), (*outcome)->column) -
                                        demand_->columns().begin());
    header.rank = (*outcome)->rank;
    return send_result(header);
  }
  return send_rows(own, work.sequence);
}

// Whether there are experts, and what each of them is to see.
bool Worker::has_columns(const ExpertWork& work) const {
  for (const int32_t expert : work.experts) {
    for (const DemandPair& pair : work.demand->pairs(expert)) {
      if (pair.column < 0) return false;
    }
  }
  return !work.experts.empty();
}

// What the head sent, to where experts are computed.
void Worker::take_in(const ReadWork& work) {
  chunks_.clear();
  size_t token = 0;
  int32_t lane = 0;
  for (const WireChunk& chunk : work.chunks) {
    while (std::cmp_less(token, chunk.first)) take_token(work, token++, lane++);
    const int32_t first = first_column(static_cast<int32_t>(chunks_.size()));
    chunks_.push_back({.first = first, .n_token = chunk.n_token, .columns = places_[chunks_.size()]});
    for (int32_t i = 0; i < chunk.n_token; ++i) take_token(work, token++, first + i);
  }
  while (token < work.columns.size()) take_token(work, token++, lane++);
}

void Worker::take_token(const ReadWork& work, size_t token, int32_t column) {
  token_columns_[token] = -1;
  if (work.columns[token] < 0) return;
  token_columns_[token] = column;
  const auto width = static_cast<size_t>(shape_.width);
  const auto n_used = static_cast<size_t>(shape_.n_expert_used);
  const auto to = static_cast<size_t>(column);
  std::ranges::copy(work.input.subspan(static_cast<size_t>(work.columns[token]) * width, width),
                    host_values<float>(columns_.input).subspan(to * width).begin());
  std::ranges::copy(work.weights.subspan(token * n_used, n_used),
                    host_values<float>(columns_.weight).subspan(to * n_used).begin());
}

Status Worker::send_rows(const ExpertWork& work, uint32_t sequence) {
  const auto width = static_cast<size_t>(shape_.width);
  const std::span<const float> output = host_values<float>(columns_.output);
  const uint32_t most = rows_per_result(shape_);
  size_t n_left = 0;
  for (const int32_t expert : work.experts) n_left += work.demand->pairs(expert).size();
  ResultHeader header{.sequence = sequence};
  for (const int32_t expert : work.experts) {
    for (const DemandPair& pair : work.demand->pairs(expert)) {
      const auto row = static_cast<size_t>(pair.column * shape_.n_expert_used + pair.rank);
      const std::span<float> rows = result_rows(result_.span(), shape_, header.n_row + 1);
      std::ranges::copy(output.subspan(row * width, width), rows.end() - static_cast<ptrdiff_t>(width));
      ++header.n_row;
      --n_left;
      if (header.n_row < most && n_left > 0) continue;
      header.outcome = n_left > 0 ? Outcome::kMore : Outcome::kDone;
      ODMOE_RETURN_IF_ERROR(send_result(header));
      header.first_row += header.n_row;
      header.n_row = 0;
    }
  }
  return {};
}

// Returns once it has been handed over, so that the buffer is free again.
Status Worker::send_result(ResultHeader header, std::string_view text) {
  header.figures = figures_of(store_->stats());
  const size_t n = write_result(result_.span(), shape_, header, text);
  ODMOE_RETURN_IF_ERROR(transport_.send(0, result_.span().first(n)));
  while (true) {
    ODMOE_ASSIGN_OR_RETURN(const bool sent, transport_.wait_sent(0, kLookAround));
    if (sent || ended_) return {};
    ODMOE_RETURN_IF_ERROR(pulse_.status());
  }
}

}  // namespace

WorkerOutcome run_worker(Transport& transport, const WorkerOptions& options) {
  Worker worker(transport, options);
  const Status status = worker.run();
  return {.status = status, .in_order = worker.ended()};
}

}  // namespace odmoe
