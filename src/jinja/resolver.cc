#include "jinja/resolver.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/failure.h"
#include "jinja/filter_functions.h"
#include "jinja/symbols.h"
#include "jinja/walk.h"

namespace odmoe::jinja {
namespace {

// -- Which names a body asks for without setting them first: jinja2's find_undeclared().

class UndeclaredNames {
 public:
  explicit UndeclaredNames(std::set<std::string> wanted) : wanted_(std::move(wanted)) {}

  const std::set<std::string>& find(const Body& body) {
    visit(body);
    return found_;
  }

 private:
  void visit(const Body& body) {
    for (const StmtPtr& statement : body) visit(*statement);
  }
  void visit(const ExprPtr& expression) {
    if (expression) visit(*expression);
  }
  void visit(const Target& target) {
    for (const Target& part : target.parts) visit(part);
    if (target.kind == Target::Kind::kVariable) wanted_.erase(target.name);
  }
  void visit(Expr& expression) {
    if (expression.kind == ExprKind::kVariable) {
      const std::string& name = static_cast<Variable&>(expression).name;
      if (wanted_.contains(name)) found_.insert(name);
    }
    for_each_operand(expression, [this](Expr& operand) { visit(operand); });
  }
  void visit(const MacroCode& code) {
    for (const std::string& name : code.names) wanted_.erase(name);
    for (const ExprPtr& value : code.defaults) visit(value);
    visit(code.body);
  }
  void visit(Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kPrint:
        for (const ExprPtr& value : static_cast<Print&>(statement).values) visit(value);
        return;
      case StmtKind::kFor: {
        auto& node = static_cast<For&>(statement);
        visit(node.target);
        visit(node.items);
        visit(node.body);
        visit(node.otherwise);
        return visit(node.condition);
      }
      case StmtKind::kIf: {
        auto& node = static_cast<If&>(statement);
        for (const auto& [test, body] : node.branches) {
          visit(test);
          visit(body);
        }
        return visit(node.otherwise);
      }
      case StmtKind::kSet: {
        auto& node = static_cast<Set&>(statement);
        visit(node.target);
        return visit(node.value);
      }
      case StmtKind::kSetBlock: {
        auto& node = static_cast<SetBlock&>(statement);
        visit(node.target);
        visit(node.filter);
        return visit(node.body);
      }
      case StmtKind::kMacro:
        return visit(static_cast<Macro&>(statement).code);
      case StmtKind::kCallBlock: {
        auto& node = static_cast<CallBlock&>(statement);
        visit(node.call);
        return visit(node.code);
      }
      case StmtKind::kFilterBlock: {
        auto& node = static_cast<FilterBlock&>(statement);
        visit(node.body);
        return visit(node.filter);
      }
      case StmtKind::kWith: {
        auto& node = static_cast<With&>(statement);
        for (const auto& [target, value] : node.values) {
          visit(target);
          visit(value);
        }
        return visit(node.body);
      }
      case StmtKind::kData:
      case StmtKind::kBlock:
      case StmtKind::kBreak:
      case StmtKind::kContinue:
      case StmtKind::kRefused:
        return;
    }
  }

  std::set<std::string> wanted_, found_;
};

// -- What the statements of one scope load and store, without those of scopes within it.

class ScopeVisitor {
 public:
  explicit ScopeVisitor(Symbols& symbols) : symbols_(&symbols) {}

  void visit(const Body& body) {
    for (const StmtPtr& statement : body) visit(*statement);
  }
  void visit(const ExprPtr& expression) {
    if (expression) visit(*expression);
  }
  void visit(Expr& expression) {
    if (expression.kind == ExprKind::kVariable) symbols_->load(static_cast<Variable&>(expression).name);
    for_each_operand(expression, [this](Expr& operand) { visit(operand); });
  }
  void visit(const Target& target) {
    switch (target.kind) {
      case Target::Kind::kVariable:
        return symbols_->store(target.name);
      case Target::Kind::kAttribute:
        return symbols_->load(target.name);
      case Target::Kind::kTuple:
        for (const Target& part : target.parts) visit(part);
    }
  }
  void declare(const Target& target) {
    for (const Target& part : target.parts) declare(part);
    if (target.kind == Target::Kind::kVariable) symbols_->declare_parameter(target.name);
  }

