// What a model may write, as rules over bytes and tokens, and an automaton that follows it.
//
// A grammar is built once from expressions and then does not change.  Rules may call each other and
// themselves, but not before a byte was written; calls deeper than kMaxDepth are not followed.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "odmoe/result.h"

namespace odmoe::grammar {

inline constexpr size_t kMaxStates = 200'000;   // of a grammar
inline constexpr size_t kMaxNodes = 1'000'000;  // of the expressions that it is made from
inline constexpr uint32_t kMaxDepth = 256;      // of calls

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
  std::span<const Edge> edges(uint32_t state) const {
    return std::span(edges_).subspan(first_edge_[state], first_edge_[state + 1] - first_edge_[state]);
  }
  const ByteSet& set(uint32_t index) const { return sets_[index]; }
  uint32_t start(uint32_t rule) const { return rules_[rule].start; }
  bool is_end(uint32_t state) const { return ends_[state]; }  // of its rule
  uint32_t root() const { return root_; }

 private:
  friend class GrammarBuilder;
  struct Rule {
    uint32_t start = 0;
    bool nullable = false;
  };
  std::vector<Edge> edges_;
  std::vector<uint32_t> first_edge_;  // [states + 1]
  std::vector<bool> ends_;
  std::vector<ByteSet> sets_;
  std::vector<Rule> rules_;
  uint32_t root_ = 0;
};

// One owner.  Expressions are handles of the builder that made them, and may be used more than once.
class GrammarBuilder {
 public:
  using Expression = uint32_t;
  using Rule = uint32_t;

  Expression empty();
  Expression literal(std::string_view bytes);
  Expression bytes(const ByteSet& set);
  Expression range(uint8_t first, uint8_t last);
  Expression token(int32_t id);  // one control token
  Expression sequence(std::vector<Expression> parts);
  Expression choice(std::vector<Expression> alternatives);
  Expression optional(Expression part) { return choice({part, empty()}); }
  // max -1: any number.
  Expression repeat(Expression part, int32_t min, int32_t max);

  Rule declare();                           // to be defined later
  void define(Rule rule, Expression body);  // once
  Expression call(Rule rule);

  // Whether build() will fail for its size, whatever is added: there is no use in adding more.
  bool too_large() const { return too_large_; }
  // kUsage: more than kMaxStates, or a rule that calls itself before a byte was written.
  Result<std::shared_ptr<const Grammar>> build(Expression root);

 private:
  struct Node {
    enum class Kind : uint8_t { kEmpty, kBytes, kToken, kSequence, kChoice, kCall, kLoop };
    Kind kind = Kind::kEmpty;
    uint32_t what = 0;  // kBytes: of sets; kToken: id; kCall: rule; kLoop: the expression
    std::vector<Expression> parts;
  };
  struct State {
    std::vector<Grammar::Edge> edges;
    bool end = false;
  };
  Expression add(Node node);
  uint32_t add_state();
  void connect(uint32_t from, uint32_t to, Expression expression);
  bool left_recursive(Grammar& grammar) const;

  std::vector<Node> nodes_;
  std::vector<ByteSet> sets_;
  std::vector<Expression> bodies_;  // of rules
  std::vector<State> states_;
  bool too_large_ = false;
};

}  // namespace odmoe::grammar
