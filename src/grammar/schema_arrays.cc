// Arrays: tuples and lists, what they contain, and what comes in them only once.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <utility>

#include "grammar/schema_compiler.h"

namespace odmoe::grammar {
namespace {

using Expression = GrammarBuilder::Expression;

size_t prefix_of(const Shape& shape) {
  size_t n = 0;
  for (const auto& layer : shape.arrays) n = std::max(n, layer->prefix.size());
  return n;
}

}  // namespace

Goal SchemaCompiler::item_goal(const Shape& shape, size_t index) {
  Goal goal;
  for (const auto& layer : shape.arrays) {
    if (index < layer->prefix.size()) {
      add_to(goal, layer->prefix[index]);
    } else if (layer->rest) {
      add_to(goal, *layer->rest);
    }
  }
  return goal;
}

Result<Expression> SchemaCompiler::array(const Shape& given) {
  GrammarBuilder& b = *builder_;
  Shape shape = given;
  const size_t n_prefix = prefix_of(shape);
  const bool free =
      shape.arrays.empty() && shape.contains.empty() && shape.min_items == 0 && shape.max_items < 0;
  if (free && !shape.unique_items) return values_.array();
  // Where nothing may come, the list ends.
  for (size_t i = 0; i <= n_prefix; ++i) {
    if (!allows_nothing(item_goal(shape, i))) continue;
    const auto most = static_cast<int64_t>(i);
    shape.max_items = shape.max_items < 0 ? most : std::min(shape.max_items, most);
    break;
  }
  // All of a tuple's are written unless the schema says how many may do.
  if (shape.min_items == 0) {
    shape.min_items = static_cast<int64_t>(n_prefix);
    if (shape.max_items >= 0) shape.min_items = std::min(shape.min_items, shape.max_items);
  }
  if (shape.max_items >= 0 && shape.max_items < shape.min_items) {
    reader_.note(at_, "minItems is more than its items allow");
    return b.nothing();
  }
  std::erase_if(shape.contains,
                [](const Contains& contains) { return contains.min == 0 && contains.max < 0; });
  if (shape.unique_items && shape.max_items != 0 && shape.max_items != 1) return unique(shape);
  if (!shape.contains.empty()) return containing(shape);
  if (shape.max_items == 0) return b.literal("[]");
  return tuple(shape, static_cast<int64_t>(n_prefix));
}

// So many items of their own, and others behind them.
Expression SchemaCompiler::tuple(const Shape& shape, int64_t n_prefix) {
  GrammarBuilder& b = *builder_;
  const int64_t min = shape.min_items, max = shape.max_items;
  const Expression close = b.sequence({values_.space(), b.literal("]")});
  const Expression rest =
      max >= 0 && max <= n_prefix ? b.nothing() : value(item_goal(shape, static_cast<size_t>(n_prefix)));
  // What may follow when the first ones and then any number of the rest were written.
  const auto more = [&](int64_t written) {
    const int64_t least = std::max<int64_t>(0, min - written);
    const int64_t most = max < 0 ? -1 : max - written;
    return b.sequence({b.repeat(b.sequence({values_.comma(), rest}), least, most), close});
  };
  std::vector<Expression> ways;
  if (min == 0) ways.push_back(b.literal("[]"));
  if (n_prefix == 0) {
    ways.push_back(b.sequence({b.literal("["), values_.space(), rest, more(1)}));
    return b.choice(std::move(ways));
  }
  const int64_t n_own = max < 0 ? n_prefix : std::min(n_prefix, max);
  GrammarBuilder::Graph graph{.n_state = static_cast<uint32_t>(n_own) + 2};
  const uint32_t end = graph.n_state - 1;
  graph.ends = {end};
  for (int64_t i = 0; i < n_own; ++i) {
    const auto from = static_cast<uint32_t>(i);
    const Expression before = i == 0 ? b.sequence({b.literal("["), values_.space()}) : values_.comma();
    const Expression item = value(item_goal(shape, static_cast<size_t>(i)));
    graph.edges.push_back({.from = from, .to = from + 1, .by = b.sequence({before, item})});
    if (i > 0 && i >= min) graph.edges.push_back({.from = from, .to = end, .by = close});
  }
  const bool goes_on = max < 0 || max > n_own;
  if (goes_on || n_own >= min) {
    graph.edges.push_back(
        {.from = static_cast<uint32_t>(n_own), .to = end, .by = goes_on ? more(n_own) : close});
  }
  ways.push_back(b.graph(std::move(graph)));
  return b.choice(std::move(ways));
}

// Counts the items that are what it contains; one that is may also pass as one that need not be, unless there
// may be too many.
Result<Expression> SchemaCompiler::containing(const Shape& shape) {
  GrammarBuilder& b = *builder_;
  if (shape.contains.size() > 1 || prefix_of(shape) > 0) {
    return refuse("\"contains\" is only supported once, and without prefixItems");
  }
  const Contains& contains = shape.contains[0];
  const Goal any = item_goal(shape, 0);
  Goal wanted = any, other = any;
  add_to(wanted, contains.goal);
  if (contains.max >= 0) add_to(other, {.schema = contains.goal.schema, .negated = !contains.goal.negated});
  const Expression is_wanted = value(wanted), is_other = value(other);
  const int64_t most_counted = contains.max >= 0 ? contains.max : contains.min;
  const int64_t most_items = shape.max_items >= 0 ? shape.max_items : shape.min_items;
  using At = std::pair<int64_t, int64_t>;  // items, wanted ones
  GrammarBuilder::Graph graph{.n_state = 2, .ends = {1}};
  std::map<At, uint32_t> numbers = {{{0, 0}, 0}};
  std::vector<At> pending = {{0, 0}};
  const Expression open = b.sequence({b.literal("["), values_.space()});
  const Expression close = b.sequence({values_.space(), b.literal("]")});
  bool first = true;
  while (!pending.empty() && b.work().spend()) {
    const At at = pending.back();
    pending.pop_back();
    if (numbers.size() > kMaxCountedStates)
      return refuse("contains with these minItems and maxItems is too large");
    const uint32_t from = numbers[at];
    const auto [n, n_wanted] = at;
    const bool fits = n >= shape.min_items && n_wanted >= contains.min;
    if (fits) graph.edges.push_back({.from = from, .to = 1, .by = first ? b.literal("[]") : close});
    if (shape.max_items < 0 || n < shape.max_items) {
      const Expression before = first ? open : values_.comma();
      const auto lead = [&](int64_t n_after, Expression by) {
        // Behind the first item the count is at least 1.
        const At next(std::max<int64_t>(1, std::min(n + 1, most_items)), n_after);
        const auto [entry, fresh] = numbers.try_emplace(next, graph.n_state);
        if (fresh) {
          ++graph.n_state;
          pending.push_back(next);
        }
        graph.edges.push_back({.from = from, .to = entry->second, .by = b.sequence({before, by})});
      };
      lead(n_wanted, is_other);
      if (contains.max < 0 || n_wanted < contains.max) lead(std::min(n_wanted + 1, most_counted), is_wanted);
    }
    first = false;
  }
  return b.graph(std::move(graph));
}

// All values of a goal that has few; nothing where it may have more.
Result<std::optional<std::vector<SchemaJson>>> SchemaCompiler::all_values(const Goal& goal) {
  ODMOE_ASSIGN_OR_RETURN(const Shapes shapes, reader_.read(goal));
  std::vector<SchemaJson> all;
  const auto add = [&](const SchemaJson& value) -> Status {
    ODMOE_ASSIGN_OR_RETURN(const bool fits, holds(value, goal));
    if (!builder_->work().spend(all.size())) return std::unexpected(builder_->excess());
    const bool known =
        std::ranges::any_of(all, [&](const SchemaJson& one) { return equal_json(one, value); });
    if (fits && !known) all.push_back(value);
    return {};
  };
  for (const Shape& shape : shapes) {
    if (shape.values) {
      for (const SchemaJson* value : *shape.values) ODMOE_RETURN_IF_ERROR(add(*value));
      continue;
    }
    if ((shape.types & (kStringType | kObjectType | kArrayType)) != 0) return std::nullopt;
    if ((shape.types & kNullType) != 0) ODMOE_RETURN_IF_ERROR(add(nullptr));
    if ((shape.types & kBooleanType) != 0) {
      ODMOE_RETURN_IF_ERROR(add(false));
      ODMOE_RETURN_IF_ERROR(add(true));
    }
    if ((shape.types & kNumberType) == 0) continue;
    const NumberRule& rule = shape.number;
    if (!rule.integral || !rule.min || !rule.max) return std::nullopt;
    const auto whole = [](const Decimal& bound) {
      return Decimal{.negative = bound.negative, .whole = bound.whole, .fraction = ""}.units(0).value_or(
          INT64_MAX / 4);
    };
    const int64_t low = whole(*rule.min), high = whole(*rule.max);
    if (high - low > static_cast<int64_t>(kMaxOrderedUnique) || std::abs(low) > INT64_MAX / 8)
      return std::nullopt;
    for (int64_t number = low; number <= high; ++number) ODMOE_RETURN_IF_ERROR(add(number));
  }
  if (all.size() > kMaxOrderedUnique) return std::nullopt;
  return all;
}

Result<Expression> SchemaCompiler::unique(const Shape& shape) {
  std::optional<std::vector<SchemaJson>> values;
  if (prefix_of(shape) == 0 && shape.contains.empty()) {
    ODMOE_ASSIGN_OR_RETURN(values, all_values(item_goal(shape, 0)));
  }
  if (!values) {
    return refuse(
        "the keyword \"uniqueItems\" is only supported where items is an enum or has bounds, of up to {} "
        "values",
        kMaxOrderedUnique);
  }
  if (std::cmp_greater(shape.min_items, values->size())) {
    reader_.note(at_, "minItems is more than the number of different values of its items");
    return builder_->nothing();
  }
  return values->size() <= kMaxUnique ? any_order(*values, shape) : in_order(*values, shape);
}

// A state for every set of those that were written.
Expression SchemaCompiler::any_order(const std::vector<SchemaJson>& values, const Shape& shape) {
  GrammarBuilder& b = *builder_;
  std::vector<Expression> one;
  for (const SchemaJson& value : values) one.push_back(b.shared(constant(value)));
  const auto n_set = static_cast<uint32_t>(size_t{1} << values.size());
  GrammarBuilder::Graph graph{.n_state = n_set + 1, .ends = {n_set}};
  const Expression open = b.sequence({b.literal("["), values_.space()});
  const Expression close = b.sequence({values_.space(), b.literal("]")});
  if (shape.min_items == 0) graph.edges.push_back({.from = 0, .to = n_set, .by = b.literal("[]")});
  for (uint32_t set = 0; set < n_set; ++set) {
    const auto n = static_cast<int64_t>(std::popcount(set));
    if (set != 0 && n >= shape.min_items) graph.edges.push_back({.from = set, .to = n_set, .by = close});
    for (size_t i = 0; i < values.size() && (shape.max_items < 0 || n < shape.max_items); ++i) {
      const uint32_t with = set | uint32_t{1} << i;
      if (with == set) continue;
      const Expression before = set == 0 ? open : values_.comma();
      graph.edges.push_back({.from = set, .to = with, .by = b.sequence({before, one[i]})});
    }
  }
  return b.graph(std::move(graph));
}

// Each where its turn comes, or not at all.
Expression SchemaCompiler::in_order(const std::vector<SchemaJson>& values, const Shape& shape) {
  GrammarBuilder& b = *builder_;
  const auto n = static_cast<int64_t>(values.size());
  const int64_t min = shape.min_items, max = shape.max_items;
  // How many were written tells as far as it is bound; 0 is before the first one.
  const int64_t most = std::max<int64_t>(1, std::min(n, max >= 0 ? max : min));
  if (n * most > static_cast<int64_t>(kMaxCountedStates)) {
    reader_.note(at_, "uniqueItems with minItems or maxItems is not supported for this many values");
    return b.nothing();
  }
  // Per value and count: before the value's turn, behind a comma or the bracket; and behind an item.
  const auto turn = [&](int64_t i, int64_t count) {
    return static_cast<uint32_t>(2 + (i * (most + 1) + count) * 2);
  };
  GrammarBuilder::Graph graph{.n_state = turn(n, most) + 2, .ends = {1}};
  const Expression skip = b.empty();
  const Expression close = b.sequence({values_.space(), b.literal("]")});
  if (min == 0) graph.edges.push_back({.from = 0, .to = 1, .by = b.literal("[]")});
  graph.edges.push_back({.from = 0, .to = turn(0, 0), .by = b.sequence({b.literal("["), values_.space()})});
  for (int64_t i = 0; i <= n; ++i) {
    const Expression item = i < n ? constant(values[static_cast<size_t>(i)]) : skip;
    for (int64_t count = 0; count <= most; ++count) {
      const uint32_t before = turn(i, count), behind = before + 1;
      if (i < n && (max < 0 || count < max)) {
        graph.edges.push_back({.from = before, .to = turn(i + 1, std::min(count + 1, most)) + 1, .by = item});
        graph.edges.push_back({.from = before, .to = turn(i + 1, count), .by = skip});
      }
      if (count == 0) continue;
      if (count >= min) graph.edges.push_back({.from = behind, .to = 1, .by = close});
      if (max < 0 || count < max)
        graph.edges.push_back({.from = behind, .to = before, .by = values_.comma()});
    }
  }
  return b.graph(std::move(graph));
}

}  // namespace odmoe::grammar
