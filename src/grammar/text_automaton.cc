#include "grammar/text_automaton.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

namespace odmoe::grammar {

using Kind = Regex::Node::Kind;

std::optional<Alphabet> Alphabet::of(std::span<const Regex* const> regexes, Work& work) {
  std::set<CharSet> sets;
  for (const Regex* regex : regexes) {
    for (const Regex::Node& node : regex->nodes) {
      if (node.kind == Kind::kSet) sets.insert(node.set);
      if (node.kind == Kind::kWordEdge) sets.insert(kWordSet);
      if (!work.spend(1 + node.set.size())) return std::nullopt;
    }
  }
  Alphabet alphabet;
  std::vector<uint32_t>& firsts = alphabet.firsts_;
  firsts.push_back(0);
  for (const CharSet& set : sets) {
    for (const CharRange& range : set) {
      firsts.push_back(range.first);
      if (range.last < kLastCharacter) firsts.push_back(range.last + 1);
    }
  }
  std::ranges::sort(firsts);
  firsts.erase(std::ranges::unique(firsts).begin(), firsts.end());
  // Every set parts each symbol that it holds only some of.
  std::vector<uint32_t>& symbol_at = alphabet.symbol_at_;
  symbol_at.assign(firsts.size(), 0);
  uint32_t n_symbol = 1;
  for (const CharSet& set : sets) {
    std::unordered_map<uint32_t, uint32_t> inside;
    for (const CharRange& range : set) {
      auto at = static_cast<size_t>(std::ranges::lower_bound(firsts, range.first) - firsts.begin());
      for (; at < firsts.size() && firsts[at] <= range.last; ++at) {
        const auto [entry, fresh] = inside.try_emplace(symbol_at[at], n_symbol);
        if (fresh) ++n_symbol;
        symbol_at[at] = entry->second;
        if (!work.spend()) return std::nullopt;
      }
    }
    // Numbers that are no longer used are given out again.
    std::unordered_map<uint32_t, uint32_t> used;
    for (uint32_t& symbol : symbol_at) {
      symbol = used.try_emplace(symbol, static_cast<uint32_t>(used.size())).first->second;
    }
    if (!work.spend(symbol_at.size())) return std::nullopt;
    n_symbol = static_cast<uint32_t>(used.size());
    if (n_symbol > kMaxSymbols) return std::nullopt;
  }
  alphabet.symbols_.resize(n_symbol);
  for (size_t i = 0; i < firsts.size(); ++i) {
    const uint32_t last = i + 1 < firsts.size() ? firsts[i + 1] - 1 : kLastCharacter;
    alphabet.symbols_[symbol_at[i]].push_back({firsts[i], last});
  }
  for (CharSet& set : alphabet.symbols_) set = normal(std::move(set));
  return alphabet;
}

uint32_t Alphabet::symbol_of(uint32_t character) const {
  const auto after = std::ranges::upper_bound(firsts_, character);
  return symbol_at_[static_cast<size_t>(after - firsts_.begin()) - 1];
}

std::vector<bool> Alphabet::symbols_in(const CharSet& set) const {
  std::vector<bool> in(symbols_.size());
  for (size_t i = 0; i < firsts_.size(); ++i) {
    if (contains(set, firsts_[i])) in[symbol_at_[i]] = true;
  }
  return in;
}

bool TextAutomaton::takes(std::string_view text, const Alphabet& alphabet) const {
  uint32_t state = 0;
  while (!text.empty()) {
    const auto c = next_character(text);
    if (!c) return false;
    state = after(state, alphabet.symbol_of(*c));
  }
  return accepts[state];
}

std::vector<bool> TextAutomaton::alive() const {
  std::vector<std::vector<uint32_t>> from(n_state());
  for (uint32_t state = 0; state < n_state(); ++state) {
    uint32_t before = UINT32_MAX;
    for (uint32_t symbol = 0; symbol < n_symbol; ++symbol) {
      const uint32_t to = after(state, symbol);
      if (to != before) from[to].push_back(state);
      before = to;
    }
  }
  std::vector<bool> alive = accepts;
  std::vector<uint32_t> pending;
  for (uint32_t state = 0; state < n_state(); ++state) {
    if (accepts[state]) pending.push_back(state);
  }
  while (!pending.empty()) {
    const uint32_t state = pending.back();
    pending.pop_back();
    for (const uint32_t before : from[state]) {
      if (alive[before]) continue;
      alive[before] = true;
      pending.push_back(before);
    }
  }
  return alive;
}

namespace {

// What came before: nothing, a word character, another one.
enum Before : uint32_t { kNothing, kWord, kOther };
// What may come next, as bits.
constexpr uint32_t kNextWord = 1, kNextOther = 2, kNextEnd = 4, kNextAny = 7;

// An assertion's automaton, and which of its states take anything or nothing whatever follows.
struct Assertion {
  bool negated = false;
  TextAutomaton automaton;
  std::vector<bool> can_take, can_refuse;
};

// Follows all ways through an expression at once.  A thread is a place in it, what must come next, and the
// states of the lookaheads that it has passed, which must all hold at the end of the text.
class Determinizer {
 public:
  Determinizer(const Regex& regex, const Alphabet& alphabet, Work& work)
      : regex_(&regex), alphabet_(&alphabet), work_(&work), word_(alphabet.symbols_in(kWordSet)) {
    for (const Regex::Node& node : regex.nodes) {
      needs_before_ = needs_before_ || node.kind == Kind::kStart || node.kind == Kind::kWordEdge;
    }
  }

