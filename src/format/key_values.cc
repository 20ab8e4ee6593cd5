#include "format/key_values.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "format/gguf_values.h"
#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

using gguf::Value;
using gguf::Values;

template <typename T>
T load(const Values& values, const Value& value, uint64_t index) {
  T number;
  std::memcpy(&number, values.bytes.data() + value.offset + index * sizeof(T), sizeof(T));
  return number;
}

bool is_integer(gguf_type type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
      return true;
    default:
      return false;
  }
}

bool is_float(gguf_type type) { return type == GGUF_TYPE_FLOAT32 || type == GGUF_TYPE_FLOAT64; }

// Requires is_integer(value.type) and not u64.
int64_t load_int(const Values& values, const Value& value, uint64_t index) {
  switch (value.type) {
    case GGUF_TYPE_UINT8:
      return load<uint8_t>(values, value, index);
    case GGUF_TYPE_INT8:
      return load<int8_t>(values, value, index);
    case GGUF_TYPE_UINT16:
      return load<uint16_t>(values, value, index);
    case GGUF_TYPE_INT16:
      return load<int16_t>(values, value, index);
    case GGUF_TYPE_UINT32:
      return load<uint32_t>(values, value, index);
    case GGUF_TYPE_INT32:
      return load<int32_t>(values, value, index);
    default:
      return load<int64_t>(values, value, index);
  }
}

std::string type_text(const Value& value) {
  return odmoe::format("{}{}", value.is_array ? "array of " : "", gguf_type_name(value.type));
}

std::string element_text(const Values& values, const Value& value, uint64_t index, uint64_t& string_offset,
                         size_t max_string_bytes) {
  switch (value.type) {
    case GGUF_TYPE_STRING: {
      const std::string_view text = gguf::string_at(values.bytes, string_offset);
      return odmoe::format("\"{}\"", printable(text, max_string_bytes));
    }
    case GGUF_TYPE_BOOL:
      return load<uint8_t>(values, value, index) != 0 ? "true" : "false";
    case GGUF_TYPE_FLOAT32:
      return odmoe::format("{}", load<float>(values, value, index));
    case GGUF_TYPE_FLOAT64:
      return odmoe::format("{}", load<double>(values, value, index));
    case GGUF_TYPE_UINT64:
      return odmoe::format("{}", load<uint64_t>(values, value, index));
    default:
      return odmoe::format("{}", load_int(values, value, index));
  }
}

std::string value_text(const Values& values, const Value& value) {
  constexpr uint64_t kMaxElements = 8;
  constexpr size_t kMaxStringBytes = 120;
  constexpr size_t kMaxElementBytes = 24;  // of a string in an array
  uint64_t offset = value.offset;
  if (!value.is_array) return element_text(values, value, 0, offset, kMaxStringBytes);
  std::string text = "[";
  for (uint64_t i = 0; i < std::min(value.count, kMaxElements); ++i) {
    if (i > 0) text += ", ";
    text += element_text(values, value, i, offset, kMaxElementBytes);
  }
  text += value.count > kMaxElements ? ", ...]" : "]";
  return text + odmoe::format(" ({} of {})", value.count, gguf_type_name(value.type));
}

}  // namespace

KeyValues::KeyValues(Values values, std::string name)
    : values_(std::make_shared<const Values>(std::move(values))), name_(std::move(name)) {}

Result<KeyValues> KeyValues::of(std::span<const MetadataEntry> entries, std::string name) {
  ODMOE_ASSIGN_OR_RETURN(Values values, gguf::encode(entries, name));
  return KeyValues(std::move(values), std::move(name));
}

bool KeyValues::has(std::string_view key) const { return values_->find(key) != nullptr; }

Result<const Value*> KeyValues::find(std::string_view key) const {
  const Value* value = values_->find(key);
  if (value != nullptr) return value;
  return fail(ErrorKind::kBadFile, "{} has no key '{}': it is incomplete; download or convert it again",
              name_, printable(key));
}

std::unexpected<Error> KeyValues::wrong_type(std::string_view key, const Value& value,
                                             std::string_view wanted) const {
  return fail(ErrorKind::kBadFile, "{}: key '{}' is of type {}, not {}; download or convert it again", name_,
              printable(key), type_text(value), wanted);
}

Result<const Value*> KeyValues::find_scalar(std::string_view key, std::string_view wanted) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find(key));
  if (value->is_array) return wrong_type(key, *value, wanted);
  return value;
}

Result<int64_t> KeyValues::int_at(std::string_view key, const Value& value, uint64_t index) const {
  if (!is_integer(value.type)) return wrong_type(key, value, "an integer");
  if (value.type == GGUF_TYPE_UINT64) {
    const auto number = load<uint64_t>(*values_, value, index);
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return fail(ErrorKind::kBadFile,
                  "{}: key '{}' of type {} holds {}, which is out of range; download it again", name_,
                  printable(key), type_text(value), number);
    }
    return static_cast<int64_t>(number);
  }
  return load_int(*values_, value, index);
}

Result<double> KeyValues::float_at(std::string_view key, const Value& value, uint64_t index) const {
  if (!is_float(value.type)) return wrong_type(key, value, "a floating-point number");
  const double number = value.type == GGUF_TYPE_FLOAT32
                            ? static_cast<double>(load<float>(*values_, value, index))
                            : load<double>(*values_, value, index);
  if (!std::isfinite(number)) {
    return fail(ErrorKind::kBadFile,
                "{}: key '{}' of type {} holds {}, which is not a number; download it again", name_,
                printable(key), type_text(value), number);
  }
  return number;
}

