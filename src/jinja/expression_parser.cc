#include "jinja/expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/numbers.h"

namespace odmoe::jinja {
namespace {

using Level = TokenStream::Level;

// A chain that is evaluated from the inside out (x.a.b.c) is as deep as it is long.
constexpr int kMaxChain = 50;

void check_chain(int length, int line) {
  if (length > kMaxChain) raise_at(line, "more than {} attributes, calls and filters in a row", kMaxChain);
}

Value integer_value(const Token& token) {
  std::string_view digits = token.text;
  int base = 10;
  if (digits.size() > 2 && digits[0] == '0') {
    const char letter = digits[1];
    base = letter == 'x' || letter == 'X'   ? 16
           : letter == 'o' || letter == 'O' ? 8
           : letter == 'b' || letter == 'B' ? 2
                                            : 10;
    if (base != 10) digits.remove_prefix(2);
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    raise_at(token.line, "the integer {} takes more than 64 bits", token.text);
  }
  return value;
}

std::optional<Value> named_constant(std::string_view name) {
  if (name == "true" || name == "True") return Value(true);
  if (name == "false" || name == "False") return Value(false);
  if (name == "none" || name == "None") return Value::none();
  return std::nullopt;
}

}  // namespace

ExprPtr ExpressionParser::expression(bool with_conditional) {
  const Level level(tokens_);
  return with_conditional ? conditional() : logic_or();
}

ExprPtr ExpressionParser::conditional() {
  ExprPtr value = logic_or();
  for (int n = 0; tokens_.current().is_name("if"); ++n) {
    check_chain(n, tokens_.line());
    auto node = std::make_unique<Conditional>(tokens_.line());
    tokens_.take();
    node->test = logic_or();
    node->then = std::move(value);
    if (tokens_.skip_name("else")) {
      const Level level(tokens_);
      node->otherwise = conditional();
    }
    value = std::move(node);
  }
  return value;
}

ExprPtr ExpressionParser::logic_or() {
  const int line = tokens_.line();
  ExprPtr first = logic_and();
  if (!tokens_.current().is_name("or")) return first;
  ExprList operands;
  operands.push_back(std::move(first));
  while (tokens_.skip_name("or")) operands.push_back(logic_and());
  return std::make_unique<Logic>(line, /*is_and=*/false, std::move(operands));
}

ExprPtr ExpressionParser::logic_and() {
  const int line = tokens_.line();
  ExprPtr first = negation();
  if (!tokens_.current().is_name("and")) return first;
  ExprList operands;
  operands.push_back(std::move(first));
  while (tokens_.skip_name("and")) operands.push_back(negation());
  return std::make_unique<Logic>(line, /*is_and=*/true, std::move(operands));
}

ExprPtr ExpressionParser::negation() {
  const int line = tokens_.line();
  if (!tokens_.skip_name("not")) return comparison();
  const Level level(tokens_);
  return std::make_unique<Unary>(line, Unary::Op::kNot, negation());
}

ExprPtr ExpressionParser::comparison() {
  constexpr auto kRelations =
      std::to_array<std::pair<std::string_view, Relation>>({{"==", Relation::kEqual},
                                                            {"!=", Relation::kNotEqual},
                                                            {"<", Relation::kLess},
                                                            {"<=", Relation::kLessOrEqual},
                                                            {">", Relation::kGreater},
                                                            {">=", Relation::kGreaterOrEqual}});
  const int line = tokens_.line();
  ExprPtr first = sum();
  std::unique_ptr<Comparison> node;
  while (true) {
    const Token& token = tokens_.current();
    std::optional<Relation> relation;
    if (token.kind == TokenKind::kOperator) {
      const auto* found =
          std::ranges::find(kRelations, token.text, &std::pair<std::string_view, Relation>::first);
      if (found != kRelations.end()) relation = found->second;
    } else if (token.is_name("in")) {
      relation = Relation::kIn;
    } else if (token.is_name("not") && tokens_.next_one().is_name("in")) {
      tokens_.take();
      relation = Relation::kNotIn;
    }
    if (!relation) break;
    tokens_.take();
    if (!node) node = std::make_unique<Comparison>(line, std::move(first));
    node->rest.emplace_back(*relation, sum());
  }
  if (node) return node;
  return first;
}

ExprPtr ExpressionParser::sum() {
  const int line = tokens_.line();
  ExprPtr first = concatenation();
  std::unique_ptr<Arithmetic> node;
  while (tokens_.current().is_operator("+") || tokens_.current().is_operator("-")) {
    const Operator op = tokens_.take().text == "+" ? Operator::kAdd : Operator::kSubtract;
    if (!node) node = std::make_unique<Arithmetic>(line, std::move(first));
    node->rest.emplace_back(op, concatenation());
  }
  if (node) return node;
  return first;
}

ExprPtr ExpressionParser::concatenation() {
  const int line = tokens_.line();
  ExprPtr first = product();
  if (!tokens_.current().is_operator("~")) return first;
  ExprList parts;
  parts.push_back(std::move(first));
  while (tokens_.skip_operator("~")) parts.push_back(product());
  return std::make_unique<Concatenation>(line, std::move(parts));
}

ExprPtr ExpressionParser::product() {
  constexpr auto kOperators =
      std::to_array<std::pair<std::string_view, Operator>>({{"*", Operator::kMultiply},
                                                            {"/", Operator::kDivide},
                                                            {"//", Operator::kFloorDivide},
                                                            {"%", Operator::kRemainder}});
  const int line = tokens_.line();
  ExprPtr first = power();
  std::unique_ptr<Arithmetic> node;
  while (tokens_.current().kind == TokenKind::kOperator) {
    const auto* found =
        std::ranges::find(kOperators, tokens_.current().text, &std::pair<std::string_view, Operator>::first);
    if (found == kOperators.end()) break;
    tokens_.take();
    if (!node) node = std::make_unique<Arithmetic>(line, std::move(first));
    node->rest.emplace_back(found->second, power());
  }
  if (node) return node;
  return first;
}

ExprPtr ExpressionParser::power() {
  const int line = tokens_.line();
  ExprPtr first = unary();
  if (!tokens_.current().is_operator("**")) return first;
  // From left to right, unlike Python.
  auto node = std::make_unique<Arithmetic>(line, std::move(first));
  while (tokens_.skip_operator("**")) node->rest.emplace_back(Operator::kPower, unary());
  return node;
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  const Level level(tokens_);
  const int line = tokens_.line();
  ExprPtr operand;
  if (tokens_.skip_operator("-")) {
    operand = std::make_unique<Unary>(line, Unary::Op::kNegative, unary(false));
  } else if (tokens_.skip_operator("+")) {
    operand = std::make_unique<Unary>(line, Unary::Op::kPositive, unary(false));
  } else {
    operand = primary();
  }
  operand = postfix(std::move(operand));
  return with_filters ? postfix_filters(std::move(operand)) : std::move(operand);
}

ExprPtr ExpressionParser::primary() {
  const Token& token = tokens_.current();
  switch (token.kind) {
    case TokenKind::kName: {
      tokens_.take();
      if (auto constant = named_constant(token.text)) {
        return std::make_unique<Constant>(token.line, *std::move(constant));
      }
      return std::make_unique<Variable>(token.line, token.text);
    }
    case TokenKind::kString: {
      std::string text;
      while (tokens_.current().kind == TokenKind::kString) text += tokens_.take().text;
      return std::make_unique<Constant>(token.line, Text::own(text));
    }
    case TokenKind::kInteger:
      tokens_.take();
      return std::make_unique<Constant>(token.line, integer_value(token));
    case TokenKind::kFloat: {
      tokens_.take();
      const auto number = parse_double(token.text);
      if (!number) raise_at(token.line, "the number {} is too large", token.text);
      return std::make_unique<Constant>(token.line, Value(number->value));
    }
    default:
      break;
  }
  if (token.is_operator("(")) return parenthesis();
  if (token.is_operator("[")) return list();
  if (token.is_operator("{")) return dict();
  tokens_.unexpected("an expression");
}

ExprPtr ExpressionParser::parenthesis() {
  const Level level(tokens_);
  const int line = tokens_.line();
  tokens_.expect_operator("(");
  if (tokens_.skip_operator(")")) return std::make_unique<Sequence>(line, ExprList(), /*is_tuple=*/true);
  ExprPtr inner = tuple();
  tokens_.expect_operator(")");
  return inner;
}

bool ExpressionParser::at_tuple_end(std::string_view end) const {
  const Token& token = tokens_.current();
  return token.kind == TokenKind::kVariableEnd || token.kind == TokenKind::kBlockEnd ||
         token.is_operator(")") || (!end.empty() && token.is_name(end));
}

ExprPtr ExpressionParser::tuple(bool with_conditional, std::string_view end) {
  const int line = tokens_.line();
  ExprList items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) tokens_.expect_operator(",");
    if (at_tuple_end(end)) break;
    items.push_back(expression(with_conditional));
    if (!tokens_.current().is_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return std::make_unique<Sequence>(line, std::move(items), /*is_tuple=*/true);
  if (items.empty()) tokens_.unexpected("an expression");
  return std::move(items[0]);
}

ExprPtr ExpressionParser::list() {
  const Level level(tokens_);
  const int line = tokens_.line();
  tokens_.expect_operator("[");
  ExprList items;
  while (!tokens_.current().is_operator("]")) {
    if (!items.empty()) tokens_.expect_operator(",");
    if (tokens_.current().is_operator("]")) break;
    items.push_back(expression());
  }
  tokens_.expect_operator("]");
  return std::make_unique<Sequence>(line, std::move(items), /*is_tuple=*/false);
}

ExprPtr ExpressionParser::dict() {
  const Level level(tokens_);
  auto node = std::make_unique<DictLiteral>(tokens_.line());
  tokens_.expect_operator("{");
  while (!tokens_.current().is_operator("}")) {
    if (!node->entries.empty()) tokens_.expect_operator(",");
    if (tokens_.current().is_operator("}")) break;
    ExprPtr key = expression();
    tokens_.expect_operator(":");
    node->entries.emplace_back(std::move(key), expression());
  }
  tokens_.expect_operator("}");
  return node;
}

ExprPtr ExpressionParser::postfix(ExprPtr operand) {
  for (int n = 0;; ++n) {
    check_chain(n, tokens_.line());
    const Token& token = tokens_.current();
    if (token.is_operator(".")) {
      operand = attribute(std::move(operand));
    } else if (token.is_operator("[")) {
      operand = subscript(std::move(operand));
    } else if (token.is_operator("(")) {
      operand = call(std::move(operand));
    } else {
      return operand;
    }
  }
}

ExprPtr ExpressionParser::postfix_filters(ExprPtr operand) {
  for (int n = 0;; ++n) {
    check_chain(n, tokens_.line());
    const Token& token = tokens_.current();
    if (token.is_operator("|")) {
      operand = filters(std::move(operand));
    } else if (token.is_name("is")) {
      operand = test(std::move(operand));
    } else if (token.is_operator("(")) {
      operand = call(std::move(operand));
    } else {
      return operand;
    }
  }
}

ExprPtr ExpressionParser::attribute(ExprPtr operand) {
  const int line = tokens_.line();
  tokens_.expect_operator(".");
  const Token& name = tokens_.take();
  if (name.kind == TokenKind::kName) return std::make_unique<Attribute>(line, std::move(operand), name.text);
  if (name.kind != TokenKind::kInteger) raise_at(name.line, "expected name or number");
  auto key = std::make_unique<Constant>(line, integer_value(name));
  return std::make_unique<Item>(line, std::move(operand), std::move(key));
}

ExprPtr ExpressionParser::subscript(ExprPtr operand) {
  const Level level(tokens_);
  const int line = tokens_.line();
  tokens_.expect_operator("[");
  ExprList keys;
  while (!tokens_.current().is_operator("]")) {
    if (!keys.empty()) tokens_.expect_operator(",");
    ExprPtr start = tokens_.current().is_operator(":") ? nullptr : expression();
    if (tokens_.skip_operator(":")) {
      if (!keys.empty()) raise_at(line, "a slice among several keys");
      return slice(std::move(operand), std::move(start), line);
    }
    keys.push_back(std::move(start));
  }
  tokens_.expect_operator("]");
  ExprPtr key = keys.size() == 1 ? std::move(keys[0])
                                 : std::make_unique<Sequence>(line, std::move(keys), /*is_tuple=*/true);
  return std::make_unique<Item>(line, std::move(operand), std::move(key));
}

ExprPtr ExpressionParser::slice(ExprPtr operand, ExprPtr start, int line) {
  auto node = std::make_unique<SliceItem>(line, std::move(operand));
  node->start = std::move(start);
  const auto at_end = [&] {
    return tokens_.current().is_operator(":") || tokens_.current().is_operator("]");
  };
  if (!at_end()) node->stop = expression();
  if (tokens_.skip_operator(":") && !at_end()) node->step = expression();
  if (tokens_.current().is_operator(",")) raise_at(line, "a slice among several keys");
  tokens_.expect_operator("]");
  return node;
}

ExprPtr ExpressionParser::call(ExprPtr callee) {
  auto node = std::make_unique<Call>(tokens_.line(), std::move(callee));
  node->arguments = arguments();
  return node;
}

CallArguments ExpressionParser::arguments() {
  const Level level(tokens_);
  CallArguments result;
  tokens_.expect_operator("(");
  for (bool first = true; !tokens_.current().is_operator(")"); first = false) {
    if (!first) {
      tokens_.expect_operator(",");
      if (tokens_.current().is_operator(")")) break;
    }
    argument(result);
  }
  tokens_.expect_operator(")");
  return result;
}

void ExpressionParser::argument(CallArguments& arguments) {
  const auto ensure = [&](bool valid) {
    if (!valid) raise_at(tokens_.line(), "invalid syntax for function call expression");
  };
  if (tokens_.current().is_operator("*")) {
    ensure(!arguments.all_positional && !arguments.all_named);
    tokens_.take();
    arguments.all_positional = expression();
  } else if (tokens_.current().is_operator("**")) {
    ensure(!arguments.all_named);
    tokens_.take();
    arguments.all_named = expression();
  } else if (tokens_.current().kind == TokenKind::kName && tokens_.next_one().is_operator("=")) {
    ensure(!arguments.all_named);
    std::string name = tokens_.take().text;
    tokens_.take();
    for (const auto& named : arguments.named) {
      if (named.first == name) raise_at(tokens_.line(), "keyword argument repeated: {}", name);
    }
    arguments.named.emplace_back(std::move(name), expression());
  } else {
    ensure(!arguments.all_positional && !arguments.all_named && arguments.named.empty());
    arguments.positional.push_back(expression());
  }
}

std::string ExpressionParser::dotted_name() {
  std::string name = tokens_.expect(TokenKind::kName, "a name").text;
  while (tokens_.skip_operator(".")) name += "." + tokens_.expect(TokenKind::kName, "a name").text;
  return name;
}

ExprPtr ExpressionParser::filters(ExprPtr operand, bool inline_first) {
  for (int n = 0; tokens_.current().is_operator("|") || inline_first; ++n) {
    check_chain(n, tokens_.line());
    if (!inline_first) tokens_.take();
    inline_first = false;
    const int line = tokens_.line();
    auto node = std::make_unique<FilterCall>(line, std::move(operand), dotted_name());
    if (tokens_.current().is_operator("(")) node->arguments = arguments();
    operand = std::move(node);
  }
  return operand;
}

ExprPtr ExpressionParser::test(ExprPtr operand) {
  const int line = tokens_.line();
  tokens_.expect_name("is");
  const bool negated = tokens_.skip_name("not");
  auto node = std::make_unique<TestCall>(line, std::move(operand), dotted_name());
  const Token& token = tokens_.current();
  const bool is_operand = token.kind == TokenKind::kName || token.kind == TokenKind::kString ||
                          token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat ||
                          token.is_operator("[") || token.is_operator("{");
  const bool goes_on = token.is_name("else") || token.is_name("or") || token.is_name("and");
  if (token.is_operator("(")) {
    node->arguments = arguments();
  } else if (is_operand && !goes_on) {
    if (token.is_name("is")) raise_at(token.line, "You cannot chain multiple tests with is");
    const Level level(tokens_);
    node->arguments.positional.push_back(postfix(primary()));
  }
  if (!negated) return node;
  return std::make_unique<Unary>(line, Unary::Op::kNot, std::move(node));
}

Target ExpressionParser::as_target(const Expr& expression) const {
  Target target{.line = expression.line};
  if (expression.kind == ExprKind::kVariable) {
    target.name = static_cast<const Variable&>(expression).name;
    return target;
  }
  const auto* tuple =
      expression.kind == ExprKind::kSequence ? static_cast<const Sequence*>(&expression) : nullptr;
  if (tuple == nullptr || !tuple->tuple) raise_at(expression.line, "can't assign to this");
  target.kind = Target::Kind::kTuple;
  target.parts.reserve(tuple->items.size());
  for (const ExprPtr& item : tuple->items) target.parts.push_back(as_target(*item));
  return target;
}

Target ExpressionParser::name_target() {
  const Token& token = tokens_.expect(TokenKind::kName, "a name");
  if (named_constant(token.text)) raise_at(token.line, "can't assign to '{}'", token.text);
  return {.line = token.line, .name = token.text};
}

Target ExpressionParser::target_part(bool namespaces) {
  const Token& token = tokens_.current();
  if (namespaces && token.kind == TokenKind::kName && tokens_.next_one().is_operator(".") &&
      !named_constant(token.text)) {
    tokens_.take();
    tokens_.take();
    return {.kind = Target::Kind::kAttribute,
            .line = token.line,
            .name = token.text,
            .attribute = tokens_.expect(TokenKind::kName, "a name").text};
  }
  return as_target(*primary());
}

Target ExpressionParser::target(bool namespaces, std::string_view end) {
  Target whole{.kind = Target::Kind::kTuple, .line = tokens_.line()};
  bool is_tuple = false;
  while (true) {
    if (!whole.parts.empty()) tokens_.expect_operator(",");
    if (at_tuple_end(end)) break;
    whole.parts.push_back(target_part(namespaces));
    if (!tokens_.current().is_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return whole;
  if (whole.parts.empty()) tokens_.unexpected("what is assigned to");
  return std::move(whole.parts[0]);
}

}  // namespace odmoe::jinja
