// What an argument is that a model wrote as text: a string, or a number, an object, ..., as its schema says.
#pragma once

#include <cstdint>
#include <string_view>

#include "server/generation_request.h"

namespace odmoe::server {

// The types that a schema allows at its top.
struct ArgumentTypes {
  bool string = false, number = false, boolean = false, null = false, object = false, array = false;
  bool any() const { return !(string || number || boolean || null || object || array); }  // says nothing
};
// `schema`: one of an argument; `root`: that of all, which its references are of.
ArgumentTypes argument_types(const Json& schema, const Json& root);
// Of a tool's argument; null: its parameters say nothing of it.
const Json* argument_schema(const Tool& tool, std::string_view key);

// A string where the schema allows nothing else, or where the text is nothing else.
Json typed_argument(std::string_view text, const ArgumentTypes& types);

}  // namespace odmoe::server
