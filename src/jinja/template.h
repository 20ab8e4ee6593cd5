// Jinja templates, as chat templates use them: an interpreter of what transformers renders.
//
// It does what jinja2's ImmutableSandboxedEnvironment does with trim_blocks, lstrip_blocks, loop controls,
// `generation` blocks, and transformers' tojson, raise_exception and strftime_now; byte for byte, errors
// included.  What it leaves out is an error that says so: include, import, extends, autoescape, filters for
// HTML pages, integers of more than 64 bits.  Nothing but values can be reached from a template, and steps,
// memory, output and depth are bounded (limits.h).
//
// What comes out says of each byte who wrote it, the template or the conversation, whatever became of it on
// the way: filters, slices, concatenation.  So text of the conversation need never be taken for a control
// token.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/limits.h"
#include "jinja/text.h"
#include "odmoe/result.h"

namespace odmoe::jinja {

struct Tree;

// What a template may do.
enum class Rules {
  kTransformers,
  // Beyond that what llama.cpp lets templates do, and some that are published need it: a list or dict that
  // nothing else holds may be changed in place (append, extend, insert, pop; update), and there is the filter
  // from_json.
  kWider,
};

// A variable that the template is given.
struct Input {
  std::string name;
  nlohmann::ordered_json value;
  bool said = true;  // by the conversation; false: it counts as the template's own, as special tokens do
};

struct Rendered {
  std::string text;
  std::vector<Span> said;  // what the conversation wrote, in bytes; in order, apart
};

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct RenderOptions {
  std::tm now = {};  // what strftime_now() tells
  // What of a text of the conversation counts as the template's own, in order and apart: `key` is where it
  // stands, as "role", and `text` is where the input has it.
  std::function<std::vector<Span>(std::string_view key, std::string_view text)> own = {};
  Limits limits = {};
  std::function<bool()> goes_on = {};  // asked some times in a millisecond; false: end (kInterrupted)
};
// NOLINTEND(readability-redundant-member-init)

// Immutable; any number of threads may render at once.  Cheap to copy.
class Template {
 public:
  // kUnsupported for what cannot be read, with its line.
  static Result<Template> parse(std::string_view source, Rules rules = Rules::kTransformers);

  // Of inputs of one name the last counts.  kUnsupported where the template raises an error or reaches a
  // limit, with the line.
  Result<Rendered> render(const std::vector<Input>& inputs, const RenderOptions& options = {}) const;

 private:
  explicit Template(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const Tree> tree_;
};

}  // namespace odmoe::jinja
