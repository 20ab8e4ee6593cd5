#include "convert/hf_json.h"

#include <cmath>

#include "base/whole_file.h"
#include "format/printable.h"

namespace odmoe {

Result<std::string> read_text_file(const std::filesystem::path& path, uint64_t most_bytes) {
  ODMOE_ASSIGN_OR_RETURN(std::string text, read_whole_text(path, most_bytes));
  if (text.starts_with("version https://git-lfs")) {
    return fail(ErrorKind::kBadFile,
                "{} is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
                printable(path.string(), 400));
  }
  return text;
}

Result<nlohmann::json> parse_json_object(std::string_view text, const std::string& name) {
  // Parsing is a loop, but copying recurses as deep as a value is nested.
  bool too_deep = false;
  const auto shallow = [&too_deep](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep = too_deep || depth > kMaxJsonDepth;
    return !too_deep;
  };
  nlohmann::json value = nlohmann::json::parse(text, shallow, /*allow_exceptions=*/false);
  if (too_deep) {
    return fail(ErrorKind::kBadFile, "{} is nested more than {} deep: it is damaged; download it again", name,
                kMaxJsonDepth);
  }
  if (value.is_discarded()) {
    return fail(ErrorKind::kBadFile, "{} is not JSON: it is damaged; download it again", name);
  }
  if (!value.is_object()) return fail(ErrorKind::kBadFile, "{} is no JSON object; download it again", name);
  return value;
}

Result<std::optional<nlohmann::json>> read_optional_json(const std::filesystem::path& path,
                                                         uint64_t most_bytes) {
  Result<std::string> text = read_text_file(path, most_bytes);
  if (!text.has_value() && text.error().kind == ErrorKind::kNotFound) return std::nullopt;
  if (!text.has_value()) return std::unexpected(std::move(text).error());
  ODMOE_ASSIGN_OR_RETURN(nlohmann::json json, parse_json_object(*text, printable(path.string(), 400)));
  return std::optional(std::move(json));
}

const nlohmann::json* HfConfig::find(std::string_view key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::unexpected<Error> HfConfig::wrong(std::string_view key, std::string_view wanted) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) {
    return fail(ErrorKind::kBadFile, "{} has no key '{}': it is incomplete; download it again", name_,
                printable(key));
  }
  // Containers are not shown: writing one out recurses as deep as it is nested.
  const std::string shown = value->is_structured()
                                ? std::string(value->type_name())
                                : value->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return fail(ErrorKind::kBadFile, "{}: key '{}' is {}, where {} was expected", name_, printable(key),
              printable(shown, 60), wanted);
}

Result<int64_t> HfConfig::integer(std::string_view key, int64_t least, int64_t most) const {
  const nlohmann::json* value = find(key);
  const std::string wanted = odmoe::format("a whole number from {} to {}", least, most);
  if (value == nullptr || !value->is_number_integer()) return wrong(key, wanted);
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return wrong(key, wanted);
  }
  const auto number = value->get<int64_t>();
  if (number < least || number > most) return wrong(key, wanted);
  return number;
}

Result<int64_t> HfConfig::integer_or(std::string_view key, int64_t otherwise, int64_t least,
                                     int64_t most) const {
  if (!has(key)) return otherwise;
  return integer(key, least, most);
}

Result<double> HfConfig::number(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr || !value->is_number()) return wrong(key, "a number");
  const auto number = value->get<double>();
  if (!std::isfinite(number) || std::abs(number) > 1e30) return wrong(key, "a number of sensible size");
  return number;
}

Result<double> HfConfig::number_or(std::string_view key, double otherwise) const {
  if (!has(key)) return otherwise;
  return number(key);
}

Result<bool> HfConfig::boolean_or(std::string_view key, bool otherwise) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return wrong(key, "true or false");
  return value->get<bool>();
}

Result<std::string> HfConfig::string_or(std::string_view key, std::string_view otherwise) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::string(otherwise);
  if (!value->is_string()) return wrong(key, "text");
  return value->get<std::string>();
}

Result<std::optional<HfConfig>> HfConfig::object_or_none(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) return wrong(key, "an object");
  return HfConfig(*value, odmoe::format("{}: {}", name_, printable(key, 60)));
}

}  // namespace odmoe
