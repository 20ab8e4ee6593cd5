#include "server/call_grammar.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "grammar/grammar_builder.h"
#include "grammar/json_schema.h"
#include "grammar/text_grammar.h"
#include "server/assistant_text.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

using grammar::GrammarBuilder;
using Expression = GrammarBuilder::Expression;

class CallGrammar {
 public:
  // `any_arguments`: the tools' schemas are not held.
  CallGrammar(const Engine& engine, GrammarBuilder& builder, const ChatRequest& request,
              ToolCallSyntax syntax, bool any_arguments)
      : engine_(&engine),
        b_(&builder),
        request_(&request),
        syntax_(syntax),
        any_arguments_(any_arguments),
        marks_(call_marks(syntax)) {}

  // One call or more of the tools that may be called.
  ApiResult<Expression> calls() {
    if (syntax_ == ToolCallSyntax::kDeepSeekV32) {
      return bad_request("tool_choice", "this model's calls can only be left to it: use tool_choice auto");
    }
    std::vector<Expression> ways;
    for (size_t i = 0; i < request_->tools.size(); ++i) {
      const Tool& tool = request_->tools[i];
      const bool named = request_->tool_choice.kind == ToolChoice::Kind::kNamed;
      if (named && tool.name != request_->tool_choice.name) continue;
      ODMOE_ASSIGN_OR_RETURN(const Expression schema, arguments(tool, i));
      ways.push_back(call(tool.name, schema));
    }
    const GrammarBuilder::Rule rule = b_->declare();
    b_->define(rule, b_->sequence({mark(marks_.open), b_->choice(std::move(ways)), mark(marks_.close)}));
    const Expression one = b_->call(rule);
    const bool only_one =
        !request_->parallel_tool_calls || request_->tool_choice.kind == ToolChoice::Kind::kNamed;
    constexpr int32_t kMostCalls = 16;
    const bool in_lines = syntax_ == ToolCallSyntax::kHermes || syntax_ == ToolCallSyntax::kDeepSeekV3;
    const Expression next = in_lines ? b_->sequence({b_->literal("\n"), one}) : one;
    std::vector<Expression> all = {one};
    if (!only_one) all.push_back(b_->repeat(next, 0, kMostCalls - 1));
    if (!marks_.list_open.empty()) {
      all.insert(all.begin(), mark(marks_.list_open));
      all.push_back(mark(marks_.list_close));
    }
    return b_->sequence(std::move(all));
  }

 private:
  ApiResult<Expression> arguments(const Tool& tool, size_t index) {
    if (any_arguments_ || tool.parameters.is_null() || tool.parameters.empty()) {
      return grammar::add_json_object(*b_);
    }
    // Arguments are an object, whether the schema says so or not.
    nlohmann::ordered_json parameters = tool.parameters;
    if (parameters == true) parameters = nlohmann::ordered_json::object();
    const auto type = parameters.find("type");
    const bool allowed =
        parameters.is_object() && (type == parameters.end() || type->is_null() || *type == "object" ||
                                   (type->is_array() && std::ranges::contains(*type, "object")));
    if (!allowed) {
      return bad_request(odmoe::format("tools[{}].function.parameters.type", index),
                         "tools[{}].function.parameters must be the schema of an object", index);
    }
    parameters["type"] = "object";
    const auto schema = grammar::add_json_schema(*b_, parameters);
    if (schema.has_value()) return *schema;
    return bad_request(odmoe::format("tools[{}].function.parameters", index), "{}", schema.error().message);
  }

  // A control token where the vocabulary has one, else its text.
  Expression mark(std::string_view text) {
    const std::vector<Token> tokens = engine_->encode(text, false, true);
    if (tokens.size() == 1 && engine_->is_control(tokens[0])) return b_->token(tokens[0]);
    return b_->literal(text);
  }

