#include "grammar/text_grammar.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace odmoe::grammar {
namespace {

using Expression = GrammarBuilder::Expression;
using Kind = Regex::Node::Kind;
using Index = Regex::Index;

// An expression without assertions but for ^ and $ around its alternatives needs no automaton: it becomes
// a grammar as it stands, whose repetitions may be as many as they like.
class Direct {
 public:
  Direct(GrammarBuilder& builder, CharacterGrammar& characters, const Regex& regex)
      : b_(&builder), characters_(&characters), regex_(&regex) {}

  static bool fits(const Regex& regex) {
    const Regex::Node& root = regex.nodes[regex.root];
    const std::vector<Index> one = {regex.root};
    return std::ranges::all_of(root.kind == Kind::kChoice ? root.children : one, [&](Index way) {
      const Regex::Node& node = regex.nodes[way];
      std::span<const Index> children = node.children;
      if (node.kind != Kind::kSequence) return is_plain(regex, way) || is_anchor(node);
      if (regex.nodes[children.front()].kind == Kind::kStart) children = children.subspan(1);
      if (!children.empty() && regex.nodes[children.back()].kind == Kind::kEnd)
        children = children.first(children.size() - 1);
      return std::ranges::all_of(children, [&](Index child) { return is_plain(regex, child); });
    });
  }

  Expression build(Expression any_character) {
    const Expression anything = b_->repeat(any_character, 0, -1);
    const Regex::Node& root = regex_->nodes[regex_->root];
    std::vector<Expression> ways;
    const std::vector<Index> one = {regex_->root};
    for (const Index way : root.kind == Kind::kChoice ? root.children : one) {
      const Regex::Node& node = regex_->nodes[way];
      const std::vector<Index> alone = {way};
      std::span<const Index> children = node.kind == Kind::kSequence ? node.children : alone;
      const bool from_start = regex_->nodes[children.front()].kind == Kind::kStart;
      if (from_start) children = children.subspan(1);
      const bool to_end = !children.empty() && regex_->nodes[children.back()].kind == Kind::kEnd;
      if (to_end) children = children.first(children.size() - 1);
      std::vector<Expression> all;
      if (!from_start) all.push_back(anything);
      for (const Index child : children) all.push_back(expression(child));
      if (!to_end) all.push_back(anything);
      ways.push_back(b_->sequence(std::move(all)));
    }
    return b_->choice(std::move(ways));
  }

 private:
  static bool is_anchor(const Regex::Node& node) {
    return node.kind == Kind::kStart || node.kind == Kind::kEnd;
  }

  static bool is_plain(const Regex& regex, Index index) {
    const Regex::Node& node = regex.nodes[index];
    if (node.kind > Kind::kRepeat) return false;
    return std::ranges::all_of(node.children, [&](Index child) { return is_plain(regex, child); });
  }

  bool nullable(Index index) const {
    const Regex::Node& node = regex_->nodes[index];
    const auto child = [&](Index i) { return nullable(i); };
    switch (node.kind) {
      case Kind::kSet:
        return false;
      case Kind::kSequence:
        return std::ranges::all_of(node.children, child);
      case Kind::kChoice:
        return std::ranges::any_of(node.children, child);
      case Kind::kRepeat:
        return node.min == 0 || nullable(node.children[0]);
      default:
        return true;
    }
  }

  Expression expression(Index index) {
    if (b_->too_large()) return 0;
    const Regex::Node& node = regex_->nodes[index];
    std::vector<Expression> children;
    switch (node.kind) {
      case Kind::kSet:
        return characters_->one_of(node.set);
      case Kind::kSequence:
      case Kind::kChoice:
        for (const Index child : node.children) children.push_back(expression(child));
        return node.kind == Kind::kChoice ? b_->choice(std::move(children))
                                          : b_->sequence(std::move(children));
      case Kind::kRepeat:
        return repeated(node);
      default:
        return b_->empty();
    }
  }

