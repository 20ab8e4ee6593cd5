// Grammars are made from expressions.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/work.h"
#include "odmoe/result.h"

namespace odmoe::grammar {

inline constexpr size_t kMaxNodes = 250'000;     // of the expressions
inline constexpr size_t kMaxChildren = 750'000;  // of all of them
inline constexpr size_t kMaxRules = 100'000;
// The most that a builder and the grammar that it makes take while build() runs, and so at any time.
inline constexpr size_t kMaxBuilderBytes = 24 << 20;

// One owner.  Expressions are handles of the builder that made them, and may be used more than once; each use
// takes states of its own, but for call().
class GrammarBuilder {
 public:
  using Expression = uint32_t;
  using Rule = uint32_t;

  explicit GrammarBuilder(Stop stop = {}) : work_(std::move(stop)) {}

  Expression empty();
  Expression nothing();  // fits nothing: what needs it is left out of the grammar
  Expression literal(std::string_view bytes);
  Expression bytes(const ByteSet& set);
  Expression range(uint8_t first, uint8_t last);
  Expression token(int32_t id);  // one control token
  Expression sequence(std::vector<Expression> children);
  Expression choice(std::vector<Expression> alternatives);  // of none: nothing
  Expression optional(Expression child) { return choice({child, empty()}); }
  // max -1: any number.  Takes states in proportion to the logarithm of the numbers.  The child must not fit
  // the empty text if max is large: every count would be a way of its own.
  Expression repeat(Expression child, int64_t min, int64_t max);
  // One of these texts, which share their beginnings.
  Expression one_of(std::vector<std::string> texts);
  // States and what leads from one to another, from state 0 to one of the ends.
  struct Graph {
    struct Edge {
      uint32_t from = 0, to = 0;
      Expression by = 0;
    };
    uint32_t n_state = 1;
    std::vector<Edge> edges;
    std::vector<uint32_t> ends;
  };
  Expression graph(Graph graph);

  Rule declare();                           // to be defined later
  void define(Rule rule, Expression body);  // once
  Expression call(Rule rule);
  Expression shared(Expression body);  // as a rule of its own, so that every use is one call

  // Whether build() will fail, whatever is added: there is no use in adding more.
  bool too_large() const { return too_large_ || work_.over(); }
  Work& work() { return work_; }
  // kUsage: larger than the limits, nothing fits, or a rule calls itself before a byte was written.
  // kInterrupted: it was asked to stop.
  Result<std::shared_ptr<const Grammar>> build(Expression root);
  // Why it is too large or over; only then.
  Error excess() const;
  // What build() says instead where nothing fits.
  void explain(std::string why) { explanation_ = std::move(why); }

 private:
  struct Node {
    enum class Kind : uint8_t { kEmpty, kNothing, kBytes, kToken, kSequence, kChoice, kCall, kLoop, kGraph };
    Kind kind = Kind::kEmpty;
    uint32_t what = 0;  // kBytes: of sets; kToken: id; kCall: rule; kLoop: expression; kGraph: of them
    uint32_t first = 0, n_child = 0;  // of children_
  };
  struct FlatEdge {
    uint32_t from;
    Grammar::Edge edge;
  };
  Expression add(Node node, const std::vector<Expression>& children = {});
  uint32_t add_state();
  void add_edge(uint32_t from, Grammar::Edge::Kind kind, uint32_t what, uint32_t to);
  void connect(uint32_t from, uint32_t to, Expression expression);
  void connect_graph(uint32_t from, uint32_t to, const Graph& graph);
  Expression power(std::vector<Rule>& powers, size_t exponent);
  Expression up_to(std::vector<Rule>& powers, int64_t most);
  void lay_out(Grammar& grammar);
  void find_heights(Grammar& grammar) const;
  static void trim(Grammar& grammar);
  static bool left_recursive(const Grammar& grammar);

  Work work_;
  std::string explanation_ = "the schema: it allows nothing";
  std::deque<Node> nodes_;
  std::deque<Expression> children_;
  std::deque<Graph> graphs_;
  size_t n_graph_edge_ = 0;
  std::vector<ByteSet> sets_;
  std::unordered_map<ByteSet, uint32_t> set_numbers_;
  std::vector<Expression> bodies_;  // of rules
  std::deque<FlatEdge> edges_;
  std::vector<bool> ends_;  // [states]
  bool too_large_ = false;
};

}  // namespace odmoe::grammar
