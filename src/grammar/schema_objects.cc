// Objects: their members in the schema's order, and behind them others where the schema speaks of those.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "grammar/schema_compiler.h"

namespace odmoe::grammar {

using Expression = GrammarBuilder::Expression;

// Which patterns of each layer a name fits.
Result<std::vector<std::vector<bool>>> SchemaCompiler::matches(const Shape& shape, const std::string& name) {
  std::vector<std::vector<bool>> all;
  for (const auto& layer : shape.objects) {
    std::vector<bool>& some = all.emplace_back();
    for (const ObjectLayer::Pattern& pattern : layer->patterns) {
      TextRule rule;
      rule.conditions.push_back({.regex = pattern.regex});
      const auto fits = texts_.takes(rule, name);
      if (!fits.has_value()) return refuse("patternProperties: {}", fits.error().message);
      some.push_back(*fits);
    }
  }
  return all;
}

Result<SchemaCompiler::Members> SchemaCompiler::members(const Shape& shape) {
  Members members;
  std::vector<std::string> order;
  std::set<std::string> seen;
  for (const auto& layer : shape.objects) {
    for (const auto& [name, goal] : layer->named) {
      if (seen.insert(name).second) order.push_back(name);
    }
  }
  const std::set<std::string> required(shape.required.begin(), shape.required.end());
  for (const std::string& name : shape.required) {
    if (seen.insert(name).second) order.push_back(name);
  }
  Shapes names;
  bool listed = false;  // the names are one of so many
  if (!shape.names.empty()) {
    ODMOE_ASSIGN_OR_RETURN(names, reader_.read(shape.names));
    std::erase_if(names, [](const Shape& one) { return (one.types & kStringType) == 0; });
    listed = std::ranges::all_of(names, [](const Shape& one) { return one.values.has_value(); });
    for (const Shape& one : names) {
      for (const SchemaJson* value : one.values.value_or(std::vector<const SchemaJson*>())) {
        if (listed && value->is_string() && seen.insert(value->get<std::string>()).second) {
          order.push_back(value->get<std::string>());
        }
      }
    }
  }
  for (const std::string& name : order) {
    if (!builder_->work().spend(8)) return std::unexpected(builder_->excess());
    ODMOE_ASSIGN_OR_RETURN(const auto fitting, matches(shape, name));
    Member member{.name = name,
                  .goal = shape.member(&name, fitting).value_or(Goal{}),
                  .required = required.contains(name)};
    bool allowed = !allows_nothing(member.goal);
    if (allowed && !shape.names.empty()) {
      ODMOE_ASSIGN_OR_RETURN(allowed, holds(SchemaJson(name), shape.names));
    }
    if (allowed) {
      members.named.push_back(std::move(member));
    } else if (member.required) {
      reader_.note(at_, odmoe::format("{} is required, but not allowed among its properties", text_of(name)));
      members.impossible = true;
      return members;
    }
  }
  if (!listed) ODMOE_RETURN_IF_ERROR(add_extras(shape, names, members));
  return members;
}

// Names that no schema names: by which of the patterns they fit, and what is said of those that fit none.
Status SchemaCompiler::add_extras(const Shape& shape, const Shapes& names, Members& members) {
  std::vector<std::shared_ptr<const Regex>> patterns;
  std::vector<std::string> named;
  bool speaks_of_others = false, has_named = !members.named.empty();
  for (const auto& layer : shape.objects) {
    for (const ObjectLayer::Pattern& pattern : layer->patterns) {
      if (!std::ranges::contains(patterns, pattern.regex)) patterns.push_back(pattern.regex);
    }
    for (const auto& member : layer->named) named.push_back(member.first);
    speaks_of_others = speaks_of_others || layer->others;
    has_named = has_named || !layer->named.empty();
  }
  for (const std::string& name : shape.required) named.push_back(name);
  if (patterns.size() > kMaxMemberPatterns) {
    return refuse("more than {} patternProperties of one object are not supported", kMaxMemberPatterns);
  }
  for (size_t fitting = 0; fitting < size_t{1} << patterns.size(); ++fitting) {
    // What nobody speaks of is written only where there is nothing else.
    if (fitting == 0 && !speaks_of_others && (has_named || !patterns.empty())) continue;
    TextRule rule;
    for (size_t i = 0; i < patterns.size(); ++i) {
      const bool fits = (fitting >> i & 1U) != 0;
      if (!fits && !patterns[i]->exact) return refuse("patternProperties with (?i) is not supported");
      rule.conditions.push_back({.regex = patterns[i], .negated = !fits});
    }
    std::vector<std::vector<bool>> matches;
    for (const auto& layer : shape.objects) {
      std::vector<bool>& some = matches.emplace_back();
      for (const ObjectLayer::Pattern& pattern : layer->patterns) {
        const auto at = std::ranges::find(patterns, pattern.regex) - patterns.begin();
        some.push_back((fitting >> at & 1U) != 0);
      }
    }
    const Goal goal = shape.member(nullptr, matches).value_or(Goal{});
    if (allows_nothing(goal)) continue;
    if (!named.empty()) {
      rule.conditions.push_back(
          {.regex = std::make_shared<const Regex>(literal_regex(named)), .negated = true});
    }
    Shapes any = {Shape{}};
    for (const Shape& one : shape.names.empty() ? any : names) {
      Expression key = 0;
      if (one.values) {
        std::vector<std::string> texts;
        for (const SchemaJson* value : *one.values) {
          if (!value->is_string()) continue;
          const auto fits = texts_.takes(rule, value->get_ref<const std::string&>());
          if (!fits.has_value()) return refuse("propertyNames: {}", fits.error().message);
          if (*fits) texts.push_back(SchemaJson(*value).dump().substr(1));
        }
        for (std::string& text : texts) text.pop_back();
        key = builder_->one_of(std::move(texts));
      } else {
        TextRule all = rule;
        all.meet(one.text);
        ODMOE_ASSIGN_OR_RETURN(key, text(all));
      }
      members.extras.push_back({.key = key, .goal = goal});
    }
  }
  return {};
}

// From '{' to '}'.  After a quote that begins a name the next members may come, as far as none that is
// required is passed over; counts are kept only where the schema bounds them.
Result<Expression> SchemaCompiler::object_of(const Members& members, const Shape& shape) {
  GrammarBuilder& b = *builder_;
  const size_t n = members.named.size();
  const int64_t min = std::max<int64_t>(shape.min_members, 0), max = shape.max_members;
  const bool counts = max >= 0 || min > 1;
  // Names that are not told apart may be the same one: together they are one member for the minimum.
  struct At {
    bool in_name = false;  // behind the quote of a name, or behind a member
    size_t next = 0;       // of the named ones
    int64_t sure = 0, all = 0;
    bool extra = false;
    auto operator<=>(const At&) const = default;
  };
  GrammarBuilder::Graph graph;
  graph.n_state = 2;
  graph.ends = {1};
  std::map<At, uint32_t> numbers;
  std::vector<At> pending;
  const auto number_of = [&](const At& at) {
    const auto [entry, fresh] = numbers.try_emplace(at, graph.n_state);
    if (fresh) {
      ++graph.n_state;
      pending.push_back(at);
    }
    return entry->second;
  };
  std::vector<bool> may_end(n + 1, true);  // whether no member from here on is required
  for (size_t i = n; i-- > 0;) may_end[i] = may_end[i + 1] && !members.named[i].required;
  const bool may_be_empty = may_end[0] && min == 0;
  if (may_be_empty) graph.edges.push_back({.from = 0, .to = 1, .by = b.literal("{}")});
  if (max != 0 && (n > 0 || !members.extras.empty())) {
    graph.edges.push_back({.from = 0,
                           .to = number_of({.in_name = true}),
                           .by = b.sequence({b.literal("{"), values_.space(), b.literal("\"")})});
  }
  const Expression nothing = b.empty();
  const Expression close = b.sequence({values_.space(), b.literal("}")});
  const Expression more = b.sequence({values_.comma(), b.literal("\"")});
  std::vector<Expression> named, extras;
  for (const Member& member : members.named) {
    std::string key = SchemaJson(member.name).dump(-1, ' ', false, SchemaJson::error_handler_t::replace);
    const Expression all = b.sequence({b.literal(key.substr(1)), values_.colon(), value(member.goal)});
    named.push_back(counts ? b.shared(all) : all);
  }
  for (const Extra& extra : members.extras) {
    const Expression all = b.sequence({extra.key, b.literal("\""), values_.colon(), value(extra.goal)});
    extras.push_back(b.shared(all));
  }
  while (!pending.empty() && b.work().spend()) {
    const At at = pending.back();
    pending.pop_back();
    if (numbers.size() > kMaxCountedStates || graph.edges.size() > kMaxEdges) {
      return refuse("minProperties or maxProperties is too large for so many properties");
    }
    const uint32_t from = numbers[at];
    if (!at.in_name) {
      if (may_end[at.next] && at.sure >= min) graph.edges.push_back({.from = from, .to = 1, .by = close});
      if ((max < 0 || at.all < max) && (at.next < n || !extras.empty())) {
        At name = at;
        name.in_name = true;
        graph.edges.push_back({.from = from, .to = number_of(name), .by = more});
      }
      continue;
    }
    At after = at;
    after.in_name = false;
    after.all = max < 0 ? 0 : at.all + 1;
    if (at.next < n) {
      after.next = at.next + 1;
      after.sure = std::min(min, at.sure + 1);
      graph.edges.push_back({.from = from, .to = number_of(after), .by = named[at.next]});
      if (!members.named[at.next].required) {
        At past = at;
        ++past.next;
        graph.edges.push_back({.from = from, .to = number_of(past), .by = nothing});
      }
      continue;
    }
    after.extra = min > 1;
    after.sure = at.extra ? at.sure : std::min(min, at.sure + 1);
    for (const Expression extra : extras) {
      graph.edges.push_back({.from = from, .to = number_of(after), .by = extra});
    }
  }
  if (min > static_cast<int64_t>(n) + (extras.empty() ? 0 : 1)) {
    reader_.note(at_, extras.empty() ? "minProperties is more than it allows"
                                     : "minProperties above 1 is only supported for members that are named");
  }
  return b.graph(std::move(graph));
}

Result<Expression> SchemaCompiler::object(const Shape& shape) {
  const bool free = shape.objects.empty() && shape.required.empty() && shape.names.empty() &&
                    shape.min_members == 0 && shape.max_members < 0;
  if (free) return values_.object();
  ODMOE_ASSIGN_OR_RETURN(const Members members, this->members(shape));
  if (members.impossible) return builder_->nothing();
  return object_of(members, shape);
}

}  // namespace odmoe::grammar
