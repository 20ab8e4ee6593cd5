#include "jinja/parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "jinja/expression_parser.h"
#include "jinja/lexer.h"
#include "jinja/resolver.h"
#include "jinja/token_stream.h"

namespace odmoe::jinja {
namespace {

using EndNames = std::initializer_list<std::string_view>;

class StatementParser {
 public:
  explicit StatementParser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(tokens_) {}

  Body run() {
    Body body = statements({});
    if (tokens_.current().kind != TokenKind::kEnd) tokens_.unexpected("the end of the template");
    return body;
  }

 private:
  // Up to a statement with one of these names, whose name is then the current token; without any, to the end.
  Body statements(EndNames ends) {
    Body body;
    while (true) {
      switch (tokens_.current().kind) {
        case TokenKind::kData: {
          const Token& token = tokens_.take();
          body.push_back(std::make_unique<Data>(token.line, Text::own(token.text)));
          break;
        }
        case TokenKind::kVariableBegin:
          body.push_back(printed());
          break;
        case TokenKind::kBlockBegin: {
          tokens_.take();
          const Token& name = tokens_.current();
          const bool ended = name.kind == TokenKind::kName && std::ranges::contains(ends, name.text);
          if (ended) return body;
          body.push_back(statement(ends));
          tokens_.expect(TokenKind::kBlockEnd, "the end of the statement");
          break;
        }
        default:
          return body;
      }
    }
  }

  // What stands between a statement and one of those that end it, whose name is taken.
  std::string body_until(EndNames ends, Body& body) {
    const TokenStream::Level level(tokens_);
    tokens_.skip_operator(":");
    tokens_.expect(TokenKind::kBlockEnd, "the end of the statement");
    const int line = tokens_.line();
    body = statements(ends);
    if (tokens_.current().kind == TokenKind::kEnd) {
      raise_at(line, "the template ends before '{}'", *ends.begin());
    }
    return tokens_.take().text;
  }

  StmtPtr printed() {
    tokens_.take();
    auto node = std::make_unique<Print>(tokens_.line());
    node->values.push_back(expressions_.tuple());
    tokens_.expect(TokenKind::kVariableEnd, "the end of the expression");
    return node;
  }

  StmtPtr statement(EndNames ends) {
    using Parse = StmtPtr (StatementParser::*)(int line);
    constexpr auto kStatements = std::to_array<std::pair<std::string_view, Parse>>({
        {"for", &StatementParser::for_loop},
        {"if", &StatementParser::condition},
        {"set", &StatementParser::assignment},
        {"macro", &StatementParser::macro},
        {"call", &StatementParser::call_block},
        {"filter", &StatementParser::filter_block},
        {"with", &StatementParser::with},
        {"block", &StatementParser::block},
        {"print", &StatementParser::print},
        {"generation", &StatementParser::generation},
        {"break", &StatementParser::break_loop},
        {"continue", &StatementParser::continue_loop},
        {"autoescape", &StatementParser::autoescape},
    });
    constexpr auto kRefusedNames = std::to_array<std::string_view>({"include", "import", "from", "extends"});
    const Token& name = tokens_.expect(TokenKind::kName, "the name of a statement");
    const auto* known = std::ranges::find(kStatements, name.text, &std::pair<std::string_view, Parse>::first);
    if (known != kStatements.end()) return (this->*known->second)(name.line);
    if (std::ranges::contains(kRefusedNames, name.text)) {
      while (tokens_.current().kind != TokenKind::kBlockEnd && tokens_.current().kind != TokenKind::kEnd) {
        tokens_.take();
      }
      return std::make_unique<Refused>(name.line, name.text);
    }
    std::string wanted;
    for (const std::string_view end : ends) wanted += (wanted.empty() ? "" : "' or '") + std::string(end);
    if (wanted.empty()) raise_at(name.line, "there is no statement '{}'", name.text);
    raise_at(name.line, "there is no statement '{}'; '{}' is still to come", name.text, wanted);
  }

  StmtPtr for_loop(int line) {
    auto node = std::make_unique<For>(line);
    node->target = expressions_.target(/*namespaces=*/false, "in");
    tokens_.expect_name("in");
    node->items = expressions_.tuple(/*conditional=*/false, "recursive");
    if (tokens_.skip_name("if")) node->condition = expressions_.expression();
    node->recursive = tokens_.skip_name("recursive");
    if (body_until({"endfor", "else"}, node->body) == "else") body_until({"endfor"}, node->otherwise);
    return node;
  }

