// How models write what they say: thoughts, content and calls of tools.  One entry for each format; what
// reads it (output_reader.h) and what holds a model to it (output_grammar.h) are both made from the entry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace odmoe::server {

// A text that stands between the parts of an output.  Where there are several for one place, the first is
// what is written, and all of them are read.
using Marks = std::vector<std::string_view>;

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
// Arguments that stand one by one, each as text: <parameter=days>3</parameter>.  Names of tools are made of
// letters, digits and _ - .
struct ParameterSyntax {
  std::string_view name_end = {};    // between the tool's name and the first parameter
  std::string_view open = {};        // before a key
  std::string_view key_end = {};     // behind it, and behind the attributes
  std::string_view value_open = {};  // before the value, which begins at once where this is empty
  std::string_view close = {};       // behind the value
  // Behind a key: an attribute that says whether the value is a string or JSON, and what it says then.
  std::string_view type_attribute = {}, string_type = {}, json_type = {};
  bool escaped = false;       // names and keys have &amp; and &quot;
  bool cdata = false;         // a value may stand between <![CDATA[ and ]]>
  std::string_view pad = {};  // white space on both sides of a value that does not belong to it
};

struct CallSyntax {
  enum class Form : uint8_t {
    kValues,      // {"name": NAME, "arguments": {...}}, lists of those, or Python: [NAME(key=value)]
    kNamed,       // a header with the name, then the arguments as JSON
    kParameters,  // the name, then the arguments one by one
    kGemma,       // NAME{key:<|"|>text<|"|>,other:3}
  };
  Form form = Form::kValues;
  Marks list_open = {}, list_close = {};  // around all calls; none: nothing stands there
  Marks open = {}, close = {};            // around each call; with `in_list` around the list of them
  std::string_view between = {};          // is written between calls
  std::string_view gap = {};              // is written between the other parts
  bool list_each = false;                 // each call has list marks of its own

  // Of kValues.
  bool in_list = false;  // the objects are elements of a list
  bool keyed = false;    // {NAME: {...}} instead
  bool python = false;   // Python is what is written
  bool bare = false;     // an answer may be calls without any mark
  std::string_view name_key = "name", arguments_key = "arguments", id_key = {};
  bool id_first = false;

  // Of kNamed: how the header may look, the first as it is written: NAME, with INDEX or ID where it has them.
  Marks header = {};
  bool header_is_id = false;
  Marks header_end = {};     // before the arguments
  Marks arguments_end = {};  // behind them, before close

  ParameterSyntax parameters = {};  // of kParameters
};

struct OutputFormat {
  // Harmony: messages with headers that say channel and recipient (harmony_reader.cc).
  enum class Structure : uint8_t { kMarks, kHarmony };

  std::string_view name;
  std::string_view example;  // for people
  // Which templates are of this format: those that have all texts of one of these lists, where none of the
  // formats before it fits.
  std::vector<Marks> found_by = {};
  Structure structure = Structure::kMarks;
  // The marks are tokens that nobody writes as text: they count wherever they are.  Otherwise a thought is
  // looked for at the beginning alone.
  bool tokens = false;
  std::string_view begins_with = {};  // the end of the prompt that belongs to what is read
  Marks thought_open = {}, thought_close = {};
  Marks content_open = {}, content_close = {};  // around content; they are left out of it
  std::optional<CallSyntax> calls = {};
};
// NOLINTEND(readability-redundant-member-init)

// All that are known.  The last one has thoughts and no calls.
const std::vector<OutputFormat>& output_formats();

// What a chat template (Jinja) says of its model's output.
struct ModelOutput {
  const OutputFormat* format = nullptr;  // one of output_formats()
  bool thinks = false;                   // the template speaks of thoughts
};
ModelOutput output_of_template(std::string_view jinja);
// Null: there is none of that name.
const OutputFormat* find_output_format(std::string_view name);
// The names of those that have calls, in one line.
std::string known_call_formats();

// Whether a control token is a part of some mark of the format, and so has to be seen by its reader.
bool is_mark(const OutputFormat& format, std::string_view token);

}  // namespace odmoe::server
