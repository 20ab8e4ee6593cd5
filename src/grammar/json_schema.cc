#include "grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "grammar/json_numbers.h"
#include "grammar/json_values.h"
#include "grammar/pattern.h"

namespace odmoe::grammar {
namespace {

using Json = nlohmann::ordered_json;
using Expression = GrammarBuilder::Expression;

// Keywords that say nothing of what is valid, or that are read where the others are.
constexpr auto kDescriptive = std::to_array<std::string_view>(
    {"$schema", "$id", "$comment", "$anchor", "title", "description", "default", "examples", "example",
     "deprecated", "readOnly", "writeOnly", "$defs", "definitions", "strict", "discriminator"});

template <typename... Args>
std::unexpected<Error> refuse(const std::string& where, std::format_string<Args...> format, Args&&... args) {
  return fail(ErrorKind::kUsage, "{}: {}", where.empty() ? "the schema" : where,
              std::format(format, std::forward<Args>(args)...));
}

std::string escape_pointer(std::string_view key) {
  std::string out;
  for (const char c : key.substr(0, 64)) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return out;
}

std::string text_of(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

// Whether a value is of a type that the schema names.
bool has_type(const Json& value, std::string_view type) {
  if (type == "string") return value.is_string();
  if (type == "integer") {
    return value.is_number_integer() ||
           (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
  }
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "object") return value.is_object();
  return value.is_array();
}

class Compiler {
 public:
  Compiler(GrammarBuilder& builder, const Json& root)
      : builder_(&builder), values_(builder), numbers_(builder, values_), root_(&root) {}

  Result<Expression> schema(const Json& schema, const std::string& where, int depth) {
    if (depth > kMaxSchemaDepth) return refuse(where, "it nests deeper than {}", kMaxSchemaDepth);
    if (builder_->too_large()) return refuse("", "it is too large: more than {} states", kMaxStates);
    if (schema.is_boolean() && schema.get<bool>()) return values_.any();
    if (schema.is_boolean()) return refuse(where, "false allows nothing");
    if (!schema.is_object()) return refuse(where, "a schema is an object, not {}", text_of(schema));

    if (schema.contains("$ref")) {
      ODMOE_RETURN_IF_ERROR(only(schema, where, {"$ref"}));
      return reference(schema["$ref"], where, depth);
    }
    if (schema.contains("const")) {
      ODMOE_RETURN_IF_ERROR(only(schema, where, {"const", "type"}));
      return constants(Json::array({schema["const"]}), schema, where);
    }
    if (schema.contains("enum")) {
      ODMOE_RETURN_IF_ERROR(only(schema, where, {"enum", "type"}));
      return constants(schema["enum"], schema, where);
    }
    for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
      if (!schema.contains(keyword)) continue;
      ODMOE_RETURN_IF_ERROR(only(schema, where, {keyword}));
      return alternatives(schema[keyword], keyword, where + "/" + keyword, depth);
    }
    return typed(schema, where, depth);
  }

 private:
  // Nothing but these and what only describes.
  static Status only(const Json& schema, const std::string& where, std::vector<std::string_view> keywords) {
    for (const auto& [key, value] : schema.items()) {
      if (std::ranges::contains(kDescriptive, key) || std::ranges::contains(keywords, key)) continue;
      return refuse(where, "the keyword \"{}\" is not supported here", escape_pointer(key));
    }
    return {};
  }

  Result<Expression> reference(const Json& ref, const std::string& where, int depth) {
    if (!ref.is_string()) return refuse(where, "$ref must be a string");
    const auto name = ref.get<std::string>();
    if (!name.starts_with('#'))
      return refuse(where, "$ref \"{}\" is not within the schema", escape_pointer(name));
    const auto known = references_.find(name);
    if (known != references_.end()) return builder_->call(known->second);
    const Json* target = nullptr;
    if (name == "#") {
      target = root_;
    } else if (name.starts_with("#/")) {
      target = find(std::string_view(name).substr(1));
    }
    if (target == nullptr) return refuse(where, "there is nothing at $ref \"{}\"", escape_pointer(name));
    const GrammarBuilder::Rule rule = builder_->declare();
    references_.emplace(name, rule);
    ODMOE_ASSIGN_OR_RETURN(const Expression body, schema(*target, name, depth + 1));
    builder_->define(rule, body);
    return builder_->call(rule);
  }

  // By a JSON pointer without its escapes, which names of definitions do not need.
  const Json* find(std::string_view pointer) const {
    const Json* at = root_;
    while (!pointer.empty()) {
      pointer.remove_prefix(1);
      const size_t end = std::min(pointer.find('/'), pointer.size());
      const std::string key(pointer.substr(0, end));
      pointer.remove_prefix(end);
      if (!at->is_object() || !at->contains(key)) return nullptr;
      at = &(*at)[key];
    }
    return at;
  }

  Result<std::vector<std::string>> types(const Json& schema, const std::string& where) {
    std::vector<std::string> types;
    const Json list = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    for (const Json& type : list) {
      constexpr auto kTypes = std::to_array<std::string_view>(
          {"string", "integer", "number", "boolean", "null", "object", "array"});
      if (!type.is_string() || !std::ranges::contains(kTypes, type.get<std::string>())) {
        return refuse(where, "there is no type {}", text_of(type));
      }
      types.push_back(type);
    }
    if (types.empty()) return refuse(where, "type is empty");
    return types;
  }

  Result<Expression> constants(const Json& values, const Json& schema, const std::string& where) {
    if (!values.is_array() || values.empty() || values.size() > kMaxEnum) {
      return refuse(where, "enum must be a list of 1 to {} values", kMaxEnum);
    }
    std::vector<std::string> allowed;
    if (schema.contains("type")) {
      ODMOE_ASSIGN_OR_RETURN(allowed, types(schema, where));
    }
    std::vector<Expression> ways;
    for (const Json& value : values) {
      const bool fits = allowed.empty() || std::ranges::any_of(allowed, [&](const std::string& type) {
                          return has_type(value, type);
                        });
      if (fits) ways.push_back(builder_->literal(value.dump(-1, ' ', false, Json::error_handler_t::replace)));
    }
    if (ways.empty()) return refuse(where, "no value of enum is of its type");
    return builder_->choice(std::move(ways));
  }

  // What tells an alternative from others at once: its type, or a member that must have one value.
  static bool disjoint(const Json& a, const Json& b) {
    if (!a.is_object() || !b.is_object()) return false;
    const bool typed =
        a.contains("type") && b.contains("type") && a["type"].is_string() && b["type"].is_string();
    if (typed && a["type"] != b["type"]) {
      const auto number = [](const Json& type) { return type == "number" || type == "integer"; };
      return !(number(a["type"]) && number(b["type"]));
    }
    if (a.contains("const") && b.contains("const")) return a["const"] != b["const"];
    if (!a.contains("properties") || !b.contains("properties") || !a["properties"].is_object() ||
        !b["properties"].is_object()) {
      return false;
    }
    const auto required = [](const Json& schema, const std::string& key) {
      return schema.contains("required") && schema["required"].is_array() &&
             std::ranges::any_of(schema["required"], [&](const Json& name) { return name == key; });
    };
    const auto constant = [](const Json& schema) -> std::optional<Json> {
      if (!schema.is_object()) return std::nullopt;
      if (schema.contains("const")) return schema["const"];
      if (schema.contains("enum") && schema["enum"].is_array() && schema["enum"].size() == 1)
        return schema["enum"][0];
      return std::nullopt;
    };
    for (const auto& [key, value] : a["properties"].items()) {
      if (!b["properties"].contains(key) || !required(a, key) || !required(b, key)) continue;
      const auto x = constant(value), y = constant(b["properties"][key]);
      if (x && y && *x != *y) return true;
    }
    return false;
  }

  // The schema itself, or what it refers to.
  const Json* resolved(const Json& schema) const {
    if (schema.is_object() && schema.contains("$ref") && schema["$ref"].is_string()) {
      const auto name = schema["$ref"].get<std::string>();
      if (name.starts_with("#/")) {
        if (const Json* target = find(std::string_view(name).substr(1))) return target;
      }
    }
    return &schema;
  }

  Result<Expression> alternatives(const Json& list, std::string_view keyword, const std::string& where,
                                  int depth) {
    if (!list.is_array() || list.empty() || list.size() > kMaxEnum) {
      return refuse(where, "it must be a list of 1 to {} schemas", kMaxEnum);
    }
    if (keyword == "allOf" && list.size() > 1)
      return refuse(where, "allOf of more than one schema is not supported");
    if (keyword == "oneOf") {
      for (size_t i = 0; i < list.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
          if (disjoint(*resolved(list[i]), *resolved(list[j]))) continue;
          return refuse(where,
                        "oneOf is only supported where type or a required constant member tells the "
                        "alternatives apart; use anyOf");
        }
      }
    }
    std::vector<Expression> ways;
    for (size_t i = 0; i < list.size(); ++i) {
      ODMOE_ASSIGN_OR_RETURN(const Expression way,
                             schema(list[i], std::format("{}/{}", where, i), depth + 1));
      ways.push_back(way);
    }
    return builder_->choice(std::move(ways));
  }

