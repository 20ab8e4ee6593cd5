#include "server/output/output_grammar.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "grammar/grammar_builder.h"
#include "grammar/json_schema.h"
#include "grammar/text_grammar.h"
#include "server/output/call_grammar.h"
#include "server/output/mark_grammar.h"

namespace odmoe::server {
namespace {

using grammar::GrammarBuilder;
using Expression = GrammarBuilder::Expression;
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
bool may_call_strictly(const ChatRequest& request) {
  return may_call(request) && std::ranges::any_of(request.tools, &Tool::strict);
}
bool must_call(const ChatRequest& request) {
  return may_call(request) && request.tool_choice.kind != ToolChoice::Kind::kAuto;
}

// Content in the marks that the format has for it.
Expression in_content(GrammarBuilder& builder, MarkGrammar& marks, Expression content,
                      const GrammarPlace& place, std::string_view begun) {
  const OutputFormat& format = *place.format;
  if (!format.tokens || format.content_open.empty() || place.start == OutputStart::kContent) return content;
  std::string_view open = format.content_open[0];
  if (open.starts_with(begun)) open.remove_prefix(begun.size());
  return builder.sequence({marks.written(open), content});
}

// Whatever the model wants to say, or calls, which are held where their tools are strict.  Calls follow text
// where a mark tells them from it.
ApiResult<Expression> text_or_calls(const Engine& engine, GrammarBuilder& builder, const ChatRequest& request,
                                    const GrammarPlace& place, std::string_view begun) {
  const OutputFormat& format = *place.format;
  MarkGrammar marks(engine, builder);
  const auto calls = [&](std::string_view written) {
    return CallGrammar(engine, builder, request, *format.calls, CallGrammar::Held::kStrict, written).calls();
  };
  const std::string_view mark =
      CallGrammar(engine, builder, request, *format.calls, CallGrammar::Held::kStrict, begun).first_mark();
  const bool in_marks = format.tokens && !format.content_open.empty() && place.start != OutputStart::kContent;
  if (mark.empty() || in_marks) {
    ODMOE_ASSIGN_OR_RETURN(const Expression call, calls(begun));
    const Expression text = mark.empty() ? builder.repeat(builder.range(0, 255), 0, -1) : marks.without(mark);
    return builder.choice({in_content(builder, marks, text, place, begun), call});
  }
  ODMOE_ASSIGN_OR_RETURN(const Expression call, calls(mark));
  return builder.choice({marks.without(mark), builder.sequence({marks.until(mark), call})});
}

Expression behind_thought(GrammarBuilder& builder, MarkGrammar& marks, Expression answer,
                          const GrammarPlace& place) {
  const OutputFormat& format = *place.format;
  constexpr int64_t kMostSpaces = 4;
  if (format.thought_close.empty()) return answer;
  const auto end = [&] {
    return builder.sequence({marks.until(format.thought_close[0]), marks.spaces(kMostSpaces)});
  };
  if (place.start == OutputStart::kThought) return builder.sequence({end(), answer});
  if (place.start == OutputStart::kContent || !place.may_think || format.thought_open.empty()) return answer;
  const Expression thought = builder.sequence({marks.written(format.thought_open[0]), end()});
  return builder.sequence({builder.optional(thought), answer});
}

}  // namespace

bool asks_for_grammar(const CommonRequest& request) { return request.form.kind != Form::kText; }
bool asks_for_grammar(const ChatRequest& request) {
  return holds_answer(request) || may_call_strictly(request);
}
bool holds_answer(const ChatRequest& request) {
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
                                                              const GrammarPlace& place, grammar::Stop stop) {
  if (!asks_for_grammar(request)) return nullptr;
  const OutputFormat& format = *place.format;
  const bool only_calls = must_call(request), calls = may_call(request) && format.calls.has_value();
  const std::string_view begun = place.start == OutputStart::kAnswer ? format.begins_with : "";
  const bool free = !holds_answer(request);
  using Held = CallGrammar::Held;
  const auto grammar = [&](Held whose) -> ApiResult<std::shared_ptr<const grammar::Grammar>> {
    GrammarBuilder builder(stop);
    MarkGrammar marks(engine, builder);
    std::vector<Expression> ways;
    if (free) {
      ODMOE_ASSIGN_OR_RETURN(const Expression text, text_or_calls(engine, builder, request, place, begun));
      ways.push_back(text);
    } else if (!only_calls) {
      ODMOE_ASSIGN_OR_RETURN(const Expression form, add_form(builder, request.form));
      ways.push_back(in_content(builder, marks, form, place, begun));
    }
    if (calls && !free) {
      CallGrammar call_grammar(engine, builder, request, *format.calls, whose, begun);
      ODMOE_ASSIGN_OR_RETURN(const Expression call, call_grammar.calls());
      ways.push_back(call);
    }
    const Expression answer = builder.choice(std::move(ways));
    return build(builder, behind_thought(builder, marks, answer, place),
                 only_calls || free ? "tools" : request.form.param);
  };
  auto held = grammar(Held::kAll);
  if (held.has_value() || only_calls || free || (stop && stop())) return held;
  // With tool_choice auto a call's arguments are the model's own, so that a schema of a tool that cannot be
  // held does not stand in the way of the form.
  return grammar(Held::kStrict);
}

}  // namespace odmoe::server
