// Runs a tree.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "jinja/ast.h"

namespace odmoe::jinja {

// The variables of a function that runs.
struct Scope : Object {
  Scope(const Function& function, Scope* the_outer)
      : slots(static_cast<size_t>(function.n_slots)), outer(the_outer) {}
  std::vector<Value> slots;
  Scope* outer;  // of the function around it; null: there is none
};

using Context = std::unordered_map<std::string, Value>;

// One run; one owner.  All arguments must outlive it.
class Interpreter {
 public:
  Interpreter(const Tree& tree, Heap& heap, const Context& context, const std::tm& now)
      : tree_(tree), heap_(heap), context_(context), now_(now) {}

  // What the template prints.  A Failure leaves line() where it happened.
  Text run();
  int line() const { return line_; }

  // For the objects that templates call.
  Value call_macro(const MacroCode& code, std::string_view name, Scope* closure, Arguments& arguments);
  Value run_loop(const For& node, const Value& items, Scope* outer, int depth);
  bool passes(const For& node, const Value& item, Scope* scope);
  void enter(const Loads& loads, Scope& scope);

 private:
  // What comes after a statement.
  enum class Flow { kNext, kBreak, kContinue };

  Flow execute(const Body& body, Scope& scope, TextBuilder& out);
  Flow execute(const Stmt& statement, Scope& scope, TextBuilder& out);
  Flow print(const Print& node, Scope& scope, TextBuilder& out);
  Flow condition(const If& node, Scope& scope, TextBuilder& out);
  Flow loop(const For& node, Scope& scope, TextBuilder& out);
  Flow iterate(const For& node, const Value& items, Scope& outer, Scope& scope, int depth, TextBuilder& out);
  Flow set(const Set& node, Scope& scope);
  Flow set_block(const SetBlock& node, Scope& scope);
  Flow call_block(const CallBlock& node, Scope& scope, TextBuilder& out);
  Flow filter_block(const FilterBlock& node, Scope& scope, TextBuilder& out);
  Flow with(const With& node, Scope& scope, TextBuilder& out);

  Value evaluate(const Expr& expression, Scope& scope);
  Value evaluate_nested(const Expr& expression, Scope& scope);
  Value variable(const Variable& node, Scope& scope);
  Value sequence(const Sequence& node, Scope& scope);
  Value dict(const DictLiteral& node, Scope& scope);
  Value arithmetic(const Arithmetic& node, Scope& scope);
  Value concatenation(const Concatenation& node, Scope& scope);
  Value unary(const Unary& node, Scope& scope);
  Value logic(const Logic& node, Scope& scope);
  Value comparison(const Comparison& node, Scope& scope);
  Value conditional(const Conditional& node, Scope& scope);
  Value filter(const FilterCall& node, Scope& scope, const Value* block = nullptr);
  Value test(const TestCall& node, Scope& scope);
  Value slice(const SliceItem& node, Scope& scope);
  Value call(const Call& node, Scope& scope, const Value* caller = nullptr);
  Arguments arguments(const CallArguments& expressions, Scope& scope);

  void assign(const Target& target, const Value& value, Scope& scope);
  void export_target(const Target& target, Scope& scope);
  Value& slot(const Slot& slot, Scope& scope);
  Value resolve(const std::string& name);

  const Tree& tree_;
  Heap& heap_;
  const Context& context_;
  const std::tm& now_;
  Context exported_;  // what the template set outside of all scopes: what its blocks see
  Context globals_;
  int line_ = 0;
};

}  // namespace odmoe::jinja