 private:
  void visit(Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kPrint:
        for (const ExprPtr& value : static_cast<Print&>(statement).values) visit(value);
        return;
      case StmtKind::kFor:
        return visit(static_cast<For&>(statement).items);
      case StmtKind::kIf:
        return branches(static_cast<If&>(statement));
      case StmtKind::kSet:
        visit(static_cast<Set&>(statement).value);
        return visit(static_cast<Set&>(statement).target);
      case StmtKind::kSetBlock:
        return visit(static_cast<SetBlock&>(statement).target);
      case StmtKind::kMacro:
        return symbols_->store(static_cast<Macro&>(statement).name);
      case StmtKind::kCallBlock:
        return visit(static_cast<CallBlock&>(statement).call);
      case StmtKind::kFilterBlock:
        return visit(static_cast<FilterBlock&>(statement).filter);
      case StmtKind::kWith:
        for (const auto& [target, value] : static_cast<With&>(statement).values) visit(value);
        return;
      case StmtKind::kData:
      case StmtKind::kBlock:
      case StmtKind::kBreak:
      case StmtKind::kContinue:
      case StmtKind::kRefused:
        return;
    }
  }

  template <typename Visit>
  Symbols branch(const Visit& visit_body) {
    Symbols copy = *symbols_;
    Symbols* const whole = std::exchange(symbols_, &copy);
    visit_body();
    symbols_ = whole;
    return copy;
  }

  void branches(If& node) {
    visit(node.branches[0].first);
    std::vector<Symbols> all;
    all.push_back(branch([&] { visit(node.branches[0].second); }));
    all.push_back(branch([&] {
      for (size_t i = 1; i < node.branches.size(); ++i) {
        const auto& elif = node.branches[i];
        visit(elif.first);
        std::vector<Symbols> one;
        one.push_back(branch([&] { visit(elif.second); }));
        symbols_->branch_update(one);
      }
    }));
    all.push_back(branch([&] { visit(node.otherwise); }));
    symbols_->branch_update(all);
  }

  Symbols* symbols_;
};

// -- The whole.

// What is known about the place of a statement.
struct Frame {
  const Symbols* symbols;
  SlotTable* slots;
  bool may_not_run = false;  // in a branch: what is wrong there is so only when it runs
  bool toplevel = false;
  bool in_loop = false;  // of the same function
  bool in_for = false;   // of whatever function
};

class Resolver {
 public:
  void run(Tree& tree) {
    wider_ = tree.wider;
    SlotTable slots(tree.function, nullptr);
    Symbols symbols(nullptr, slots);
    ScopeVisitor(symbols).visit(tree.body);
    tree.loads = symbols.loads();
    resolve(tree.body, {.symbols = &symbols, .slots = &slots, .toplevel = true});
  }

 private:
  static Frame inner(const Frame& outer, const Symbols& symbols, SlotTable& slots) {
    return {.symbols = &symbols, .slots = &slots, .in_loop = outer.in_loop, .in_for = outer.in_for};
  }

  void resolve(const Body& body, const Frame& frame) {
    for (const StmtPtr& statement : body) resolve(*statement, frame);
  }

  void resolve(const ExprPtr& expression, const Frame& frame) {
    if (expression) resolve(*expression, frame);
  }

