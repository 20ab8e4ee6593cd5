// JSON Schema as a grammar: what is written under it is a JSON text that the schema accepts.
//
// The grammar may be narrower than the schema, never wider: members come in the schema's order, and members
// that it does not name are written only where it names none.  Known: type, properties, required,
// additionalProperties, items, prefixItems, minItems, maxItems, uniqueItems (of items that are an enum of up
// to kMaxUnique), enum, const, anyOf, oneOf (of alternatives that exclude each other), allOf of one, $ref
// into the same schema, minLength, maxLength, minimum, maximum, exclusiveMinimum, exclusiveMaximum,
// multipleOf (a power of ten, an integer up to kMaxFactor, or one whose bounds leave no more than kMaxEnum
// values), format (date, time, date-time, uuid, ipv4), pattern (pattern.h), and what only describes. Anything
// else is refused by its name, for to leave it out would be to break it in silence.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace odmoe::grammar {

inline constexpr int kMaxSchemaDepth = 64;
inline constexpr size_t kMaxEnum = 1000;
inline constexpr size_t kMaxUnique = 8;  // values of which each may come once: a rule for each set of them

// Adds the schema's grammar to the builder.  kUsage, with where in the schema and which keyword.
Result<GrammarBuilder::Expression> add_json_schema(GrammarBuilder& builder,
                                                   const nlohmann::ordered_json& schema);
// Any JSON object.
GrammarBuilder::Expression add_json_object(GrammarBuilder& builder);

// The same as whole grammars.
Result<std::shared_ptr<const Grammar>> json_schema_grammar(const nlohmann::ordered_json& schema);
Result<std::shared_ptr<const Grammar>> json_object_grammar();

}  // namespace odmoe::grammar
