#include "grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

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
  Compiler(GrammarBuilder& builder, const Json& root) : builder_(&builder), values_(builder), root_(&root) {}

  Result<Expression> schema(const Json& schema, const std::string& where, int depth) {
    if (depth > kMaxSchemaDepth) return refuse(where, "it nests deeper than {}", kMaxSchemaDepth);
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

  const Json& resolved(const Json& schema) const {
    if (schema.is_object() && schema.contains("$ref") && schema["$ref"].is_string()) {
      const auto name = schema["$ref"].get<std::string>();
      if (name.starts_with("#/")) {
        if (const Json* target = find(std::string_view(name).substr(1))) return *target;
      }
    }
    return schema;
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
          if (disjoint(resolved(list[i]), resolved(list[j]))) continue;
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
      if (about({"items", "prefixItems", "minItems", "maxItems"})) names.emplace_back("array");
      if (about({"minLength", "maxLength", "format", "pattern"})) names.emplace_back("string");
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
    knows("array", {"items", "prefixItems", "minItems", "maxItems"});
    knows("string", {"minLength", "maxLength", "format", "pattern"});
    knows("integer", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"});
    knows("number", {"minimum"});
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

  Result<Expression> integer(const Json& schema, const std::string& where) {
    ODMOE_ASSIGN_OR_RETURN(const auto min, bound(schema, "minimum", "exclusiveMinimum", 1, where));
    ODMOE_ASSIGN_OR_RETURN(const auto max, bound(schema, "maximum", "exclusiveMaximum", -1, where));
    if (!min && !max) return values_.integer();
    if (min && max && *max < *min) return refuse(where, "its maximum is less than its minimum");
    return values_.integer(min, max);
  }

  Result<Expression> number(const Json& schema, const std::string& where) {
    if (!schema.contains("minimum")) return values_.number();
    if (schema["minimum"] == 0) return values_.non_negative_number();
    return refuse(where, "minimum of a number is only supported as 0; of an integer it may be any");
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

  GrammarBuilder* builder_;
  JsonValues values_;
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