  Expression repeated(const Regex::Node& node) {
    const Regex::Node* child = &regex_->nodes[node.children[0]];
    Index what = node.children[0];
    int64_t min = node.min, max = node.max;
    // (x{a,b}){c,d} is x{ac,bd} where the numbers leave no gaps.
    while (child->kind == Kind::kRepeat) {
      const int64_t a = child->min, b = child->max;
      const bool no_gap = min == 0 ? a <= 1 : b < 0 || min * (b - a) >= a - 1;
      if (max == 0) return b_->empty();
      if (!no_gap && min != max) break;
      if (min * a > kMaxLongRepeat || max * b > kMaxLongRepeat) break;
      min *= a;
      max = max < 0 || b < 0 ? -1 : max * b;
      what = child->children[0];
      child = &regex_->nodes[what];
    }
    if (!nullable(what)) return b_->repeat(expression(what), min, max);
    return b_->repeat(some(what), 0, max);
  }

  // What it fits but for the empty text.
  Expression some(Index index) {
    if (b_->too_large()) return 0;
    const Regex::Node& node = regex_->nodes[index];
    std::vector<Expression> ways;
    switch (node.kind) {
      case Kind::kSet:
        return characters_->one_of(node.set);
      case Kind::kChoice:
        for (const Index child : node.children) ways.push_back(some(child));
        return b_->choice(std::move(ways));
      case Kind::kSequence:
        for (size_t i = 0; i < node.children.size(); ++i) {
          std::vector<Expression> children = {some(node.children[i])};
          for (size_t j = i + 1; j < node.children.size(); ++j)
            children.push_back(expression(node.children[j]));
          ways.push_back(b_->sequence(std::move(children)));
          if (!nullable(node.children[i])) break;
        }
        return b_->choice(std::move(ways));
      case Kind::kRepeat: {
        if (!nullable(index)) return repeated(node);
        const Expression one = some(node.children[0]);
        if (node.max == 0) return b_->nothing();
        return b_->repeat(one, 1, node.max);
      }
      default:
        return b_->nothing();
    }
  }

  static constexpr int64_t kMaxLongRepeat = 1'000'000'000;

  GrammarBuilder* b_;
  CharacterGrammar* characters_;
  const Regex* regex_;
};

}  // namespace

void TextRule::meet(const TextRule& other) {
  for (const Condition& condition : other.conditions) {
    const bool known = std::ranges::any_of(conditions, [&](const Condition& mine) {
      return mine.regex == condition.regex && mine.negated == condition.negated;
    });
    if (!known) conditions.push_back(condition);
  }
  min_length = std::max(min_length, other.min_length);
  if (other.max_length >= 0) {
    max_length = max_length < 0 ? other.max_length : std::min(max_length, other.max_length);
  }
}

namespace {

// Of the texts that an automaton takes, the shortest's length and, where there is a longest one, its.
std::pair<int64_t, std::optional<int64_t>> lengths(const TextAutomaton& automaton,
                                                   const std::vector<bool>& alive) {
  const size_t n_state = automaton.n_state();
  std::vector<std::vector<uint32_t>> to(n_state);
  std::vector<size_t> n_from(n_state);
  size_t n_alive = 0;
  for (uint32_t state = 0; state < n_state; ++state) {
    if (!alive[state]) continue;
    ++n_alive;
    for (uint32_t symbol = 0; symbol < automaton.n_symbol; ++symbol) {
      const uint32_t next = automaton.after(state, symbol);
      if (alive[next] && (to[state].empty() || to[state].back() != next)) to[state].push_back(next);
    }
    for (const uint32_t next : to[state]) ++n_from[next];
  }
  int64_t shortest = -1;
  std::vector<int64_t> distance(n_state, -1);
  distance[0] = 0;
  std::vector<uint32_t> queue = {0};
  for (size_t i = 0; i < queue.size() && shortest < 0; ++i) {
    if (automaton.accepts[queue[i]]) shortest = distance[queue[i]];
    for (const uint32_t next : to[queue[i]]) {
      if (distance[next] >= 0) continue;
      distance[next] = distance[queue[i]] + 1;
      queue.push_back(next);
    }
  }
  // Each state after all that lead to it: that leaves some out where there is a loop.
  if (n_from[0] > 0) return {shortest, std::nullopt};
  std::vector<int64_t> most(n_state);
  int64_t longest = 0;
  queue = {0};
  for (size_t i = 0; i < queue.size(); ++i) {
    if (automaton.accepts[queue[i]]) longest = std::max(longest, most[queue[i]]);
    for (const uint32_t next : to[queue[i]]) {
      most[next] = std::max(most[next], most[queue[i]] + 1);
      if (--n_from[next] == 0) queue.push_back(next);
    }
  }
  return {shortest, queue.size() == n_alive ? std::optional(longest) : std::nullopt};
}

}  // namespace

