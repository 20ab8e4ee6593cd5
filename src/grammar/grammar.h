// What a model may write, as rules over bytes and tokens.
//
// A grammar is made once, by a GrammarBuilder, and then does not change.  From every state that can be
// reached its rule's end can be reached too, within kMaxDepth nested calls: whoever follows a grammar byte by
// byte never comes to where nothing fits.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace odmoe::grammar {

inline constexpr size_t kMaxStates = 200'000;  // of a grammar
inline constexpr size_t kMaxEdges = 400'000;   // of a grammar
inline constexpr uint32_t kMaxDepth = 512;     // of calls
inline constexpr size_t kMaxByteSets = 16'384;

using ByteSet = std::bitset<256>;

// Immutable, so thread-safe.
class Grammar {
 public:
  struct Edge {
    enum class Kind : uint8_t { kBytes, kToken, kCall, kSkip };
    Kind kind = Kind::kSkip;
    uint32_t what = 0;    // kBytes: of sets; kToken: the token's id; kCall: the rule
    uint32_t target = 0;  // the state that follows, of kCall after the rule's end
  };
  // What a grammar takes at most: edges, states and sets.
  static constexpr size_t kMaxBytes =
      kMaxEdges * sizeof(Edge) + kMaxStates * 12 + kMaxByteSets * sizeof(ByteSet);

  std::span<const Edge> edges(uint32_t state) const {
    return std::span(edges_).subspan(first_edge_[state], first_edge_[state + 1] - first_edge_[state]);
  }
  const ByteSet& set(uint32_t index) const { return sets_[index]; }
  uint32_t start(uint32_t rule) const { return starts_[rule]; }
  bool is_end(uint32_t state) const { return ends_[state]; }  // of its rule
  uint32_t root() const { return root_; }
  // How many calls must nest before the rule's end can be reached from this state.
  uint32_t height(uint32_t state) const { return heights_[state]; }

  size_t n_state() const { return ends_.size(); }
  size_t n_edge() const { return edges_.size(); }
  size_t bytes() const;  // that it takes, at most kMaxBytes

 private:
  friend class GrammarBuilder;
  std::vector<Edge> edges_;
  std::vector<uint32_t> first_edge_;  // [states + 1]
  std::vector<bool> ends_;            // [states]
  std::vector<uint16_t> heights_;     // [states]
  std::vector<ByteSet> sets_;
  std::vector<uint32_t> starts_;  // [rules]
  uint32_t root_ = 0;
};

}  // namespace odmoe::grammar
