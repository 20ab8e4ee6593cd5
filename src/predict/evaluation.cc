#include "predict/evaluation.h"

#include <ggml.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "predict/recorded_routers.h"

namespace odmoe {
namespace {

void to_floats(std::span<const uint16_t> half, std::vector<float>& values) {
  values.resize(half.size());
  ggml_fp16_to_fp32_row(half.data(), values.data(), static_cast<int64_t>(half.size()));
}

class Evaluator {
 public:
  Evaluator(const Collection& collection, std::vector<Contestant> contestants,
            const EvaluationOptions& options)
      : model_(&collection.model),
        lookahead_(options.lookahead),
        n_layer_(model_->layers.size()),
        n_expert_(static_cast<size_t>(model_->n_expert)),
        n_used_(static_cast<size_t>(model_->n_expert_used)),
        n_embd_(static_cast<size_t>(model_->n_embd)),
        contestants_(std::move(contestants)),
        seconds_(contestants_.size()),
        calls_(contestants_.size()),
        scores_(n_expert_ * static_cast<size_t>(kMaxRows)),
        experts_(n_layer_ * n_used_) {
    for (const Contestant& contestant : contestants_) {
      result_.scores.push_back(
          {.name = contestant.name,
           .calibrated = contestant.predictor->calibrated(),
           .bytes = contestant.predictor->bytes(),
           .metrics = PredictionMetrics(n_layer_, lookahead_, model_->n_expert, model_->n_expert_used)});
    }
  }

  void add_control(std::vector<RouterWeights> routers) {
    routers_.emplace(*model_, std::move(routers));
    result_.control.emplace(n_layer_, 1, model_->n_expert, model_->n_expert_used);
  }

  Status token(const RoutingShard& shard, int64_t index) {
    const auto t = static_cast<size_t>(index);
    if (shard.position[t] == 0) {
      ++result_.n_document;
      for (const Contestant& contestant : contestants_) contestant.predictor->begin_sequence();
    }
    ++result_.n_token;
    const size_t n_pair = n_layer_ * n_used_;
    for (size_t i = 0; i < n_pair; ++i) experts_[i] = shard.experts[t * n_pair + i];
    to_floats(std::span(shard.weights).subspan(t * n_pair, n_pair), weights_);
    if (!shard.embedding.empty()) {
      to_floats(std::span(shard.embedding).subspan(t * n_embd_, n_embd_), embedding_);
    }
    for (size_t i = 0; i < contestants_.size(); ++i) {
      ODMOE_RETURN_IF_ERROR(
          judge(i, 0, [&](Predictor& predictor) { return predictor.begin_token(embedding_, scores_); }));
    }
    for (size_t layer = 0; layer < n_layer_; ++layer) {
      const auto state_of = [&](const std::vector<uint16_t>& states, std::vector<float>& values) {
        if (!states.empty()) {
          to_floats(std::span(states).subspan((t * n_layer_ + layer) * n_embd_, n_embd_), values);
        }
      };
      state_of(shard.router_input, router_input_);
      state_of(shard.attention_input, attention_input_);
      const RoutingState state{.layer = layer,
                               .router_input = router_input_,
                               .attention_input = attention_input_,
                               .experts = experts_of(layer),
                               .weights = weights_of(layer)};
      if (routers_) {
        const std::span<float> marks = std::span(scores_).first(n_expert_);
        routers_->mark(layer, router_input_, layer, marks);
        result_.control->add(layer, 1, marks, false, state.experts, state.weights);
      }
      for (size_t i = 0; i < contestants_.size(); ++i) {
        contestants_[i].predictor->learn(state);
        if (layer + 1 == n_layer_) continue;
        ODMOE_RETURN_IF_ERROR(
            judge(i, layer + 1, [&](Predictor& predictor) { return predictor.predict(state, scores_); }));
      }
    }
    return {};
  }

  EvaluationResult take() {
    for (size_t i = 0; i < contestants_.size(); ++i) {
      result_.scores[i].mean_us = calls_[i] > 0 ? seconds_[i] * 1e6 / static_cast<double>(calls_[i]) : 0;
    }
    return std::move(result_);
  }

 private:
  static constexpr int32_t kMaxRows = 4;  // kMaxLookahead

