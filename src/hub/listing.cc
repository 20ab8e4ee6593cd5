#include "hub/listing.h"

#include <utility>

#include "base/json_members.h"
#include "base/ordered_json.h"
#include "format/printable.h"
#include "hub/names.h"

namespace odmoe::hub {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxArchitectureBytes = 64;

const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_of(const Json* json) {
  return json != nullptr && json->is_string() ? json->get<std::string>() : std::string();
}

class Reader {
 public:
  explicit Reader(std::string_view repo) : repo_(printable(repo)) {}

  Result<Listing> read(const Json& json) const {
    Listing listing;
    listing.commit = text_of(member(json, "sha"));
    if (!is_hex(listing.commit, 40)) return wrong("it names no commit");
    if (const Json* gguf = member(json, "gguf"); gguf != nullptr) {
      listing.architecture = text_of(member(*gguf, "architecture"));
      if (listing.architecture.size() > kMaxArchitectureBytes) listing.architecture.clear();
    }
    const Json* const siblings = member(json, "siblings");
    if (siblings == nullptr || !siblings->is_array()) return wrong("it lists no files");
    if (siblings->size() > kMaxListedFiles)
      return wrong(odmoe::format("it lists {} files", siblings->size()));
    for (const Json& sibling : *siblings) {
      ODMOE_ASSIGN_OR_RETURN(ListedFile file, read_file(sibling));
      listing.files.push_back(std::move(file));
    }
    return listing;
  }

  std::unexpected<Error> wrong(std::string_view why) const {
    return fail(ErrorKind::kBadFile, "the hub's listing of {} cannot be used: {}", repo_, why);
  }

 private:
  Result<ListedFile> read_file(const Json& json) const {
    ListedFile file;
    file.path = text_of(member(json, "rfilename"));
    if (!is_plain_path(file.path)) {
      return wrong(
          odmoe::format("it has a file named '{}', which could lead to any place", printable(file.path)));
    }
    const Json* bytes = member(json, "size");
    file.content_id = text_of(member(json, "blobId"));
    if (const Json* lfs = member(json, "lfs"); lfs != nullptr) {
      file.content_id = text_of(member(*lfs, "sha256"));
      if (const Json* lfs_bytes = member(*lfs, "size"); lfs_bytes != nullptr) bytes = lfs_bytes;
      if (!is_hex(file.content_id, 64)) {
        return wrong(odmoe::format("'{}' has no SHA-256", printable(file.path)));
      }
    } else if (!is_hex(file.content_id, 40)) {
      file.content_id.clear();
    }
    const auto number = bytes == nullptr ? std::nullopt : json_integer(*bytes);
    if (!number || *number < 0) return wrong(odmoe::format("'{}' has no size", printable(file.path)));
    file.bytes = static_cast<uint64_t>(*number);
    return file;
  }

  std::string repo_;
};

}  // namespace

Result<Listing> parse_listing(std::string_view json, std::string_view repo) {
  const Reader reader(repo);
  if (json.size() > kMaxListingBytes) return reader.wrong("it is too long");
  // Much is in it that nobody here reads: it may be long, but not deep, nor take much memory.
  const auto parsed = read_ordered_json(json, {.depth = 64, .bytes = size_t{1} << 30U});
  if (!parsed.has_value()) {
    return reader.wrong(parsed.error().kind == JsonError::Kind::kSyntax ? "it is not JSON"
                                                                        : "it goes beyond all bounds");
  }
  return reader.read(*parsed);
}

}  // namespace odmoe::hub
