#include "grammar/automaton.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace odmoe::grammar {

using EdgeKind = Grammar::Edge::Kind;

Automaton::Automaton(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {
  stacks_.emplace_back();
  state_of({{.state = grammar_->start(grammar_->root())}});
}

uint32_t Automaton::push(uint32_t state, uint32_t below) {
  // A call that nothing follows returns to where its caller does.
  if (grammar_->is_end(state) && grammar_->edges(state).empty()) return below;
  const uint64_t key = uint64_t{state} << 32U | below;
  const auto [entry, fresh] = stack_numbers_.try_emplace(key, static_cast<uint32_t>(stacks_.size()));
  if (fresh) stacks_.push_back({.state = state, .below = below, .depth = stacks_[below].depth + 1});
  return entry->second;
}

// The state for all that can be reached from these places before anything is taken.
int32_t Automaton::state_of(std::vector<Place> pending) {
  std::unordered_set<uint64_t> seen;
  State state;
  while (!pending.empty()) {
    const Place place = pending.back();
    pending.pop_back();
    // Where the calls that are still needed would nest too deeply nobody goes.
    if (stacks_[place.stack].depth + grammar_->height(place.state) > kMaxDepth) continue;
    if (!seen.insert(uint64_t{place.state} << 32U | place.stack).second) continue;
    ++work_;
    if (grammar_->is_end(place.state)) {
      if (place.stack == 0) {
        state.accepts = true;
      } else {
        const Frame& frame = stacks_[place.stack];
        pending.push_back({.state = frame.state, .stack = frame.below});
      }
    }
    bool takes = false;
    for (const Grammar::Edge& edge : grammar_->edges(place.state)) {
      switch (edge.kind) {
        case EdgeKind::kBytes:
        case EdgeKind::kToken:
          takes = true;
          break;
        case EdgeKind::kSkip:
          pending.push_back({.state = edge.target, .stack = place.stack});
          break;
        case EdgeKind::kCall: {
          const uint32_t stack = push(edge.target, place.stack);
          pending.push_back({.state = grammar_->start(edge.what), .stack = stack});
          break;
        }
      }
    }
    if (takes && state.places.size() < kMaxPlacesOfState) state.places.push_back(place);
  }
  if (state.places.empty() && !state.accepts) return kDead;
  std::ranges::sort(state.places);
  return intern(std::move(state));
}

int32_t Automaton::intern(State state) {
  const auto number = static_cast<int32_t>(states_.size());
  const auto [entry, fresh] = state_numbers_.try_emplace({state.places, state.accepts}, number);
  if (fresh) {
    state.next.fill(kUnknown);
    n_place_ += state.places.size();
    states_.push_back(std::move(state));
  }
  return entry->second;
}

size_t Automaton::bytes() const {
  constexpr size_t kMapNode = 112, kStackNode = 40;
  return states_.size() * (sizeof(State) + kMapNode) + n_place_ * 2 * sizeof(Place) +
         stacks_.size() * (sizeof(Frame) + kStackNode);
}

int32_t Automaton::next(int32_t from, uint8_t byte) {
  const int32_t known = states_[static_cast<size_t>(from)].next[byte];
  if (known != kUnknown) return known;
  std::vector<Place> places;
  work_ += states_[static_cast<size_t>(from)].places.size();
  for (const Place& place : states_[static_cast<size_t>(from)].places) {
    for (const Grammar::Edge& edge : grammar_->edges(place.state)) {
      if (edge.kind == EdgeKind::kBytes && grammar_->set(edge.what).test(byte)) {
        places.push_back({.state = edge.target, .stack = place.stack});
      }
    }
  }
  const int32_t to = places.empty() ? kDead : state_of(std::move(places));
  states_[static_cast<size_t>(from)].next[byte] = to;
  return to;
}

int32_t Automaton::next_token(int32_t from, int32_t token) {
  std::vector<Place> places;
  for (const Place& place : states_[static_cast<size_t>(from)].places) {
    for (const Grammar::Edge& edge : grammar_->edges(place.state)) {
      if (edge.kind == EdgeKind::kToken && std::cmp_equal(edge.what, token)) {
        places.push_back({.state = edge.target, .stack = place.stack});
      }
    }
  }
  return places.empty() ? kDead : state_of(std::move(places));
}

std::vector<int32_t> Automaton::tokens(int32_t state) const {
  std::vector<int32_t> tokens;
  for (const Place& place : states_[static_cast<size_t>(state)].places) {
    for (const Grammar::Edge& edge : grammar_->edges(place.state)) {
      if (edge.kind == EdgeKind::kToken) tokens.push_back(static_cast<int32_t>(edge.what));
    }
  }
  return tokens;
}

void Automaton::flush(std::span<int32_t> keep) {
  std::vector<State> states = std::move(states_);
  const std::vector<Frame> stacks = std::move(stacks_);
  states_.clear();
  state_numbers_.clear();
  stack_numbers_.clear();
  n_place_ = 0;
  stacks_.assign(1, {});
  std::unordered_map<uint32_t, uint32_t> moved = {{0, 0}};
  const auto move_stack = [&](uint32_t stack) {
    std::vector<uint32_t> path;  // from the top to what is known
    for (; !moved.contains(stack); stack = stacks[stack].below) path.push_back(stack);
    uint32_t below = moved[stack];
    for (auto frame = path.rbegin(); frame != path.rend(); ++frame) {
      below = push(stacks[*frame].state, below);
      moved[*frame] = below;
    }
    return below;
  };
  std::unordered_map<int32_t, int32_t> numbers;
  const auto move_state = [&](int32_t number) {
    const auto known = numbers.find(number);
    if (known != numbers.end()) return known->second;
    State& state = states[static_cast<size_t>(number)];
    for (Place& place : state.places) place.stack = move_stack(place.stack);
    std::ranges::sort(state.places);
    const int32_t moved_to = intern(std::move(state));
    numbers.emplace(number, moved_to);
    return moved_to;
  };
  move_state(0);
  for (int32_t& state : keep) state = move_state(state);
}

}  // namespace odmoe::grammar