  // Anything may come before the match, or behind it.
  struct Around {
    bool before = true, behind = true;
    Before start = kNothing;
    bool in_assertion = false;
  };

  Result<TextAutomaton> run(Regex::Index root, const Around& around) {
    around_ = around;
    const uint32_t match = add_place();
    places_[match].kind = Place::Kind::kMatch;
    ODMOE_ASSIGN_OR_RETURN(uint32_t entry, build(root, match));
    if (around.before) {
      const uint32_t any = add_place();
      const uint32_t hub = add_place();
      places_[hub] = {.kind = Place::Kind::kSplit, .to = {any, entry}};
      places_[any] = {.kind = Place::Kind::kAny, .to = {hub}};
      entry = hub;
    }
    if (places_.size() > kMaxThreads || work_->over()) return too_large();
    return determinize(entry);
  }

 private:
  struct Place {
    enum class Kind : uint8_t { kSet, kAny, kSplit, kStart, kEnd, kWordEdge, kAhead, kBehind, kMatch };
    Kind kind = Kind::kSplit;
    bool negated = false;
    uint32_t what = 0;  // kSet: of sets_; kAhead: of aheads_; kBehind: of behinds_
    std::vector<uint32_t> to;
  };
  using Thread = std::vector<uint32_t>;  // place, next, then an assertion and its state, again and again
  // A thread's number: its place where anything may come next and no assertion is open, as nearly always;
  // then of special_.
  using Id = uint32_t;
  // What came before, the states of behinds_, then the threads.
  using State = std::vector<uint32_t>;
  struct StateHash {
    size_t operator()(const State& state) const {
      return std::hash<std::string_view>()(
          {reinterpret_cast<const char*>(state.data()), state.size() * sizeof(uint32_t)});
    }
  };

  static std::unexpected<Error> too_large() {
    return fail(ErrorKind::kUsage, "it is too large: it takes more than {} states", kMaxThreads);
  }

  uint32_t add_place() {
    places_.emplace_back();
    return static_cast<uint32_t>(places_.size() - 1);
  }

  // The place from where the node leads to `then`.
  Result<uint32_t> build(Regex::Index index, uint32_t then) {
    if (places_.size() > kMaxThreads || !work_->spend()) return too_large();
    const Regex::Node& node = regex_->nodes[index];
    const auto single = [&](Place place) {
      place.to = {then};
      places_.push_back(std::move(place));
      return static_cast<uint32_t>(places_.size() - 1);
    };
    switch (node.kind) {
      case Kind::kEmpty:
        return then;
      case Kind::kSet:
        return single({.kind = Place::Kind::kSet, .what = set_number(node.set)});
      case Kind::kSequence:
        for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) {
          ODMOE_ASSIGN_OR_RETURN(then, build(*child, then));
        }
        return then;
      case Kind::kChoice: {
        std::vector<uint32_t> ways;
        for (const Regex::Index child : node.children) {
          ODMOE_ASSIGN_OR_RETURN(const uint32_t way, build(child, then));
          ways.push_back(way);
        }
        places_.push_back({.kind = Place::Kind::kSplit, .to = std::move(ways)});
        return static_cast<uint32_t>(places_.size() - 1);
      }
      case Kind::kRepeat:
        return build_repeat(node, then);
      case Kind::kStart:
        return single({.kind = Place::Kind::kStart});
      case Kind::kEnd:
      case Kind::kWordEdge:
        if (!around_.behind) return refuse_inside();
        return single({.kind = node.kind == Kind::kEnd ? Place::Kind::kEnd : Place::Kind::kWordEdge,
                       .negated = node.negated});
      case Kind::kAhead: {
        if (!around_.behind) return refuse_inside();
        ODMOE_ASSIGN_OR_RETURN(const uint32_t number, ahead(node));
        return single({.kind = Place::Kind::kAhead, .what = number});
      }
      case Kind::kBehind: {
        if (around_.in_assertion) return refuse_inside();
        ODMOE_ASSIGN_OR_RETURN(const uint32_t number, behind(node));
        return single({.kind = Place::Kind::kBehind, .what = number});
      }
    }
    std::unreachable();
  }

