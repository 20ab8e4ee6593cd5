#include "jinja/interpreter.h"

#include <optional>
#include <utility>

#include "jinja/access.h"
#include "jinja/arithmetic.h"
#include "jinja/compare.h"
#include "jinja/globals.h"
#include "jinja/loop.h"
#include "jinja/show.h"

namespace odmoe::jinja {
namespace {

struct MacroObject : Callable {
  MacroObject(Interpreter& the_interpreter, const MacroCode& the_code, std::string_view the_name,
              Scope* the_closure)
      : Callable("Macro", the_name), interpreter(the_interpreter), code(the_code), closure(the_closure) {}

  Value call(Heap&, Arguments& arguments) override {
    return interpreter.call_macro(code, name, closure, arguments);
  }

  std::optional<Value> member(Heap& heap, std::string_view wanted) override {
    if (wanted == "name") return make_text(name);
    if (wanted == "caller") return code.caller.has_value() || code.explicit_caller;
    if (wanted == "catch_kwargs") return code.kwargs.has_value();
    if (wanted == "catch_varargs") return code.varargs.has_value();
    if (wanted == "arguments") {
      std::vector<Value> names;
      names.reserve(code.names.size());
      for (const std::string& one : code.names) names.push_back(make_text(one));
      return make_tuple(heap, std::move(names));
    }
    return std::nullopt;
  }

  Interpreter& interpreter;
  const MacroCode& code;
  Scope* closure;
};

// The items that the condition of a `for` lets through.
struct PassingItems : Iterator {
  PassingItems(Heap& heap, const Value& source, Interpreter& the_interpreter, const For& the_node,
               Scope* the_scope)
      : Iterator("generator", source),
        items(heap, source),
        interpreter(the_interpreter),
        node(the_node),
        scope(the_scope) {}

  std::optional<Value> next(Heap&) override {
    if (!std::exchange(begun, true)) interpreter.enter(node.condition_loads, *scope);
    while (auto item = items.next()) {
      if (interpreter.passes(node, *item, scope)) return item;
    }
    return std::nullopt;
  }

  Items items;
  Interpreter& interpreter;
  const For& node;
  Scope* scope;
  bool begun = false;
};

bool holds(Heap& heap, Relation relation, const Value& left, const Value& right) {
  switch (relation) {
    case Relation::kEqual:
      return equals(left, right);
    case Relation::kNotEqual:
      return !equals(left, right);
    case Relation::kLess:
      return less(left, right);
    case Relation::kLessOrEqual:
      return less_or_equal(left, right);
    case Relation::kGreater:
      return less(right, left, ">");
    case Relation::kGreaterOrEqual:
      return less_or_equal(right, left, ">=");
    case Relation::kIn:
      return contains(heap, right, left);
    case Relation::kNotIn:
      return !contains(heap, right, left);
  }
  std::unreachable();
}

}  // namespace

Text Interpreter::run() {
  Scope* scope = heap_.make<Scope>(tree_.function, nullptr);
  TextBuilder out(heap_);
  enter(tree_.loads, *scope);
  execute(tree_.body, *scope, out);
  return out.take();
}

// -- Variables

void Interpreter::enter(const Loads& loads, Scope& scope) {
  for (const Load& load : loads) {
    Value value;
    if (load.from == Load::From::kContext) value = resolve(load.name);
    if (load.from == Load::From::kSlot) value = slot(load.slot, scope);
    scope.slots[static_cast<size_t>(load.index)] = std::move(value);
  }
}

Value Interpreter::resolve(const std::string& name) {
  if (const auto found = exported_.find(name); found != exported_.end()) return found->second;
  if (const auto found = context_.find(name); found != context_.end()) return found->second;
  if (const auto found = globals_.find(name); found != globals_.end()) return found->second;
  Value global = find_global(heap_, name, now_);
  if (!global.is_nothing()) globals_.emplace(name, global);
  return global;
}

Value& Interpreter::slot(const Slot& slot, Scope& scope) {
  Scope* at = &scope;
  for (int hops = slot.hops; hops > 0; --hops) at = at->outer;
  return at->slots[static_cast<size_t>(slot.index)];
}

void Interpreter::assign(const Target& target, const Value& value, Scope& scope) {
  switch (target.kind) {
    case Target::Kind::kVariable:
      slot(target.slot, scope) = value;
      return;
    case Target::Kind::kAttribute: {
      auto* space = dynamic_cast<Namespace*>(slot(target.slot, scope).members());
      if (space == nullptr) raise(FailureKind::kRuntime, "cannot assign attribute on non-namespace object");
      space->set(heap_, target.attribute, value);
      return;
    }
    case Target::Kind::kTuple:
      break;
  }
  if (!is_iterable(value))
    raise(FailureKind::kType, "cannot unpack non-iterable {} object", type_name(value));
  Items items(heap_, value);
  std::vector<Value> parts;
  while (auto item = items.next()) {
    if (parts.size() == target.parts.size()) {
      raise(FailureKind::kValue, "too many values to unpack (expected {})", target.parts.size());
    }
    parts.push_back(*std::move(item));
  }
  if (parts.size() < target.parts.size()) {
    raise(FailureKind::kValue, "not enough values to unpack (expected {}, got {})", target.parts.size(),
          parts.size());
  }
  for (size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i], scope);
}

