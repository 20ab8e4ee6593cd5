#include "grammar/grammar_builder.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <limits>
#include <string>
#include <utility>

namespace odmoe::grammar {
namespace {

constexpr uint32_t kUndefined = UINT32_MAX;
constexpr int64_t kFewRepeats = 8;  // written out one by one
constexpr int64_t kMostRepeats = int64_t{1} << 40;

using EdgeKind = Grammar::Edge::Kind;

}  // namespace

GrammarBuilder::Expression GrammarBuilder::add(Node node, const std::vector<Expression>& children) {
  if (too_large_ || nodes_.size() >= kMaxNodes || children_.size() + children.size() > kMaxChildren ||
      !work_.spend(1 + children.size())) {
    too_large_ = true;
    return 0;
  }
  node.first = static_cast<uint32_t>(children_.size());
  node.n_child = static_cast<uint32_t>(children.size());
  children_.insert(children_.end(), children.begin(), children.end());
  nodes_.push_back(node);
  return static_cast<Expression>(nodes_.size() - 1);
}

GrammarBuilder::Expression GrammarBuilder::empty() { return add({}); }
GrammarBuilder::Expression GrammarBuilder::nothing() { return add({.kind = Node::Kind::kNothing}); }

GrammarBuilder::Expression GrammarBuilder::bytes(const ByteSet& set) {
  const auto [entry, fresh] = set_numbers_.try_emplace(set, static_cast<uint32_t>(sets_.size()));
  if (fresh) {
    if (sets_.size() >= kMaxByteSets) too_large_ = true;
    sets_.push_back(set);
  }
  return add({.kind = Node::Kind::kBytes, .what = entry->second});
}

GrammarBuilder::Expression GrammarBuilder::range(uint8_t first, uint8_t last) {
  ByteSet set;
  for (size_t byte = first; byte <= last; ++byte) set.set(byte);
  return bytes(set);
}

GrammarBuilder::Expression GrammarBuilder::literal(std::string_view text) {
  std::vector<Expression> children;
  children.reserve(text.size());
  for (const char c : text) {
    if (too_large()) break;
    children.push_back(range(static_cast<uint8_t>(c), static_cast<uint8_t>(c)));
  }
  return sequence(std::move(children));
}

GrammarBuilder::Expression GrammarBuilder::token(int32_t id) {
  return add({.kind = Node::Kind::kToken, .what = static_cast<uint32_t>(id)});
}

GrammarBuilder::Expression GrammarBuilder::sequence(std::vector<Expression> children) {
  if (children.size() == 1) return children[0];
  return add({.kind = children.empty() ? Node::Kind::kEmpty : Node::Kind::kSequence}, children);
}

GrammarBuilder::Expression GrammarBuilder::choice(std::vector<Expression> alternatives) {
  if (alternatives.size() == 1) return alternatives[0];
  return add({.kind = alternatives.empty() ? Node::Kind::kNothing : Node::Kind::kChoice}, alternatives);
}

GrammarBuilder::Expression GrammarBuilder::graph(Graph graph) {
  n_graph_edge_ += graph.edges.size() + graph.ends.size();
  if (n_graph_edge_ > kMaxEdges || !work_.spend(1 + graph.edges.size())) too_large_ = true;
  if (too_large_) return 0;
  graphs_.push_back(std::move(graph));
  return add({.kind = Node::Kind::kGraph, .what = static_cast<uint32_t>(graphs_.size() - 1)});
}

// x^(2^exponent).
GrammarBuilder::Expression GrammarBuilder::power(std::vector<Rule>& powers, size_t exponent) {
  while (powers.size() <= exponent) {
    const Expression half = call(powers.back());
    powers.push_back(declare());
    define(powers.back(), sequence({half, half}));
  }
  return call(powers[exponent]);
}

// Any number from 0 to `most`, each in one way: the number's bits from the highest, as far as it is bound.
GrammarBuilder::Expression GrammarBuilder::up_to(std::vector<Rule>& powers, int64_t most) {
  std::vector<Expression> below = {empty()};  // [k]: up to 2^k - 1
  const size_t n_bit = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(most)));
  for (size_t k = 0; k < n_bit; ++k) {
    below.push_back(shared(sequence({optional(power(powers, k)), below.back()})));
  }
  Expression rest = empty();
  // From the lowest bit that is set to the highest: what may follow when all higher ones are.
  for (size_t k = 0; k < n_bit; ++k) {
    if ((static_cast<uint64_t>(most) >> k & 1U) == 0) continue;
    const uint64_t lower = static_cast<uint64_t>(most) & ((uint64_t{1} << k) - 1);
    if (lower + 1 == uint64_t{1} << k) {
      rest = below[k + 1];  // all bits up to here are set: nothing is bound
    } else {
      rest = shared(choice({below[k], sequence({power(powers, k), rest})}));
    }
  }
  return rest;
}

