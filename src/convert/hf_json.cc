#include "convert/hf_json.h"

#include "base/whole_file.h"
#include "format/printable.h"
#include "odmoe/format.h"

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
  if (!value.is_object())
    return fail(ErrorKind::kBadFile, "{} is not a JSON object; download it again", name);
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

Error HfWords::missing(std::string_view key) const {
  return {ErrorKind::kBadFile,
          odmoe::format("{} has no key '{}': it is incomplete; download it again", name, printable(key))};
}

Error HfWords::wrong(std::string_view key, std::string_view wanted, const nlohmann::json& found) const {
  // Containers are not shown: writing one out recurses as deep as it is nested.
  const std::string shown = found.is_structured()
                                ? std::string(found.type_name())
                                : found.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return {ErrorKind::kBadFile, odmoe::format("{}: key '{}' is {}, where {} was expected", name,
                                             printable(key), printable(shown, 60), wanted)};
}

Result<int64_t> HfConfig::integer(std::string_view key, int64_t least, int64_t most) const {
  return members().integer(key, least, most);
}

Result<int64_t> HfConfig::integer_or(std::string_view key, int64_t otherwise, int64_t least,
                                     int64_t most) const {
  if (!has(key)) return otherwise;
  return integer(key, least, most);
}

Result<double> HfConfig::number(std::string_view key) const { return members().number(key); }

Result<double> HfConfig::number_or(std::string_view key, double otherwise) const {
  if (!has(key)) return otherwise;
  return number(key);
}

Result<bool> HfConfig::boolean_or(std::string_view key, bool otherwise) const {
  if (!has(key)) return otherwise;
  return members().boolean(key);
}

Result<std::string> HfConfig::string_or(std::string_view key, std::string_view otherwise) const {
  if (!has(key)) return std::string(otherwise);
  return members().text(key);
}

Result<std::optional<HfConfig>> HfConfig::object_or_none(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  ODMOE_ASSIGN_OR_RETURN(const nlohmann::json* object, members().object(key, std::string::npos));
  return HfConfig(*object, odmoe::format("{}: {}", name_, printable(key, 60)));
}

}  // namespace odmoe