  static std::unexpected<Error> refuse_inside() {
    return fail(
        ErrorKind::kUsage,
        "(?<= and (?<! are only supported outside of other (? groups, and without (?= (?! \\b and $ inside");
  }

  Result<uint32_t> build_repeat(const Regex::Node& node, uint32_t then) {
    const Regex::Index child = node.children[0];
    if (node.max < 0) {
      const uint32_t hub = add_place();
      ODMOE_ASSIGN_OR_RETURN(const uint32_t again, build(child, hub));
      places_[hub].to = {again, then};
      then = hub;
    } else {
      const uint32_t end = then;
      for (int32_t i = node.min; i < node.max; ++i) {
        ODMOE_ASSIGN_OR_RETURN(const uint32_t more, build(child, then));
        then = add_place();
        places_[then].to = {more, end};
      }
    }
    for (int32_t i = 0; i < node.min; ++i) {
      ODMOE_ASSIGN_OR_RETURN(then, build(child, then));
    }
    return then;
  }

  uint32_t set_number(const CharSet& set) {
    const auto [entry, fresh] = set_numbers_.try_emplace(set, static_cast<uint32_t>(sets_.size()));
    if (fresh) sets_.push_back(alphabet_->symbols_in(set));
    return entry->second;
  }

  // By what came before it, since it may ask for that.
  Result<uint32_t> ahead(const Regex::Node& node) {
    std::array<Assertion, 3> some;
    for (const Before start : {kNothing, kWord, kOther}) {
      if (!needs_before_ && start != kNothing) break;
      ODMOE_ASSIGN_OR_RETURN(
          some[start].automaton,
          Determinizer(*regex_, *alphabet_, *work_)
              .run(node.children[0], {.before = false, .start = start, .in_assertion = true}));
      Assertion& one = some[start];
      one.negated = node.negated;
      one.can_take = one.automaton.alive();
      TextAutomaton opposite = one.automaton;
      opposite.accepts.flip();
      one.can_refuse = opposite.alive();
    }
    aheads_.push_back(std::move(some));
    return static_cast<uint32_t>(aheads_.size() - 1);
  }

  Result<uint32_t> behind(const Regex::Node& node) {
    Assertion one{.negated = node.negated};
    ODMOE_ASSIGN_OR_RETURN(one.automaton,
                           Determinizer(*regex_, *alphabet_, *work_)
                               .run(node.children[0], {.behind = false, .in_assertion = true}));
    behinds_.push_back(std::move(one));
    return static_cast<uint32_t>(behinds_.size() - 1);
  }

  Id id_of(Thread thread) {
    if (thread.size() == 2 && thread[1] == kNextAny) return thread[0];
    const auto [known, fresh] =
        special_ids_.try_emplace(thread, static_cast<Id>(places_.size() + special_.size()));
    if (fresh) special_.push_back(std::move(thread));
    return known->second;
  }
  bool is_plain(Id id) const { return id < places_.size(); }
  Thread thread(Id id) const { return is_plain(id) ? Thread{id, kNextAny} : special_[id - places_.size()]; }
  uint32_t place_of(Id id) const { return is_plain(id) ? id : special_[id - places_.size()][0]; }
  uint32_t next_of(Id id) const { return is_plain(id) ? kNextAny : special_[id - places_.size()][1]; }
  bool takes_whatever_follows(Id id) const {
    return around_.behind && is_plain(id) && places_[id].kind == Place::Kind::kMatch;
  }