GrammarBuilder::Expression GrammarBuilder::repeat(Expression child, int64_t min, int64_t max) {
  assert(min >= 0 && (max < 0 || max >= min));
  if (std::max(min, max) > kMostRepeats) {
    too_large_ = true;
    return 0;
  }
  // The child is written once, as a rule, and called so many times.
  std::vector<Rule> powers = {declare()};
  define(powers[0], child);
  std::vector<Expression> children;
  if (min <= kFewRepeats) {
    children.assign(static_cast<size_t>(min), call(powers[0]));
  } else {
    for (size_t bit = 64; bit-- > 0;) {
      if ((static_cast<uint64_t>(min) >> bit & 1U) != 0) children.push_back(power(powers, bit));
    }
  }
  if (max < 0) {
    children.push_back(add({.kind = Node::Kind::kLoop, .what = call(powers[0])}));
  } else if (max - min <= kFewRepeats) {
    // (one (one (one)?)?)? : nested, so that the number is never ambiguous.
    Expression rest = empty();
    for (int64_t i = min; i < max; ++i) rest = optional(sequence({call(powers[0]), rest}));
    children.push_back(rest);
  } else {
    children.push_back(up_to(powers, max - min));
  }
  return sequence(std::move(children));
}

GrammarBuilder::Expression GrammarBuilder::one_of(std::vector<std::string> texts) {
  std::ranges::sort(texts);
  texts.erase(std::ranges::unique(texts).begin(), texts.end());
  Graph graph;
  // The states along the text before; those of what two texts share are used again.
  std::vector<uint32_t> path = {0};
  std::string_view before;
  for (const std::string& text : texts) {
    if (!work_.spend(text.size()) || graph.edges.size() > kMaxEdges) {
      too_large_ = true;
      return 0;
    }
    const auto shared = static_cast<size_t>(std::ranges::mismatch(before, text).in1 - before.begin());
    path.resize(shared + 1);
    for (size_t i = shared; i < text.size(); ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      graph.edges.push_back({.from = path.back(), .to = graph.n_state, .by = range(byte, byte)});
      path.push_back(graph.n_state++);
    }
    graph.ends.push_back(path.back());
    before = text;
  }
  return this->graph(std::move(graph));
}

GrammarBuilder::Rule GrammarBuilder::declare() {
  if (bodies_.size() >= kMaxRules) {
    too_large_ = true;
    return 0;
  }
  bodies_.push_back(kUndefined);
  return static_cast<Rule>(bodies_.size() - 1);
}

void GrammarBuilder::define(Rule rule, Expression body) {
  if (too_large_) return;
  assert(bodies_[rule] == kUndefined);
  bodies_[rule] = body;
}

GrammarBuilder::Expression GrammarBuilder::call(Rule rule) {
  return add({.kind = Node::Kind::kCall, .what = rule});
}

GrammarBuilder::Expression GrammarBuilder::shared(Expression body) {
  const Rule rule = declare();
  define(rule, body);
  return call(rule);
}

uint32_t GrammarBuilder::add_state() {
  if (ends_.size() >= kMaxStates || !work_.spend()) {
    too_large_ = true;
    return 0;
  }
  ends_.push_back(false);
  return static_cast<uint32_t>(ends_.size() - 1);
}

