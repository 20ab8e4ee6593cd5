#include "train/train.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <optional>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/processors.h"
#include "base/whole_file.h"
#include "predict/recorded_json.h"
#include "predict/routed_model_json.h"
#include "train/learning_curve.h"
#include "train/shadow_net.h"
#include "train/training_data.h"
#include "train/weights_file.h"

namespace odmoe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kEvaluateTokens = 1024;  // at once
constexpr int64_t kScaleTokens = 8192;     // that the inputs' scales are measured on
constexpr uint64_t kMaxNote = 64U << 20U;

uint64_t mix(uint64_t a, uint64_t b) {
  // splitmix64's finaliser.
  uint64_t x = a * 0x9E3779B97F4A7C15ULL + b + 1;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

Json to_json(const TrainedEpoch& epoch) {
  return {{"first_source", epoch.first_source},
          {"last_source", epoch.last_source},
          {"epoch", epoch.epoch},
          {"loss", epoch.loss},
          {"recall", epoch.recall}};
}

// What to_json() wrote; nothing when the text is anything else.
std::optional<std::vector<TrainedEpoch>> epochs_from(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return std::nullopt;
  std::vector<TrainedEpoch> epochs;
  for (const Json& entry : json) {
    TrainedEpoch epoch;
    Members members(entry, "epoch");
    members.get("first_source", epoch.first_source, -1, kMaxCollectionLayers);
    members.get("last_source", epoch.last_source, -1, kMaxCollectionLayers);
    members.get("epoch", epoch.epoch, 1, INT32_MAX);
    const Json* recall = members.array("recall", 64);
    if (!members.status.has_value() || !entry.contains("loss") || !entry["loss"].is_number())
      return std::nullopt;
    epoch.loss = entry["loss"].get<double>();
    for (const Json& value : *recall) epoch.recall.push_back(value.is_number() ? value.get<double>() : 0);
    epochs.push_back(std::move(epoch));
  }
  return epochs;
}

std::string to_text(const std::vector<TrainedEpoch>& epochs) {
  Json json = Json::array();
  for (const TrainedEpoch& epoch : epochs) json.push_back(to_json(epoch));
  return json.dump();
}

// Sources that are trained together.
using Group = std::vector<int32_t>;

std::vector<Group> make_groups(const ShadowSpec& spec) {
  std::vector<Group> groups;
  if (spec.embedding) groups.push_back({-1});
  for (int32_t source = 0; spec.n_ahead(source) > 0; ++source) {
    if (spec.shared_trunk && spec.hidden > 0 && source > 0) {
      groups.back().push_back(source);
    } else {
      groups.push_back({source});
    }
  }
  return groups;
}

class SavedTraining {
 public:
  explicit SavedTraining(const fs::path& output) : folder_(output.string() + ".checkpoint") {}

  // Makes the folder, or checks that what is in it was begun with the same options.
  Status open(const std::string& identity) {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) return fail(ErrorKind::kIo, "cannot make {}: {}", folder_.string(), error.message());
    const auto begun = read_whole(folder_ / "options.json", kMaxNote);
    const bool anything = fs::exists(current()) || fs::exists(group(0));
    if (begun.has_value() && anything) {
      if (std::string_view(reinterpret_cast<const char*>(begun->data()), begun->size()) == identity)
        return {};
      return fail(ErrorKind::kUsage,
                  "{} holds a training with other options or data; use the same, or delete it",
                  folder_.string());
    }
    if (!begun.has_value() && begun.error().kind != ErrorKind::kNotFound)
      return std::unexpected(begun.error());
    return replace_whole(folder_ / "options.json", std::as_bytes(std::span(identity)));
  }

  fs::path group(size_t index) const { return folder_ / odmoe::format("group-{}.safetensors", index); }
  fs::path current() const { return folder_ / "current.pt"; }
  const fs::path& folder() const { return folder_; }

  void remove() const {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

 private:
  fs::path folder_;
};

// Trains one group.
class GroupTraining {
 public:
  GroupTraining(const TrainOptions& options, const ShadowSpec& spec, std::span<const RouterWeights> routers,
                const Group& group, size_t group_index, const TrainingData& data, const TrainingData& judge,
                torch::Tensor tokens, torch::Tensor held_out)
      : options_(&options),
        group_(&group),
        seed_(mix(options.seed, group_index)),
        data_(&data),
        judge_(&judge),
        tokens_(std::move(tokens)),
        held_out_(std::move(held_out)),
        net_(make_net(spec, routers)) {
    std::vector<torch::Tensor> parameters;
    for (auto& [name, parameter] : net_.parameters()) parameters.push_back(parameter);
    optimizer_.emplace(parameters,
                       torch::optim::AdamWOptions(options.learning_rate).weight_decay(options.weight_decay));
    n_step_ = 0;
    for (size_t i = 0; i < group.size(); ++i)
      n_step_ += (tokens_.size(0) + options.batch - 1) / options.batch;
    keep_best();
  }

  // `step` gets the share of the epoch that is done; false stops with kInterrupted.
  Result<TrainedEpoch> run_epoch(const std::function<bool(double)>& step) {
    TrainedEpoch result;
    result.first_source = group_->front();
    result.last_source = group_->back();
    result.epoch = ++epoch_;
    torch::manual_seed(
        mix(seed_, static_cast<uint64_t>(epoch_)));  // so that going on needs no generator's state
    std::vector<torch::Tensor> orders;
    for (size_t i = 0; i < group_->size(); ++i)
      orders.push_back(tokens_.index_select(0, torch::randperm(tokens_.size(0))));
    const torch::Tensor batches = torch::randperm(n_step_);
    const int64_t per_source = n_step_ / static_cast<int64_t>(group_->size());
    const auto* order = batches.const_data_ptr<int64_t>();
    double loss_sum = 0;
    for (int64_t s = 0; s < n_step_; ++s) {
      if (!step(static_cast<double>(s) / static_cast<double>(n_step_))) {
        --epoch_;
        return fail(ErrorKind::kInterrupted, "interrupted");
      }
      const auto which = static_cast<size_t>(order[s] / per_source);
      const int64_t first = order[s] % per_source * options_->batch;
      const torch::Tensor batch =
          orders[which].narrow(0, first, std::min<int64_t>(options_->batch, tokens_.size(0) - first));
      set_rate((epoch_ - 1) * n_step_ + s);
      const int32_t source = (*group_)[which];
      const torch::Tensor score = net_.forward(source, data_->input(source, batch), options_->dropout);
      const torch::Tensor loss = torch::binary_cross_entropy_with_logits(score, data_->target(source, batch));
      optimizer_->zero_grad();
      loss.backward();
      optimizer_->step();
      loss_sum += loss.item<double>();
    }
    result.loss = loss_sum / static_cast<double>(n_step_);
    const std::vector<std::vector<double>> recall = evaluate();
    result.recall.resize(recall.front().size());
    for (size_t d = 0; d < result.recall.size(); ++d) {
      int32_t n = 0;
      for (const std::vector<double>& of_source : recall) {
        if (d >= of_source.size()) continue;
        result.recall[d] += of_source[d];
        ++n;
      }
      result.recall[d] /= n;
    }
    double mean = 0;
    for (const double value : result.recall) mean += value / static_cast<double>(result.recall.size());
    if (mean > best_mean_) {
      best_mean_ = mean;
      best_recall_ = recall;
      since_best_ = 0;
      keep_best();
    } else {
      ++since_best_;
    }
    history_.push_back(result);
    return result;
  }

  bool finished() const { return epoch_ >= options_->epochs || since_best_ >= options_->patience; }
  int32_t epoch() const { return epoch_; }
  const std::vector<TrainedEpoch>& history() const { return history_; }

  Status save(const SavedTraining& saved, size_t group_index) {
    try {
      torch::serialize::OutputArchive archive;
      for (const auto& [name, parameter] : net_.parameters())
        archive.write("now." + name, parameter.detach());
      for (const auto& [name, parameter] : best_) archive.write("best." + name, parameter);
      torch::serialize::OutputArchive optimizer;
      optimizer_->save(optimizer);
      archive.write("optimizer", optimizer);
      const Json note = {{"group", group_index},        {"epoch", epoch_},
                         {"since_best", since_best_},   {"best_mean", best_mean_},
                         {"best_recall", best_recall_}, {"history", to_text(history_)}};
      archive.write("note", c10::IValue(note.dump()));
      const fs::path draft = saved.current().string() + ".tmp";
      archive.save_to(draft.string());
      fs::rename(draft, saved.current());
    } catch (const std::exception&) {  // c10::Error and filesystem_error
      return fail(ErrorKind::kIo, "cannot write {}; is the drive full?", saved.current().string());
    }
    return {};
  }

  // Goes on from what was saved of this group, if anything was.
  Status restore(const SavedTraining& saved, size_t group_index) {
    if (!fs::exists(saved.current())) return {};
    try {
      torch::serialize::InputArchive archive;
      archive.load_from(saved.current().string());
      c10::IValue note_value;
      archive.read("note", note_value);
      const Json note = Json::parse(note_value.toStringRef());
      if (note.at("group").get<size_t>() != group_index) return {};
      const torch::NoGradGuard no_gradient;
      for (auto& [name, parameter] : net_.parameters()) {
        torch::Tensor value;
        archive.read("now." + name, value);
        parameter.copy_(value);
        archive.read("best." + name, best_[name]);
      }
      torch::serialize::InputArchive optimizer;
      archive.read("optimizer", optimizer);
      optimizer_->load(optimizer);
      epoch_ = note.at("epoch").get<int32_t>();
      since_best_ = note.at("since_best").get<int32_t>();
      best_mean_ = note.at("best_mean").get<double>();
      best_recall_ = note.at("best_recall").get<std::vector<std::vector<double>>>();
      history_ = epochs_from(note.at("history").get<std::string>()).value();
    } catch (const std::exception&) {
      return fail(ErrorKind::kBadFile, "{} is damaged; delete {} to begin anew", saved.current().string(),
                  saved.folder().string());
    }
    return {};
  }

  // The best parameters as the file has them, and their recall by source.
  std::map<std::string, torch::Tensor> weights() {
    const torch::NoGradGuard no_gradient;
    for (auto& [name, parameter] : net_.parameters()) parameter.copy_(best_.at(name));
    return net_.export_weights();
  }
  const std::vector<std::vector<double>>& best_recall() const { return best_recall_; }

 private:
  ShadowNet make_net(const ShadowSpec& spec, std::span<const RouterWeights> routers) {
    torch::manual_seed(seed_);
    const torch::Tensor some = tokens_.index_select(
        0, torch::randperm(tokens_.size(0)).narrow(0, 0, std::min(kScaleTokens, tokens_.size(0))));
    std::vector<torch::Tensor> scales;
    for (const int32_t source : *group_) {
      const torch::Tensor deviation = data_->input(source, some).std(0, false);
      // What hardly varies in a sample must not be blown up to what it never was.
      scales.push_back(1 / deviation.clamp_min(0.05 * deviation.mean().item<double>() + 1e-6));
    }
    ShadowNet net(spec, routers, *group_, scales);
    for (const int32_t source : *group_) {
      net.calibrate(source, data_->input(source, some), data_->target(source, some).mean(0));
    }
    return net;
  }

  void set_rate(int64_t step) {
    const double done = static_cast<double>(step + 1) / static_cast<double>(n_step_ * options_->epochs);
    constexpr double kWarmUp = 0.05;
    const double share = done < kWarmUp
                             ? done / kWarmUp
                             : 0.5 * (1 + std::cos(std::numbers::pi * (done - kWarmUp) / (1 - kWarmUp)));
    for (auto& group : optimizer_->param_groups()) group.options().set_lr(options_->learning_rate * share);
  }

  std::vector<std::vector<double>> evaluate() const {
    const torch::NoGradGuard no_gradient;
    std::vector<std::vector<double>> recall;
    for (const int32_t source : *group_) {
      torch::Tensor found;
      int64_t n_used = 0;
      for (int64_t first = 0; first < held_out_.size(0); first += kEvaluateTokens) {
        const torch::Tensor tokens =
            held_out_.narrow(0, first, std::min(kEvaluateTokens, held_out_.size(0) - first));
        const torch::Tensor target = judge_->target(source, tokens);
        n_used = static_cast<int64_t>(std::lround(target[0][0].sum().item<double>()));
        const torch::Tensor best =
            std::get<1>(net_.forward(source, judge_->input(source, tokens)).topk(n_used, -1));
        const torch::Tensor hits = target.gather(-1, best).sum(torch::IntArrayRef({0, 2})).to(torch::kDouble);
        found = found.defined() ? found + hits : hits;
      }
      found /= static_cast<double>(held_out_.size(0) * n_used);
      const auto* values = found.const_data_ptr<double>();
      recall.emplace_back(values, values + found.size(0));
    }
    return recall;
  }

  void keep_best() {
    for (const auto& [name, parameter] : net_.parameters()) best_[name] = parameter.detach().clone();
  }

  const TrainOptions* options_;
  const Group* group_;
  uint64_t seed_;
  const TrainingData *data_, *judge_;
  torch::Tensor tokens_, held_out_;
  ShadowNet net_;
  std::optional<torch::optim::AdamW> optimizer_;
  int64_t n_step_ = 0;  // of an epoch
  int32_t epoch_ = 0, since_best_ = 0;
  double best_mean_ = -1;
  std::vector<std::vector<double>> best_recall_;
  std::map<std::string, torch::Tensor> best_;
  std::vector<TrainedEpoch> history_;
};

// What must be the same for a saved training to be taken up again.
std::string identity_of(const TrainOptions& options, const Collection& collection, const Collection& judge,
                        const ShadowSpec& spec) {
  Json inputs = Json::array();
  for (const ShadowInput input : spec.inputs) inputs.push_back(shadow_input_name(input));
  const Json json = {{"fingerprint", collection.model.fingerprint},
                     {"tokens", collection.n_token},
                     {"held_out_tokens", options.held_out.empty() ? 0 : judge.n_token},
                     {"inputs", inputs},
                     {"lookahead", spec.lookahead},
                     {"hidden", spec.hidden},
                     {"depth", spec.depth},
                     {"shared", spec.shared_trunk},
                     {"direct", spec.direct},
                     {"rank", spec.direct_rank},
                     {"embedding", spec.embedding},
                     {"epochs", options.epochs},
                     {"patience", options.patience},
                     {"batch", options.batch},
                     {"learning_rate", options.learning_rate},
                     {"weight_decay", options.weight_decay},
                     {"dropout", options.dropout},
                     {"seed", options.seed}};
  return json.dump(1);
}

Status check_data(const TrainOptions& options, const Collection& collection, const Collection& judge) {
  const std::string folder = options.data.string();
  const auto lacks = [&](std::string_view what) -> Status {
    return fail(ErrorKind::kUsage, "{} holds no {}; collect it, or train without", folder, what);
  };
  if (collection.shards.empty()) return fail(ErrorKind::kUsage, "{} holds no whole shard yet", folder);
  for (const Collection* data : {&collection, &judge}) {
    if (!data->states.router_input && std::ranges::contains(options.inputs, ShadowInput::kRouter)) {
      return lacks("router inputs");
    }
    if (!data->states.attention_input && std::ranges::contains(options.inputs, ShadowInput::kAttention)) {
      return lacks("states before attention (--input router does not need them)");
    }
    if (!data->states.embedding && options.embedding)
      return lacks("embeddings (--no-embedding does not need them)");
  }
  if (collection.model.layers.size() < 2) {
    return fail(ErrorKind::kUsage, "{}: a model with one layer of experts has no later layer to predict",
                folder);
  }
  if (!(judge.model == collection.model)) {
    return fail(ErrorKind::kUsage, "{} was collected from another model than {}", options.held_out.string(),
                folder);
  }
  return {};
}

class Training {
 public:
  Training(const TrainOptions& options, const std::function<bool(const TrainProgress&)>& progress)
      : options_(&options), progress_(&progress), saved_(options.output) {}

  Result<TrainResult> run() {
    ODMOE_RETURN_IF_ERROR(options_->validate());
    ODMOE_ASSIGN_OR_RETURN(collection_, read_collection(options_->data));
    judge_folder_ = options_->held_out.empty() ? options_->data : options_->held_out;
    ODMOE_ASSIGN_OR_RETURN(judge_collection_, read_collection(judge_folder_));
    ODMOE_RETURN_IF_ERROR(check_data(*options_, collection_, judge_collection_));
    ODMOE_ASSIGN_OR_RETURN(routers_, read_routers(options_->data, collection_));
    ShadowSpec& spec = result_.spec;
    spec.model = collection_.model;
    spec.lookahead = options_->lookahead;
    spec.inputs = options_->inputs;
    spec.hidden = options_->hidden;
    spec.depth = options_->depth;
    spec.shared_trunk = options_->shared_trunk;
    spec.direct = options_->direct;
    spec.direct_rank = options_->direct ? options_->direct_rank : 0;
    spec.embedding = options_->embedding;
    spec.tool = collection_.tool;
    spec.data = options_->data.filename().empty() ? options_->data.parent_path().filename().string()
                                                  : options_->data.filename().string();
    spec.seed = options_->seed;
    groups_ = make_groups(spec);
    ODMOE_RETURN_IF_ERROR(saved_.open(identity_of(*options_, collection_, judge_collection_, spec)));
    const int usable = std::min(torch::get_num_threads(), usable_processors());
    torch::set_num_threads(options_->threads > 0 ? options_->threads : usable);
    for (size_t g = 0; g < groups_.size(); ++g) ODMOE_RETURN_IF_ERROR(train_group(g));
    ODMOE_RETURN_IF_ERROR(write());
    saved_.remove();
    return std::move(result_);
  }

 private:
  bool report(size_t group, double epochs_done, const TrainedEpoch* last) const {
    if (!*progress_) return true;
    const double share = epochs_done / options_->epochs;
    return (*progress_)({.fraction = (static_cast<double>(group) + std::min(share, 1.0)) /
                                     static_cast<double>(groups_.size()),
                         .last = last,
                         .group = group,
                         .n_group = groups_.size()});
  }

  void note(const std::vector<TrainedEpoch>& epochs, const std::vector<std::vector<double>>& recall) {
    result_.epochs.insert(result_.epochs.end(), epochs.begin(), epochs.end());
    result_.source_recall.insert(result_.source_recall.end(), recall.begin(), recall.end());
  }

  // Whether it was done before an interruption.
  Result<bool> take_finished(size_t g) {
    if (!fs::exists(saved_.group(g))) return false;
    ODMOE_ASSIGN_OR_RETURN(TensorFile file, read_tensors(saved_.group(g)));
    const auto epochs = epochs_from(file.metadata["epochs"]);
    const Json recall = Json::parse(file.metadata["recall"], nullptr, false);
    if (!epochs || !recall.is_array()) {
      return fail(ErrorKind::kBadFile, "{} is damaged; delete {} to begin anew", saved_.group(g).string(),
                  saved_.folder().string());
    }
    note(*epochs, recall.get<std::vector<std::vector<double>>>());
    weights_.merge(file.tensors);
    return true;
  }

  // Reads the states of as many groups from `g` on as may be held at once.
  Status load_data(size_t g) {
    if (g < loaded_end_) return {};
    std::vector<int32_t> sources;
    uint64_t bytes = 0;
    for (loaded_end_ = g; loaded_end_ < groups_.size(); ++loaded_end_) {
      for (const int32_t source : groups_[loaded_end_]) {
        bytes += TrainingData::bytes(collection_, result_.spec, source);
        if (!options_->held_out.empty())
          bytes += TrainingData::bytes(judge_collection_, result_.spec, source);
      }
      if (loaded_end_ > g && bytes > options_->data_bytes) break;
      sources.insert(sources.end(), groups_[loaded_end_].begin(), groups_[loaded_end_].end());
    }
    data_.reset();
    judge_.reset();
    const auto reading = [&](size_t, size_t) { return report(g, 0, last_epoch()); };
    ODMOE_ASSIGN_OR_RETURN(data_,
                           TrainingData::load(options_->data, collection_, result_.spec, sources, reading));
    if (options_->held_out.empty()) {
      tokens_ = data_->others();
      held_out_ = data_->held_out();
    } else {
      ODMOE_ASSIGN_OR_RETURN(
          judge_, TrainingData::load(judge_folder_, judge_collection_, result_.spec, sources, reading));
      tokens_ = data_->all();
      held_out_ = judge_->all();
    }
    if (tokens_.size(0) == 0 || held_out_.size(0) == 0) {
      return fail(ErrorKind::kUsage, "{} has {} documents, too few to set one of ten aside: collect more",
                  options_->data.string(), collection_.n_document);
    }
    result_.spec.n_token = tokens_.size(0);
    return {};
  }

  const TrainedEpoch* last_epoch() const { return result_.epochs.empty() ? nullptr : &result_.epochs.back(); }

  Status train_group(size_t g) {
    ODMOE_ASSIGN_OR_RETURN(const bool finished, take_finished(g));
    if (finished) return {};
    ODMOE_RETURN_IF_ERROR(load_data(g));
    const TrainingData& judge = judge_ ? *judge_ : *data_;
    GroupTraining training(*options_, result_.spec, routers_, groups_[g], g, *data_, judge, tokens_,
                           held_out_);
    ODMOE_RETURN_IF_ERROR(training.restore(saved_, g));
    while (!training.finished()) {
      const TrainedEpoch* last = training.history().empty() ? last_epoch() : &training.history().back();
      ODMOE_ASSIGN_OR_RETURN(const TrainedEpoch epoch, training.run_epoch([&](double share) {
        return report(g, training.epoch() - 1 + share, last);
      }));
      ODMOE_RETURN_IF_ERROR(training.save(saved_, g));
    }
    note(training.history(), training.best_recall());
    std::map<std::string, torch::Tensor> weights = training.weights();
    const Json recall = training.best_recall();
    ODMOE_RETURN_IF_ERROR(write_tensors(saved_.group(g), {weights.begin(), weights.end()},
                                        {{"epochs", to_text(training.history())}, {"recall", recall.dump()}},
                                        false));
    weights_.merge(weights);
    return {};
  }

  Status write() {
    ShadowSpec& spec = result_.spec;
    if (spec.n_token == 0) spec.n_token = collection_.n_token;  // all groups were done before
    const size_t first = spec.embedding ? 1 : 0;
    for (int32_t d = 0; d < spec.n_ahead(0); ++d) {
      double sum = 0;
      int32_t n = 0;
      for (size_t i = first; i < result_.source_recall.size(); ++i) {
        if (std::cmp_greater_equal(d, result_.source_recall[i].size())) continue;
        sum += result_.source_recall[i][static_cast<size_t>(d)];
        ++n;
      }
      spec.recall.push_back(sum / n);
    }
    std::vector<std::pair<std::string, torch::Tensor>> tensors;
    for (const ShadowTensor& tensor : shadow_tensors(spec))
      tensors.emplace_back(tensor.name, weights_.at(tensor.name));
    ODMOE_RETURN_IF_ERROR(write_tensors(options_->output, tensors, shadow_metadata(spec), options_->half));
    fs::path picture = options_->output;
    picture.replace_extension(".svg");
    const std::string svg = learning_curve(result_.epochs);
    return replace_whole(picture, std::as_bytes(std::span(svg)));
  }

  const TrainOptions* options_;
  const std::function<bool(const TrainProgress&)>* progress_;
  SavedTraining saved_;
  Collection collection_, judge_collection_;
  fs::path judge_folder_;
  std::vector<RouterWeights> routers_;
  std::vector<Group> groups_;
  size_t loaded_end_ = 0;  // groups below it have their states in data_
  std::optional<TrainingData> data_, judge_;
  torch::Tensor tokens_, held_out_;
  std::map<std::string, torch::Tensor> weights_;
  TrainResult result_;
};

}  // namespace

Result<TrainResult> train(const TrainOptions& options,
                          const std::function<bool(const TrainProgress&)>& progress) {
  return Training(options, progress).run();
}

}  // namespace odmoe
