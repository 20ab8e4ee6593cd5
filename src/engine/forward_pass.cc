#include "engine/forward_pass.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <numeric>
#include <utility>

#include "engine/interrupt.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

std::vector<int32_t> experts_per_layer(const ModelShape& shape) {
  std::vector<int32_t> n_expert;
  n_expert.reserve(static_cast<size_t>(shape.n_layer));
  for (int layer = 0; layer < shape.n_layer; ++layer) {
    n_expert.push_back(shape.has_experts(layer) ? shape.router.n_expert : 0);
  }
  return n_expert;
}

int64_t max_tokens(const ForwardPass::Options& options) {
  return std::max<int64_t>(options.dense.chunk,
                           options.dense.lanes + options.dense.places * options.dense.chunk);
}

ExpertColumns expert_columns(const EvaluationColumns& a) {
  return {.input = (a.expert_input ? a.expert_input : a.ffn_input).host(),
          .output = a.expert_output.host(),
          .weight = a.expert_weight.host()};
}

ExpertColumns columns_on_device(const EvaluationColumns& a) {
  return {.input = (a.expert_input ? a.expert_input : a.ffn_input).device(),
          .output = a.expert_output.device(),
          .weight = a.expert_weight.host()};
}

Status tell(std::span<RoutingSink* const> sinks, const RoutingEvent& event) {
  for (RoutingSink* sink : sinks) ODMOE_RETURN_IF_ERROR(sink->on_routing(event));
  return {};
}

}  // namespace

ForwardPass::ForwardPass(const Decoder& decoder, DensePass& dense, const Options& options)
    : decoder_(&decoder),
      dense_(&dense),
      options_(options),
      owners_(decoder.expert_layers(), decoder.shape().router.n_expert),
      router_(decoder.shape().router),
      demand_(decoder.shape().router.n_expert, decoder.shape().router.n_expert_used, max_tokens(options)),
      routing_(experts_per_layer(decoder.shape())),
      observer_(decoder, options.dense.chunk) {
  const auto n_token = static_cast<size_t>(max_tokens(options));
  const RouterOptions& router = decoder.shape().router;
  columns_.resize(n_token);
  wanted_.reserve(static_cast<size_t>(decoder_->shape().router.n_expert));
  chosen_.resize(n_token * static_cast<size_t>(router.n_expert_used));
  chosen_weight_.resize(chosen_.size());
  probabilities_.resize(n_token * static_cast<size_t>(router.n_expert));
  spans_.reserve(static_cast<size_t>(options.dense.lanes + options.dense.places));
  chunks_.reserve(static_cast<size_t>(options.dense.places));
  for (int32_t i = 0; i < options.dense.lanes; ++i) {
    lanes_.push_back(columns_on_device(dense.memory().lane(i)));
  }
  tell_first(routing_);
  later_sinks_.push_back(&observer_);
}

uint64_t ForwardPass::buffer_bytes() const {
  const uint64_t foresight = foresight_ ? foresight_->foresight().predictor().bytes() : 0;
  const uint64_t batch_foresight = batch_foresight_ ? batch_foresight_->foresight().bytes() : 0;
  return probabilities_.size() * sizeof(float) + foresight + batch_foresight;
}

void ForwardPass::add_site(ExpertSite& site, const ExpertOwners::Owns& owns) {
  sites_.push_back({.site = &site});
  owners_.add_site(owns);
}

void ForwardPass::change_owners(std::span<const ExpertOwners::Owns> owns) {
  hints_ ? hints_->change(owns) : owners_.change(owns);
}

HintSink* ForwardPass::hint_sink() {
  if (sites_.size() < 2) return nullptr;
  std::vector<ExpertSite*> sites;
  for (const Site& one : sites_) sites.push_back(one.site);
  hints_ = std::make_unique<SiteHints>(decoder_->expert_layers(), owners_, std::move(sites));
  return hints_.get();
}

void ForwardPass::use_foresight(std::unique_ptr<Foresight> foresight) {
  foresight_ = std::make_unique<ForesightSink>(std::move(foresight), *decoder_, *options_.clock);
  later_sinks_.push_back(foresight_.get());
}

void ForwardPass::use_batch_foresight(std::unique_ptr<BatchForesight> foresight) {
  batch_foresight_ = std::make_unique<BatchForesightSink>(
      std::move(foresight), foresight_->foresight().predictor().wants(), *decoder_, *options_.clock);
}