  // Without a type, the one that its keywords are about.
  Result<Expression> typed(const Json& schema, const std::string& where, int depth) {
    std::vector<std::string> names;
    if (schema.contains("type")) {
      ODMOE_ASSIGN_OR_RETURN(names, types(schema, where));
    } else {
      const auto about = [&](std::initializer_list<const char*> keywords) {
        return std::ranges::any_of(keywords, [&](const char* keyword) { return schema.contains(keyword); });
      };
      if (about({"properties", "required", "additionalProperties"})) names.emplace_back("object");
      if (about({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"})) names.emplace_back("array");
      if (about({"minLength", "maxLength", "format", "pattern"})) names.emplace_back("string");
      if (about({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})) {
        names.emplace_back("number");
      }
      if (names.empty()) {
        ODMOE_RETURN_IF_ERROR(only(schema, where, {}));
        return values_.any();
      }
    }
    // Every keyword must be one of a type that is there.
    std::vector<std::string_view> known = {"type"};
    const auto knows = [&](std::string_view type, std::initializer_list<std::string_view> keywords) {
      if (std::ranges::contains(names, type)) known.insert(known.end(), keywords);
    };
    knows("object", {"properties", "required", "additionalProperties"});
    knows("array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"});
    knows("string", {"minLength", "maxLength", "format", "pattern"});
    for (const char* type : {"integer", "number"}) {
      knows(type, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"});
    }
    ODMOE_RETURN_IF_ERROR(only(schema, where, known));

    std::vector<Expression> ways;
    for (const std::string& name : names) {
      ODMOE_ASSIGN_OR_RETURN(const Expression way, of_type(name, schema, where, depth));
      ways.push_back(way);
    }
    return builder_->choice(std::move(ways));
  }

  Result<Expression> of_type(const std::string& type, const Json& schema, const std::string& where,
                             int depth) {
    if (type == "string") return string(schema, where);
    if (type == "integer") return integer(schema, where);
    if (type == "number") return number(schema, where);
    if (type == "boolean") return values_.boolean();
    if (type == "null") return values_.null();
    if (type == "object") return object(schema, where, depth);
    return array(schema, where, depth);
  }

  static Result<int32_t> count(const Json& schema, const char* keyword, int32_t otherwise,
                               const std::string& where) {
    if (!schema.contains(keyword)) return otherwise;
    const Json& value = schema[keyword];
    if (!has_type(value, "integer") || value.get<double>() < 0 || value.get<double>() > 1e6) {
      return refuse(where, "{} must be a number from 0 to 1000000", keyword);
    }
    return static_cast<int32_t>(value.get<double>());
  }

  Result<Expression> string(const Json& schema, const std::string& where) {
    if (schema.contains("pattern")) {
      if (schema.contains("format") || schema.contains("minLength") || schema.contains("maxLength")) {
        return refuse(where, "pattern together with format or a length is not supported");
      }
      if (!schema["pattern"].is_string()) return refuse(where, "pattern must be a string");
      GrammarBuilder& b = *builder_;
      const auto inside = add_pattern(b, schema["pattern"].get<std::string>(), values_.character());
      if (!inside.has_value())
        return refuse(where, "pattern {}: {}", text_of(schema["pattern"]), inside.error().message);
      return b.sequence({b.literal("\""), *inside, b.literal("\"")});
    }
    if (schema.contains("format")) {
      const Json& format = schema["format"];
      if (schema.contains("minLength") || schema.contains("maxLength")) {
        return refuse(where, "format together with a length is not supported");
      }
      const auto known = format.is_string() ? values_.format(format.get<std::string>()) : std::nullopt;
      if (!known) {
        return refuse(where, "format {} is not supported: date, time, date-time, uuid and ipv4 are",
                      text_of(format));
      }
      return *known;
    }
    ODMOE_ASSIGN_OR_RETURN(const int32_t min, count(schema, "minLength", 0, where));
    ODMOE_ASSIGN_OR_RETURN(const int32_t max, count(schema, "maxLength", -1, where));
    if (max >= 0 && max < min) return refuse(where, "maxLength is less than minLength");
    return values_.string(min, max);
  }

  static Result<std::optional<int64_t>> bound(const Json& schema, const char* keyword, const char* exclusive,
                                              int64_t inward, const std::string& where) {
    std::optional<int64_t> result;
    for (const char* name : {keyword, exclusive}) {
      if (!schema.contains(name)) continue;
      const Json& value = schema[name];
      if (!value.is_number() || std::abs(value.get<double>()) > 9e17) {
        return refuse(where, "{} must be a number below 9e17", name);
      }
      const double number = value.get<double>();
      int64_t limit = value.is_number_integer()
                          ? value.get<int64_t>()
                          : static_cast<int64_t>(inward > 0 ? std::ceil(number) : std::floor(number));
      const bool exact = value.is_number_integer() || std::floor(number) == number;
      if (name == exclusive && exact) limit += inward;
      result = !result ? limit : inward > 0 ? std::max(*result, limit) : std::min(*result, limit);
    }
    return result;
  }

  // What numbers must be multiples of: so many units of ten to the power of the exponent.
  struct Factor {
    int64_t units = 1;
    int32_t exponent = 0;
  };
  static Result<std::optional<Factor>> factor(const Json& schema, const std::string& where) {
    if (!schema.contains("multipleOf")) return std::nullopt;
    const Json& value = schema["multipleOf"];
    if (!value.is_number() || value.get<double>() < 1e-15 || value.get<double>() > 1e15) {
      return refuse(where, "multipleOf must be a number from 1e-15 to 1e15");
    }
    const Decimal decimal = Decimal::of(value);
    const auto units = decimal.scaled_down(decimal.fraction.size());
    if (!units) return refuse(where, "multipleOf {} has too many digits", text_of(value));
    Factor factor{.units = *units, .exponent = -static_cast<int32_t>(decimal.fraction.size())};
    for (; factor.units % 10 == 0; factor.units /= 10) ++factor.exponent;
    return factor;
  }
  static std::unexpected<Error> refuse_factor(const Json& schema, const std::string& where) {
    return refuse(
        where,
        "multipleOf {} is not supported here: a power of ten is, an integer up to {}, and any whose "
        "minimum and maximum leave no more than {} values",
        text_of(schema["multipleOf"]), kMaxFactor, kMaxEnum);
  }
  static std::unexpected<Error> refuse_empty(const std::string& where) {
    return refuse(where, "there is no number that its bounds and multipleOf allow, of {} digits at most",
                  kMaxSignificant);
  }

  // The units of ten to the power of -places, one by one; nothing where there are more than an enum may have.
  std::optional<std::vector<Expression>> listed(int64_t min, int64_t max, int64_t units, size_t places) {
    const int64_t first = min / units + (min > 0 && min % units != 0 ? 1 : 0);
    const int64_t last = max / units - (max < 0 && max % units != 0 ? 1 : 0);
    if (last - first >= static_cast<int64_t>(kMaxEnum)) return std::nullopt;
    std::vector<Expression> ways;
    for (int64_t i = first; i <= last; ++i) {
      std::string text = std::to_string(std::abs(i * units));
      if (places > 0) {
        text.insert(0, places + 1 - std::min(places + 1, text.size()), '0');
        text.insert(text.size() - places, ".");
        text.erase(text.find_last_not_of('0') + 1);
        if (text.ends_with('.')) text.pop_back();
      }
      ways.push_back(builder_->literal((i < 0 ? "-" : "") + text));
    }
    return ways;
  }

  Result<Expression> integer(const Json& schema, const std::string& where) {
    ODMOE_ASSIGN_OR_RETURN(const auto min, bound(schema, "minimum", "exclusiveMinimum", 1, where));
    ODMOE_ASSIGN_OR_RETURN(const auto max, bound(schema, "maximum", "exclusiveMaximum", -1, where));
    ODMOE_ASSIGN_OR_RETURN(const auto factor, this->factor(schema, where));
    if (min && max && *max < *min) return refuse(where, "its maximum is less than its minimum");
    // Every integer is a multiple of a tenth.
    if (!factor || (factor->units == 1 && factor->exponent <= 0)) {
      if (!min && !max) return values_.integer();
      return values_.integer(min, max);
    }
    if (factor->exponent < 0) return refuse_factor(schema, where);
    const int64_t low = min.value_or(-kMostWhole), high = max.value_or(kMostWhole);
    int64_t whole = factor->units;
    for (int32_t i = 0; i < factor->exponent; ++i) whole *= 10;
    if (auto ways = listed(low, high, whole, 0)) {
      if (ways->empty()) return refuse_empty(where);
      return builder_->choice(std::move(*ways));
    }
    if (factor->units != 1 && whole > kMaxFactor) return refuse_factor(schema, where);
    const auto some = factor->units == 1 ? numbers_.multiples_of_ten(low, high, factor->exponent)
                                         : numbers_.multiples(low, high, whole);
    if (!some) return refuse_empty(where);
    return *some;
  }

  // The stricter of the two bounds on one side.
  static Status decimal_bound(const Json& schema, const char* keyword, const char* exclusive, int inward,
                              const std::string& where, std::optional<Decimal>& bound, bool& is_exclusive) {
    for (const char* name : {keyword, exclusive}) {
      if (!schema.contains(name)) continue;
      if (!schema[name].is_number()) return refuse(where, "{} must be a number", name);
      const Decimal number = Decimal::of(schema[name]);
      const int order = bound ? compare(number, *bound) * inward : 1;
      if (order > 0) bound = number;
      if (order >= 0) is_exclusive = name == exclusive;
    }
    return {};
  }

  Result<Expression> number(const Json& schema, const std::string& where) {
    ODMOE_ASSIGN_OR_RETURN(const auto factor, this->factor(schema, where));
    if (factor && factor->exponent >= 0) return integer(schema, where);
    NumberRange range;
    ODMOE_RETURN_IF_ERROR(
        decimal_bound(schema, "minimum", "exclusiveMinimum", 1, where, range.min, range.above_min));
    ODMOE_RETURN_IF_ERROR(
        decimal_bound(schema, "maximum", "exclusiveMaximum", -1, where, range.max, range.below_max));
    if (!factor && !range.max) {
      if (!range.min) return values_.number();
      if (range.min->is_zero() && !range.above_min) return values_.non_negative_number();
    }
    if (range.min && range.max && compare(*range.max, *range.min) < 0) {
      return refuse(where, "its maximum is less than its minimum");
    }
    if (factor && factor->units != 1) return listed_multiples(range, *factor, schema, where);
    const auto some = numbers_.between(range, factor ? -factor->exponent : kMaxSignificant);
    if (!some) return refuse_empty(where);
    return *some;
  }

  Result<Expression> listed_multiples(const NumberRange& range, const Factor& factor, const Json& schema,
                                      const std::string& where) {
    const auto places = static_cast<size_t>(-factor.exponent);
    if (!range.min || !range.max) return refuse_factor(schema, where);
    const auto below_min = range.min->scaled_down(places), max = range.max->scaled_down(places);
    if (!below_min || !max) return refuse_factor(schema, where);
    const bool min_fits = range.min->is_whole(places) && !range.above_min;
    const bool max_fits = !range.max->is_whole(places) || !range.below_max;
    auto ways =
        listed(min_fits ? *below_min : *below_min + 1, max_fits ? *max : *max - 1, factor.units, places);
    if (!ways) return refuse_factor(schema, where);
    if (ways->empty()) return refuse_empty(where);
    return builder_->choice(std::move(*ways));
  }

  Result<Expression> object(const Json& schema, const std::string& where, int depth) {
    static const Json kNothing = Json::object();
    static const Json kAnything = true;
    const Json& properties = schema.contains("properties") ? schema["properties"] : kNothing;
    if (!properties.is_object()) return refuse(where, "properties must be an object");
    const bool closed = schema.contains("additionalProperties") && schema["additionalProperties"] == false;
    const Json& others = schema.contains("additionalProperties") ? schema["additionalProperties"] : kAnything;

    struct Member {
      std::string name;
      const Json* schema;
      bool required;
    };
    std::vector<Member> members;
    for (const auto& [name, value] : properties.items()) members.push_back({name, &value, false});
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) return refuse(where, "required must be a list of names");
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) return refuse(where, "required must be a list of names");
        const auto member = std::ranges::find(members, name.get<std::string>(), &Member::name);
        if (member != members.end()) {
          member->required = true;
        } else if (closed) {
          return refuse(where, "{} is required, but not among its properties", text_of(name));
        } else {
          members.push_back({name, &others, true});
        }
      }
    }
    if (members.empty()) {
      if (closed) return builder_->literal("{}");
      return map(others, where, depth);
    }
    return struct_of(members, where, depth);
  }

