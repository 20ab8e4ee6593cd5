// Single tokens of several timelines in one graph of the dense pass (joint_graphs.h).
#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/finite.h"
#include "engine/dense_pass.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// Equal of graphs that need the same memory.
std::string shapes_of(const Graph& graph) {
  std::string shapes;
  const auto add = [&](const auto& value) {
    shapes.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  for (int i = 0; i < ggml_graph_n_nodes(graph.graph()); ++i) {
    const ggml_tensor* node = ggml_graph_node(graph.graph(), i);
    add(node->op);
    add(node->type);
    add(node->ne);
    add(node->op_params);
    if (node->src[0] == nullptr) continue;
    add(node->src[0]->type);
    if (node->src[0]->buffer != nullptr) add(ggml_backend_buffer_get_type(node->src[0]->buffer));
  }
  return shapes;
}

}  // namespace

Status DensePass::set_up_joint(const SequenceState& state) {
  const int32_t n = std::min({options_.timelines, options_.lanes, kJoined});
  if (n < 2 || sums_ != nullptr || options_.asked != nullptr || !backend_->is_cpu()) return {};
  joint_ = std::make_unique<JointGraphs>(*backend_, n,
                                         decoder_->max_segment_nodes(0) + decoder_->max_segment_nodes(1));
  std::vector<TokenSpan> spans;
  for (int32_t i = 0; i < n; ++i) {
    spans.push_back(
        {.columns = &memory_->lane(i), .state = &state, .first = TokenSpan::kAnywhere, .n_token = 1});
  }
  std::vector<std::pair<Piece, size_t>> pieces = {{Piece::kHead, 0}};
  for (size_t i = 0; i < static_cast<size_t>(decoder_->n_segment()); ++i) {
    pieces.emplace_back(Piece::kSegment, i);
    const bool ends_with_experts = i < decoder_->expert_layers().size();
    if (memory_->all().shared_output && ends_with_experts) pieces.emplace_back(Piece::kSharedExpert, i);
  }
  uint64_t joint_bytes = 0;
  std::map<std::string, std::pair<Piece, size_t>> different;  // most layers are alike
  for (const auto& [piece, segment] : pieces) {
    graph_.reset();
    build_one(graph_, spans[0], piece, segment, 0);
    ODMOE_ASSIGN_OR_RETURN(const uint64_t bytes, joint_->learn(graph_));
    joint_bytes += bytes;
    different.emplace(shapes_of(graph_), std::pair(piece, segment));
  }
  if (joint_bytes < options_.least_joint_bytes * pieces.size()) {
    joint_ = nullptr;
    return {};
  }
  uint64_t graph_bytes = 0;
  for (const auto& [shapes, one] : different) {
    const auto& [piece, segment] = one;
    if (!build_joint(spans, piece, segment)) continue;  // they are computed one by one then
    if (!joint_->reserve()) {
      return fail(ErrorKind::kIo, "no memory for the compute buffer; use a smaller --chunk or --context");
    }
    graph_bytes = std::max(graph_bytes, joint_->graph_bytes());
  }
  joint_bytes_ = graph_bytes + joint_->buffer_bytes();
  return {};
}

void DensePass::build_one(Graph& graph, const TokenSpan& span, Piece piece, size_t segment, size_t column) {
  const Activations& a = span.columns->device;
  switch (piece) {
    case Piece::kSegment:
      return decoder_->build_segment(inputs(graph, span), a, static_cast<int>(segment));
    case Piece::kSharedExpert:
      return decoder_->build_shared_expert(graph.context(), graph.graph(), a,
                                           decoder_->expert_layers()[segment], 1);
    case Piece::kHead:
      return decoder_->build_head(graph.context(), graph.graph(), a, 0, 1, memory_->logits_column(column));
  }
}

bool DensePass::build_joint(std::span<const TokenSpan> spans, Piece piece, size_t segment) {
  const auto build = [&](Graph& graph, size_t token) {
    build_one(graph, spans[token], piece, segment, token);
  };
  return joint_->build(spans.size(), std::ref(build), checks_);  // small, so that nothing is allocated
}

// False: they have to be run one by one.
Result<bool> DensePass::run_joint(std::span<const TokenSpan> spans, Piece piece, size_t segment) {
  launched_ = nullptr;
  checks_.forget();
  if (!build_joint(spans, piece, segment)) return false;
  if (!joint_->allocate()) return fail(ErrorKind::kIo, "no memory for the compute buffer");
  multiplied_bytes_ += multiplied_bytes(joint_->graph());
  ODMOE_RETURN_IF_ERROR(backend_->compute(joint_->graph()));
  return true;
}

Status DensePass::segments(std::span<const TokenSpan> spans, size_t segment, ChosenBefore chosen) {
  ODMOE_ASSIGN_OR_RETURN(const bool joined, run_joint(spans, Piece::kSegment, segment));
  if (!joined) {
    for (size_t i = 0; i < spans.size(); ++i)
      ODMOE_RETURN_IF_ERROR(this->segment(spans[i], segment, chosen[i]));
    return {};
  }
  const bool last = segment == decoder_->expert_layers().size();  // the head looks at what it begins with
  const auto finite = [](const Exchange<float>& matrix) {
    return !matrix || all_finite(matrix.columns(0, 1));
  };
  const auto is_good = [&](const TokenSpan& span) {
    const EvaluationColumns& a = *span.columns;
    return last || (finite(a.ffn_input) && finite(a.expert_input) && finite(a.router_logits));
  };
  auto bad = static_cast<size_t>(std::ranges::find_if_not(spans, is_good) - spans.begin());
  if (const NotFinite not_finite = found()) bad = std::min(bad, joint_->token_of(not_finite));
  if (bad == spans.size()) return {};
  return std::unexpected(segment == 0 ? where_it_began_in_the_first(spans[bad])
                                      : where_it_began(spans[bad], segment, chosen[bad]));
}

Status DensePass::shared_experts(std::span<const TokenSpan> spans, size_t segment) {
  ODMOE_ASSIGN_OR_RETURN(const bool joined, run_joint(spans, Piece::kSharedExpert, segment));
  if (!joined) {
    for (const TokenSpan& span : spans) ODMOE_RETURN_IF_ERROR(shared_expert(span, segment));
    return {};
  }
  const NotFinite not_finite = found();
  if (!not_finite) return {};
  return std::unexpected(
      not_finite_error(odmoe::format("layer {}, shared expert", decoder_->expert_layers()[segment]),
                       position(*spans[joint_->token_of(not_finite)].columns, 0)));
}

Status DensePass::heads(std::span<const TokenSpan> spans, ChosenBefore chosen) {
  for (size_t i = 0; i < spans.size(); ++i) {
    if (all_finite(spans[i].columns->layer_input.columns(0, 1))) continue;
    return std::unexpected(where_it_began(spans[i], decoder_->expert_layers().size(), chosen[i]));
  }
  ODMOE_ASSIGN_OR_RETURN(const bool joined, run_joint(spans, Piece::kHead, 0));
  GGML_ASSERT(joined && "heads are alike");
  const Exchange<float>& logits = memory_->logits();
  size_t bad = 0;
  while (bad < spans.size() && all_finite(logits.columns(static_cast<int64_t>(bad), 1))) ++bad;
  if (const NotFinite not_finite = found()) bad = std::min(bad, joint_->token_of(not_finite));
  return bad == spans.size() ? Status() : std::unexpected(head_not_finite(*spans[bad].columns, 0));
}

}  // namespace odmoe