Status ForwardPass::run(SequenceState& state, DecodeGraphs& decode_graphs, std::span<const int32_t> tokens,
                        Logits logits, const Sink& sink) {
  const TokenSpan span = dense_->begin(state, decode_graphs, tokens);
  state.begin(span.n_token);
  const Status status = evaluate(span, tokens, logits, sink);
  status.has_value() ? state.commit() : state.roll_back();
  return status;
}

Status ForwardPass::evaluate(const TokenSpan& span, std::span<const int32_t> tokens, Logits logits,
                             const Sink& sink) {
  std::iota(columns_.begin(), columns_.begin() + span.n_token, 0);
  const bool foresee = foresight_ != nullptr && span.n_token == 1;
  if (foresee) ODMOE_RETURN_IF_ERROR(foresight_->begin(*span.state, tokens[0]));
  if (const Status status = run_layers(span, tokens, logits); !status.has_value()) {
    abandon_experts();
    return status;
  }
  ODMOE_RETURN_IF_ERROR(run_head(span, logits, sink));
  if (foresee) foresight_->end();
  return {};
}

// Whether of the layer's experts only those are computed on which a logit depends: of the last layer, where
// not every token is asked for its logits.  Other ranks are told choices alone and compute all of theirs.
// What the other tokens' columns then have is of the layer before, so that nothing of it is not finite.
bool ForwardPass::spares_experts(size_t segment, int64_t n_token, Logits logits) const {
  const std::vector<int>& layers = decoder_->expert_layers();
  return n_token > 1 && logits != Logits::kAll && sites_.size() == 1 && segment > 0 &&
         segment + 1 == layers.size() && layers.back() + 1 == decoder_->shape().n_layer;
}

Status ForwardPass::run_layers(const TokenSpan& span, std::span<const int32_t> tokens, Logits logits) {
  const EvaluationColumns& a = *span.columns;
  const int64_t n_token = span.n_token;
  const auto work = n_token == 1 ? ExpertWork::Tokens::kOne : ExpertWork::Tokens::kChunk;
  for (size_t segment = 0;; ++segment) {
    ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
    const DeviceTraffic before = dense_->traffic();
    ODMOE_RETURN_IF_ERROR(dense_->segment(span, segment, chosen_of(0, n_token)));
    if (segment == decoder_->expert_layers().size()) return {};
    RoutingEvent event = route(a, segment, n_token);
    event.tokens = tokens;
    event.first_position = span.first;
    if (states_wanted()) {
      a.layer_input.fetch(0, n_token);
      a.residual.fetch(0, n_token);
    }
    event.attention_input = a.layer_input.columns(0, n_token);
    event.residual = a.residual.columns(0, n_token);
    event.router_input = a.ffn_input.columns(0, n_token);
    if (a.residual_streams && streams_wanted()) {
      a.residual_streams.fetch(0, n_token);
      event.streams = a.residual_streams.columns(0, n_token);
      if (a.banked) {
        a.banked.fetch(0, n_token);
        event.banked = a.banked.columns(0, n_token);
      }
    }
    ODMOE_RETURN_IF_ERROR(tell(first_sinks_, event));
    ODMOE_RETURN_IF_ERROR(
        begin_experts(a, event, work,
                      {.wanted = spares_experts(segment, n_token, logits) ? logits : Logits::kAll,
                       .all_of_next = !spares_experts(segment + 1, n_token, logits)}));
    // While the sites read.
    ODMOE_RETURN_IF_ERROR(tell(later_sinks_, event));
    if (a.shared_output) ODMOE_RETURN_IF_ERROR(dense_->shared_expert(span, segment));
    ODMOE_RETURN_IF_ERROR(finish_experts(a));
    dense_->take_experts(span);
    count_layer(before);
  }
}

Status ForwardPass::step(std::span<const Step> steps, const Sink& sink) {
  assert(!steps.empty() && std::cmp_less_equal(steps.size(), options_.dense.lanes));
  if (steps.size() == 1) {
    const Step& only = steps.front();
    return run(*only.state, *only.graphs, {&only.token, 1}, Logits::kLast, sink);
  }
  spans_.clear();
  chunks_.clear();
  for (size_t i = 0; i < steps.size(); ++i) {
    columns_[i] = dense_->joins() ? static_cast<int32_t>(i) : steps[i].graphs->lane();
    spans_.push_back(begin_one(*steps[i].state, *steps[i].graphs, {&steps[i].token, 1},
                               dense_->joins() ? std::optional(columns_[i]) : std::nullopt));
    steps[i].state->begin(1);
  }
  const Status status = evaluate_steps(spans_, /*state=*/nullptr, Logits::kAll, sink);
  for (const Step& step : steps) status.has_value() ? step.state->commit() : step.state->roll_back();
  return status;
}