  // Any keys, all values by one schema.
  Result<Expression> map(const Json& value_schema, const std::string& where, int depth) {
    GrammarBuilder& b = *builder_;
    ODMOE_ASSIGN_OR_RETURN(const Expression value,
                           schema(value_schema, where + "/additionalProperties", depth + 1));
    const Expression member = b.sequence({values_.string(), values_.colon(), value});
    const Expression more = b.repeat(b.sequence({values_.comma(), member}), 0, -1);
    return b.choice({b.literal("{}"), b.sequence({b.literal("{"), values_.space(), member, more,
                                                  values_.space(), b.literal("}")})});
  }

  // Members in their order, the optional ones there or not.
  template <typename Members>
  Result<Expression> struct_of(const Members& members, const std::string& where, int depth) {
    GrammarBuilder& b = *builder_;
    // From the last to the first, what follows when something was written before, and when nothing was.
    Expression after_some = b.empty(), after_none = b.empty();
    for (auto member = members.rbegin(); member != members.rend(); ++member) {
      ODMOE_ASSIGN_OR_RETURN(
          const Expression value,
          schema(*member->schema, where + "/properties/" + escape_pointer(member->name), depth + 1));
      const std::string key = Json(member->name).dump(-1, ' ', false, Json::error_handler_t::replace);
      const Expression pair = b.sequence({b.literal(key), values_.colon(), value});
      const GrammarBuilder::Rule rest = b.declare();
      b.define(rest, after_some);
      const Expression first = b.sequence({pair, b.call(rest)});
      const Expression next = b.sequence({values_.comma(), pair, b.call(rest)});
      after_some = member->required ? next : b.choice({next, b.call(rest)});
      const GrammarBuilder::Rule none = b.declare();
      b.define(none, after_none);
      after_none = member->required ? first : b.choice({first, b.call(none)});
    }
    const bool may_be_empty =
        std::ranges::none_of(members, [](const auto& member) { return member.required; });
    const Expression full =
        b.sequence({b.literal("{"), values_.space(), after_none, values_.space(), b.literal("}")});
    return may_be_empty ? b.choice({full, b.literal("{}")}) : full;
  }

