#include "hub/names.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/hex.h"
#include "base/utf8.h"
#include "format/printable.h"

namespace odmoe::hub {
namespace {

constexpr std::array<std::pair<std::string_view, Place>, 3> kPrefixes = {
    {{"hf:", Place::kHub}, {"ollama:", Place::kOllama}, {"lmstudio:", Place::kLmStudio}}};
constexpr size_t kMaxNameBytes = 96;     // the hub's own bound for each half of a repository's name
constexpr size_t kMaxOllamaBytes = 128;  // of a part, as Ollama has it
constexpr size_t kMaxPartBytes = 255;    // what file systems take
constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxRevisionBytes = 255;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool has_only(std::string_view text, std::string_view others) {
  return std::ranges::all_of(text,
                             [&](char c) { return is_letter_or_digit(c) || others.find(c) != others.npos; });
}

// As the hub has them; "--" stands for the slash in the cache's folders.
bool is_repo_part(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes && has_only(text, "-_.") &&
         text.find("--") == text.npos && text.find("..") == text.npos && is_plain_path(text) &&
         text.front() != '-' && text.front() != '.' && text.back() != '-' && text.back() != '.';
}

bool is_ollama_part(std::string_view text) {
  return !text.empty() && text.size() <= kMaxOllamaBytes && has_only(text, "-_.") &&
         (is_letter_or_digit(text.front()) || text.front() == '_') && text.find("..") == text.npos;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

Place place_of(std::string_view name) {
  for (const auto& [prefix, place] : kPrefixes) {
    if (name.starts_with(prefix)) return place;
  }
  return Place::kPath;
}

std::string_view without_prefix(std::string_view name) {
  for (const auto& [prefix, place] : kPrefixes) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

bool is_plain_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  for (size_t at = 0; at < path.size();) {
    const Utf8Char c = read_utf8(path.substr(at));
    if (!c.valid || c.code_point < 0x20 || (c.code_point >= 0x7F && c.code_point < 0xA0)) return false;
    if (c.code_point == '\\') return false;
    at += c.length;
  }
  return std::ranges::all_of(split(path, '/'), [](std::string_view part) {
    return !part.empty() && part != "." && part != ".." && part.size() <= kMaxPartBytes;
  });
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits &&
         std::ranges::all_of(text, [](char c) { return hex_digit(c) >= 0 && !(c >= 'A' && c <= 'F'); });
}

Result<RepoName> parse_repo_name(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return fail(ErrorKind::kUsage,
                "'{}' {}: a model is named OWNER/REPO, OWNER/REPO:QUANTISATION or OWNER/REPO/FILE.gguf, and "
                "may end in @REVISION",
                printable(text), why);
  };
  RepoName name;
  std::string_view rest = text;
  if (const size_t at = rest.rfind('@'); at != rest.npos) {
    name.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!is_plain_path(name.revision) || !has_only(name.revision, "-_./") ||
        name.revision.size() > kMaxRevisionBytes) {
      return wrong("has a revision that cannot be one");
    }
  }
  const size_t owner_end = rest.find('/');
  if (owner_end == rest.npos) return wrong("has no owner");
  name.owner = rest.substr(0, owner_end);
  rest.remove_prefix(owner_end + 1);
  if (const size_t slash = rest.find('/'); slash != rest.npos) {
    name.file = rest.substr(slash + 1);
    rest = rest.substr(0, slash);
    if (!is_plain_path(name.file)) return wrong("has a path that cannot be one of a repository");
  } else if (const size_t colon = rest.find(':'); colon != rest.npos) {
    name.quantisation = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (name.quantisation.empty() || name.quantisation.size() > kMaxNameBytes ||
        !has_only(name.quantisation, "-_.")) {
      return wrong("has a quantisation that cannot be one");
    }
  }
  name.repo = rest;
  if (!is_repo_part(name.owner) || !is_repo_part(name.repo)) {
    return wrong("has an owner or a repository that cannot be one");
  }
  return name;
}

std::string OllamaName::shown() const {
  const OllamaName defaults;
  std::string text;
  if (host != defaults.host) text += host + "/";
  if (host != defaults.host || space != defaults.space) text += space + "/";
  text += model;
  if (tag != defaults.tag) text += ":" + tag;
  return text;
}

Result<OllamaName> parse_ollama_name(std::string_view text) {
  OllamaName name;
  std::string_view rest = text;
  const size_t colon = rest.rfind(':');
  // A colon before a slash is that of a host's port.
  if (colon != rest.npos && rest.find('/', colon) == rest.npos) {
    name.tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  std::vector<std::string_view> parts = split(rest, '/');
  name.model = parts.back();
  if (parts.size() >= 2) name.space = parts[parts.size() - 2];
  if (parts.size() >= 3) name.host = parts[parts.size() - 3];
  std::string host = name.host;
  std::ranges::replace(host, ':', '.');
  if (parts.size() > 3 || !is_ollama_part(host) || !is_ollama_part(name.space) ||
      !is_ollama_part(name.model) || !is_ollama_part(name.tag)) {
    return fail(ErrorKind::kUsage,
                "'{}' is not a model of Ollama's: those are named NAME, NAME:TAG or NAMESPACE/NAME:TAG",
                printable(text));
  }
  return name;
}

}  // namespace odmoe::hub