Status ForwardPass::advance(std::span<const Part> parts, const Sink& sink) {
  assert(!parts.empty());
  if (parts.size() == 1) {
    const Part& only = parts.front();
    return run(*only.state, *only.graphs, only.tokens, Logits::kLast,
               [&](int64_t, std::span<const float> logits) { sink(0, logits); });
  }
  spans_.clear();
  chunks_.clear();
  int32_t* column = columns_.data();
  const auto is_one = [](const Part& part) { return part.tokens.size() == 1; };
  const bool join = dense_->joins() && std::ranges::count_if(parts, is_one) > 1;
  int32_t n_joined = 0;
  for (const Part& part : parts) {
    const auto n_token = static_cast<int32_t>(part.tokens.size());
    int32_t first = join ? n_joined : part.graphs->lane();
    if (n_token == 1) {
      spans_.push_back(
          begin_one(*part.state, *part.graphs, part.tokens, join ? std::optional(first) : std::nullopt));
      n_joined += join ? 1 : 0;
    } else {
      const auto place = static_cast<int32_t>(chunks_.size());
      assert(place < options_.dense.places);
      spans_.push_back(dense_->begin_in_place(*part.state, place, part.tokens));
      first = static_cast<int32_t>(dense_->memory().first_column(place));
      const EvaluationColumns& of_place = dense_->memory().place(place);
      chunks_.push_back({.first = first,
                         .n_token = n_token,
                         .columns = expert_columns(of_place),
                         .on_device = columns_on_device(of_place)});
    }
    std::iota(column, column + n_token, first);
    column += n_token;
    part.state->begin(n_token);
  }
  const Status status = evaluate_steps(spans_, /*state=*/nullptr, Logits::kAll, sink);
  for (const Part& part : parts) status.has_value() ? part.state->commit() : part.state->roll_back();
  return status;
}

Status ForwardPass::run_singly(SequenceState& state, std::span<const int32_t> tokens, Logits logits,
                               const Sink& sink) {
  assert(!tokens.empty() && std::cmp_less_equal(tokens.size(), options_.dense.lanes));
  spans_.clear();
  chunks_.clear();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto lane = static_cast<int32_t>(i);
    spans_.push_back(dense_->begin_single(state, state.length() + lane, lane, tokens[i]));
    columns_[i] = lane;
  }
  state.begin_singly(std::ssize(tokens));
  const Status status = evaluate_steps(spans_, &state, logits, sink);
  status.has_value() ? state.commit() : state.roll_back();
  return status;
}

Status ForwardPass::evaluate_steps(std::span<const TokenSpan> spans, SequenceState* state, Logits logits,
                                   const Sink& sink) {
  BatchForesightSink* const foresight =
      state == nullptr && chunks_.empty() ? batch_foresight_.get() : nullptr;
  if (foresight != nullptr) {
    ODMOE_RETURN_IF_ERROR(foresight->begin(dense_->memory().all(), std::span(columns_).first(spans.size())));
  }
  if (const Status status = step_layers(spans, state, foresight); !status.has_value()) {
    abandon_experts();
    return status;
  }
  if (logits == Logits::kNone) return {};
  const Exchange<float>& values = dense_->memory().logits();
  const auto alone = [&](size_t i, std::span<const int32_t> chosen) -> Status {
    if (logits == Logits::kLast && i + 1 < spans.size()) return {};
    ODMOE_RETURN_IF_ERROR(dense_->head(spans[i], spans[i].n_token - 1, 1, chosen));
    sink(static_cast<int64_t>(i), values.columns(0, 1));
    return {};
  };
  const auto together = [&]() -> Status {
    ODMOE_RETURN_IF_ERROR(dense_->heads(joined_.spans, joined_.chosen));
    for (size_t i = 0; i < joined_.spans.size(); ++i)
      sink(static_cast<int64_t>(joined_.index[i]), values.columns(static_cast<int64_t>(i), 1));
    return {};
  };
  ODMOE_RETURN_IF_ERROR(each_span(spans, state, alone, together));
  if (foresight != nullptr) foresight->end();
  return {};
}

void ForwardPass::Joined::clear() {
  spans.clear();
  index.clear();
  chosen.clear();
}