  void resolve(Expr& expression, const Frame& frame) {
    Frame within = frame;
    switch (expression.kind) {
      case ExprKind::kVariable: {
        auto& variable = static_cast<Variable&>(expression);
        variable.slot = frame.symbols->slot(variable.name);
        return;
      }
      case ExprKind::kConditional:
        within.may_not_run = true;
        break;
      case ExprKind::kFilter: {
        auto& node = static_cast<FilterCall&>(expression);
        if (wider_ && node.name == "from_json") node.filter = filter_from_json;
        if (node.filter == nullptr && !frame.may_not_run)
          raise_at(node.line, "No filter named '{}'", node.name);
        break;
      }
      case ExprKind::kTest: {
        const auto& node = static_cast<TestCall&>(expression);
        if (node.test == nullptr && !frame.may_not_run) raise_at(node.line, "No test named '{}'", node.name);
        break;
      }
      default:
        break;
    }
    for_each_operand(expression, [&](Expr& operand) { resolve(operand, within); });
  }

  void resolve(Target& target, const Symbols& symbols, bool in_for) {
    for (Target& part : target.parts) resolve(part, symbols, in_for);
    if (target.kind == Target::Kind::kTuple) return;
    target.slot = symbols.slot(target.name);
    if (in_for && target.kind == Target::Kind::kVariable && target.name == "loop") {
      raise_at(target.line, "Can't assign to special loop variable in for-loop target");
    }
  }

  void resolve(Stmt& statement, const Frame& frame) {
    switch (statement.kind) {
      case StmtKind::kPrint:
        for (const ExprPtr& value : static_cast<Print&>(statement).values) resolve(value, frame);
        return;
      case StmtKind::kFor:
        return for_loop(static_cast<For&>(statement), frame);
      case StmtKind::kIf:
        return condition(static_cast<If&>(statement), frame);
      case StmtKind::kSet: {
        auto& node = static_cast<Set&>(statement);
        resolve(node.target, *frame.symbols, frame.in_for);
        node.exported = frame.toplevel;
        return resolve(node.value, frame);
      }
      case StmtKind::kSetBlock:
        return set_block(static_cast<SetBlock&>(statement), frame);
      case StmtKind::kMacro: {
        auto& node = static_cast<Macro&>(statement);
        node.slot = frame.symbols->slot(node.name);
        node.exported = frame.toplevel;
        return macro(node.code, frame);
      }
      case StmtKind::kCallBlock: {
        auto& node = static_cast<CallBlock&>(statement);
        macro(node.code, frame);
        return resolve(node.call, frame);
      }
      case StmtKind::kFilterBlock:
        return filter_block(static_cast<FilterBlock&>(statement), frame);
      case StmtKind::kWith:
        return with(static_cast<With&>(statement), frame);
      case StmtKind::kBlock:
        return block(static_cast<Block&>(statement));
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        if (!frame.in_loop) raise_at(statement.line, "'break' or 'continue' outside loop");
        return;
      case StmtKind::kData:
      case StmtKind::kRefused:
        return;
    }
  }

  void condition(If& node, const Frame& frame) {
    Frame branch = frame;
    branch.may_not_run = true;
    for (auto& [test, body] : node.branches) {
      resolve(test, branch);
      resolve(body, branch);
    }
    resolve(node.otherwise, branch);
  }

  void for_loop(For& node, const Frame& frame) {
    SlotTable own(node.function, frame.slots);
    SlotTable& slots = node.recursive ? own : *frame.slots;

    Symbols body(frame.symbols, slots);
    if (node.recursive || !UndeclaredNames({"loop"}).find(node.body).empty()) {
      node.loop = body.declare_parameter("loop");
    }
    ScopeVisitor visitor(body);
    visitor.declare(node.target);
    visitor.visit(node.body);
    Symbols otherwise(frame.symbols, slots);
    ScopeVisitor(otherwise).visit(node.otherwise);
    Symbols test(frame.symbols, *frame.slots, /*apart=*/true);
    ScopeVisitor test_visitor(test);
    test_visitor.declare(node.target);
    test_visitor.visit(node.condition);

    node.condition_target = node.target;
    resolve(node.target, body, /*in_for=*/true);
    resolve(node.items, frame);
    if (node.condition) {
      resolve(node.condition_target, test, /*in_for=*/true);
      resolve(node.condition, inner(frame, test, *frame.slots));
      node.condition_loads = test.loads();
    }
    Frame in_body = inner(frame, body, slots);
    in_body.in_loop = in_body.in_for = true;
    resolve(node.body, in_body);
    node.loads = body.loads();
    Frame in_otherwise = inner(frame, otherwise, slots);
    in_otherwise.in_loop = frame.in_loop && !node.recursive;
    in_otherwise.in_for = true;
    resolve(node.otherwise, in_otherwise);
    node.otherwise_loads = otherwise.loads();
  }