Result<int64_t> KeyValues::get_int(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find_scalar(key, "an integer"));
  return int_at(key, *value, 0);
}

Result<double> KeyValues::get_float(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find_scalar(key, "a floating-point number"));
  return float_at(key, *value, 0);
}

Result<bool> KeyValues::bool_at(std::string_view key, const Value& value, uint64_t index) const {
  if (value.type != GGUF_TYPE_BOOL) return wrong_type(key, value, "bool");
  const auto byte = load<uint8_t>(*values_, value, index);
  if (byte > 1) {
    return fail(ErrorKind::kBadFile,
                "{}: key '{}' of type bool holds {}, which is out of range; download it again", name_,
                printable(key), byte);
  }
  return byte == 1;
}

Result<bool> KeyValues::get_bool(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find_scalar(key, "bool"));
  return bool_at(key, *value, 0);
}

Result<std::string> KeyValues::get_string(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find_scalar(key, "a string"));
  if (value->type != GGUF_TYPE_STRING) return wrong_type(key, *value, "a string");
  uint64_t offset = value->offset;
  return std::string(gguf::string_at(values_->bytes, offset));
}

Result<std::vector<std::string>> KeyValues::get_strings(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find(key));
  if (!value->is_array) return wrong_type(key, *value, "an array of strings");
  std::vector<std::string> strings;
  if (value->count == 0) return strings;
  if (value->type != GGUF_TYPE_STRING) return wrong_type(key, *value, "an array of strings");
  strings.reserve(value->count);  // each was found in the file with its 8 bytes of length
  uint64_t offset = value->offset;
  for (uint64_t i = 0; i < value->count; ++i) strings.emplace_back(gguf::string_at(values_->bytes, offset));
  return strings;
}

Result<std::vector<int64_t>> KeyValues::get_ints(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find(key));
  if (value->count > 0 && !is_integer(value->type)) return wrong_type(key, *value, "integers");
  std::vector<int64_t> numbers;
  numbers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    ODMOE_ASSIGN_OR_RETURN(const int64_t number, int_at(key, *value, i));
    numbers.push_back(number);
  }
  return numbers;
}

Result<std::vector<float>> KeyValues::get_floats(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find(key));
  if (value->count > 0 && !is_float(value->type)) return wrong_type(key, *value, "floating-point numbers");
  std::vector<float> numbers;
  numbers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    ODMOE_ASSIGN_OR_RETURN(const double number, float_at(key, *value, i));
    if (std::abs(number) > static_cast<double>(std::numeric_limits<float>::max())) {
      return fail(ErrorKind::kBadFile,
                  "{}: key '{}' of type {} holds {}, which is out of range; download it again", name_,
                  printable(key), type_text(*value), number);
    }
    numbers.push_back(static_cast<float>(number));
  }
  return numbers;
}

std::span<const std::byte> KeyValues::encoded() const { return values_->bytes; }

Result<std::vector<bool>> KeyValues::get_bools(std::string_view key) const {
  ODMOE_ASSIGN_OR_RETURN(const Value* value, find(key));
  std::vector<bool> flags;
  flags.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    ODMOE_ASSIGN_OR_RETURN(const bool flag, bool_at(key, *value, i));
    flags.push_back(flag);
  }
  return flags;
}

std::string KeyValues::text_of(std::string_view key) const {
  return value_text(*values_, *values_->find(key));
}

std::vector<std::string_view> KeyValues::keys() const {
  std::vector<std::string_view> keys;
  keys.reserve(values_->entries.size());
  for (const gguf::KeyValue& entry : values_->entries) keys.push_back(entry.key);
  return keys;
}

std::vector<MetadataEntry> KeyValues::entries() const {
  std::vector<MetadataEntry> entries;
  entries.reserve(values_->entries.size());
  for (const auto& [key, value] : values_->entries) {
    MetadataEntry entry{.key = std::string(key), .type = value.type, .is_array = value.is_array};
    if (value.type == GGUF_TYPE_STRING) {
      MetadataEntry::Strings strings;
      strings.reserve(value.count);
      uint64_t offset = value.offset;
      for (uint64_t i = 0; i < value.count; ++i)
        strings.emplace_back(gguf::string_at(values_->bytes, offset));
      entry.elements = std::move(strings);
    } else if (is_float(value.type)) {
      MetadataEntry::Floats floats(value.count);
      for (uint64_t i = 0; i < value.count; ++i) {
        floats[i] = value.type == GGUF_TYPE_FLOAT32 ? static_cast<double>(load<float>(*values_, value, i))
                                                    : load<double>(*values_, value, i);
      }
      entry.elements = std::move(floats);
    } else {
      MetadataEntry::Integers integers(value.count);
      for (uint64_t i = 0; i < value.count; ++i) {
        integers[i] =
            value.type == GGUF_TYPE_BOOL ? load<uint8_t>(*values_, value, i) : load_int(*values_, value, i);
      }
      entry.elements = std::move(integers);
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::vector<std::pair<std::string, std::string>> KeyValues::metadata_text() const {
  std::vector<std::pair<std::string, std::string>> lines;
  lines.reserve(values_->entries.size());
  for (const gguf::KeyValue& entry : values_->entries) {
    lines.emplace_back(printable(entry.key), value_text(*values_, entry.value));
  }
  return lines;
}

}  // namespace odmoe
