#include "grammar/automaton.h"

#include <algorithm>
#include <set>
#include <utility>

namespace odmoe::grammar {

using Kind = Grammar::Edge::Kind;

Automaton::Automaton(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {
  stacks_.emplace_back();
  state_of({{.state = grammar_->start(grammar_->root())}});
}

uint32_t Automaton::push(uint32_t state, uint32_t below) {
  const uint64_t key = uint64_t{state} << 32U | below;
  const auto [entry, fresh] = stack_numbers_.try_emplace(key, static_cast<uint32_t>(stacks_.size()));
  if (fresh) stacks_.push_back({.state = state, .below = below, .depth = stacks_[below].depth + 1});
  return entry->second;
}

// The state for all that can be reached from these places before anything is taken.
int32_t Automaton::state_of(std::vector<Place> pending) {
  std::set<Place> seen;
  State state;
  while (!pending.empty()) {
    const Place place = pending.back();
    pending.pop_back();
    if (!seen.insert(place).second) continue;
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
        case Kind::kBytes:
        case Kind::kToken:
          takes = true;
          break;
        case Kind::kSkip:
          pending.push_back({.state = edge.target, .stack = place.stack});
          break;
        case Kind::kCall:
          if (stacks_[place.stack].depth < kMaxDepth) {
            const uint32_t stack = push(edge.target, place.stack);
            pending.push_back({.state = grammar_->start(edge.what), .stack = stack});
          }
          break;
      }
    }
    if (takes) state.places.push_back(place);
  }
  if (state.places.empty() && !state.accepts) return kDead;
  std::ranges::sort(state.places);
  const auto number = static_cast<int32_t>(states_.size());
  const auto [entry, fresh] = state_numbers_.try_emplace({state.places, state.accepts}, number);
  if (fresh) {
    state.next.fill(kUnknown);
    n_place_ += state.places.size();
    states_.push_back(std::move(state));
  }
  return entry->second;
}

int32_t Automaton::next(int32_t from, uint8_t byte) {
  const int32_t known = states_[static_cast<size_t>(from)].next[byte];
  if (known != kUnknown) return known;
  std::vector<Place> places;
  for (const Place& place : states_[static_cast<size_t>(from)].places) {
    for (const Grammar::Edge& edge : grammar_->edges(place.state)) {
      if (edge.kind == Kind::kBytes && grammar_->set(edge.what).test(byte)) {
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
      if (edge.kind == Kind::kToken && std::cmp_equal(edge.what, token)) {
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
      if (edge.kind == Kind::kToken) tokens.push_back(static_cast<int32_t>(edge.what));
    }
  }
  return tokens;
}

int32_t Automaton::flush(int32_t keep) {
  std::vector<State> kept;
  kept.push_back(states_[0]);
  if (keep != 0) kept.push_back(states_[static_cast<size_t>(keep)]);
  states_ = std::move(kept);
  state_numbers_.clear();
  n_place_ = 0;
  for (size_t i = 0; i < states_.size(); ++i) {
    states_[i].next.fill(kUnknown);
    n_place_ += states_[i].places.size();
    state_numbers_[{states_[i].places, states_[i].accepts}] = static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(states_.size()) - 1;
}

}  // namespace odmoe::grammar
