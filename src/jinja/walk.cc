#include "jinja/walk.h"

namespace odmoe::jinja {
namespace {

void visit_if(const ExprPtr& expression, const VisitExpr& visit) {
  if (expression) visit(*expression);
}

void visit_all(const ExprList& list, const VisitExpr& visit) {
  for (const ExprPtr& expression : list) visit(*expression);
}

}  // namespace

void for_each_argument(CallArguments& arguments, const VisitExpr& visit) {
  visit_all(arguments.positional, visit);
  for (const auto& [name, value] : arguments.named) visit(*value);
  visit_if(arguments.all_positional, visit);
  visit_if(arguments.all_named, visit);
}

void for_each_operand(Expr& expression, const VisitExpr& visit) {
  switch (expression.kind) {
    case ExprKind::kConstant:
    case ExprKind::kVariable:
      return;
    case ExprKind::kSequence:
      return visit_all(static_cast<Sequence&>(expression).items, visit);
    case ExprKind::kDict:
      for (const auto& [key, value] : static_cast<DictLiteral&>(expression).entries) {
        visit(*key);
        visit(*value);
      }
      return;
    case ExprKind::kArithmetic: {
      auto& node = static_cast<Arithmetic&>(expression);
      visit(*node.first);
      for (const auto& [op, right] : node.rest) visit(*right);
      return;
    }
    case ExprKind::kConcatenation:
      return visit_all(static_cast<Concatenation&>(expression).parts, visit);
    case ExprKind::kUnary:
      return visit(*static_cast<Unary&>(expression).operand);
    case ExprKind::kLogic:
      return visit_all(static_cast<Logic&>(expression).operands, visit);
    case ExprKind::kComparison: {
      auto& node = static_cast<Comparison&>(expression);
      visit(*node.first);
      for (const auto& [relation, right] : node.rest) visit(*right);
      return;
    }
    case ExprKind::kConditional: {
      auto& node = static_cast<Conditional&>(expression);
      visit(*node.test);
      visit(*node.then);
      return visit_if(node.otherwise, visit);
    }
    case ExprKind::kFilter: {
      auto& node = static_cast<FilterCall&>(expression);
      visit_if(node.operand, visit);
      return for_each_argument(node.arguments, visit);
    }
    case ExprKind::kTest: {
      auto& node = static_cast<TestCall&>(expression);
      visit(*node.operand);
      return for_each_argument(node.arguments, visit);
    }
    case ExprKind::kAttribute:
      return visit(*static_cast<Attribute&>(expression).operand);
    case ExprKind::kItem: {
      auto& node = static_cast<Item&>(expression);
      visit(*node.operand);
      return visit(*node.key);
    }
    case ExprKind::kSlice: {
      auto& node = static_cast<SliceItem&>(expression);
      visit(*node.operand);
      visit_if(node.start, visit);
      visit_if(node.stop, visit);
      return visit_if(node.step, visit);
    }
    case ExprKind::kCall: {
      auto& node = static_cast<Call&>(expression);
      visit(*node.callee);
      return for_each_argument(node.arguments, visit);
    }
  }
}

}  // namespace odmoe::jinja
