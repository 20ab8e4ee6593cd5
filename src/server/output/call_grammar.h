// What a model may write as calls of tools, in its own format.
#pragma once

#include <string_view>
#include <vector>

#include "grammar/grammar_builder.h"
#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/generation_request.h"
#include "server/output/argument_types.h"
#include "server/output/mark_grammar.h"
#include "server/output/output_format.h"

namespace odmoe::server {

// Borrows all of it.
class CallGrammar {
 public:
  using Expression = grammar::GrammarBuilder::Expression;
  // Whose schemas are held.
  enum class Held : uint8_t { kAll, kStrict, kNone };
  // `begun`: what of the first mark is written already.
  CallGrammar(const Engine& engine, grammar::GrammarBuilder& builder, const ChatRequest& request,
              const CallSyntax& syntax, Held held, std::string_view begun)
      : b_(&builder),
        marks_(engine, builder),
        request_(&request),
        syntax_(&syntax),
        held_(held),
        begun_(begun) {}

  // One call or more of the tools that may be called.
  ApiResult<Expression> calls();
  // The mark that they begin with; empty: there is none.
  std::string_view first_mark() const {
    return syntax_->list_open.empty() ? open_mark() : syntax_->list_open[0];
  }

 private:
  using Expressions = std::vector<Expression>;
  // The marks before a call, or what of them is still to be written.
  struct Opening {
    std::string_view list, call;
  };
  ApiResult<Expression> one_of_tools(const Opening& opening);
  ApiResult<Expression> call(const Tool& tool, size_t index, const Opening& opening);
  ApiResult<Expression> value_call(const Tool& tool, size_t index);
  ApiResult<Expression> named_call(const Tool& tool, size_t index);
  ApiResult<Expression> parameter_call(const Tool& tool, size_t index);
  ApiResult<Expression> python_arguments(const Tool& tool, size_t index);
  ApiResult<Expression> parameter(const Tool& tool, size_t index, const std::string& key);
  ApiResult<Expression> arguments(const Tool& tool, size_t index);
  ApiResult<Expression> argument(const Tool& tool, size_t index, const std::string& key);
  ApiStatus check_arguments(const Tool& tool, size_t index) const;
  // The arguments that the schema names, in its order; those that it does not require may be left out.
  struct Argument {
    std::string key;
    bool required = false;
  };
  std::vector<Argument> arguments_of(const Tool& tool) const;
  bool holds(const Tool& tool) const;
  Expression characters(size_t least, size_t most);  // letters and digits
  Expression header(std::string_view pattern, std::string_view name);
  Expression text(std::string_view bytes) { return b_->literal(bytes); }
  // Where calls may stand without marks they are written so.
  std::string_view open_mark() const { return syntax_->bare ? "" : first(syntax_->open); }
  std::string_view close_mark() const { return syntax_->bare ? "" : first(syntax_->close); }
  static std::string_view first(const Marks& marks) { return marks.empty() ? std::string_view() : marks[0]; }

  grammar::GrammarBuilder* b_;
  MarkGrammar marks_;
  const ChatRequest* request_;
  const CallSyntax* syntax_;
  Held held_;
  std::string_view begun_;
};

}  // namespace odmoe::server