// Calls together() for those in joined_, of single tokens of several timelines as many as can be computed
// together, and alone(index, chosen) for each other span.
template <typename Alone, typename Together>
Status ForwardPass::each_span(std::span<const TokenSpan> spans, const SequenceState* state,
                              const Alone& alone, const Together& together) {
  const auto finish = [&]() -> Status {
    ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
    if (joined_.spans.size() > 1) return together();
    return joined_.spans.empty() ? Status() : alone(joined_.index[0], joined_.chosen[0]);
  };
  joined_.clear();
  size_t at = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    const std::span<const int32_t> chosen = chosen_of(at, spans[i].n_token);
    at += static_cast<size_t>(spans[i].n_token);
    const bool joins = state == nullptr && spans[i].n_token == 1 && spans[i].graphs == nullptr;
    if (!joins) {
      ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
      ODMOE_RETURN_IF_ERROR(alone(i, chosen));
      continue;
    }
    joined_.spans.push_back(spans[i]);
    joined_.index.push_back(i);
    joined_.chosen.push_back(chosen);
    if (std::cmp_less(joined_.spans.size(), dense_->most_joined())) continue;
    ODMOE_RETURN_IF_ERROR(finish());
    joined_.clear();
  }
  return finish();
}

// The token of a session in its own lane, or, to be computed together with others', in one of theirs: of
// neighbouring lanes more is computed at once.
TokenSpan ForwardPass::begin_one(const SequenceState& state, DecodeGraphs& graphs,
                                 std::span<const int32_t> token, std::optional<int32_t> joined_lane) {
  return joined_lane ? dense_->begin_single(state, state.length(), *joined_lane, token[0])
                     : dense_->begin(state, graphs, token);
}

Status ForwardPass::step_layers(std::span<const TokenSpan> spans, SequenceState* state,
                                BatchForesightSink* foresight) {
  const EvaluationColumns& a = dense_->memory().all();
  size_t n_token = 0;
  for (const TokenSpan& span : spans) n_token += static_cast<size_t>(span.n_token);
  for (size_t segment = 0;; ++segment) {
    const auto alone = [&](size_t i, std::span<const int32_t> chosen) {
      if (state != nullptr) state->step(static_cast<int64_t>(i));
      return dense_->segment(spans[i], segment, chosen);
    };
    const auto together = [&] { return dense_->segments(joined_.spans, segment, joined_.chosen); };
    const DeviceTraffic before = dense_->traffic();
    ODMOE_RETURN_IF_ERROR(each_span(spans, state, alone, together));
    if (segment == decoder_->expert_layers().size()) return {};
    const RoutingEvent event = route(a, segment, static_cast<int64_t>(n_token));
    ODMOE_RETURN_IF_ERROR(tell(first_sinks_, event));
    ODMOE_RETURN_IF_ERROR(begin_experts(a, event, ExpertWork::Tokens::kTimelines, {}));
    ODMOE_RETURN_IF_ERROR(tell(later_sinks_, event));
    if (foresight != nullptr) {
      ODMOE_RETURN_IF_ERROR(
          foresight->on_routing(event, dense_->memory(), std::span(columns_).first(n_token)));
    }
    if (a.shared_output) {
      const auto shared = [&](size_t i, std::span<const int32_t>) {
        return dense_->shared_expert(spans[i], segment);
      };
      const auto all_shared = [&] { return dense_->shared_experts(joined_.spans, segment); };
      ODMOE_RETURN_IF_ERROR(each_span(spans, state, shared, all_shared));
    }
    ODMOE_RETURN_IF_ERROR(finish_experts(a));
    for (const TokenSpan& span : spans) dense_->take_experts(span);
    count_layer(before);
  }
}

Status ForwardPass::run_head(const TokenSpan& span, Logits logits, const Sink& sink) {
  if (logits == Logits::kNone) return {};
  int64_t first = logits == Logits::kLast ? span.n_token - 1 : 0;
  while (first < span.n_token) {
    ODMOE_RETURN_IF_ERROR(check_interrupt(options_.interrupted));
    const int64_t n = std::min(DensePass::kHeadColumns, span.n_token - first);
    ODMOE_RETURN_IF_ERROR(dense_->head(span, first, n, chosen_of(0, span.n_token)));
    for (int64_t i = 0; i < n; ++i) sink(first + i, dense_->memory().logits().columns(i, 1));
    first += n;
  }
  return {};
}