void Interpreter::export_target(const Target& target, Scope& scope) {
  for (const Target& part : target.parts) export_target(part, scope);
  if (target.kind == Target::Kind::kVariable) exported_[target.name] = slot(target.slot, scope);
}

// -- Statements

Interpreter::Flow Interpreter::execute(const Body& body, Scope& scope, TextBuilder& out) {
  for (const StmtPtr& statement : body) {
    const Flow flow = execute(*statement, scope, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Stmt& statement, Scope& scope, TextBuilder& out) {
  heap_.work(1);
  line_ = statement.line;
  if (out.size() > heap_.limits().output_bytes) {
    raise(FailureKind::kLimit, "prints more than {} KiB", heap_.limits().output_bytes >> 10U);
  }
  if (statement.kind == StmtKind::kData) {
    out.add(static_cast<const Data&>(statement).text);
    return Flow::kNext;
  }
  const Heap::Level level(heap_);
  switch (statement.kind) {
    case StmtKind::kPrint:
      return print(static_cast<const Print&>(statement), scope, out);
    case StmtKind::kFor:
      return loop(static_cast<const For&>(statement), scope, out);
    case StmtKind::kIf:
      return condition(static_cast<const If&>(statement), scope, out);
    case StmtKind::kSet:
      return set(static_cast<const Set&>(statement), scope);
    case StmtKind::kSetBlock:
      return set_block(static_cast<const SetBlock&>(statement), scope);
    case StmtKind::kMacro: {
      const auto& node = static_cast<const Macro&>(statement);
      Value& variable = slot(node.slot, scope);
      variable = heap_.make<MacroObject>(*this, node.code, node.name, &scope);
      if (node.exported) exported_[node.name] = variable;
      return Flow::kNext;
    }
    case StmtKind::kCallBlock:
      return call_block(static_cast<const CallBlock&>(statement), scope, out);
    case StmtKind::kFilterBlock:
      return filter_block(static_cast<const FilterBlock&>(statement), scope, out);
    case StmtKind::kWith:
      return with(static_cast<const With&>(statement), scope, out);
    case StmtKind::kBlock: {
      const auto& node = static_cast<const Block&>(statement);
      Scope* own = heap_.make<Scope>(node.function, nullptr);
      enter(node.loads, *own);
      return execute(node.body, *own, out);
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    case StmtKind::kRefused:
      raise(FailureKind::kRuntime, "'{}' is not for chat templates",
            static_cast<const Refused&>(statement).name);
    case StmtKind::kData:
      break;
  }
  std::unreachable();
}

Interpreter::Flow Interpreter::print(const Print& node, Scope& scope, TextBuilder& out) {
  for (const ExprPtr& expression : node.values) {
    const Value value = evaluate(*expression, scope);
    line_ = node.line;
    append_text(heap_, value, out);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::condition(const If& node, Scope& scope, TextBuilder& out) {
  for (const auto& [test, body] : node.branches) {
    if (truth(evaluate(*test, scope))) return execute(body, scope, out);
  }
  return execute(node.otherwise, scope, out);
}

Interpreter::Flow Interpreter::loop(const For& node, Scope& scope, TextBuilder& out) {
  const Value items = evaluate(*node.items, scope);
  line_ = node.line;
  if (!node.recursive) return iterate(node, items, scope, scope, 0, out);
  out.add(run_loop(node, items, &scope, 0).text());
  return Flow::kNext;
}

Value Interpreter::run_loop(const For& node, const Value& items, Scope* outer, int depth) {
  const Heap::Level level(heap_);
  const int line = line_;
  Scope* scope = heap_.make<Scope>(node.function, outer);
  TextBuilder out(heap_);
  iterate(node, items, *outer, *scope, depth, out);
  line_ = line;
  return out.take();
}

bool Interpreter::passes(const For& node, const Value& item, Scope* scope) {
  assign(node.condition_target, item, *scope);
  return truth(evaluate(*node.condition, *scope));
}

Interpreter::Flow Interpreter::iterate(const For& node, const Value& items, Scope& outer, Scope& scope,
                                       int depth, TextBuilder& out) {
  Value source = items;
  if (node.condition) source = heap_.make<PassingItems>(heap_, items, *this, node, &outer);
  Loop* about = nullptr;
  std::optional<Items> plain;
  if (node.loop) {
    Loop::Recurse recurse;
    if (node.recursive) {
      recurse = [this, &node, &outer](const Value& inner, int its_depth) {
        return run_loop(node, inner, &outer, its_depth);
      };
    }
    about = heap_.make<Loop>(heap_, source, depth, std::move(recurse));
  } else {
    plain.emplace(heap_, source);
  }
  bool completed = false;  // some round came to its end, which `else` goes by
  while (true) {
    line_ = node.line;
    const auto item = about != nullptr ? about->advance() : plain->next();
    if (!item) break;
    assign(node.target, *item, scope);
    if (about != nullptr) scope.slots[static_cast<size_t>(*node.loop)] = about;
    enter(node.loads, scope);
    const Flow flow = execute(node.body, scope, out);
    if (flow == Flow::kBreak) break;
    completed |= flow == Flow::kNext;
  }
  if (completed || node.otherwise.empty()) return Flow::kNext;
  enter(node.otherwise_loads, scope);
  return execute(node.otherwise, scope, out);
}

Interpreter::Flow Interpreter::set(const Set& node, Scope& scope) {
  const auto check = [&](const auto& self, const Target& target) -> void {
    for (const Target& part : target.parts) self(self, part);
    if (target.kind != Target::Kind::kAttribute) return;
    if (dynamic_cast<Namespace*>(slot(target.slot, scope).members()) == nullptr) {
      raise(FailureKind::kRuntime, "cannot assign attribute on non-namespace object");
    }
  };
  check(check, node.target);  // before the value, as jinja2 does
  const Value value = evaluate(*node.value, scope);
  line_ = node.line;
  assign(node.target, value, scope);
  if (node.exported) export_target(node.target, scope);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::set_block(const SetBlock& node, Scope& scope) {
  TextBuilder text(heap_);
  enter(node.loads, scope);
  const Flow flow = execute(node.body, scope, text);
  if (flow != Flow::kNext) return flow;
  Value value = text.take();
  if (node.filter) value = filter(static_cast<const FilterCall&>(*node.filter), scope, &value);
  assign(node.target, value, scope);
  if (node.exported) export_target(node.target, scope);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::call_block(const CallBlock& node, Scope& scope, TextBuilder& out) {
  const Value caller = heap_.make<MacroObject>(*this, node.code, "", &scope);
  if (node.call) {
    append_text(heap_, call(static_cast<const Call&>(*node.call), scope, &caller), out);
  } else {
    Arguments none;
    append_text(heap_, call_macro(node.code, "generation", &scope, none), out);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::filter_block(const FilterBlock& node, Scope& scope, TextBuilder& out) {
  TextBuilder text(heap_);
  enter(node.loads, scope);
  const Flow flow = execute(node.body, scope, text);
  if (flow != Flow::kNext) return flow;
  const Value block = text.take();
  append_text(heap_, filter(static_cast<const FilterCall&>(*node.filter), scope, &block), out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::with(const With& node, Scope& scope, TextBuilder& out) {
  enter(node.loads, scope);
  for (const auto& [target, value] : node.values) assign(target, evaluate(*value, scope), scope);
  return execute(node.body, scope, out);
}

Value Interpreter::call_macro(const MacroCode& code, std::string_view name, Scope* closure,
                              Arguments& arguments) {
  const Heap::Level level(heap_);
  const int line = line_;
  Scope* scope = heap_.make<Scope>(code.function, closure);
  const auto variable = [&](int index) -> Value& { return scope->slots[static_cast<size_t>(index)]; };
  const auto take_named = [&](std::string_view wanted) -> Value {
    for (auto at = arguments.named.begin(); at != arguments.named.end(); ++at) {
      if (at->first.view() != wanted) continue;
      Value value = std::move(at->second);
      arguments.named.erase(at);
      return value;
    }
    return {};
  };
  const size_t n_names = code.names.size();
  std::vector<Value> values(n_names);
  for (size_t i = 0; i < n_names; ++i) {
    values[i] = i < arguments.positional.size() ? arguments.positional[i] : take_named(code.names[i]);
  }
  if (code.caller) {
    Value caller = take_named("caller");
    const bool none = caller.is_nothing() || caller.is_none();
    variable(*code.caller) = none ? make_undefined(heap_, "No caller defined") : std::move(caller);
  }
  if (code.kwargs) {
    Dict* rest = heap_.make<Dict>();
    for (const auto& [key, value] : arguments.named) rest->set(heap_, key, value);
    variable(*code.kwargs) = rest;
  } else if (!arguments.named.empty()) {
    raise(FailureKind::kType, "macro '{}' takes no keyword argument '{}'", name,
          arguments.named[0].first.view());
  }
  if (code.varargs) {
    std::vector<Value> rest;
    rest.reserve(arguments.positional.size());
    for (size_t i = n_names; i < arguments.positional.size(); ++i) rest.push_back(arguments.positional[i]);
    variable(*code.varargs) = make_tuple(heap_, std::move(rest));
  } else if (arguments.positional.size() > n_names) {
    raise(FailureKind::kType, "macro '{}' takes not more than {} argument(s)", name, n_names);
  }

  enter(code.loads, *scope);
  const size_t n_without_default = n_names - code.defaults.size();
  // Set before the defaults are evaluated: these see all that was given.
  for (size_t i = 0; i < n_names; ++i) variable(code.parameters[i]) = values[i];
  for (size_t i = 0; i < n_names; ++i) {
    Value& parameter = variable(code.parameters[i]);
    if (!parameter.is_nothing()) continue;
    if (i < n_without_default) {
      parameter = make_undefined(heap_, odmoe::format("parameter '{}' was not provided", code.names[i]));
    } else {
      Value value = evaluate(*code.defaults[i - n_without_default], *scope);
      variable(code.parameters[i]) = std::move(value);
    }
  }
  TextBuilder out(heap_);
  execute(code.body, *scope, out);
  line_ = line;
  return out.take();
}

// -- Expressions

Value Interpreter::evaluate(const Expr& expression, Scope& scope) {
  heap_.work(1);
  if (expression.kind == ExprKind::kConstant) return static_cast<const Constant&>(expression).value;
  if (expression.kind == ExprKind::kVariable)
    return variable(static_cast<const Variable&>(expression), scope);
  const Heap::Level level(heap_);
  return evaluate_nested(expression, scope);
}

Value Interpreter::evaluate_nested(const Expr& expression, Scope& scope) {
  switch (expression.kind) {
    case ExprKind::kSequence:
      return sequence(static_cast<const Sequence&>(expression), scope);
    case ExprKind::kDict:
      return dict(static_cast<const DictLiteral&>(expression), scope);
    case ExprKind::kArithmetic:
      return arithmetic(static_cast<const Arithmetic&>(expression), scope);
    case ExprKind::kConcatenation:
      return concatenation(static_cast<const Concatenation&>(expression), scope);
    case ExprKind::kUnary:
      return unary(static_cast<const Unary&>(expression), scope);
    case ExprKind::kLogic:
      return logic(static_cast<const Logic&>(expression), scope);
    case ExprKind::kComparison:
      return comparison(static_cast<const Comparison&>(expression), scope);
    case ExprKind::kConditional:
      return conditional(static_cast<const Conditional&>(expression), scope);
    case ExprKind::kFilter:
      return filter(static_cast<const FilterCall&>(expression), scope);
    case ExprKind::kTest:
      return test(static_cast<const TestCall&>(expression), scope);
    case ExprKind::kAttribute: {
      const auto& node = static_cast<const Attribute&>(expression);
      const Value operand = evaluate(*node.operand, scope);
      line_ = node.line;
      return get_attribute(heap_, operand, node.name);
    }
    case ExprKind::kItem: {
      const auto& node = static_cast<const Item&>(expression);
      const Value operand = evaluate(*node.operand, scope);
      const Value key = evaluate(*node.key, scope);
      line_ = node.line;
      return get_item(heap_, operand, key);
    }
    case ExprKind::kSlice:
      return slice(static_cast<const SliceItem&>(expression), scope);
    case ExprKind::kCall:
      return call(static_cast<const Call&>(expression), scope);
    case ExprKind::kConstant:
    case ExprKind::kVariable:
      break;
  }
  std::unreachable();
}

Value Interpreter::variable(const Variable& node, Scope& scope) {
  const Value& value = slot(node.slot, scope);
  if (!value.is_nothing()) return value;
  return make_undefined(heap_, odmoe::format("'{}' is undefined", node.name));
}

Value Interpreter::sequence(const Sequence& node, Scope& scope) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExprPtr& item : node.items) items.push_back(evaluate(*item, scope));
  return node.tuple ? make_tuple(heap_, std::move(items)) : make_list(heap_, std::move(items));
}

Value Interpreter::dict(const DictLiteral& node, Scope& scope) {
  Dict* made = heap_.make<Dict>();
  for (const auto& [key_expression, value_expression] : node.entries) {
    Value key = evaluate(*key_expression, scope);
    Value value = evaluate(*value_expression, scope);
    line_ = node.line;
    made->set(heap_, std::move(key), std::move(value));
  }
  return made;
}

Value Interpreter::arithmetic(const Arithmetic& node, Scope& scope) {
  Value result = evaluate(*node.first, scope);
  for (const auto& [op, right_expression] : node.rest) {
    const Value right = evaluate(*right_expression, scope);
    line_ = node.line;
    result = compute(heap_, op, result, right);
  }
  return result;
}

Value Interpreter::concatenation(const Concatenation& node, Scope& scope) {
  TextBuilder out(heap_);
  for (const ExprPtr& part : node.parts) append_text(heap_, evaluate(*part, scope), out);
  return out.take();
}

Value Interpreter::unary(const Unary& node, Scope& scope) {
  const Value operand = evaluate(*node.operand, scope);
  line_ = node.line;
  switch (node.op) {
    case Unary::Op::kNot:
      return !truth(operand);
    case Unary::Op::kNegative:
      return negative(operand);
    case Unary::Op::kPositive:
      break;
  }
  return positive(operand);
}

Value Interpreter::logic(const Logic& node, Scope& scope) {
  Value value;
  for (const ExprPtr& operand : node.operands) {
    value = evaluate(*operand, scope);
    if (truth(value) != node.all) break;
  }
  return value;
}

Value Interpreter::comparison(const Comparison& node, Scope& scope) {
  Value left = evaluate(*node.first, scope);
  for (const auto& [relation, right_expression] : node.rest) {
    Value right = evaluate(*right_expression, scope);
    line_ = node.line;
    heap_.work(1);
    if (!holds(heap_, relation, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::conditional(const Conditional& node, Scope& scope) {
  if (truth(evaluate(*node.test, scope))) return evaluate(*node.then, scope);
  if (node.otherwise) return evaluate(*node.otherwise, scope);
  return make_undefined(heap_,
                        odmoe::format("the inline if-expression on line {} evaluated to false and no else "
                                      "section was defined.",
                                      node.line));
}

Value Interpreter::filter(const FilterCall& node, Scope& scope, const Value* block) {
  // Of filters in a row on a block, the first one takes it.
  Value operand;
  if (!node.operand) {
    operand = *block;
  } else if (block != nullptr) {
    operand = filter(static_cast<const FilterCall&>(*node.operand), scope, block);
  } else {
    operand = evaluate(*node.operand, scope);
  }
  const Arguments given = arguments(node.arguments, scope);
  line_ = node.line;
  if (node.filter == nullptr) raise(FailureKind::kRuntime, "No filter named '{}' found.", node.name);
  return node.filter(heap_, operand, given);
}

Value Interpreter::test(const TestCall& node, Scope& scope) {
  const Value operand = evaluate(*node.operand, scope);
  const Arguments given = arguments(node.arguments, scope);
  line_ = node.line;
  if (node.test == nullptr) raise(FailureKind::kRuntime, "No test named '{}' found.", node.name);
  return node.test(heap_, operand, given);
}

Value Interpreter::slice(const SliceItem& node, Scope& scope) {
  const Value operand = evaluate(*node.operand, scope);
  const auto part = [&](const ExprPtr& expression) {
    return expression ? evaluate(*expression, scope) : Value::none();
  };
  const Value start = part(node.start), stop = part(node.stop), step = part(node.step);
  line_ = node.line;
  return get_slice(heap_, operand, start, stop, step);
}

Value Interpreter::call(const Call& node, Scope& scope, const Value* caller) {
  const Value callee = evaluate(*node.callee, scope);
  Arguments given = arguments(node.arguments, scope);
  if (caller != nullptr) given.named.emplace_back(Text::own("caller"), *caller);
  line_ = node.line;
  return call_value(heap_, callee, given);
}

Arguments Interpreter::arguments(const CallArguments& expressions, Scope& scope) {
  Arguments result;
  result.positional.reserve(expressions.positional.size());
  for (const ExprPtr& expression : expressions.positional) {
    result.positional.push_back(evaluate(*expression, scope));
  }
  result.named.reserve(expressions.named.size());
  for (const auto& [name, expression] : expressions.named) {
    result.named.emplace_back(Text::own(name), evaluate(*expression, scope));
  }
  if (expressions.all_positional) {
    Items items(heap_, evaluate(*expressions.all_positional, scope));
    while (auto item = items.next()) {
      heap_.take(sizeof(Value));
      result.positional.push_back(*std::move(item));
    }
  }
  if (expressions.all_named) {
    const Value named = evaluate(*expressions.all_named, scope);
    const Dict* dict = named.dict();
    if (dict == nullptr)
      raise(FailureKind::kType, "argument after ** must be a mapping, not {}", type_name(named));
    for (const auto& [key, value] : dict->entries) {
      if (!key.is_text()) raise(FailureKind::kType, "keywords must be strings");
      result.named.emplace_back(key.text(), value);
    }
  }
  return result;
}

}  // namespace odmoe::jinja