  Result<Expression> array(const Json& schema, const std::string& where, int depth) {
    GrammarBuilder& b = *builder_;
    static const Json kAnything = true;
    ODMOE_ASSIGN_OR_RETURN(const int32_t min, count(schema, "minItems", 0, where));
    ODMOE_ASSIGN_OR_RETURN(int32_t max, count(schema, "maxItems", -1, where));
    if (max >= 0 && max < min) return refuse(where, "maxItems is less than minItems");
    std::vector<Expression> first;
    if (schema.contains("prefixItems")) {
      if (!schema["prefixItems"].is_array()) return refuse(where, "prefixItems must be a list");
      for (const Json& item : schema["prefixItems"]) {
        ODMOE_ASSIGN_OR_RETURN(
            const Expression one,
            this->schema(item, std::format("{}/prefixItems/{}", where, first.size()), depth + 1));
        first.push_back(one);
      }
    }
    const Json& items = schema.contains("items") ? schema["items"] : kAnything;
    if (schema.contains("uniqueItems")) {
      if (!schema["uniqueItems"].is_boolean()) return refuse(where, "uniqueItems must be true or false");
      const bool few = max == 0 || max == 1;
      if (schema["uniqueItems"].get<bool>() && !few) return unique_items(schema, items, min, max, where);
    }
    const auto n_first = static_cast<int32_t>(first.size());
    if (items.is_boolean() && !items.get<bool>()) max = max < 0 ? n_first : std::min(max, n_first);
    if (max == 0) return b.literal("[]");
    if (!first.empty()) {
      // All of a tuple's are written, which every schema of one allows unless it is shorter.
      if (max >= 0 && max < n_first) return refuse(where, "maxItems is less than prefixItems has");
      std::vector<Expression> parts = {b.literal("["), values_.space(), first[0]};
      for (size_t i = 1; i < first.size(); ++i) {
        parts.push_back(values_.comma());
        parts.push_back(first[i]);
      }
      if (max != n_first) {
        ODMOE_ASSIGN_OR_RETURN(const Expression item, this->schema(items, where + "/items", depth + 1));
        parts.push_back(b.repeat(b.sequence({values_.comma(), item}), std::max(0, min - n_first),
                                 max < 0 ? -1 : max - n_first));
      } else if (min > n_first) {
        return refuse(where, "minItems is more than prefixItems has");
      }
      parts.push_back(values_.space());
      parts.push_back(b.literal("]"));
      return b.sequence(std::move(parts));
    }
    ODMOE_ASSIGN_OR_RETURN(const Expression item, this->schema(items, where + "/items", depth + 1));
    const Expression more =
        b.repeat(b.sequence({values_.comma(), item}), std::max(0, min - 1), max < 0 ? -1 : max - 1);
    const Expression some =
        b.sequence({b.literal("["), values_.space(), item, more, values_.space(), b.literal("]")});
    return min > 0 ? some : b.choice({some, b.literal("[]")});
  }