// All conditions at once, and which states can still come to an end.
struct TextGrammar::Product {
  Alphabet alphabet;
  TextAutomaton automaton;
  std::vector<bool> alive;
};

Result<TextGrammar::Product> TextGrammar::product(const TextRule& rule) {
  Work& work = builder_->work();
  std::vector<const Regex*> regexes;
  regexes.reserve(rule.conditions.size());
  for (const TextRule::Condition& condition : rule.conditions) regexes.push_back(condition.regex.get());
  auto alphabet = Alphabet::of(regexes, work);
  if (!alphabet) {
    return fail(ErrorKind::kUsage, "it is too large: more than {} kinds of characters", kMaxSymbols);
  }
  std::vector<TextAutomaton> automata;
  size_t n_transition = 0;
  for (const TextRule::Condition& condition : rule.conditions) {
    ODMOE_ASSIGN_OR_RETURN(automata.emplace_back(), determinize(*condition.regex, *alphabet, work));
    if (condition.negated) automata.back().accepts.flip();
    n_transition += automata.back().next.size();
    if (n_transition > kMaxTextTransitions) {
      return fail(ErrorKind::kUsage, "it is too large: more than {} transitions", kMaxTextTransitions);
    }
  }
  const size_t n_symbol = alphabet->size();
  if (automata.size() == 1) {
    std::vector<bool> alive = automata[0].alive();
    return Product{*std::move(alphabet), std::move(automata[0]), std::move(alive)};
  }
  std::vector<std::vector<bool>> condition_alive;
  condition_alive.reserve(automata.size());
  for (const TextAutomaton& one : automata) condition_alive.push_back(one.alive());
  TextAutomaton all{.n_symbol = n_symbol};
  std::map<std::vector<uint32_t>, uint32_t> numbers;
  std::vector<const std::vector<uint32_t>*> states;
  const auto number_of = [&](std::vector<uint32_t> state) {
    // Where one condition cannot hold any more they are all one.
    for (size_t i = 0; i < state.size(); ++i) {
      if (!condition_alive[i][state[i]]) {
        state.assign(1, 0);
        break;
      }
    }
    const auto [known, fresh] = numbers.try_emplace(std::move(state), static_cast<uint32_t>(states.size()));
    if (fresh) states.push_back(&known->first);
    return known->second;
  };
  number_of(std::vector<uint32_t>(automata.size(), 0));
  for (uint32_t i = 0; i < states.size(); ++i) {
    const std::vector<uint32_t>& state = *states[i];
    const bool dead = state.size() != automata.size();
    bool accepts = !dead;
    for (size_t k = 0; k < automata.size() && accepts; ++k) accepts = automata[k].accepts[state[k]];
    all.accepts.push_back(accepts);
    for (uint32_t symbol = 0; symbol < n_symbol; ++symbol) {
      if (dead) {
        all.next.push_back(i);
        continue;
      }
      std::vector<uint32_t> after(automata.size());
      for (size_t k = 0; k < automata.size(); ++k) after[k] = automata[k].after(state[k], symbol);
      all.next.push_back(number_of(std::move(after)));
    }
    if (states.size() > kMaxTextStates || all.next.size() > kMaxTextTransitions ||
        !work.spend(n_symbol * automata.size())) {
      return fail(ErrorKind::kUsage, "it is too large: it takes more than {} states", kMaxTextStates);
    }
  }
  std::vector<bool> alive = all.alive();
  return Product{*std::move(alphabet), std::move(all), std::move(alive)};
}

