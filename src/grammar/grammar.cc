#include "grammar/grammar.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace odmoe::grammar {
namespace {

constexpr uint32_t kUndefined = UINT32_MAX;

}  // namespace

GrammarBuilder::Expression GrammarBuilder::add(Node node) {
  if (nodes_.size() >= kMaxNodes) {
    too_large_ = true;
    return 0;
  }
  nodes_.push_back(std::move(node));
  return static_cast<Expression>(nodes_.size() - 1);
}

GrammarBuilder::Expression GrammarBuilder::empty() { return add({}); }

GrammarBuilder::Expression GrammarBuilder::bytes(const ByteSet& set) {
  const auto known = std::ranges::find(sets_, set);
  const auto index = static_cast<uint32_t>(known - sets_.begin());
  if (known == sets_.end()) sets_.push_back(set);
  return add({.kind = Node::Kind::kBytes, .what = index});
}

GrammarBuilder::Expression GrammarBuilder::range(uint8_t first, uint8_t last) {
  ByteSet set;
  for (size_t byte = first; byte <= last; ++byte) set.set(byte);
  return bytes(set);
}

GrammarBuilder::Expression GrammarBuilder::literal(std::string_view text) {
  std::vector<Expression> parts;
  parts.reserve(text.size());
  for (const char c : text) parts.push_back(range(static_cast<uint8_t>(c), static_cast<uint8_t>(c)));
  return sequence(std::move(parts));
}

GrammarBuilder::Expression GrammarBuilder::token(int32_t id) {
  return add({.kind = Node::Kind::kToken, .what = static_cast<uint32_t>(id)});
}

GrammarBuilder::Expression GrammarBuilder::sequence(std::vector<Expression> parts) {
  if (parts.size() == 1) return parts[0];
  return add({.kind = parts.empty() ? Node::Kind::kEmpty : Node::Kind::kSequence, .parts = std::move(parts)});
}

GrammarBuilder::Expression GrammarBuilder::choice(std::vector<Expression> alternatives) {
  assert(!alternatives.empty());
  if (alternatives.size() == 1) return alternatives[0];
  return add({.kind = Node::Kind::kChoice, .parts = std::move(alternatives)});
}

GrammarBuilder::Expression GrammarBuilder::repeat(Expression part, int32_t min, int32_t max) {
  assert(min >= 0 && (max < 0 || max >= min));
  if (std::cmp_greater(std::max(min, max), kMaxStates)) {
    too_large_ = true;
    return empty();
  }
  // The part is written once, as a rule, and called so many times.
  const Rule rule = declare();
  define(rule, part);
  const Expression one = call(rule);
  std::vector<Expression> parts(static_cast<size_t>(min), one);
  if (max < 0) {
    parts.push_back(add({.kind = Node::Kind::kLoop, .what = one}));
  } else {
    // (one (one (one)?)?)? : nested, so that the number is never ambiguous.
    Expression rest = empty();
    for (int32_t i = min; i < max && !too_large_; ++i) rest = optional(sequence({one, rest}));
    parts.push_back(rest);
  }
  return sequence(std::move(parts));
}

GrammarBuilder::Rule GrammarBuilder::declare() {
  bodies_.push_back(kUndefined);
  return static_cast<Rule>(bodies_.size() - 1);
}

void GrammarBuilder::define(Rule rule, Expression body) {
  assert(bodies_[rule] == kUndefined);
  bodies_[rule] = body;
}

GrammarBuilder::Expression GrammarBuilder::call(Rule rule) {
  return add({.kind = Node::Kind::kCall, .what = rule});
}

uint32_t GrammarBuilder::add_state() {
  if (states_.size() >= kMaxStates) {
    too_large_ = true;
    return 0;
  }
  states_.emplace_back();
  return static_cast<uint32_t>(states_.size() - 1);
}