void GrammarBuilder::add_edge(uint32_t from, EdgeKind kind, uint32_t what, uint32_t to) {
  if (edges_.size() >= kMaxEdges || !work_.spend()) {
    too_large_ = true;
    return;
  }
  edges_.push_back({.from = from, .edge = {.kind = kind, .what = what, .target = to}});
}

void GrammarBuilder::connect_graph(uint32_t from, uint32_t to, const Graph& graph) {
  if (ends_.size() + graph.n_state > kMaxStates) {
    too_large_ = true;
    return;
  }
  const auto first = static_cast<uint32_t>(ends_.size());
  ends_.resize(ends_.size() + graph.n_state);
  add_edge(from, EdgeKind::kSkip, 0, first);
  for (const Graph::Edge& edge : graph.edges) {
    if (too_large_) return;
    connect(first + edge.from, first + edge.to, edge.by);
  }
  for (const uint32_t end : graph.ends) add_edge(first + end, EdgeKind::kSkip, 0, to);
}

// Nests as deep as the expressions within one rule do; the last child of each is followed without recursion.
void GrammarBuilder::connect(uint32_t from, uint32_t to, Expression expression) {
  while (!too_large_) {
    const Node& node = nodes_[expression];
    switch (node.kind) {
      case Node::Kind::kNothing:
        return;
      case Node::Kind::kEmpty:
        add_edge(from, EdgeKind::kSkip, 0, to);
        return;
      case Node::Kind::kBytes:
        add_edge(from, EdgeKind::kBytes, node.what, to);
        return;
      case Node::Kind::kToken:
        add_edge(from, EdgeKind::kToken, node.what, to);
        return;
      case Node::Kind::kCall:
        add_edge(from, EdgeKind::kCall, node.what, to);
        return;
      case Node::Kind::kGraph:
        connect_graph(from, to, graphs_[node.what]);
        return;
      case Node::Kind::kLoop: {
        const uint32_t hub = add_state();
        add_edge(from, EdgeKind::kSkip, 0, hub);
        add_edge(hub, EdgeKind::kSkip, 0, to);
        connect(hub, hub, node.what);
        return;
      }
      case Node::Kind::kSequence:
        for (uint32_t i = 0; i + 1 < node.n_child && !too_large_; ++i) {
          const uint32_t next = add_state();
          connect(from, next, children_[node.first + i]);
          from = next;
        }
        expression = children_[node.first + node.n_child - 1];
        break;
      case Node::Kind::kChoice:
        for (uint32_t i = 1; i < node.n_child && !too_large_; ++i)
          connect(from, to, children_[node.first + i]);
        expression = children_[node.first];
        break;
    }
  }
}

// Edges in the order of their states.
void GrammarBuilder::lay_out(Grammar& grammar) {
  grammar.first_edge_.assign(ends_.size() + 1, 0);
  for (const FlatEdge& edge : edges_) ++grammar.first_edge_[edge.from + 1];
  for (size_t i = 0; i < ends_.size(); ++i) grammar.first_edge_[i + 1] += grammar.first_edge_[i];
  grammar.edges_.resize(edges_.size());
  std::vector<uint32_t> next(grammar.first_edge_.begin(), grammar.first_edge_.end() - 1);
  for (const FlatEdge& edge : edges_) grammar.edges_[next[edge.from]++] = edge.edge;
  edges_.clear();
  edges_.shrink_to_fit();
  grammar.ends_ = std::move(ends_);
  grammar.sets_ = std::move(sets_);
}