// The states that are alive, for every number of characters before them that tells.
std::optional<Expression> TextGrammar::laid_out(const Product& product, int64_t min, int64_t max) {
  const TextAutomaton& automaton = product.automaton;
  struct Way {
    uint32_t to;
    Expression by;
  };
  std::vector<std::vector<Way>> ways(automaton.n_state());
  std::map<std::vector<uint32_t>, Expression> known;  // by symbols
  for (uint32_t state = 0; state < automaton.n_state(); ++state) {
    if (!product.alive[state]) continue;
    std::map<uint32_t, std::vector<uint32_t>> symbols;  // by target
    for (uint32_t symbol = 0; symbol < automaton.n_symbol; ++symbol) {
      const uint32_t to = automaton.after(state, symbol);
      if (product.alive[to]) symbols[to].push_back(symbol);
    }
    for (const auto& [to, some] : symbols) {
      auto entry = known.find(some);
      if (entry == known.end()) {
        CharSet set;
        for (const uint32_t symbol : some) {
          const CharSet& characters = product.alphabet.characters(symbol);
          set.insert(set.end(), characters.begin(), characters.end());
        }
        entry = known.emplace(some, characters_.one_of(normal(std::move(set)))).first;
      }
      ways[state].push_back({to, entry->second});
    }
    if (!builder_->work().spend(automaton.n_symbol)) return std::nullopt;
  }
  if (ways[0].size() == 1 && ways[0][0].to == 0) return builder_->repeat(ways[0][0].by, min, max);
  // By the number of characters, as far as there is room: then no longer ones are written.
  const int64_t most = max < 0 ? min : max;
  GrammarBuilder::Graph graph;
  std::map<uint32_t, uint32_t> level = {{0, 0}};  // states of this many characters, and their numbers
  for (int64_t count = 0; !level.empty() && builder_->work().spend(level.size()); ++count) {
    const bool is_last = max < 0 && count == min;  // what follows is counted no more
    std::map<uint32_t, uint32_t> next;
    std::vector<uint32_t> pending;
    pending.reserve(level.size());
    for (const auto& [state, number] : level) pending.push_back(state);
    while (!pending.empty()) {
      const uint32_t state = pending.back();
      pending.pop_back();
      const uint32_t from = level[state];
      if (automaton.accepts[state] && count >= min) graph.ends.push_back(from);
      if (max >= 0 && count == most) continue;
      for (const Way& way : ways[state]) {
        const auto [entry, fresh] = (is_last ? level : next).try_emplace(way.to, graph.n_state);
        if (fresh) ++graph.n_state;
        if (fresh && is_last) pending.push_back(way.to);
        graph.edges.push_back({.from = from, .to = entry->second, .by = way.by});
      }
    }
    if (graph.n_state > kMaxTextStates || graph.edges.size() > kMaxTextEdges) break;
    level = std::move(next);
  }
  if (graph.ends.empty()) return std::nullopt;
  return builder_->graph(std::move(graph));
}

Expression TextGrammar::any_character() {
  return values_ != nullptr ? values_->character() : characters_.one_of({{0, kLastCharacter}});
}

