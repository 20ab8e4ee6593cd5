#include "grammar/schema_references.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace odmoe::grammar {
namespace {

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint8_t byte = 0;
    const bool escape =
        text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3;
    out += escape ? static_cast<char>(byte) : text[i];
    if (escape) i += 2;
  }
  return out;
}

// Of an address, as far as schemas need it.
std::string joined(const std::string& base, std::string_view reference) {
  if (reference.empty()) return base;
  const size_t colon = reference.find_first_of(":/?");
  if (colon != reference.npos && reference[colon] == ':') return std::string(reference);
  const size_t authority = base.find("://");
  const size_t path = authority == base.npos ? 0 : std::min(base.find('/', authority + 3), base.size());
  if (reference.starts_with('/')) return base.substr(0, path) + std::string(reference);
  const size_t slash = base.rfind('/');
  if (slash == base.npos || slash < path) {
    return path == 0 ? std::string(reference) : base.substr(0, path) + "/" + std::string(reference);
  }
  std::string_view rest = reference;
  std::string folder = base.substr(0, slash + 1);
  while (rest.starts_with("./")) rest.remove_prefix(2);
  return folder + std::string(rest);
}

}  // namespace

std::string escape_pointer(std::string_view name) {
  std::string out;
  for (const char c : name.substr(0, 64)) {
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

SchemaReferences::SchemaReferences(const SchemaJson& root) : root_(&root) {
  resources_.emplace("", root_);
  index(root, "", 0);
}

void SchemaReferences::index(const SchemaJson& schema, const std::string& outer, int depth) {
  if (depth > kMaxReferenceDepth || !schema.is_structured()) return;
  std::string base = outer;
  if (schema.is_object()) {
    const auto text = [&](const char* key) -> std::string_view {
      const auto at = schema.find(key);
      return at != schema.end() && at->is_string() ? std::string_view(at->get_ref<const std::string&>()) : "";
    };
    for (const char* key : {"$id", "id"}) {
      std::string_view id = text(key);
      if (id.starts_with('#')) {
        anchors_.try_emplace({base, std::string(id.substr(1))}, &schema);
        continue;
      }
      id = id.substr(0, id.find('#'));
      if (id.empty()) continue;
      base = joined(outer, id);
      resources_.try_emplace(base, &schema);
      break;
    }
    for (const char* key : {"$anchor", "$dynamicAnchor"}) {
      if (const std::string_view name = text(key); !name.empty()) {
        anchors_.try_emplace({base, std::string(name)}, &schema);
      }
    }
    if (!base.empty() && schema.contains("$ref")) bases_.emplace(&schema, base);
    for (const auto& [key, value] : schema.items()) {
      // These hold values, not schemas.
      if (key == "enum" || key == "const" || key == "default" || key == "examples" || key == "example")
        continue;
      index(value, base, depth + 1);
    }
    return;
  }
  for (const SchemaJson& value : schema) index(value, base, depth + 1);
}

const SchemaJson* SchemaReferences::follow(const SchemaJson& from, std::string_view pointer) {
  const SchemaJson* at = &from;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const std::string_view token = pointer.substr(0, pointer.find('/'));
    pointer.remove_prefix(token.size());
    std::string key;
    for (size_t i = 0; i < token.size(); ++i) {
      const bool escape =
          token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1');
      key += escape ? (token[i + 1] == '0' ? '~' : '/') : token[i];
      if (escape) ++i;
    }
    if (at->is_array()) {
      size_t index = 0;
      const auto end = std::from_chars(key.data(), key.data() + key.size(), index);
      if (end.ec != std::errc() || end.ptr != key.data() + key.size() || index >= at->size()) return nullptr;
      at = &(*at)[index];
    } else {
      if (!at->is_object()) return nullptr;
      const auto member = at->find(key);
      if (member == at->end()) return nullptr;
      at = &*member;
    }
  }
  return at;
}

const SchemaJson* SchemaReferences::find(std::string_view reference, const SchemaJson& from) const {
  const size_t hash = std::min(reference.find('#'), reference.size());
  const auto known_base = bases_.find(&from);
  const std::string base =
      joined(known_base == bases_.end() ? "" : known_base->second, reference.substr(0, hash));
  const auto resource = resources_.find(base);
  if (resource == resources_.end()) return nullptr;
  const std::string fragment = percent_decoded(reference.substr(std::min(hash + 1, reference.size())));
  if (fragment.empty()) return resource->second;
  if (fragment.starts_with('/')) {
    const SchemaJson* found = follow(*resource->second, fragment);
    // Definitions at the root are meant where the one with an $id has none.
    return found != nullptr ? found : follow(*root_, fragment);
  }
  const auto anchor = anchors_.find({base, fragment});
  return anchor == anchors_.end() ? nullptr : anchor->second;
}

// Whether it is in here: then the path is the way to it.
bool SchemaReferences::find_path(const SchemaJson& value, const SchemaJson* schema, int depth,
                                 std::vector<std::string>& path) {
  if (&value == schema) return true;
  if (depth > kMaxReferenceDepth || !value.is_structured()) return false;
  size_t i = 0;
  for (const auto& [key, child] : value.items()) {
    if (find_path(child, schema, depth + 1, path)) {
      path.push_back(value.is_object() ? escape_pointer(key) : std::to_string(i));
      return true;
    }
    ++i;
  }
  return false;
}

std::string SchemaReferences::place(const SchemaJson* schema) const {
  std::vector<std::string> path;  // the last first
  if (!find_path(*root_, schema, 0, path) || path.empty()) return "the schema";
  std::string place;
  for (auto step = path.rbegin(); step != path.rend(); ++step) place += "/" + *step;
  return place;
}

}  // namespace odmoe::grammar