  StmtPtr condition(int line) {
    auto node = std::make_unique<If>(line);
    while (true) {
      ExprPtr test = expressions_.tuple(/*conditional=*/false);
      node->branches.emplace_back(std::move(test), Body());
      const std::string end = body_until({"endif", "elif", "else"}, node->branches.back().second);
      if (end == "elif") continue;
      if (end == "else") body_until({"endif"}, node->otherwise);
      return node;
    }
  }

  StmtPtr assignment(int line) {
    Target target = expressions_.target(/*namespaces=*/true);
    if (tokens_.skip_operator("=")) {
      auto node = std::make_unique<Set>(line);
      node->target = std::move(target);
      node->value = expressions_.tuple();
      return node;
    }
    auto node = std::make_unique<SetBlock>(line);
    node->target = std::move(target);
    node->filter = expressions_.filters(nullptr);
    body_until({"endset"}, node->body);
    return node;
  }

  void signature(MacroCode& code) {
    tokens_.expect_operator("(");
    while (!tokens_.current().is_operator(")")) {
      if (!code.names.empty()) tokens_.expect_operator(",");
      const Target parameter = expressions_.name_target();
      if (std::ranges::contains(code.names, parameter.name)) {
        raise_at(parameter.line, "there are two parameters '{}'", parameter.name);
      }
      if (tokens_.skip_operator("=")) {
        code.defaults.push_back(expressions_.expression());
      } else if (!code.defaults.empty()) {
        raise_at(parameter.line, "non-default argument follows default argument");
      }
      code.names.push_back(parameter.name);
    }
    tokens_.expect_operator(")");
  }

  StmtPtr macro(int line) {
    auto node = std::make_unique<Macro>(line);
    node->name = expressions_.name_target().name;
    node->code.line = line;
    signature(node->code);
    body_until({"endmacro"}, node->code.body);
    return node;
  }

  StmtPtr call_block(int line) {
    auto node = std::make_unique<CallBlock>(line);
    node->code.line = line;
    if (tokens_.current().is_operator("(")) signature(node->code);
    node->call = expressions_.expression();
    if (node->call->kind != ExprKind::kCall) raise_at(line, "expected call");
    body_until({"endcall"}, node->code.body);
    return node;
  }

  // Marks what the assistant wrote, for training.
  StmtPtr generation(int line) {
    auto node = std::make_unique<CallBlock>(line);
    node->code.line = line;
    body_until({"endgeneration"}, node->code.body);
    return node;
  }

  StmtPtr filter_block(int line) {
    auto node = std::make_unique<FilterBlock>(line);
    node->filter = expressions_.filters(nullptr, /*inline_first=*/true);
    body_until({"endfilter"}, node->body);
    return node;
  }

  StmtPtr with(int line) {
    auto node = std::make_unique<With>(line);
    while (tokens_.current().kind != TokenKind::kBlockEnd) {
      if (!node->values.empty()) tokens_.expect_operator(",");
      Target target = expressions_.target(/*namespaces=*/false);
      tokens_.expect_operator("=");
      node->values.emplace_back(std::move(target), expressions_.expression());
    }
    body_until({"endwith"}, node->body);
    return node;
  }

  StmtPtr block(int line) {
    auto node = std::make_unique<Block>(line);
    node->name = tokens_.expect(TokenKind::kName, "the block's name").text;
    tokens_.skip_name("scoped");
    tokens_.skip_name("required");
    body_until({"endblock"}, node->body);
    tokens_.skip_name(node->name);
    return node;
  }

  StmtPtr print(int line) {
    auto node = std::make_unique<Print>(line);
    while (tokens_.current().kind != TokenKind::kBlockEnd) {
      if (!node->values.empty()) tokens_.expect_operator(",");
      node->values.push_back(expressions_.expression());
    }
    return node;
  }

  // Chat templates have no HTML.
  StmtPtr autoescape(int line) {
    expressions_.expression();
    Body body;
    body_until({"endautoescape"}, body);
    return std::make_unique<Refused>(line, "autoescape");
  }

  StmtPtr break_loop(int line) { return std::make_unique<Break>(line); }
  StmtPtr continue_loop(int line) { return std::make_unique<Continue>(line); }

  TokenStream tokens_;
  ExpressionParser expressions_;
};

}  // namespace

std::unique_ptr<Tree> parse(std::string_view source, bool wider) {
  auto tree = std::make_unique<Tree>();
  tree->wider = wider;
  tree->body = StatementParser(tokenize(source)).run();
  resolve(*tree);
  return tree;
}

}  // namespace odmoe::jinja
