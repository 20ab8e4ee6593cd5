#include "jinja/template.h"

#include <exception>
#include <utility>

#include "jinja/ast.h"
#include "jinja/failure.h"
#include "jinja/heap.h"
#include "jinja/interpreter.h"
#include "jinja/json.h"
#include "jinja/parser.h"

namespace odmoe::jinja {
namespace {

std::string_view kind_name(FailureKind kind) {
  switch (kind) {
    case FailureKind::kSyntax:
      return "syntax error: ";
    case FailureKind::kType:
    case FailureKind::kValue:
    case FailureKind::kUndefined:
    case FailureKind::kSecurity:
    case FailureKind::kRuntime:
    case FailureKind::kRaised:
    case FailureKind::kLimit:
    case FailureKind::kEnded:
      break;
  }
  return "";
}

ErrorKind error_kind(FailureKind kind) {
  return kind == FailureKind::kEnded ? ErrorKind::kInterrupted : ErrorKind::kUnsupported;
}

std::unexpected<Error> as_error(const Failure& failure, int line) {
  return fail(error_kind(failure.kind()), "line {} of the chat template: {}{}", line,
              kind_name(failure.kind()), failure.message());
}

}  // namespace

Result<Template> Template::parse(std::string_view source, Rules rules) {
  if (source.size() > Limits().source_bytes) {
    return fail(ErrorKind::kUnsupported, "the chat template has {} bytes; {} are the most", source.size(),
                Limits().source_bytes);
  }
  try {
    return Template(jinja::parse(source, rules == Rules::kWider));
  } catch (const Failure& failure) {
    return as_error(failure, failure.line());
  }
}

Result<Rendered> Template::render(const std::vector<Input>& inputs, const RenderOptions& options) const {
  Heap heap(options.limits, options.goes_on, tree_->wider);
  Context context;
  int line = 1;
  try {
    for (const Input& input : inputs) {
      context[input.name] =
          input.said ? said_value(heap, input.value, options.own) : own_value(heap, input.value);
    }
    Interpreter interpreter(*tree_, heap, context, options.now);
    try {
      const Text text = interpreter.run();
      return Rendered{.text = std::string(text.view()), .said = text.said()};
    } catch (const Failure&) {
      line = interpreter.line();
      throw;
    }
  } catch (const Failure& failure) {
    return as_error(failure, failure.line() > 0 ? failure.line() : line);
  }
}

}  // namespace odmoe::jinja
