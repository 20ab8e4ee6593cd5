#include "predict/shadow_model.h"

#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "odmoe/format.h"

namespace odmoe {
namespace {

// Where a tensor of the file goes: the plan's indices by name.
class Planner {
 public:
  explicit Planner(const SafetensorsFile& file) : file_(&file) {}

  int matrix(const std::string& name) { return place(matrices_, name, true); }
  int vector(const std::string& name) { return place(vectors_, name, false); }
  ShadowPlan& plan() { return plan_; }
  std::span<const SafetensorsTensor* const> matrices() const { return matrices_; }
  std::span<const SafetensorsTensor* const> vectors() const { return vectors_; }

 private:
  // The same number for a name that comes again.  read_shadow_spec() has seen that it is there.
  int place(std::vector<const SafetensorsTensor*>& list, const std::string& name, bool is_matrix) {
    const SafetensorsTensor* tensor = file_->find(name);
    const auto known = std::ranges::find(list, tensor);
    if (known != list.end()) return static_cast<int>(known - list.begin());
    list.push_back(tensor);
    if (is_matrix) {
      plan_.matrices.push_back(
          {static_cast<int32_t>(tensor->shape[1]), static_cast<int32_t>(tensor->shape[0])});
    } else {
      plan_.vectors.push_back(static_cast<int32_t>(tensor->shape[0]));
    }
    return static_cast<int>(list.size()) - 1;
  }

  const SafetensorsFile* file_;
  ShadowPlan plan_;
  std::vector<const SafetensorsTensor*> matrices_, vectors_;
};

ShadowPlan::Layer plan_source(const ShadowSpec& spec, int32_t source, Planner& planner) {
  const std::string prefix = source < 0 ? "embedding." : odmoe::format("layer.{}.", source);
  const bool shared = spec.shared_trunk && source >= 0;
  ShadowPlan::Layer layer{.n_in = static_cast<int32_t>(spec.n_input(source)),
                          .n_out = spec.n_ahead(source) * spec.model.n_expert};
  if (spec.hidden > 0) {
    if (shared) layer.input_scale = planner.vector(prefix + "input_scale");
    for (int32_t k = 1; k <= spec.depth; ++k) {
      const std::string trunk = odmoe::format("{}trunk.{}.", shared ? "shared." : prefix, k);
      const std::string bias = shared && k == 1 ? prefix + "trunk.1.bias" : trunk + "bias";
      layer.blocks.push_back({.matrix = planner.matrix(trunk + "weight"),
                              .bias = planner.vector(bias),
                              .norm_weight = planner.vector(trunk + "norm.weight"),
                              .norm_bias = planner.vector(trunk + "norm.bias")});
    }
    layer.heads.push_back({.matrix = planner.matrix(prefix + "heads.weight")});
  }
  layer.bias = planner.vector(prefix + "heads.bias");
  if (spec.direct && spec.direct_rank == 0) {
    layer.heads.push_back({.matrix = planner.matrix(prefix + "direct.weight"), .from_input = true});
  } else if (spec.direct) {
    layer.heads.push_back({.matrix = planner.matrix(prefix + "direct_down.weight"),
                           .then = planner.matrix(prefix + "direct_up.weight"),
                           .from_input = true});
  }
  return layer;
}

// Reads tensors one by one, so that no more than one is in memory twice.
class TensorReader {
 public:
  explicit TensorReader(const std::filesystem::path& path) : path_(path), file_(path, std::ios::binary) {}

  Result<std::span<const float>> read(const SafetensorsTensor& tensor) {
    bytes_.resize(tensor.bytes);
    file_.seekg(static_cast<std::streamoff>(tensor.offset));
    file_.read(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
    if (!file_) return fail(ErrorKind::kIo, "cannot read tensor {} of {}", tensor.name, path_.string());
    const bool half = tensor.dtype == "F16";
    values_.resize(bytes_.size() / (half ? 2 : 4));
    if (half) {
      ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(bytes_.data()), values_.data(),
                            static_cast<int64_t>(values_.size()));
    } else {
      std::memcpy(values_.data(), bytes_.data(), bytes_.size());
    }
    if (!std::ranges::all_of(values_, [](float v) { return std::isfinite(v); })) {
      return fail(ErrorKind::kBadFile, "{}: tensor {} holds a value that is not a number; train it again",
                  path_.string(), tensor.name);
    }
    return values_;
  }

