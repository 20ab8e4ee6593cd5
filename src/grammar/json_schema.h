// JSON Schema as a grammar: what is written under it is a JSON text that the schema accepts.
//
// The grammar may be narrower than the schema, never wider: members come in the schema's order, and members
// that it does not name are written only where it speaks of them or names none.  Drafts 4 to 2020-12 and
// OpenAPI 3.0 are read; docs/server.md lists what is held.  What cannot be held is refused by its name and
// place, for to leave it out would be to break it in silence; keywords that are not of the specifications
// describe, as those say.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "grammar/grammar.h"
#include "grammar/grammar_builder.h"

namespace odmoe::grammar {

// What compiling takes at most: the builder's, and the shapes and automata while a schema is read.  The
// grammar takes Grammar::bytes(), at most Grammar::kMaxBytes.
inline constexpr size_t kMaxCompileBytes = kMaxBuilderBytes + (24 << 20);

// Adds the schema's grammar to the builder, whose build() fails where the schema allows nothing.  kUsage,
// with where in the schema and which keyword; kInterrupted when the builder was asked to stop.
Result<GrammarBuilder::Expression> add_json_schema(GrammarBuilder& builder,
                                                   const nlohmann::ordered_json& schema);
// Any JSON object.
GrammarBuilder::Expression add_json_object(GrammarBuilder& builder);

// The same as whole grammars.
Result<std::shared_ptr<const Grammar>> json_schema_grammar(const nlohmann::ordered_json& schema,
                                                           Stop stop = {});
Result<std::shared_ptr<const Grammar>> json_object_grammar();

}  // namespace odmoe::grammar
