#include "format/metadata_json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "base/hex.h"
#include "format/printable.h"

namespace odmoe {
namespace {

using Json = nlohmann::json;

bool is_utf8(std::string_view text) {
  // What the library itself would refuse to write.
  try {
    (void)Json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

nlohmann::ordered_json integer_to_json(gguf_type type, int64_t value) {
  if (type == GGUF_TYPE_BOOL) return value != 0;
  if (type == GGUF_TYPE_UINT64) return static_cast<uint64_t>(value);
  return value;
}

nlohmann::ordered_json float_to_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

nlohmann::ordered_json string_to_json(const std::string& value) {
  if (is_utf8(value)) return value;
  return {{"hex", to_hex(std::as_bytes(std::span(value)))}};
}

constexpr std::array kTypes = {GGUF_TYPE_UINT8,  GGUF_TYPE_INT8,    GGUF_TYPE_UINT16,  GGUF_TYPE_INT16,
                               GGUF_TYPE_UINT32, GGUF_TYPE_INT32,   GGUF_TYPE_UINT64,  GGUF_TYPE_INT64,
                               GGUF_TYPE_BOOL,   GGUF_TYPE_FLOAT32, GGUF_TYPE_FLOAT64, GGUF_TYPE_STRING};

std::optional<gguf_type> find_type(std::string_view name) {
  for (const gguf_type type : kTypes) {
    if (name == gguf_type_name(type)) return type;
  }
  return std::nullopt;
}

// The least and the greatest value of an integer type below u64.
std::pair<int64_t, int64_t> range(gguf_type type) {
  const auto of = []<typename T>(T) {
    return std::pair<int64_t, int64_t>(std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
  };
  switch (type) {
    case GGUF_TYPE_UINT8:
      return of(uint8_t{});
    case GGUF_TYPE_INT8:
      return of(int8_t{});
    case GGUF_TYPE_UINT16:
      return of(uint16_t{});
    case GGUF_TYPE_INT16:
      return of(int16_t{});
    case GGUF_TYPE_UINT32:
      return of(uint32_t{});
    case GGUF_TYPE_INT32:
      return of(int32_t{});
    default:
      return of(int64_t{});
  }
}

std::optional<int64_t> integer_from_json(gguf_type type, const Json& json) {
  if (type == GGUF_TYPE_BOOL) {
    if (!json.is_boolean()) return std::nullopt;
    return json.get<bool>() ? 1 : 0;
  }
  if (type == GGUF_TYPE_UINT64) {
    if (!json.is_number_unsigned()) return std::nullopt;
    return static_cast<int64_t>(json.get<uint64_t>());
  }
  if (!json.is_number_integer()) return std::nullopt;
  if (json.is_number_unsigned() &&
      json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  const auto value = json.get<int64_t>();
  const auto [least, most] = range(type);
  if (value < least || value > most) return std::nullopt;
  return value;
}

std::optional<double> float_from_json(gguf_type type, const Json& json) {
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (text == "inf") return std::numeric_limits<double>::infinity();
    if (text == "-inf") return -std::numeric_limits<double>::infinity();
    return std::nullopt;
  }
  if (!json.is_number()) return std::nullopt;
  const auto value = json.get<double>();
  if (type == GGUF_TYPE_FLOAT32 && std::abs(value) > std::numeric_limits<float>::max()) return std::nullopt;
  return value;
}

std::optional<std::string> string_from_json(const Json& json) {
  if (json.is_string()) return json.get<std::string>();
  if (!json.is_object() || json.size() != 1 || !json.contains("hex")) return std::nullopt;
  const Json& hex = json.front();
  return hex.is_string() ? from_hex(hex.get_ref<const std::string&>()) : std::nullopt;
}

template <typename T, typename Convert>
bool read_elements(const Json& json, bool is_array, MetadataEntry& entry, const Convert& convert) {
  std::vector<T> elements;
  const auto add = [&](const Json& element) {
    auto value = convert(element);
    if (value.has_value()) elements.push_back(std::move(*value));
    return value.has_value();
  };
  if (is_array) {
    elements.reserve(json.size());
    for (const Json& element : json) {
      if (!add(element)) return false;
    }
  } else if (!add(json)) {
    return false;
  }
  entry.elements = std::move(elements);
  return true;
}

// Judges foreign JSON before a tree is made of it.
class Judge final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return count(); }
  bool boolean(bool) override { return count(); }
  bool number_integer(number_integer_t) override { return count(); }
  bool number_unsigned(number_unsigned_t) override { return count(); }
  bool number_float(number_float_t, const string_t&) override { return count(); }
  bool string(string_t&) override { return count(); }
  bool binary(binary_t&) override { return count(); }
  bool start_object(size_t) override { return enter(); }
  bool key(string_t&) override { return count(); }
  bool end_object() override { return leave(); }
  bool start_array(size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    problem = odmoe::format("is not JSON from byte {} on", position);
    return false;
  }

  std::string problem;

 private:
  bool count() {
    if (++n_value_ <= kMaxJsonValues) return true;
    problem = odmoe::format("has more than {} values", kMaxJsonValues);
    return false;
  }
  bool enter() {
    if (++depth_ <= kMaxJsonDepth) return count();
    problem = odmoe::format("is nested deeper than {}", kMaxJsonDepth);
    return false;
  }
  bool leave() {
    --depth_;
    return true;
  }

  uint64_t n_value_ = 0;
  int depth_ = 0;
};

}  // namespace

nlohmann::ordered_json metadata_to_json(const std::vector<MetadataEntry>& entries) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  std::vector<const MetadataEntry*> sorted;  // so that it does not matter where they come from
  for (const MetadataEntry& entry : entries) sorted.push_back(&entry);
  std::ranges::sort(sorted, {}, [](const MetadataEntry* entry) -> const std::string& { return entry->key; });
  for (const MetadataEntry* pointer : sorted) {
    const MetadataEntry& entry = *pointer;
    nlohmann::ordered_json values = nlohmann::ordered_json::array();
    std::visit(
        [&](const auto& elements) {
          for (const auto& value : elements) {
            using T = std::remove_cvref_t<decltype(value)>;
            if constexpr (std::is_same_v<T, int64_t>) {
              values.push_back(integer_to_json(entry.type, value));
            } else if constexpr (std::is_same_v<T, double>) {
              values.push_back(float_to_json(value));
            } else {
              values.push_back(string_to_json(value));
            }
          }
        },
        entry.elements);
    nlohmann::ordered_json& out = json[is_utf8(entry.key) ? entry.key : printable(entry.key)];
    out["type"] = gguf_type_name(entry.type);
    if (entry.is_array) {
      out["values"] = std::move(values);
    } else {
      out["value"] = std::move(values.front());
    }
  }
  return json;
}

Result<std::vector<MetadataEntry>> metadata_from_json(const Json& json, const std::string& name) {
  std::vector<MetadataEntry> entries;
  if (!json.is_object()) {
    return fail(ErrorKind::kBadFile, "{} is damaged: its metadata is not an object; convert the model again",
                name);
  }
  for (const auto& [key, value] : json.items()) {
    const auto bad = [&](std::string_view what) {
      return fail(ErrorKind::kBadFile, "{} is damaged: the metadata '{}' {}; convert the model again", name,
                  printable(key), what);
    };
    if (!value.is_object() || value.size() != 2 || !value.contains("type") || !value["type"].is_string())
      return bad("has no type and value");
    const std::optional<gguf_type> type = find_type(value["type"].get_ref<const std::string&>());
    if (!type) return bad("is of an unknown type");
    MetadataEntry entry{.key = key, .type = *type, .is_array = value.contains("values")};
    if (!entry.is_array && !value.contains("value")) return bad("has no value");
    const Json& content = value[entry.is_array ? "values" : "value"];
    if (entry.is_array && !content.is_array()) return bad("is not an array");
    bool good = false;
    if (*type == GGUF_TYPE_STRING) {
      good = read_elements<std::string>(content, entry.is_array, entry, string_from_json);
    } else if (*type == GGUF_TYPE_FLOAT32 || *type == GGUF_TYPE_FLOAT64) {
      good = read_elements<double>(content, entry.is_array, entry,
                                   [&](const Json& element) { return float_from_json(*type, element); });
    } else {
      good = read_elements<int64_t>(content, entry.is_array, entry,
                                    [&](const Json& element) { return integer_from_json(*type, element); });
    }
    if (!good) return bad(odmoe::format("holds something that is not {}", gguf_type_name(*type)));
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<Json> parse_json(std::string_view text, const std::string& name) {
  Judge judge;
  if (!Json::sax_parse(text, &judge)) {
    return fail(ErrorKind::kBadFile, "{} {}; convert the model again", name,
                judge.problem.empty() ? "is not JSON" : judge.problem);
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return fail(ErrorKind::kBadFile, "{} is not JSON; convert the model again", name);
  return json;
}

}  // namespace odmoe