Result<std::optional<Expression>> TextGrammar::inside(const TextRule& rule) {
  GrammarBuilder& b = *builder_;
  if (rule.max_length >= 0 && rule.max_length < rule.min_length) return std::nullopt;
  if (rule.conditions.empty()) return b.repeat(any_character(), rule.min_length, rule.max_length);
  const TextRule::Condition& first = rule.conditions[0];
  if (rule.conditions.size() == 1 && !first.negated && rule.min_length == 0 && rule.max_length < 0 &&
      Direct::fits(*first.regex)) {
    return Direct(b, characters_, *first.regex).build(any_character());
  }
  ODMOE_ASSIGN_OR_RETURN(const Product all, product(rule));
  if (!all.alive[0]) return std::nullopt;
  int64_t min = rule.min_length, max = rule.max_length;
  // Lengths that its texts have anyway need not be counted.
  const auto [shortest, longest] = lengths(all.automaton, all.alive);
  if (shortest >= min) min = 0;
  if (longest && max >= *longest) max = -1;
  if ((max >= 0 && shortest > max) || (longest && *longest < min)) return std::nullopt;
  auto all_of_them = laid_out(all, min, max);
  if (all_of_them || builder_->too_large()) return all_of_them;
  return fail(ErrorKind::kUsage, "it is too large: with its lengths it takes more than {} states",
              kMaxTextStates);
}

Result<bool> TextGrammar::takes(const TextRule& rule, std::string_view text) {
  int64_t length = 0;
  for (std::string_view rest = text; !rest.empty(); ++length) {
    if (!next_character(rest)) return false;
  }
  if (length < rule.min_length || (rule.max_length >= 0 && length > rule.max_length)) return false;
  for (const TextRule::Condition& condition : rule.conditions) {
    auto entry = known_.find(condition.regex);
    if (entry == known_.end()) {
      if (known_.size() >= kMaxKnownTexts) known_.clear();
      const Regex* regex = condition.regex.get();
      auto alphabet = Alphabet::of(std::span(&regex, 1), builder_->work());
      if (!alphabet)
        return fail(ErrorKind::kUsage, "it is too large: more than {} kinds of characters", kMaxSymbols);
      ODMOE_ASSIGN_OR_RETURN(TextAutomaton automaton, determinize(*regex, *alphabet, builder_->work()));
      entry = known_.emplace(condition.regex, std::pair(*std::move(alphabet), std::move(automaton))).first;
    }
    const auto& [alphabet, automaton] = entry->second;
    if (automaton.takes(text, alphabet) == condition.negated) return false;
  }
  return true;
}

namespace {

// Its alternatives, each from the beginning of the text to its end.
Regex whole(Regex regex) {
  const Regex::Node root = regex.nodes[regex.root];
  const bool many = root.kind == Kind::kChoice;
  const Index start = regex.add({.kind = Kind::kStart}), end = regex.add({.kind = Kind::kEnd});
  Regex::Node all{.kind = Kind::kChoice};
  for (const Index way : many ? root.children : std::vector<Index>{regex.root}) {
    const Regex::Node node = regex.nodes[way];
    std::vector<Index> children = node.kind == Kind::kSequence ? node.children : std::vector<Index>{way};
    if (children.empty() || regex.nodes[children.front()].kind != Kind::kStart)
      children.insert(children.begin(), start);
    if (regex.nodes[children.back()].kind != Kind::kEnd) children.push_back(end);
    all.children.push_back(regex.add({.kind = Kind::kSequence, .children = std::move(children)}));
  }
  regex.root = regex.add(std::move(all));
  return regex;
}

}  // namespace

Result<Expression> add_whole_pattern(GrammarBuilder& builder, std::string_view pattern) {
  ODMOE_ASSIGN_OR_RETURN(Regex regex, parse_regex(pattern));
  TextRule rule;
  rule.conditions.push_back({.regex = std::make_shared<const Regex>(whole(std::move(regex)))});
  ODMOE_ASSIGN_OR_RETURN(const std::optional<Expression> text, TextGrammar(builder).inside(rule));
  if (!text) return fail(ErrorKind::kUsage, "it matches no text");
  return *text;
}

}  // namespace odmoe::grammar
