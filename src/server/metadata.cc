#include "server/metadata.h"

#include <algorithm>
#include <string>

#include "server/limits.h"

namespace odmoe::server {

ApiStatus check_metadata(const Fields& fields) {
  const Json* metadata = fields.find("metadata");
  if (metadata == nullptr) return {};
  const bool fits =
      metadata->is_object() && metadata->size() <= kMaxMetadata &&
      std::ranges::all_of(metadata->items(), [](const auto& pair) {
        return pair.key().size() <= kMaxMetadataKeyBytes && pair.value().is_string() &&
               pair.value().template get_ref<const std::string&>().size() <= kMaxMetadataValueBytes;
      });
  if (!fits) {
    return bad_request("metadata",
                       "metadata must be an object of at most {} texts, with keys of at most 64 and "
                       "texts of at most 512 characters",
                       kMaxMetadata);
  }
  return {};
}

}  // namespace odmoe::server