  // All threads from these before a character is taken, in the order of their numbers.  `before`: what came
  // before and the states of behinds_.
  std::vector<Id> closure(std::span<const uint32_t> before, std::vector<Id> pending) {
    ++round_;
    std::vector<Id> kept;
    while (!pending.empty() && work_->spend()) {
      const Id id = pending.back();
      pending.pop_back();
      if (id >= seen_in_.size()) seen_in_.resize(places_.size() + special_.size());
      if (std::exchange(seen_in_[id], round_) == round_) continue;
      const Place& place = places_[place_of(id)];
      const auto go = [&](uint32_t next) {
        if (next == 0) return;
        Thread moved = thread(id);
        moved[0] = place.to[0];
        moved[1] = next;
        pending.push_back(id_of(std::move(moved)));
      };
      switch (place.kind) {
        case Place::Kind::kSet:
        case Place::Kind::kAny:
          if ((next_of(id) & (kNextWord | kNextOther)) != 0) kept.push_back(id);
          break;
        case Place::Kind::kMatch:
          kept.push_back(id);
          break;
        case Place::Kind::kSplit:
          if (is_plain(id)) {
            pending.insert(pending.end(), place.to.begin(), place.to.end());
          } else {
            Thread moved = thread(id);
            for (const uint32_t to : place.to) {
              moved[0] = to;
              pending.push_back(id_of(moved));
            }
          }
          break;
        case Place::Kind::kStart:
          go(before[0] == kNothing ? next_of(id) : 0);
          break;
        case Place::Kind::kEnd:
          go(next_of(id) & kNextEnd);
          break;
        case Place::Kind::kWordEdge: {
          const bool other_side_is_word = (before[0] == kWord) == place.negated;
          go(next_of(id) & (other_side_is_word ? kNextWord : kNextOther | kNextEnd));
          break;
        }
        case Place::Kind::kAhead: {
          const uint32_t number = place.what * 3 + (needs_before_ ? before[0] : 0);
          Thread moved = thread(id);
          if (!add_assertion(moved, number, 0)) break;
          moved[0] = place.to[0];
          pending.push_back(id_of(std::move(moved)));
          break;
        }
        case Place::Kind::kBehind: {
          const Assertion& one = behinds_[place.what];
          go(one.automaton.accepts[before[1 + place.what]] != one.negated ? next_of(id) : 0);
          break;
        }
      }
    }
    // One that takes whatever follows makes the others needless.
    const auto decided = std::ranges::find_if(kept, [&](Id id) { return takes_whatever_follows(id); });
    if (decided != kept.end()) return {*decided};
    std::ranges::sort(kept);
    return kept;
  }

  const Assertion& assertion(uint32_t number) const { return aheads_[number / 3][number % 3]; }

  // Whether the thread lives with it; it is left out once it holds whatever follows.
  bool add_assertion(Thread& thread, uint32_t number, uint32_t state) const {
    const Assertion& one = assertion(number);
    const bool can_hold = one.negated ? one.can_refuse[state] : one.can_take[state];
    const bool can_fail = one.negated ? one.can_take[state] : one.can_refuse[state];
    if (!can_hold) return false;
    if (!can_fail) return true;
    for (size_t i = 2; i < thread.size(); i += 2) {
      if (thread[i] == number && thread[i + 1] == state) return true;
    }
    // In their order, so that the same ones are the same thread.
    size_t at = 2;
    while (at < thread.size() && std::pair(thread[at], thread[at + 1]) < std::pair(number, state)) at += 2;
    thread.insert(thread.begin() + static_cast<std::ptrdiff_t>(at), {number, state});
    return true;
  }

  bool holds_at_end(Id id) const {
    if (places_[place_of(id)].kind != Place::Kind::kMatch || (next_of(id) & kNextEnd) == 0) return false;
    if (is_plain(id)) return true;
    const Thread& thread = special_[id - places_.size()];
    for (size_t i = 2; i < thread.size(); i += 2) {
      const Assertion& one = assertion(thread[i]);
      if (one.automaton.accepts[thread[i + 1]] == one.negated) return false;
    }
    return true;
  }