  // Every value of a list at most once, in any order: a rule for every set of those that were written.
  Result<Expression> unique_items(const Json& schema, const Json& items, int32_t min, int32_t max,
                                  const std::string& where) {
    const Json& item = *resolved(items);
    std::vector<Json> values;
    if (item.is_object() && item.contains("enum") && item["enum"].is_array() &&
        !schema.contains("prefixItems")) {
      ODMOE_RETURN_IF_ERROR(only(item, where + "/items", {"enum", "type"}));
      std::vector<std::string> allowed;
      if (item.contains("type")) {
        ODMOE_ASSIGN_OR_RETURN(allowed, types(item, where + "/items"));
      }
      for (const Json& value : item["enum"]) {
        const bool fits = allowed.empty() || std::ranges::any_of(allowed, [&](const std::string& type) {
                            return has_type(value, type);
                          });
        if (fits && !std::ranges::contains(values, value)) values.push_back(value);
      }
    }
    if (values.empty() || values.size() > kMaxUnique) {
      return refuse(where,
                    "the keyword \"uniqueItems\" is only supported where items is an enum of up to {} values",
                    kMaxUnique);
    }
    if (std::cmp_greater(min, values.size())) return refuse(where, "minItems is more than its enum has");
    GrammarBuilder& b = *builder_;
    const size_t n_set = size_t{1} << values.size();
    std::vector<Expression> one;
    for (const Json& value : values) {
      const GrammarBuilder::Rule rule = b.declare();
      b.define(rule, b.literal(value.dump(-1, ' ', false, Json::error_handler_t::replace)));
      one.push_back(b.call(rule));
    }
    // What may follow when the values of a set are there: more of them come first.
    std::vector<Expression> after(n_set);
    for (size_t set = n_set; set-- > 0;) {
      const auto n = static_cast<int32_t>(std::popcount(set));
      std::vector<Expression> ways;
      for (size_t i = 0; i < values.size() && (max < 0 || n < max); ++i) {
        const size_t with = set | size_t{1} << i;
        if (with == set) continue;
        ways.push_back(b.sequence({set == 0 ? values_.space() : values_.comma(), one[i], after[with]}));
      }
      if (set != 0 && n >= min) ways.push_back(b.sequence({values_.space(), b.literal("]")}));
      const GrammarBuilder::Rule rule = b.declare();
      b.define(rule, b.choice(std::move(ways)));
      after[set] = b.call(rule);
    }
    const Expression some = b.sequence({b.literal("["), after[0]});
    return min > 0 ? some : b.choice({some, b.literal("[]")});
  }

  GrammarBuilder* builder_;
  JsonValues values_;
  JsonNumbers numbers_;
  const Json* root_;
  std::map<std::string, GrammarBuilder::Rule> references_;
};

}  // namespace

Result<Expression> add_json_schema(GrammarBuilder& builder, const Json& schema) {
  return Compiler(builder, schema).schema(schema, "", 0);
}

Expression add_json_object(GrammarBuilder& builder) { return JsonValues(builder).object(); }

Result<std::shared_ptr<const Grammar>> json_schema_grammar(const Json& schema) {
  GrammarBuilder builder;
  ODMOE_ASSIGN_OR_RETURN(const Expression root, add_json_schema(builder, schema));
  auto grammar = builder.build(root);
  if (!grammar.has_value()) return refuse("", "{}", grammar.error().message);
  return grammar;
}

Result<std::shared_ptr<const Grammar>> json_object_grammar() {
  GrammarBuilder builder;
  const Expression root = add_json_object(builder);
  return builder.build(root);
}

}  // namespace odmoe::grammar
