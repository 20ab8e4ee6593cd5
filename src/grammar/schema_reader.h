// Reads JSON schemas (drafts 4 to 2020-12, and OpenAPI's nullable) into shapes.
//
// What comes out is the schema's values or some of them, never others: of alternatives that shapes cannot
// say, those that they can are left.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "grammar/schema_references.h"
#include "grammar/schema_shape.h"
#include "grammar/work.h"

namespace odmoe::grammar {

inline constexpr int kMaxSchemaDepth = 128;  // of allOf, anyOf, $ref and the like within each other
inline constexpr size_t kMaxShapes = 4096;   // alternatives of one schema
// Of all schemas together: what shapes and regular expressions hold, some 40 bytes each.
inline constexpr size_t kMaxSchemaTerms = 400'000;

// One owner.  Borrows the schema.
class SchemaReader {
 public:
  SchemaReader(const SchemaJson& root, Work& work) : references_(root), work_(&work) {}

  // kUsage: a keyword that is wrong or cannot be held, with its place.
  Result<Shapes> read(const Goal& goal);
  // Whether two schemas can have no value in common; false where that is not easily seen.
  Result<bool> disjoint(const SchemaJson& a, const SchemaJson& b);

  std::string place(const SchemaJson* schema) const { return references_.place(schema); }
  // Why nothing was left at some place: for the error if nothing is left at all.
  const std::string& reason() const { return reason_; }
  void note(const SchemaJson* schema, std::string_view why);
  template <typename... Args>
  std::unexpected<Error> refuse(const SchemaJson* schema, std::format_string<Args...> format,
                                Args&&... args) const {
    return fail(ErrorKind::kUsage, "{}: {}", place(schema),
                odmoe::format(format, std::forward<Args>(args)...));
  }
  // The regular expression of a pattern, read once.
  Result<std::shared_ptr<const Regex>> regex(const SchemaJson* schema, const std::string& pattern);

 private:
  // Exact or narrower, or else exact or wider: for telling that schemas exclude each other.
  enum class Mode : uint8_t { kWithin, kAround };
  using Item = std::pair<GoalItem, Mode>;

  Result<Shapes> read(const GoalItem& item, Mode mode);
  Result<Shapes> read_all(const Goal& goal, Mode mode);
  Result<Shapes> positive(const SchemaJson& schema, Mode mode);
  Result<Shapes> negative(const SchemaJson& schema);
  Status charge(const SchemaJson* schema, size_t terms);
  static size_t terms_of(const Shape& shape);
  Result<Shapes> meet(const Shapes& a, const Shapes& b, const SchemaJson* schema);
  Result<bool> surely_empty(const Shape& shape, int depth);

  // Keywords of one schema's own, each of one kind of value.
  Status read_types(const SchemaJson& schema, Shape& shape);
  Status read_values(const SchemaJson& schema, Shape& shape);
  Status read_number(const SchemaJson& schema, Shape& shape);
  Status read_text(const SchemaJson& schema, Shape& shape, Mode mode);
  Status read_array(const SchemaJson& schema, Shape& shape, Mode mode);
  Status read_object(const SchemaJson& schema, Shape& shape);
  // Keywords that hold other schemas of the same value.
  Status read_combinations(const SchemaJson& schema, Shapes& shapes, Mode mode);
  Status read_conditions(const SchemaJson& schema, Shapes& shapes);
  Status read_unevaluated(const SchemaJson& schema, Shapes& shapes);
  Result<Shapes> one_of(const SchemaJson& list, Mode mode);

  Shapes not_values(const std::vector<const SchemaJson*>& values);
  Status negate_scalars(const SchemaJson& schema, Shapes& shapes);
  Status negate_members(const SchemaJson& schema, Shapes& shapes);
  Status negate_combinations(const SchemaJson& schema, Shapes& shapes);

  Result<const SchemaJson*> target(const SchemaJson& schema);
  Result<int64_t> count(const SchemaJson& schema, const char* keyword, int64_t otherwise);
  static Shape absent(const std::string& name);

  SchemaReferences references_;
  Work* work_;
  std::map<Item, std::shared_ptr<const Shapes>> known_;
  std::set<Item> open_;  // being read: one that comes to itself has no meaning
  std::map<std::string, std::shared_ptr<const Regex>> regexes_;
  std::string reason_;
  size_t n_term_ = 0;
};

// The value of a keyword; null where it is absent, which JSON's null means too.
const SchemaJson* keyword(const SchemaJson& schema, const char* name);
// What stands in an error, cut.
std::string text_of(const SchemaJson& json);
// Schemas that allow anything and nothing.
const SchemaJson& anything_schema();
const SchemaJson& nothing_schema();

}  // namespace odmoe::grammar
