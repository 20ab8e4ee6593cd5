// A template as a tree.  Made once by the parser, completed by the resolver, then only read, by any number of
// threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "jinja/arithmetic.h"
#include "jinja/filters.h"
#include "jinja/tests.h"
#include "jinja/value.h"

namespace odmoe::jinja {

// Where a variable is kept: in the scope of this function, or of one around it.
struct Slot {
  int hops = 0;  // functions further out
  int index = 0;
};

// How a variable of a scope begins.
struct Load {
  enum class From { kNothing, kContext, kSlot };
  int index = 0;  // in the scope's function
  From from = From::kNothing;
  std::string name;  // kContext
  Slot slot;         // kSlot
};
// What is set whenever a scope is entered.
using Loads = std::vector<Load>;

// What has variables of its own: the template, a macro, the body of a call, a recursive loop, a block.
struct Function {
  int n_slots = 0;
};

struct Node {
  explicit Node(int the_line) : line(the_line) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  virtual ~Node() = default;
  int line;
};

// -- Expressions

enum class ExprKind : uint8_t {
  kConstant,
  kVariable,
  kSequence,
  kDict,
  kArithmetic,
  kConcatenation,
  kUnary,
  kLogic,
  kComparison,
  kConditional,
  kFilter,
  kTest,
  kAttribute,
  kItem,
  kSlice,
  kCall,
};

struct Expr : Node {
  Expr(ExprKind the_kind, int the_line) : Node(the_line), kind(the_kind) {}
  ExprKind kind;
};
using ExprPtr = std::unique_ptr<Expr>;
using ExprList = std::vector<ExprPtr>;

struct Constant : Expr {
  Constant(int the_line, Value the_value)
      : Expr(ExprKind::kConstant, the_line), value(std::move(the_value)) {}
  Value value;
};
struct Variable : Expr {
  Variable(int the_line, std::string the_name)
      : Expr(ExprKind::kVariable, the_line), name(std::move(the_name)) {}
  std::string name;
  Slot slot;
};
// A list or a tuple.
struct Sequence : Expr {
  Sequence(int the_line, ExprList the_items, bool is_tuple)
      : Expr(ExprKind::kSequence, the_line), items(std::move(the_items)), tuple(is_tuple) {}
  ExprList items;
  bool tuple;
};
struct DictLiteral : Expr {
  explicit DictLiteral(int the_line) : Expr(ExprKind::kDict, the_line) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};
// first op right op right ..., from left to right.
struct Arithmetic : Expr {
  Arithmetic(int the_line, ExprPtr the_first)
      : Expr(ExprKind::kArithmetic, the_line), first(std::move(the_first)) {}
  ExprPtr first;
  std::vector<std::pair<Operator, ExprPtr>> rest;
};
struct Concatenation : Expr {  // ~
  Concatenation(int the_line, ExprList the_parts)
      : Expr(ExprKind::kConcatenation, the_line), parts(std::move(the_parts)) {}
  ExprList parts;
};
struct Unary : Expr {
  enum class Op { kNot, kNegative, kPositive };
  Unary(int the_line, Op the_op, ExprPtr the_operand)
      : Expr(ExprKind::kUnary, the_line), op(the_op), operand(std::move(the_operand)) {}
  Op op;
  ExprPtr operand;
};
// `and` or `or`: the first operand that decides.
struct Logic : Expr {
  Logic(int the_line, bool is_and, ExprList the_operands)
      : Expr(ExprKind::kLogic, the_line), all(is_and), operands(std::move(the_operands)) {}
  bool all;
  ExprList operands;
};
enum class Relation { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kIn, kNotIn };
// first < right < ...: all of them must hold.
struct Comparison : Expr {
  Comparison(int the_line, ExprPtr the_first)
      : Expr(ExprKind::kComparison, the_line), first(std::move(the_first)) {}
  ExprPtr first;
  std::vector<std::pair<Relation, ExprPtr>> rest;
};
struct Conditional : Expr {
  explicit Conditional(int the_line) : Expr(ExprKind::kConditional, the_line) {}
  ExprPtr test, then, otherwise;  // null: undefined
};
struct CallArguments {
  ExprList positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr all_positional, all_named;  // *args and **kwargs, or null
};
struct FilterCall : Expr {
  FilterCall(int the_line, ExprPtr the_operand, std::string the_name)
      : Expr(ExprKind::kFilter, the_line),
        operand(std::move(the_operand)),
        name(std::move(the_name)),
        filter(find_filter(name)) {}
  ExprPtr operand;  // null: the text of the block that is filtered
  std::string name;
  FilterFunction filter;  // null: there is none of this name
  CallArguments arguments;
};
struct TestCall : Expr {
  TestCall(int the_line, ExprPtr the_operand, std::string the_name)
      : Expr(ExprKind::kTest, the_line),
        operand(std::move(the_operand)),
        name(std::move(the_name)),
        test(find_test(name)) {}
  ExprPtr operand;
  std::string name;
  TestFunction test;  // null: there is none of this name
  CallArguments arguments;
};
struct Attribute : Expr {
  Attribute(int the_line, ExprPtr the_operand, std::string the_name)
      : Expr(ExprKind::kAttribute, the_line), operand(std::move(the_operand)), name(std::move(the_name)) {}
  ExprPtr operand;
  std::string name;
};
struct Item : Expr {
  Item(int the_line, ExprPtr the_operand, ExprPtr the_key)
      : Expr(ExprKind::kItem, the_line), operand(std::move(the_operand)), key(std::move(the_key)) {}
  ExprPtr operand, key;
};
struct SliceItem : Expr {
  SliceItem(int the_line, ExprPtr the_operand)
      : Expr(ExprKind::kSlice, the_line), operand(std::move(the_operand)) {}
  ExprPtr operand, start, stop, step;  // null: none
};
struct Call : Expr {
  Call(int the_line, ExprPtr the_callee) : Expr(ExprKind::kCall, the_line), callee(std::move(the_callee)) {}
  ExprPtr callee;
  CallArguments arguments;
};

// What is assigned to.
struct Target {
  enum class Kind { kVariable, kAttribute, kTuple };
  Kind kind = Kind::kVariable;
  int line = 0;
  std::string name;       // of the variable, or of the namespace
  std::string attribute;  // kAttribute
  Slot slot;
  std::vector<Target> parts;  // kTuple
};

// -- Statements

enum class StmtKind : uint8_t {
  kData,
  kPrint,
  kFor,
  kIf,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kBlock,
  kBreak,
  kContinue,
  kRefused,
};

struct Stmt : Node {
  Stmt(StmtKind the_kind, int the_line) : Node(the_line), kind(the_kind) {}
  StmtKind kind;
};
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

struct Data : Stmt {
  Data(int the_line, Text the_text) : Stmt(StmtKind::kData, the_line), text(std::move(the_text)) {}
  Text text;
};
struct Print : Stmt {
  explicit Print(int the_line) : Stmt(StmtKind::kPrint, the_line) {}
  ExprList values;
};
struct For : Stmt {
  explicit For(int the_line) : Stmt(StmtKind::kFor, the_line) {}
  Target target;
  ExprPtr items, condition;  // no condition: null
  Body body, otherwise;
  bool recursive = false;
  // The resolver's.
  Target condition_target;  // the same names, where the condition sees them
  std::optional<int> loop;  // the variable `loop`, where something asks for it
  Loads loads, condition_loads, otherwise_loads;
  Function function;  // of a recursive loop
};
struct If : Stmt {
  explicit If(int the_line) : Stmt(StmtKind::kIf, the_line) {}
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
struct Set : Stmt {
  explicit Set(int the_line) : Stmt(StmtKind::kSet, the_line) {}
  Target target;
  ExprPtr value;
  bool exported = false;  // blocks see it too
};
struct SetBlock : Stmt {
  explicit SetBlock(int the_line) : Stmt(StmtKind::kSetBlock, the_line) {}
  Target target;
  ExprPtr filter;  // or null
  Body body;
  Loads loads;
  bool exported = false;
};
// A macro or the body of a call: what is called.
struct MacroCode {
  std::vector<std::string> names;  // of the parameters
  ExprList defaults;               // of the last ones
  Body body;
  int line = 0;
  // The resolver's.
  std::vector<int> parameters;  // their slots
  std::optional<int> caller, kwargs, varargs;
  bool explicit_caller = false;  // it is one of the parameters
  Loads loads;
  Function function;
};
struct Macro : Stmt {
  explicit Macro(int the_line) : Stmt(StmtKind::kMacro, the_line) {}
  std::string name;
  MacroCode code;
  Slot slot;
  bool exported = false;
};
struct CallBlock : Stmt {
  explicit CallBlock(int the_line) : Stmt(StmtKind::kCallBlock, the_line) {}
  ExprPtr call;  // null: the body is printed (`generation`)
  MacroCode code;
};
struct FilterBlock : Stmt {
  explicit FilterBlock(int the_line) : Stmt(StmtKind::kFilterBlock, the_line) {}
  ExprPtr filter;
  Body body;
  Loads loads;
};
struct With : Stmt {
  explicit With(int the_line) : Stmt(StmtKind::kWith, the_line) {}
  std::vector<std::pair<Target, ExprPtr>> values;
  Body body;
  Loads loads;
};
// Of template inheritance, which has no use here: it prints its body, with no variables but the template's.
struct Block : Stmt {
  explicit Block(int the_line) : Stmt(StmtKind::kBlock, the_line) {}
  std::string name;
  Body body;
  Loads loads;
  Function function;
};
struct Break : Stmt {
  explicit Break(int the_line) : Stmt(StmtKind::kBreak, the_line) {}
};
struct Continue : Stmt {
  explicit Continue(int the_line) : Stmt(StmtKind::kContinue, the_line) {}
};
// A statement that jinja2 has and a chat template has no use for (include, import, extends, autoescape): an
// error when it is come to.
struct Refused : Stmt {
  Refused(int the_line, std::string the_name)
      : Stmt(StmtKind::kRefused, the_line), name(std::move(the_name)) {}
  std::string name;
};

struct Tree {
  bool wider = false;  // by Rules::kWider
  Body body;
  Loads loads;
  Function function;
};

}  // namespace odmoe::jinja
