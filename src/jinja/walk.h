// The children of a node, in the order in which jinja2 visits them.
#pragma once

#include <functional>

#include "jinja/ast.h"

namespace odmoe::jinja {

using VisitExpr = std::function<void(Expr&)>;
using VisitStmt = std::function<void(Stmt&)>;

// Null children are left out.
void for_each_operand(Expr& expression, const VisitExpr& visit);
void for_each_argument(CallArguments& arguments, const VisitExpr& visit);

}  // namespace odmoe::jinja