// Sequences, choices and loops nest as deep as a schema does, and repeat()'s options as deep as its maximum;
// the chain of options is followed without recursion.
void GrammarBuilder::connect(uint32_t from, uint32_t to, Expression expression) {
  using Kind = Grammar::Edge::Kind;
  while (!too_large_) {
    const Node& node = nodes_[expression];
    switch (node.kind) {
      case Node::Kind::kEmpty:
        states_[from].edges.push_back({.kind = Kind::kSkip, .target = to});
        return;
      case Node::Kind::kBytes:
        states_[from].edges.push_back({.kind = Kind::kBytes, .what = node.what, .target = to});
        return;
      case Node::Kind::kToken:
        states_[from].edges.push_back({.kind = Kind::kToken, .what = node.what, .target = to});
        return;
      case Node::Kind::kCall:
        states_[from].edges.push_back({.kind = Kind::kCall, .what = node.what, .target = to});
        return;
      case Node::Kind::kLoop: {
        const uint32_t hub = add_state();
        states_[from].edges.push_back({.kind = Kind::kSkip, .target = hub});
        states_[hub].edges.push_back({.kind = Kind::kSkip, .target = to});
        connect(hub, hub, node.what);
        return;
      }
      case Node::Kind::kSequence:
        for (size_t i = 0; i + 1 < node.parts.size(); ++i) {
          const uint32_t next = add_state();
          connect(from, next, node.parts[i]);
          from = next;
        }
        expression = node.parts.back();
        break;
      case Node::Kind::kChoice:
        // The last is an empty one in options: the others first, the rest of the chain in this loop.
        for (size_t i = 1; i < node.parts.size(); ++i) connect(from, to, node.parts[i]);
        expression = node.parts[0];
        break;
    }
  }
}

// Whether a rule can come to itself without a byte; fills in which rules can be empty.
bool GrammarBuilder::left_recursive(Grammar& grammar) const {
  using Kind = Grammar::Edge::Kind;
  const size_t n_rule = grammar.rules_.size();
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
    std::vector<uint32_t> calls, pending = {grammar.rules_[rule].start};
    bool nullable = false;
    while (!pending.empty()) {
      const uint32_t state = pending.back();
      pending.pop_back();
      if (std::exchange(seen[state], visit) == visit) continue;
      nullable = nullable || grammar.is_end(state);
      for (const Grammar::Edge& edge : grammar.edges(state)) {
        if (edge.kind == Kind::kSkip) pending.push_back(edge.target);
        if (edge.kind != Kind::kCall) continue;
        calls.push_back(edge.what);
        callers[edge.what].push_back(rule);
        if (grammar.rules_[edge.what].nullable) pending.push_back(edge.target);
      }
    }
    first[rule] = std::move(calls);
    if (!nullable || grammar.rules_[rule].nullable) continue;
    grammar.rules_[rule].nullable = true;
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

Result<std::shared_ptr<const Grammar>> GrammarBuilder::build(Expression root) {
  const Rule root_rule = declare();
  define(root_rule, root);
  auto grammar = std::make_shared<Grammar>();
  for (size_t rule = 0; rule < bodies_.size() && !too_large_; ++rule) {
    assert(bodies_[rule] != kUndefined);
    const uint32_t start = add_state(), end = add_state();
    if (too_large_) break;
    states_[end].end = true;
    connect(start, end, bodies_[rule]);
    grammar->rules_.push_back({.start = start});
  }
  if (too_large_) return fail(ErrorKind::kUsage, "it is too large: more than {} states", kMaxStates);
  for (const State& state : states_) {
    grammar->first_edge_.push_back(static_cast<uint32_t>(grammar->edges_.size()));
    grammar->edges_.insert(grammar->edges_.end(), state.edges.begin(), state.edges.end());
    grammar->ends_.push_back(state.end);
  }
  grammar->first_edge_.push_back(static_cast<uint32_t>(grammar->edges_.size()));
  grammar->sets_ = std::move(sets_);
  grammar->root_ = root_rule;
  if (left_recursive(*grammar)) return fail(ErrorKind::kUsage, "it refers to itself without an end");
  return grammar;
}

}  // namespace odmoe::grammar
