// Makes grammars of the shapes that JSON schemas are read into.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "grammar/grammar_builder.h"
#include "grammar/json_numbers.h"
#include "grammar/json_values.h"
#include "grammar/schema_reader.h"
#include "grammar/schema_shape.h"
#include "grammar/text_grammar.h"

namespace odmoe::grammar {

inline constexpr size_t kMaxGoals = 20'000;  // different sets of schemas that some value must be valid under
inline constexpr size_t kMaxMemberPatterns =
    6;  // of one object: its names are told apart by all of them at once
inline constexpr size_t kMaxCountedStates = 65'536;  // of an object or array whose size is bound
inline constexpr size_t kMaxUnique = 8;              // values that may come in any order, each once
inline constexpr size_t kMaxOrderedUnique = 4096;    // values that come in their order, each once

// One owner, of one builder and one schema, which it borrows.
class SchemaCompiler {
 public:
  using Expression = GrammarBuilder::Expression;
  SchemaCompiler(GrammarBuilder& builder, const SchemaJson& schema)
      : builder_(&builder),
        root_(&schema),
        values_(builder),
        numbers_(builder, values_),
        texts_(builder, values_),
        reader_(schema, builder.work()) {}

  // The schema's values.  kUsage: what cannot be held, and where; kInterrupted.  Where nothing is allowed the
  // builder says so, and why.
  Result<Expression> compile();

 private:
  Expression value(const Goal& goal);  // a rule of its own, which compile() comes to later
  Result<Expression> body(const Goal& goal);
  Result<std::optional<Expression>> passed_on(const SchemaJson& schema);
  Result<Expression> of_shape(const Shape& shape);
  Result<Expression> of_type(JsonType type, const Shape& shape);
  Result<Expression> string(const TextRule& rule);
  Result<Expression> text(const TextRule& rule);  // without quotes

  Result<Expression> constants(const Shape& shape);
  Expression constant(const SchemaJson& value);
  Result<bool> satisfies(const SchemaJson& value, const Shape& shape);
  Result<bool> holds(const SchemaJson& value, const Goal& goal);
  Result<bool> object_holds(const SchemaJson& value, const Shape& shape);
  Result<bool> array_holds(const SchemaJson& value, const Shape& shape);

  struct Member {
    std::string name;
    Goal goal;
    bool required = false;
  };
  struct Extra {
    Expression key;  // without the quote before it
    Goal goal;
  };
  struct Members {
    std::vector<Member> named;
    std::vector<Extra> extras;
    bool impossible = false;
  };
  Result<Expression> object(const Shape& shape);
  Result<Members> members(const Shape& shape);
  Status add_extras(const Shape& shape, const Shapes& names, Members& members);
  Result<std::vector<std::vector<bool>>> matches(const Shape& shape, const std::string& name);
  Result<Expression> object_of(const Members& members, const Shape& shape);

  Result<Expression> array(const Shape& shape);
  Expression tuple(const Shape& shape, int64_t n_prefix);
  Result<Expression> containing(const Shape& shape);
  Result<Expression> unique(const Shape& shape);
  Result<std::optional<std::vector<SchemaJson>>> all_values(const Goal& goal);
  Expression any_order(const std::vector<SchemaJson>& values, const Shape& shape);
  Expression in_order(const std::vector<SchemaJson>& values, const Shape& shape);
  static Goal item_goal(const Shape& shape, size_t index);

  template <typename... Args>
  std::unexpected<Error> refuse(std::format_string<Args...> format, Args&&... args) const {
    return reader_.refuse(at_, format, std::forward<Args>(args)...);
  }

  GrammarBuilder* builder_;
  const SchemaJson* root_;
  JsonValues values_;
  JsonNumbers numbers_;
  TextGrammar texts_;
  SchemaReader reader_;
  const SchemaJson* at_ = nullptr;  // the schema whose body is being made
  std::map<Goal, GrammarBuilder::Rule> rules_;
  std::vector<std::pair<Goal, GrammarBuilder::Rule>> pending_;
  std::map<std::string, Expression> known_texts_;
};

}  // namespace odmoe::grammar
