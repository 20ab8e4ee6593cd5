// Expressions, by jinja2's grammar.
#pragma once

#include <string_view>

#include "jinja/ast.h"
#include "jinja/token_stream.h"

namespace odmoe::jinja {

// Reads from a stream that others read from too.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  // An expression.  Without `conditional` it has no `a if b else c`, of which a `for` has an `if` of its own.
  ExprPtr expression(bool conditional = true);
  // One expression, or several between commas, which are a tuple.  `end` is the name that ends it, if any.
  ExprPtr tuple(bool conditional = true, std::string_view end = "");
  // What `set`, `for` and `with` assign to.  With namespaces "ns.name" is one too.
  Target target(bool namespaces, std::string_view end = "");
  Target name_target();
  // Filters behind an operand, which is null where a block is filtered: "|a|b", or "a|b" with `inline_first`.
  ExprPtr filters(ExprPtr operand, bool inline_first = false);

 private:
  ExprPtr conditional();
  ExprPtr logic_or();
  ExprPtr logic_and();
  ExprPtr negation();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filters = true);
  ExprPtr primary();
  ExprPtr parenthesis();
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr operand);
  ExprPtr postfix_filters(ExprPtr operand);
  ExprPtr attribute(ExprPtr operand);
  ExprPtr subscript(ExprPtr operand);
  ExprPtr slice(ExprPtr operand, ExprPtr start, int line);
  ExprPtr call(ExprPtr callee);
  ExprPtr test(ExprPtr operand);
  CallArguments arguments();
  void argument(CallArguments& arguments);
  bool at_tuple_end(std::string_view end) const;
  Target as_target(const Expr& expression) const;
  Target target_part(bool namespaces);
  std::string dotted_name();

  TokenStream& tokens_;
};

}  // namespace odmoe::jinja