  size_t n_before() const { return 1 + behinds_.size(); }
  std::span<const Id> threads_of(const State& state) const { return std::span(state).subspan(n_before()); }

  // The state of what came before and threads, which are empty or closure()'s.
  State state_of(std::vector<uint32_t> before, std::span<const Id> threads) const {
    // What came before is of no interest where everything is decided.
    if (threads.empty() || takes_whatever_follows(threads[0])) before.assign(before.size(), 0);
    before.insert(before.end(), threads.begin(), threads.end());
    return before;
  }

  State step(const State& state, uint32_t symbol) {
    const bool word = word_[symbol];
    std::vector<uint32_t> before(state.begin(), state.begin() + static_cast<std::ptrdiff_t>(n_before()));
    if (needs_before_) before[0] = word ? kWord : kOther;
    for (size_t i = 0; i < behinds_.size(); ++i)
      before[1 + i] = behinds_[i].automaton.after(before[1 + i], symbol);
    std::vector<Id> moved;
    for (const Id id : threads_of(state)) {
      const Place& place = places_[place_of(id)];
      if ((next_of(id) & (word ? kNextWord : kNextOther)) == 0) continue;
      if (place.kind == Place::Kind::kSet && !sets_[place.what][symbol]) continue;
      const bool matched = place.kind == Place::Kind::kMatch;
      if (matched && !around_.behind) continue;
      const uint32_t to = matched ? place_of(id) : place.to[0];
      if (is_plain(id)) {
        moved.push_back(to);
        continue;
      }
      const Thread& thread = special_[id - places_.size()];
      Thread next = {to, kNextAny};
      bool lives = true;
      for (size_t i = 2; i < thread.size() && lives; i += 2) {
        const uint32_t after = assertion(thread[i]).automaton.after(thread[i + 1], symbol);
        lives = add_assertion(next, thread[i], after);
      }
      if (lives) moved.push_back(id_of(std::move(next)));
    }
    // Looking at a thread takes about an eighth of what following it does.
    work_->spend(threads_of(state).size() / 8);
    const std::vector<Id> threads = closure(before, std::move(moved));
    return state_of(std::move(before), threads);
  }

  Result<TextAutomaton> determinize(uint32_t entry) {
    TextAutomaton automaton{.n_symbol = alphabet_->size()};
    std::unordered_map<State, uint32_t, StateHash> numbers;
    std::vector<const State*> states;
    size_t n_thread = 0;
    const auto number_of = [&](State state) {
      const auto [known, fresh] = numbers.try_emplace(std::move(state), static_cast<uint32_t>(states.size()));
      if (fresh) {
        states.push_back(&known->first);
        n_thread += known->first.size();
      }
      return known->second;
    };
    std::vector<uint32_t> before(n_before());
    before[0] = around_.start;
    const std::vector<Id> threads = closure(before, {entry});
    number_of(state_of(std::move(before), threads));
    for (size_t i = 0; i < states.size(); ++i) {
      automaton.accepts.push_back(
          std::ranges::any_of(threads_of(*states[i]), [&](Id id) { return holds_at_end(id); }));
      for (uint32_t symbol = 0; symbol < automaton.n_symbol; ++symbol) {
        automaton.next.push_back(number_of(step(*states[i], symbol)));
      }
      if (states.size() * automaton.n_symbol > kMaxTextTransitions || n_thread > kMaxTextThreads ||
          special_.size() > kMaxTextThreads || work_->over()) {
        return too_large();
      }
    }
    return automaton;
  }

  const Regex* regex_;
  const Alphabet* alphabet_;
  Work* work_;
  Around around_;
  std::vector<bool> word_;  // by symbol
  bool needs_before_ = false;
  std::vector<Place> places_;
  std::vector<std::vector<bool>> sets_;  // by symbol
  std::map<CharSet, uint32_t> set_numbers_;
  std::vector<std::array<Assertion, 3>> aheads_;
  std::vector<Assertion> behinds_;
  std::vector<Thread> special_;
  std::map<Thread, Id> special_ids_;
  std::vector<uint32_t> seen_in_;  // by thread: the round of closure() that saw it last
  uint32_t round_ = 0;
};

}  // namespace

Result<TextAutomaton> determinize(const Regex& regex, const Alphabet& alphabet, Work& work) {
  return Determinizer(regex, alphabet, work).run(regex.root, {});
}

}  // namespace odmoe::grammar