  Expression call(const std::string& name, Expression arguments) {
    const auto text = [&](std::string_view bytes) { return b_->literal(bytes); };
    switch (syntax_) {
      case ToolCallSyntax::kHermes:
        return b_->sequence({text("\n{\"name\": \"" + name + "\", \"arguments\": "), arguments, text("}\n")});
      case ToolCallSyntax::kKimi:
        return b_->sequence({text("functions." + name + ":"), b_->repeat(b_->range('0', '9'), 1, 3),
                             mark("<|tool_call_argument_begin|>"), arguments});
      case ToolCallSyntax::kDeepSeekV3:
        return b_->sequence(
            {text("function"), mark("<｜tool▁sep｜>"), text(name + "\n```json\n"), arguments, text("\n```")});
      default:
        return b_->sequence({text(name), mark("<｜tool▁sep｜>"), arguments});
    }
  }

  const Engine* engine_;
  GrammarBuilder* b_;
  const ChatRequest* request_;
  ToolCallSyntax syntax_;
  bool any_arguments_;
  CallMarks marks_;
};

using Form = AnswerForm::Kind;

ApiResult<Expression> add_form(GrammarBuilder& builder, const AnswerForm& form) {
  switch (form.kind) {
    case Form::kText:
      break;
    case Form::kObject:
      return grammar::add_json_object(builder);
    case Form::kSchema: {
      auto schema = grammar::add_json_schema(builder, form.schema);
      if (!schema.has_value()) return bad_request(form.param, "{}", schema.error().message);
      return *schema;
    }
    case Form::kPattern: {
      auto pattern = grammar::add_whole_pattern(builder, form.pattern);
      if (!pattern.has_value()) return bad_request(form.param, "{}: {}", form.param, pattern.error().message);
      return *pattern;
    }
    case Form::kChoice:
      return builder.one_of(form.choices);
  }
  std::unreachable();
}

ApiResult<std::shared_ptr<const grammar::Grammar>> build(GrammarBuilder& builder, Expression root,
                                                         const std::string& param) {
  auto grammar = builder.build(root);
  if (!grammar.has_value()) return bad_request(param, "{}: {}", param, grammar.error().message);
  return *grammar;
}

bool may_call(const ChatRequest& request) {
  return !request.tools.empty() && request.tool_choice.kind != ToolChoice::Kind::kNone;
}
bool must_call(const ChatRequest& request) {
  return may_call(request) && request.tool_choice.kind != ToolChoice::Kind::kAuto;
}

}  // namespace

bool asks_for_grammar(const CommonRequest& request) { return request.form.kind != Form::kText; }
bool asks_for_grammar(const ChatRequest& request) {
  return asks_for_grammar(static_cast<const CommonRequest&>(request)) || must_call(request);
}

ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const CommonRequest& request,
                                                              grammar::Stop stop) {
  if (!asks_for_grammar(request)) return nullptr;
  GrammarBuilder builder(std::move(stop));
  ODMOE_ASSIGN_OR_RETURN(const Expression root, add_form(builder, request.form));
  return build(builder, root, request.form.param);
}

ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const Engine& engine,
                                                              const ChatRequest& request,
                                                              ToolCallSyntax syntax, grammar::Stop stop) {
  if (!asks_for_grammar(request)) return nullptr;
  if (!may_call(request)) return grammar_of(static_cast<const CommonRequest&>(request), std::move(stop));
  const bool only_calls = must_call(request);
  // What a form or a call must be; with tool_choice auto a call's arguments are the model's own, so that a
  // schema of a tool that cannot be held does not stand in the way of the form.
  const auto grammar = [&](bool any_arguments) -> ApiResult<std::shared_ptr<const grammar::Grammar>> {
    GrammarBuilder builder(stop);
    std::vector<Expression> ways;
    if (!only_calls) {
      ODMOE_ASSIGN_OR_RETURN(const Expression form, add_form(builder, request.form));
      ways.push_back(form);
    }
    CallGrammar calls(engine, builder, request, syntax, any_arguments);
    ODMOE_ASSIGN_OR_RETURN(const Expression call, calls.calls());
    ways.push_back(call);
    return build(builder, builder.choice(std::move(ways)), only_calls ? "tools" : request.form.param);
  };
  auto held = grammar(false);
  if (held.has_value() || only_calls || (stop && stop())) return held;
  return grammar(true);
}

}  // namespace odmoe::server