 private:
  std::filesystem::path path_;
  std::ifstream file_;
  std::vector<char> bytes_;
  std::vector<float> values_;
};

void divide_by_rms(std::span<const float> state, std::span<float> out) {
  double squares = 0;
  for (const float v : state) squares += static_cast<double>(v) * v;
  const double mean = squares / static_cast<double>(state.size());
  const auto scale = static_cast<float>(1 / std::sqrt(mean + kShadowStateEps));
  for (size_t i = 0; i < state.size(); ++i) out[i] = state[i] * scale;
}

}  // namespace

ShadowModel::ShadowModel(ShadowSpec spec) : spec_(std::move(spec)), previous_(spec_.n_layer()) {
  for (std::vector<int32_t>& experts : previous_) {
    experts.reserve(static_cast<size_t>(spec_.model.n_expert_used));
  }
}

Result<std::unique_ptr<ShadowModel>> ShadowModel::load(const std::filesystem::path& path,
                                                       const Options& options) {
  ODMOE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::open(path));
  ODMOE_ASSIGN_OR_RETURN(ShadowSpec spec, read_shadow_spec(file));
  std::unique_ptr<ShadowModel> model(new ShadowModel(std::move(spec)));
  Planner planner(file);
  planner.plan().norm_eps = kShadowNormEps;
  for (int32_t source = model->spec_.embedding ? -1 : 0; model->spec_.n_ahead(source) > 0; ++source) {
    // One after the other: plan_source adds to the plan that the layer goes into.
    ShadowPlan::Layer layer = plan_source(model->spec_, source, planner);
    planner.plan().layers.push_back(std::move(layer));
  }
  ODMOE_ASSIGN_OR_RETURN(
      model->network_,
      ShadowNetwork::create(planner.plan(), {.type = options.type.value_or(suitable_type(planner.plan())),
                                             .repack = options.repack}));
  TensorReader reader(path);
  for (size_t i = 0; i < planner.matrices().size(); ++i) {
    ODMOE_ASSIGN_OR_RETURN(const auto values, reader.read(*planner.matrices()[i]));
    model->network_->set_matrix(i, values);
  }
  for (size_t i = 0; i < planner.vectors().size(); ++i) {
    ODMOE_ASSIGN_OR_RETURN(const auto values, reader.read(*planner.vectors()[i]));
    model->network_->set_vector(i, values);
  }
  return model;
}

PredictorShape ShadowModel::shape() const {
  return {.layers = {spec_.model.layers.begin(), spec_.model.layers.end()},
          .n_embd = spec_.model.n_embd,
          .n_expert = spec_.model.n_expert,
          .n_expert_used = spec_.model.n_expert_used,
          .lookahead = spec_.lookahead};
}

Predictor::Wants ShadowModel::wants() const {
  return {.router_input = std::ranges::contains(spec_.inputs, ShadowInput::kRouter),
          .attention_input = std::ranges::contains(spec_.inputs, ShadowInput::kAttention),
          .embedding = spec_.embedding};
}

uint64_t ShadowModel::bytes_per_prediction() const {
  uint64_t most = 0;
  for (int32_t source = spec_.embedding ? -1 : 0; spec_.n_ahead(source) > 0; ++source) {
    most = std::max(most, network_->bytes_read(part(source)));
  }
  return most;
}

void ShadowModel::begin_sequence() {
  for (std::vector<int32_t>& experts : previous_) experts.clear();
}

Result<int32_t> ShadowModel::compute(int32_t source, std::span<float> scores) {
  ODMOE_RETURN_IF_ERROR(network_->compute(part(source)));
  std::ranges::copy(network_->output(part(source)), scores.begin());
  return spec_.n_ahead(source);
}

Result<int32_t> ShadowModel::begin_token(std::span<const float> embedding, std::span<float> scores) {
  if (!spec_.embedding || spec_.n_ahead(-1) == 0) return 0;
  divide_by_rms(embedding, network_->input(part(-1)));
  return compute(-1, scores);
}

Result<int32_t> ShadowModel::predict(const RoutingState& state, std::span<float> scores) {
  const auto source = static_cast<int32_t>(state.layer);
  if (spec_.n_ahead(source) == 0) return 0;
  const auto n_embd = static_cast<size_t>(spec_.model.n_embd);
  const auto n_expert = static_cast<size_t>(spec_.model.n_expert);
  std::span<float> rest = network_->input(part(source));
  const auto take = [&](size_t n) {
    const std::span<float> taken = rest.first(n);
    rest = rest.subspan(n);
    return taken;
  };
  const auto mark = [](std::span<const int32_t> experts, std::span<float> hot) {
    std::ranges::fill(hot, 0.0F);
    for (const int32_t expert : experts) hot[static_cast<size_t>(expert)] = 1;
  };
  for (const ShadowInput input : spec_.inputs) {
    switch (input) {
      case ShadowInput::kRouter:
        std::ranges::copy(state.router_input, take(n_embd).begin());
        break;
      case ShadowInput::kAttention:
        divide_by_rms(state.attention_input, take(n_embd));
        break;
      case ShadowInput::kExperts:
        mark(state.experts, take(n_expert));
        break;
      case ShadowInput::kPrevious:
        for (int32_t ahead = 1; ahead <= spec_.n_ahead(source); ++ahead) {
          mark(previous_[state.layer + static_cast<size_t>(ahead)], take(n_expert));
        }
        break;
    }
  }
  return compute(source, scores);
}

void ShadowModel::learn(const RoutingState& state) {
  previous_[state.layer].assign(state.experts.begin(), state.experts.end());
}

}  // namespace odmoe