// How many calls must nest from each state, from the ends backward, fewer before more.  Where the end cannot
// be reached it stays at what no grammar may have.
void GrammarBuilder::find_heights(Grammar& grammar) const {
  const size_t n_state = grammar.ends_.size();
  constexpr uint16_t kNever = std::numeric_limits<uint16_t>::max();
  grammar.heights_.assign(n_state, kNever);
  // Who leads to a state, and who calls a rule: numbers of edges, whose state is found by their place.
  std::vector<uint32_t> from(grammar.edges_.size());
  for (uint32_t state = 0; state < n_state; ++state) {
    for (uint32_t i = grammar.first_edge_[state]; i < grammar.first_edge_[state + 1]; ++i) from[i] = state;
  }
  const auto grouped = [&](size_t n, auto key) {
    std::pair<std::vector<uint32_t>, std::vector<uint32_t>> groups;  // first of each, edges
    groups.first.assign(n + 1, 0);
    for (const Grammar::Edge& edge : grammar.edges_) {
      if (const uint32_t k = key(edge); k != kUndefined) ++groups.first[k + 1];
    }
    for (size_t i = 0; i < n; ++i) groups.first[i + 1] += groups.first[i];
    groups.second.resize(groups.first[n]);
    std::vector<uint32_t> next(groups.first.begin(), groups.first.end() - 1);
    for (uint32_t i = 0; i < grammar.edges_.size(); ++i) {
      if (const uint32_t k = key(grammar.edges_[i]); k != kUndefined) groups.second[next[k]++] = i;
    }
    return groups;
  };
  const auto [first_into, into] = grouped(n_state, [](const Grammar::Edge& edge) { return edge.target; });
  const auto [first_caller, callers] = grouped(grammar.starts_.size(), [](const Grammar::Edge& edge) {
    return edge.kind == EdgeKind::kCall ? edge.what : kUndefined;
  });
  std::unordered_map<uint32_t, uint32_t> rule_of;  // by its first state
  for (uint32_t rule = 0; rule < grammar.starts_.size(); ++rule) rule_of[grammar.starts_[rule]] = rule;

  std::vector<std::vector<uint32_t>> levels(1);
  const auto lower = [&](uint32_t state, size_t height) {
    if (height >= kNever || grammar.heights_[state] <= height) return;
    grammar.heights_[state] = static_cast<uint16_t>(height);
    if (levels.size() <= height) levels.resize(height + 1);
    levels[height].push_back(state);
  };
  for (uint32_t state = 0; state < n_state; ++state) {
    if (grammar.ends_[state]) lower(state, 0);
  }
  for (size_t height = 0; height < levels.size(); ++height) {
    while (!levels[height].empty()) {
      const uint32_t state = levels[height].back();
      levels[height].pop_back();
      if (grammar.heights_[state] != height) continue;
      for (uint32_t i = first_into[state]; i < first_into[state + 1]; ++i) {
        const Grammar::Edge& edge = grammar.edges_[into[i]];
        size_t needed = height;
        if (edge.kind == EdgeKind::kCall) {
          needed = std::max<size_t>(needed, size_t{grammar.heights_[grammar.starts_[edge.what]]} + 1);
        }
        lower(from[into[i]], needed);
      }
      const auto rule = rule_of.find(state);
      if (rule == rule_of.end()) continue;
      for (uint32_t i = first_caller[rule->second]; i < first_caller[rule->second + 1]; ++i) {
        const uint16_t after = grammar.heights_[grammar.edges_[callers[i]].target];
        if (after != kNever) lower(from[callers[i]], std::max<size_t>(height + 1, after));
      }
    }
  }
}

// Without the edges that lead to where no end can be reached.
void GrammarBuilder::trim(Grammar& grammar) {
  const auto fits = [&](uint32_t state) { return grammar.heights_[state] <= kMaxDepth; };
  size_t kept = 0;
  uint32_t begin = 0;
  for (size_t state = 0; state < grammar.ends_.size(); ++state) {
    const uint32_t end = grammar.first_edge_[state + 1];
    for (uint32_t i = begin; i < end; ++i) {
      const Grammar::Edge edge = grammar.edges_[i];
      if (!fits(edge.target)) continue;
      if (edge.kind == EdgeKind::kCall && !fits(grammar.starts_[edge.what])) continue;
      grammar.edges_[kept++] = edge;
    }
    begin = end;
    grammar.first_edge_[state + 1] = static_cast<uint32_t>(kept);
  }
  grammar.edges_.resize(kept);
  grammar.edges_.shrink_to_fit();
}

