// A grammar as a deterministic automaton, made as it is walked.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"

namespace odmoe::grammar {

// Of the places that one state may stand for; the others are left out, which takes no end from those that
// stay.
inline constexpr size_t kMaxPlacesOfState = 8192;

// One owner.  Takes about 1 kB for every state visited, and bytes() in all; flush() bounds them.
class Automaton {
 public:
  static constexpr int32_t kDead = -1;

  explicit Automaton(std::shared_ptr<const Grammar> grammar);

  int32_t start() const { return 0; }
  int32_t next(int32_t state, uint8_t byte);
  int32_t next_token(int32_t state, int32_t token);
  bool accepts(int32_t state) const { return states_[static_cast<size_t>(state)].accepts; }
  // Whether anything may follow.
  bool goes_on(int32_t state) const { return !states_[static_cast<size_t>(state)].places.empty(); }
  std::vector<int32_t> tokens(int32_t state) const;  // control tokens that may follow
  size_t n_state() const { return states_.size(); }
  // What the states take, within a tenth.
  size_t bytes() const;
  // Places looked at so far: what the walk has cost.
  uint64_t work() const { return work_; }
  // Forgets all states but the start's and these, whose new numbers it puts in their place.
  void flush(std::span<int32_t> keep);

 private:
  static constexpr int32_t kUnknown = -2;
  // Where in the grammar one is, and to where the calls one is in return.
  struct Place {
    uint32_t state = 0;
    uint32_t stack = 0;  // of stacks_; 0: none
    auto operator<=>(const Place&) const = default;
  };
  struct Frame {
    uint32_t state = 0, below = 0, depth = 0;
  };
  struct State {
    std::vector<Place> places;  // sorted; those with an edge that takes something
    bool accepts = false;
    std::array<int32_t, 256> next{};
  };
  uint32_t push(uint32_t state, uint32_t below);
  int32_t state_of(std::vector<Place> places);
  int32_t intern(State state);

  std::shared_ptr<const Grammar> grammar_;
  std::vector<Frame> stacks_;
  std::unordered_map<uint64_t, uint32_t> stack_numbers_;  // state and below
  std::vector<State> states_;
  size_t n_place_ = 0;
  uint64_t work_ = 0;
  std::map<std::pair<std::vector<Place>, bool>, int32_t> state_numbers_;
};

}  // namespace odmoe::grammar
