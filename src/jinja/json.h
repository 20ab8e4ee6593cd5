// JSON to values, and values to JSON as Python's json.dumps() writes it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/value.h"

namespace odmoe::jinja {

// The parts of a text that stands at `key` (empty: in no object) that are the template's own all the same: in
// order, apart.  `text` is where the JSON value has it.
using OwnText = std::function<std::vector<Span>(std::string_view key, std::string_view text)>;

// All text and numbers, keys included, are the conversation's.
Value said_value(Heap& heap, const nlohmann::ordered_json& json, const OwnText& own);
// All of it is the template's own.
Value own_value(Heap& heap, const nlohmann::ordered_json& json);

struct DumpOptions {
  bool ensure_ascii = false;
  Value indent = Value::none();         // a number of spaces, or a text
  Value item_separator, key_separator;  // text; nothing: ", " or "," before line ends, and ": "
  bool sort_keys = false;
};
// Raises a TypeError for what JSON has no words for.
Text dump_json(Heap& heap, const Value& value, const DumpOptions& options);

}  // namespace odmoe::jinja