// Whether a rule can come to itself without a byte.
bool GrammarBuilder::left_recursive(const Grammar& grammar) {
  const size_t n_rule = grammar.starts_.size();
  std::vector<bool> nullable(n_rule);
  std::vector<std::vector<uint32_t>> first(n_rule);    // rules called before a byte
  std::vector<std::vector<uint32_t>> callers(n_rule);  // of each rule, at such places
  std::vector<uint32_t> seen(grammar.ends_.size());    // in which visit
  uint32_t visit = 0;
  // A rule is looked at again when one that it calls turns out to be possibly empty.
  std::vector<uint32_t> work(n_rule);
  for (uint32_t rule = 0; rule < n_rule; ++rule) work[rule] = rule;
  while (!work.empty()) {
    const uint32_t rule = work.back();
    work.pop_back();
    ++visit;
    std::vector<uint32_t> calls, pending = {grammar.starts_[rule]};
    bool is_nullable = false;
    while (!pending.empty()) {
      const uint32_t state = pending.back();
      pending.pop_back();
      if (std::exchange(seen[state], visit) == visit) continue;
      is_nullable = is_nullable || grammar.is_end(state);
      for (const Grammar::Edge& edge : grammar.edges(state)) {
        if (edge.kind == EdgeKind::kSkip) pending.push_back(edge.target);
        if (edge.kind != EdgeKind::kCall) continue;
        calls.push_back(edge.what);
        callers[edge.what].push_back(rule);
        if (nullable[edge.what]) pending.push_back(edge.target);
      }
    }
    first[rule] = std::move(calls);
    if (!is_nullable || nullable[rule]) continue;
    nullable[rule] = true;
    work.insert(work.end(), callers[rule].begin(), callers[rule].end());
    callers[rule].clear();
  }
  // A cycle among the first calls.
  std::vector<uint8_t> color(first.size());  // 1: on the path, 2: done
  for (uint32_t root = 0; root < first.size(); ++root) {
    if (color[root] != 0) continue;
    std::vector<std::pair<uint32_t, size_t>> path = {{root, 0}};
    color[root] = 1;
    while (!path.empty()) {
      auto& [rule, next] = path.back();
      if (next == first[rule].size()) {
        color[rule] = 2;
        path.pop_back();
        continue;
      }
      const uint32_t callee = first[rule][next++];
      if (color[callee] == 1) return true;
      if (color[callee] == 0) {
        color[callee] = 1;
        path.emplace_back(callee, 0);
      }
    }
  }
  return false;
}

Error GrammarBuilder::excess() const {
  if (work_.stopped()) return {ErrorKind::kInterrupted, "it was asked to stop"};
  if (work_.over()) {
    return {ErrorKind::kUsage,
            odmoe::format("it is too large: compiling it takes more than {} steps", kMaxCompileSteps)};
  }
  return {ErrorKind::kUsage,
          odmoe::format("it is too large: more than {} states or {} edges", kMaxStates, kMaxEdges)};
}

Result<std::shared_ptr<const Grammar>> GrammarBuilder::build(Expression root) {
  const Rule root_rule = declare();
  define(root_rule, root);
  auto grammar = std::make_shared<Grammar>();
  for (size_t rule = 0; rule < bodies_.size() && !too_large(); ++rule) {
    assert(bodies_[rule] != kUndefined);
    const uint32_t start = add_state(), end = add_state();
    if (too_large_) break;
    ends_[end] = true;
    connect(start, end, bodies_[rule]);
    grammar->starts_.push_back(start);
  }
  if (too_large()) {
    const Error error = excess();
    return fail(error.kind, "the schema: {}", error.message);
  }
  nodes_.clear();
  children_.clear();
  graphs_.clear();
  set_numbers_.clear();
  grammar->root_ = root_rule;
  lay_out(*grammar);
  find_heights(*grammar);
  if (grammar->heights_[grammar->starts_[root_rule]] > kMaxDepth) {
    return fail(ErrorKind::kUsage, "{}", explanation_);
  }
  trim(*grammar);
  if (left_recursive(*grammar))
    return fail(ErrorKind::kUsage, "the schema: it refers to itself without an end");
  return grammar;
}

}  // namespace odmoe::grammar
