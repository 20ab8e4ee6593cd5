// Where a schema's $ref leads to within it.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/schema_shape.h"

namespace odmoe::grammar {

inline constexpr int kMaxReferenceDepth = 256;  // of schemas that are read for the identities in them

// By JSON pointer (percent-encoded or not), $anchor, and $id or draft 4's id, relative to those around it.
// Borrows the schema.  One owner.
class SchemaReferences {
 public:
  explicit SchemaReferences(const SchemaJson& root);

  // Null where there is nothing.  `from` is the schema that holds the reference.
  const SchemaJson* find(std::string_view reference, const SchemaJson& from) const;
  // Where in the schema this is, as a JSON pointer, for people: names are cut, the root is "the schema".
  std::string place(const SchemaJson* schema) const;

 private:
  void index(const SchemaJson& schema, const std::string& base, int depth);
  static bool find_path(const SchemaJson& value, const SchemaJson* schema, int depth,
                        std::vector<std::string>& path);
  static const SchemaJson* follow(const SchemaJson& from, std::string_view pointer);

  const SchemaJson* root_;
  std::map<std::string, const SchemaJson*> resources_;                        // by their address
  std::map<std::pair<std::string, std::string>, const SchemaJson*> anchors_;  // by address and name
  std::unordered_map<const SchemaJson*, std::string>
      bases_;  // of those that hold references, where not the root's
};

// A name as a JSON pointer has it, cut and without control characters.
std::string escape_pointer(std::string_view name);

}  // namespace odmoe::grammar