// What the router of expert_layers()[segment] chooses for the tokens in columns_, and with which weights.
RoutingEvent ForwardPass::route(const EvaluationColumns& a, size_t segment, int64_t n_token) {
  const int layer = decoder_->expert_layers()[segment];
  const auto n = static_cast<size_t>(n_token);
  const auto n_expert = static_cast<size_t>(decoder_->shape().router.n_expert);
  const auto n_used = static_cast<size_t>(decoder_->shape().router.n_expert_used);
  const std::span<const float> bias = decoder_->selection_bias(layer);
  for (size_t t = 0; t < n; ++t) {
    const int64_t column = columns_[t];
    const std::span<float> weight = std::span(chosen_weight_).subspan(t * n_used, n_used);
    const std::span<float> logits = a.router_logits.columns(column, 1);
    const std::span<int32_t> chosen = std::span(chosen_).subspan(t * n_used, n_used);
    const auto of_token = decoder_->experts_of(layer, a.tokens.columns(column, 1)[0]);
    std::ranges::copy(of_token, chosen.begin());
    const auto probabilities = of_token.empty() ? router_.route(logits, bias, chosen, weight)
                                                : router_.route_to(logits, chosen, weight);
    std::ranges::copy(weight,
                      a.expert_weight.columns(column * std::ssize(weight), std::ssize(weight)).begin());
    std::ranges::copy(probabilities, probabilities_.begin() + static_cast<ptrdiff_t>(t * n_expert));
  }
  return {.index = segment,
          .layer = layer,
          .n_token = n_token,
          .experts = std::span(chosen_).first(n * n_used),
          .weights = std::span(chosen_weight_).first(n * n_used),
          .probabilities = std::span(probabilities_).first(n * n_expert)};
}

Status ForwardPass::begin_experts(const EvaluationColumns& a, const RoutingEvent& event,
                                  ExpertWork::Tokens tokens, const Spared& spared) {
  demand_.set(event.layer, event.experts, std::span(columns_).first(static_cast<size_t>(event.n_token)));
  // All rows of an expert that the last token wants, since their number says which bits it gets.
  std::span<const int32_t> wanted = demand_.experts();
  if (spared.wanted != Logits::kAll) {
    wanted_.clear();
    if (spared.wanted == Logits::kLast) {
      std::ranges::copy_if(wanted, std::back_inserter(wanted_), [&](int32_t expert) {
        return std::ranges::contains(chosen_of(static_cast<size_t>(event.n_token) - 1, 1), expert);
      });
    }
    wanted = wanted_;
  }
  const std::vector<int>& layers = decoder_->expert_layers();
  const size_t next = event.index + 1;
  for (size_t i = 0; i < sites_.size(); ++i) {
    ExpertWork work{.tokens = tokens,
                    .demand = &demand_,
                    .experts = owners_.share(i, event.index, wanted),
                    .columns = expert_columns(a),
                    .on_device = columns_on_device(a),
                    .lanes = lanes_};
    if (tokens == ExpertWork::Tokens::kTimelines) work.chunks = chunks_;
    if (next < layers.size() && spared.all_of_next) {
      work.next_layer = layers[next];
      work.next_experts = owners_.experts(i, next);
    }
    sites_[i].works = !work.experts.empty();
    if (sites_[i].works) ODMOE_RETURN_IF_ERROR(sites_[i].site->begin(work));
  }
  return {};
}

Status ForwardPass::finish_experts(const EvaluationColumns& a) {
  for (const Site& one : sites_) {
    if (!one.works) continue;
    ODMOE_ASSIGN_OR_RETURN(const auto not_finite, one.site->finish());
    if (not_finite) return std::unexpected(not_finite_in(*not_finite, a));
  }
  return {};
}

void ForwardPass::count_layer(const DeviceTraffic& before) {
  ++layer_traffic_.layers;
  layer_traffic_.traffic += dense_->traffic().since(before);
}

void ForwardPass::abandon_experts() {
  for (const Site& one : sites_) one.site->abandon();
}

Error ForwardPass::not_finite_in(const DemandPair& pair, const EvaluationColumns& a) const {
  const auto token = std::ranges::find(columns_, pair.column) - columns_.begin();
  const std::span<const int32_t> chosen = chosen_of(static_cast<size_t>(token), 1);
  return not_finite_error(
      odmoe::format("layer {}, expert {}", demand_.layer(), chosen[static_cast<size_t>(pair.rank)]),
      DensePass::position(a, pair.column));
}

// Whether somebody looks at what layers begin with and at the residual.
bool ForwardPass::states_wanted() const {
  if (observer_.observed()) return true;
  if (!foresight_) return false;
  const Predictor::Wants wants = foresight_->foresight().predictor().wants();
  return wants.attention_input || wants.residual;
}

bool ForwardPass::streams_wanted() const {
  return foresight_ != nullptr && foresight_->foresight().predictor().wants().streams;
}

// Of tokens of the evaluation, what the last router chose: [n_expert_used, n_token].
std::span<const int32_t> ForwardPass::chosen_of(size_t first, int64_t n_token) const {
  const auto n_used = static_cast<size_t>(decoder_->shape().router.n_expert_used);
  return std::span(chosen_).subspan(first * n_used, static_cast<size_t>(n_token) * n_used);
}

}  // namespace odmoe
