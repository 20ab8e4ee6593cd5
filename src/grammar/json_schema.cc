#include "grammar/json_schema.h"

#include <utility>

#include "grammar/json_values.h"
#include "grammar/schema_compiler.h"

namespace odmoe::grammar {

using Expression = GrammarBuilder::Expression;

Result<Expression> add_json_schema(GrammarBuilder& builder, const nlohmann::ordered_json& schema) {
  auto compiled = SchemaCompiler(builder, schema).compile();
  // Whatever gave up did so for this.
  if (!compiled.has_value() && builder.work().stopped()) return std::unexpected(builder.excess());
  return compiled;
}

Expression add_json_object(GrammarBuilder& builder) { return JsonValues(builder).object(); }

Result<std::shared_ptr<const Grammar>> json_schema_grammar(const nlohmann::ordered_json& schema, Stop stop) {
  GrammarBuilder builder(std::move(stop));
  ODMOE_ASSIGN_OR_RETURN(const Expression root, add_json_schema(builder, schema));
  return builder.build(root);
}

Result<std::shared_ptr<const Grammar>> json_object_grammar() {
  GrammarBuilder builder;
  const Expression root = add_json_object(builder);
  return builder.build(root);
}

}  // namespace odmoe::grammar