  std::span<const int32_t> experts_of(size_t layer) const {
    return std::span(experts_).subspan(layer * n_used_, n_used_);
  }
  std::span<const float> weights_of(size_t layer) const {
    return std::span(weights_).subspan(layer * n_used_, n_used_);
  }

  // What the i-th says of the layers from `first` on, against what they chose.
  template <typename Ask>
  Status judge(size_t i, size_t first, const Ask& ask) {
    const auto begin = std::chrono::steady_clock::now();
    const Result<int32_t> filled = ask(*contestants_[i].predictor);
    seconds_[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (!filled.has_value()) return std::unexpected(filled.error());
    if (*filled > 0) ++calls_[i];
    const auto n_row = static_cast<size_t>(std::min(*filled, lookahead_));
    for (size_t row = 0; row < n_row && first + row < n_layer_; ++row) {
      const size_t layer = first + row;
      result_.scores[i].metrics.add(layer, static_cast<int32_t>(row) + 1,
                                    std::span<const float>(scores_).subspan(row * n_expert_, n_expert_),
                                    result_.scores[i].calibrated, experts_of(layer), weights_of(layer));
    }
    return {};
  }

  const RoutedModel* model_;
  int32_t lookahead_;
  size_t n_layer_, n_expert_, n_used_, n_embd_;
  std::vector<Contestant> contestants_;
  std::optional<RecordedRouters> routers_;
  EvaluationResult result_;
  std::vector<double> seconds_;
  std::vector<uint64_t> calls_;
  std::vector<float> scores_;     // [n_expert, kMaxRows]
  std::vector<int32_t> experts_;  // of the token, [n_expert_used, n_layer]
  std::vector<float> weights_, embedding_, router_input_, attention_input_;
};

}  // namespace

PredictorShape predictor_shape(const RoutedModel& model, int32_t lookahead) {
  return {.layers = {model.layers.begin(), model.layers.end()},
          .n_embd = model.n_embd,
          .n_expert = model.n_expert,
          .n_expert_used = model.n_expert_used,
          .lookahead = lookahead};
}

Result<EvaluationResult> evaluate_predictors(const std::filesystem::path& folder,
                                             const Collection& collection,
                                             std::vector<Contestant> contestants,
                                             const EvaluationOptions& options) {
  for (const Contestant& contestant : contestants) {
    const Predictor::Wants wants = contestant.predictor->wants();
    const char* missing = wants.router_input && !collection.states.router_input         ? "router inputs"
                          : wants.attention_input && !collection.states.attention_input ? "attention inputs"
                          : wants.embedding && !collection.states.embedding             ? "embeddings"
                                                                                        : nullptr;
    if (missing != nullptr) {
      return fail(ErrorKind::kUsage, "{} needs {}, which {} does not have; collect them, too",
                  contestant.name, missing, folder.string());
    }
  }
  Evaluator evaluator(collection, std::move(contestants), options);
  if (collection.states.router_input) {
    ODMOE_ASSIGN_OR_RETURN(auto routers, read_routers(folder, collection));
    evaluator.add_control(std::move(routers));
  }
  const int64_t total = std::max<int64_t>(collection.n_token, 1);
  int64_t seen = 0, used = 0;
  bool stopped = false;
  for (size_t i = 0; i < collection.shards.size() && !stopped; ++i) {
    ODMOE_ASSIGN_OR_RETURN(const RoutingShard shard, read_shard(folder, collection, i));
    for (int64_t t = 0; t < shard.n_token && !stopped; ++t) {
      if (++seen % 16 == 0 && options.progress) {
        stopped = !options.progress(static_cast<double>(seen) / static_cast<double>(total));
      }
      if (options.held_out_only && !is_held_out(shard.document[static_cast<size_t>(t)])) continue;
      if (options.max_tokens > 0 && used == options.max_tokens) break;
      ++used;
      ODMOE_RETURN_IF_ERROR(evaluator.token(shard, t));
    }
  }
  if (used == 0 && !stopped) {
    return fail(ErrorKind::kUsage, "{} has no document that was held out of training; collect more tokens",
                folder.string());
  }
  EvaluationResult result = evaluator.take();
  result.interrupted = stopped;
  return result;
}

}  // namespace odmoe