  void set_block(SetBlock& node, const Frame& frame) {
    Symbols symbols(frame.symbols, *frame.slots);
    ScopeVisitor visitor(symbols);
    visitor.visit(node.body);
    visitor.visit(node.filter);
    resolve(node.target, *frame.symbols, frame.in_for);
    node.exported = frame.toplevel;
    const Frame within = inner(frame, symbols, *frame.slots);
    resolve(node.body, within);
    resolve(node.filter, within);
    node.loads = symbols.loads();
  }

  void filter_block(FilterBlock& node, const Frame& frame) {
    Symbols symbols(frame.symbols, *frame.slots);
    ScopeVisitor visitor(symbols);
    visitor.visit(node.body);
    visitor.visit(node.filter);
    const Frame within = inner(frame, symbols, *frame.slots);
    resolve(node.body, within);
    resolve(node.filter, within);
    node.loads = symbols.loads();
  }

  void with(With& node, const Frame& frame) {
    Symbols symbols(frame.symbols, *frame.slots);
    ScopeVisitor visitor(symbols);
    for (const auto& [target, value] : node.values) visitor.declare(target);
    visitor.visit(node.body);
    for (auto& [target, value] : node.values) {
      resolve(target, symbols, /*in_for=*/false);
      resolve(value, frame);
    }
    resolve(node.body, inner(frame, symbols, *frame.slots));
    node.loads = symbols.loads();
  }

  void macro(MacroCode& code, const Frame& frame) {
    SlotTable slots(code.function, frame.slots);
    Symbols symbols(frame.symbols, slots);
    code.parameters.reserve(code.names.size());
    for (const std::string& name : code.names) code.parameters.push_back(symbols.declare_parameter(name));
    const auto undeclared = UndeclaredNames({"caller", "kwargs", "varargs"}).find(code.body);
    const auto caller = std::ranges::find(code.names, "caller");
    code.explicit_caller = caller != code.names.end();
    if (undeclared.contains("caller")) {
      if (!code.explicit_caller) {
        code.caller = symbols.declare_parameter("caller");
      } else if (std::cmp_greater(code.names.end() - caller, code.defaults.size())) {
        raise_at(code.line, "the special \"caller\" argument must be omitted or be given a default");
      }
    }
    const auto special = [&](const std::string& name, std::optional<int>& slot) {
      const bool wanted = undeclared.contains(name) && !std::ranges::contains(code.names, name);
      if (wanted) slot = symbols.declare_parameter(name);
    };
    special("kwargs", code.kwargs);
    special("varargs", code.varargs);
    ScopeVisitor visitor(symbols);
    for (const ExprPtr& value : code.defaults) visitor.visit(value);
    visitor.visit(code.body);
    Frame within{.symbols = &symbols, .slots = &slots, .in_for = frame.in_for};
    for (const ExprPtr& value : code.defaults) resolve(value, within);
    resolve(code.body, within);
    code.loads = symbols.loads();
  }

  void block(Block& node) {
    if (!blocks_.insert(node.name).second) raise_at(node.line, "block '{}' defined twice", node.name);
    SlotTable slots(node.function, nullptr);
    Symbols symbols(nullptr, slots);
    ScopeVisitor(symbols).visit(node.body);
    resolve(node.body, {.symbols = &symbols, .slots = &slots});
    node.loads = symbols.loads();
  }

  std::set<std::string> blocks_;

  bool wider_ = false;
};

}  // namespace

void resolve(Tree& tree) { Resolver().run(tree); }

}  // namespace odmoe::jinja
