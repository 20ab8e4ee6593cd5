#include "grammar/schema_reader.h"

#include <algorithm>
#include <utility>

namespace odmoe::grammar {

const SchemaJson& anything_schema() {
  static const SchemaJson kAnything = true;
  return kAnything;
}

const SchemaJson& nothing_schema() {
  static const SchemaJson kNothing = false;
  return kNothing;
}

const SchemaJson* keyword(const SchemaJson& schema, const char* name) {
  if (!schema.is_object()) return nullptr;
  const auto at = schema.find(name);
  return at == schema.end() || at->is_null() ? nullptr : &*at;
}

std::string text_of(const SchemaJson& json) {
  std::string text = json.dump(-1, ' ', false, SchemaJson::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

void SchemaReader::note(const SchemaJson* schema, std::string_view why) {
  if (reason_.empty()) reason_ = odmoe::format("{}: {}", place(schema), why);
}

Result<std::shared_ptr<const Regex>> SchemaReader::regex(const SchemaJson* schema,
                                                         const std::string& pattern) {
  const auto known = regexes_.find(pattern);
  if (known != regexes_.end()) return known->second;
  work_->spend(pattern.size() * 8);
  auto parsed = parse_regex(pattern);
  if (!parsed.has_value()) {
    return refuse(schema, "pattern {}: {}", text_of(SchemaJson(pattern)), parsed.error().message);
  }
  size_t n_term = 0;
  for (const Regex::Node& node : parsed->nodes) n_term += 4 + node.set.size() / 4;
  ODMOE_RETURN_IF_ERROR(charge(schema, n_term));
  return regexes_.emplace(pattern, std::make_shared<const Regex>(*std::move(parsed))).first->second;
}

Status SchemaReader::charge(const SchemaJson* schema, size_t terms) {
  n_term_ += terms;
  if (n_term_ <= kMaxSchemaTerms) return {};
  return refuse(schema, "it is too large: what its keywords say takes more than {} terms", kMaxSchemaTerms);
}

size_t SchemaReader::terms_of(const Shape& shape) {
  return 16 + shape.required.size() + shape.excluded.size() / 4 +
         (shape.values ? shape.values->size() / 4 : 0) + shape.text.conditions.size() +
         shape.number.excluded.size() * 2 + shape.objects.size() + shape.arrays.size();
}

Shape SchemaReader::absent(const std::string& name) {
  auto layer = std::make_shared<ObjectLayer>();
  layer->add(name, {.schema = &nothing_schema()});
  Shape shape;
  shape.about = kObjectType;
  shape.objects.push_back(std::move(layer));
  return shape;
}

Result<Shapes> SchemaReader::read(const Goal& goal) { return read_all(goal, Mode::kWithin); }

Result<Shapes> SchemaReader::read_all(const Goal& goal, Mode mode) {
  Shapes all = {Shape{}};
  for (const GoalItem& item : goal) {
    ODMOE_ASSIGN_OR_RETURN(const Shapes some, read(item, mode));
    ODMOE_ASSIGN_OR_RETURN(all, meet(all, some, item.schema));
  }
  return all;
}

Result<Shapes> SchemaReader::read(const GoalItem& item, Mode mode) {
  const Item key(item, mode);
  if (const auto known = known_.find(key); known != known_.end()) return *known->second;
  if (open_.size() >= kMaxSchemaDepth) return refuse(item.schema, "it nests deeper than {}", kMaxSchemaDepth);
  if (!open_.insert(key).second) return refuse(item.schema, "it refers to itself without an end");
  auto shapes = item.negated ? negative(*item.schema) : positive(*item.schema, mode);
  open_.erase(key);
  if (!shapes.has_value()) return shapes;
  for (const Shape& shape : *shapes) ODMOE_RETURN_IF_ERROR(charge(item.schema, terms_of(shape)));
  known_.emplace(key, std::make_shared<const Shapes>(*shapes));
  return shapes;
}

Result<Shapes> SchemaReader::meet(const Shapes& a, const Shapes& b, const SchemaJson* schema) {
  Shapes both;
  size_t n_term = n_term_;
  for (const Shape& one : a) {
    for (const Shape& other : b) {
      const size_t n_value = one.values ? one.values->size() : 1;
      const size_t n_other = other.values ? other.values->size() : 1;
      const size_t n_excluded = 1 + one.excluded.size() + other.excluded.size();
      if (!work_->spend(16 + one.required.size() + other.required.size() +
                        n_value * (n_other + n_excluded))) {
        return refuse(schema, "it is too large: its combinations take more than {} steps", kMaxCompileSteps);
      }
      Shape shape = one;
      shape.meet(other);
      if (!shape.is_empty()) {
        n_term += terms_of(shape);
        both.push_back(std::move(shape));
      }
      if (both.size() > kMaxShapes || n_term > kMaxSchemaTerms) {
        return refuse(schema, "it is too large: more than {} combinations of alternatives", kMaxShapes);
      }
    }
  }
  return both;
}

// By the values that required members would have.
Result<bool> SchemaReader::surely_empty(const Shape& shape, int depth) {
  if (shape.is_empty()) return true;
  constexpr int kFarEnough = 4;
  if (shape.types != kObjectType || depth > kFarEnough || shape.objects.size() < 2) return false;
  std::vector<std::vector<bool>> no_matches;
  for (const auto& layer : shape.objects) no_matches.emplace_back(layer->patterns.size());
  for (const std::string& name : shape.required) {
    const auto goal = shape.member(&name, no_matches);
    if (!goal || goal->size() < 2) continue;
    if (std::ranges::any_of(*goal, &GoalItem::negated)) continue;
    Shapes all = {Shape{}};
    bool recursive = false;
    for (const GoalItem& item : *goal) recursive = recursive || open_.contains({item, Mode::kAround});
    if (recursive) continue;
    ODMOE_ASSIGN_OR_RETURN(all, read_all(*goal, Mode::kAround));
    bool empty = true;
    for (const Shape& one : all) {
      ODMOE_ASSIGN_OR_RETURN(const bool none, surely_empty(one, depth + 1));
      empty = empty && none;
    }
    if (empty) return true;
  }
  return false;
}

Result<bool> SchemaReader::disjoint(const SchemaJson& a, const SchemaJson& b) {
  ODMOE_ASSIGN_OR_RETURN(const Shapes one, read({.schema = &a}, Mode::kAround));
  ODMOE_ASSIGN_OR_RETURN(const Shapes other, read({.schema = &b}, Mode::kAround));
  for (const Shape& x : one) {
    for (const Shape& y : other) {
      if (!work_->spend(16))
        return refuse(&a, "it is too large: its combinations take more than {} steps", kMaxCompileSteps);
      if ((x.types & y.types) == 0) continue;
      Shape both = x;
      both.meet(y);
      ODMOE_ASSIGN_OR_RETURN(const bool none, surely_empty(both, 0));
      if (!none) return false;
    }
  }
  return true;
}

Result<const SchemaJson*> SchemaReader::target(const SchemaJson& schema) {
  const SchemaJson& reference = schema["$ref"];
  if (!reference.is_string()) return refuse(&schema, "$ref must be a string");
  const std::string& name = reference.get_ref<const std::string&>();
  const SchemaJson* found = references_.find(name, schema);
  if (found != nullptr) return found;
  const std::string_view shown = std::string_view(name).substr(0, 80);
  if (!name.starts_with('#'))
    return refuse(&schema, "$ref \"{}\" is not within the schema", escape_pointer(shown));
  return refuse(&schema, "there is nothing at $ref \"{}\"", shown);
}

Result<Shapes> SchemaReader::positive(const SchemaJson& schema, Mode mode) {
  if (schema.is_boolean()) {
    if (schema.get<bool>()) return Shapes{Shape{}};
    if (mode == Mode::kWithin) note(&schema, "false allows nothing");
    return Shapes{};
  }
  if (!schema.is_object()) return refuse(&schema, "a schema is an object, not {}", text_of(schema));
  if (!work_->spend(8 + schema.size())) {
    return refuse(&schema, "it is too large: it takes more than {} steps", kMaxCompileSteps);
  }
  for (const char* unknown : {"$dynamicRef", "$recursiveRef"}) {
    if (keyword(schema, unknown) != nullptr)
      return refuse(&schema, "the keyword \"{}\" is not supported", unknown);
  }
  Shape own;
  ODMOE_RETURN_IF_ERROR(read_types(schema, own));
  ODMOE_RETURN_IF_ERROR(read_values(schema, own));
  ODMOE_RETURN_IF_ERROR(read_number(schema, own));
  ODMOE_RETURN_IF_ERROR(read_text(schema, own, mode));
  ODMOE_RETURN_IF_ERROR(read_array(schema, own, mode));
  ODMOE_RETURN_IF_ERROR(read_object(schema, own));
  const uint8_t types = own.types;
  Shape all;
  all.meet(own);
  if (mode == Mode::kWithin) {
    if (own.values && !own.values->empty() && all.values->empty())
      note(&schema, "no value of enum is of its type");
    if ((types & kNumberType) != 0 && own.number.is_empty()) {
      const bool order = own.number.min && own.number.max && compare(*own.number.max, *own.number.min) < 0;
      note(&schema, order ? "its maximum is less than its minimum" : "no number fits it");
    }
    if ((types & ~all.types & kStringType) != 0) note(&schema, "maxLength is less than minLength");
    if ((types & ~all.types & kArrayType) != 0) note(&schema, "maxItems is less than minItems");
    if ((types & ~all.types & kObjectType) != 0)
      note(&schema, "maxProperties is less than the members it requires");
  }
  Shapes shapes;
  if (!all.is_empty()) shapes.push_back(std::move(all));
  ODMOE_RETURN_IF_ERROR(read_combinations(schema, shapes, mode));
  if (mode == Mode::kWithin) {
    ODMOE_RETURN_IF_ERROR(read_conditions(schema, shapes));
    ODMOE_RETURN_IF_ERROR(read_unevaluated(schema, shapes));
  }
  const SchemaJson* nullable = keyword(schema, "nullable");
  if (nullable != nullptr && nullable->is_boolean() && nullable->get<bool>()) {
    Shape null;
    null.types = kNullType;
    shapes.push_back(std::move(null));
  }
  return shapes;
}

Result<Shapes> SchemaReader::one_of(const SchemaJson& list, Mode mode) {
  Shapes all;
  for (const SchemaJson& one : list) {
    ODMOE_ASSIGN_OR_RETURN(Shapes some, read({.schema = &one}, mode));
    for (const SchemaJson& other : list) {
      if (&other == &one || mode == Mode::kAround) continue;
      ODMOE_ASSIGN_OR_RETURN(const bool apart, disjoint(one, other));
      if (apart) continue;
      ODMOE_ASSIGN_OR_RETURN(const Shapes without, read({.schema = &other, .negated = true}, mode));
      ODMOE_ASSIGN_OR_RETURN(some, meet(some, without, &list));
    }
    all.insert(all.end(), some.begin(), some.end());
    if (all.size() > kMaxShapes) {
      return refuse(&list, "it is too large: more than {} combinations of alternatives", kMaxShapes);
    }
  }
  return all;
}

Status SchemaReader::read_combinations(const SchemaJson& schema, Shapes& shapes, Mode mode) {
  if (keyword(schema, "$ref") != nullptr) {
    ODMOE_ASSIGN_OR_RETURN(const SchemaJson* there, target(schema));
    ODMOE_ASSIGN_OR_RETURN(const Shapes some, read({.schema = there}, mode));
    ODMOE_ASSIGN_OR_RETURN(shapes, meet(shapes, some, &schema));
  }
  for (const char* name : {"allOf", "anyOf", "oneOf"}) {
    const SchemaJson* list = keyword(schema, name);
    if (list == nullptr) continue;
    if (!list->is_array() || list->empty()) return refuse(&schema, "{} must be a list of schemas", name);
    if (name == std::string_view("allOf")) {
      for (const SchemaJson& one : *list) {
        ODMOE_ASSIGN_OR_RETURN(const Shapes some, read({.schema = &one}, mode));
        ODMOE_ASSIGN_OR_RETURN(shapes, meet(shapes, some, list));
      }
      continue;
    }
    Shapes some;
    if (name == std::string_view("oneOf")) {
      ODMOE_ASSIGN_OR_RETURN(some, one_of(*list, mode));
    } else {
      for (const SchemaJson& one : *list) {
        ODMOE_ASSIGN_OR_RETURN(const Shapes way, read({.schema = &one}, mode));
        some.insert(some.end(), way.begin(), way.end());
      }
    }
    const bool had = !shapes.empty() && !some.empty();
    ODMOE_ASSIGN_OR_RETURN(shapes, meet(shapes, some, list));
    if (mode == Mode::kWithin && had && shapes.empty())
      note(list, "no alternative of it fits the keywords beside it");
  }
  return {};
}

// not, if, and what one member asks of others.
Status SchemaReader::read_conditions(const SchemaJson& schema, Shapes& shapes) {
  const auto narrow = [&](const Shapes& some) -> Status {
    ODMOE_ASSIGN_OR_RETURN(shapes, meet(shapes, some, &schema));
    return {};
  };
  if (const SchemaJson* unwanted = keyword(schema, "not")) {
    ODMOE_ASSIGN_OR_RETURN(const Shapes some, read({.schema = unwanted, .negated = true}, Mode::kWithin));
    if (some.empty()) note(&schema, "what its \"not\" leaves is nothing, or not supported");
    ODMOE_RETURN_IF_ERROR(narrow(some));
  }
  if (const SchemaJson* condition = keyword(schema, "if")) {
    Shapes ways;
    for (const bool negated : {false, true}) {
      const SchemaJson* then = keyword(schema, negated ? "else" : "then");
      Goal goal;
      add_to(goal, {.schema = condition, .negated = negated});
      if (then != nullptr) add_to(goal, {.schema = then});
      ODMOE_ASSIGN_OR_RETURN(const Shapes some, read_all(goal, Mode::kWithin));
      ways.insert(ways.end(), some.begin(), some.end());
    }
    ODMOE_RETURN_IF_ERROR(narrow(ways));
  }
  for (const char* name : {"dependentRequired", "dependentSchemas", "dependencies"}) {
    const SchemaJson* dependencies = keyword(schema, name);
    if (dependencies == nullptr) continue;
    if (!dependencies->is_object()) return refuse(&schema, "{} must be an object", name);
    for (const auto& [member, needed] : dependencies->items()) {
      // Where the member is not there, or else what it needs is.
      Shapes ways = {absent(member)};
      if (needed.is_array()) {
        Shape with;
        with.about = kObjectType;
        for (const SchemaJson& one : needed) {
          if (!one.is_string()) return refuse(dependencies, "it must have lists of names");
          with.require(one.get<std::string>());
        }
        ways.push_back(std::move(with));
      } else {
        ODMOE_ASSIGN_OR_RETURN(const Shapes with, read({.schema = &needed}, Mode::kWithin));
        ways.insert(ways.end(), with.begin(), with.end());
      }
      ODMOE_RETURN_IF_ERROR(narrow(ways));
    }
  }
  return {};
}

// Members and items that no schema beside this one or within it speaks of.  Each shape knows which those are.
Status SchemaReader::read_unevaluated(const SchemaJson& schema, Shapes& shapes) {
  if (const SchemaJson* others = keyword(schema, "unevaluatedProperties")) {
    for (Shape& shape : shapes) {
      auto layer = std::make_shared<ObjectLayer>();
      layer->others = GoalItem{.schema = others};
      bool all_known = false;
      for (const auto& known : shape.objects) {
        all_known = all_known || known->others;
        for (const auto& [name, goal] : known->named) layer->add(name, {.schema = &anything_schema()});
        for (const ObjectLayer::Pattern& pattern : known->patterns) {
          layer->patterns.push_back({.regex = pattern.regex, .goal = {.schema = &anything_schema()}});
        }
      }
      shape.about |= kObjectType;
      if (!all_known) shape.objects.push_back(std::move(layer));
    }
  }
  if (const SchemaJson* others = keyword(schema, "unevaluatedItems")) {
    for (Shape& shape : shapes) {
      auto layer = std::make_shared<ArrayLayer>();
      layer->rest = GoalItem{.schema = others};
      bool all_known = false;
      for (const auto& known : shape.arrays) {
        all_known = all_known || known->rest;
        layer->prefix.resize(std::max(layer->prefix.size(), known->prefix.size()),
                             {.schema = &anything_schema()});
      }
      shape.about |= kArrayType;
      if (!all_known) shape.arrays.push_back(std::move(layer));
    }
  }
  return {};
}

}  // namespace odmoe::grammar
