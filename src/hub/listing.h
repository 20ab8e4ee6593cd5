// The files of a repository, as the hub's API tells them.
//
//   GET /api/models/OWNER/REPO/revision/REVISION?blobs=true
//   {"sha": COMMIT, "gated": false, "gguf": {"architecture": "qwen3moe"},
//    "siblings": [{"rfilename": PATH, "size": N, "blobId": SHA1, "lfs": {"sha256": SHA256, "size": N}}, ...]}
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/result.h"

namespace odmoe::hub {

inline constexpr size_t kMaxListingBytes = size_t{64} << 20;  // a hundred thousand files take a third of it
inline constexpr size_t kMaxListedFiles = 100'000;

struct ListedFile {
  std::string path;  // plain (names.h)
  uint64_t bytes = 0;
  // What the cache names its blob by: 64 hexadecimal digits are the contents' SHA-256; 40 are git's hash of
  // a small file that is not kept apart (LFS); empty: unknown.
  std::string content_id;
};

struct Listing {
  std::string commit;        // 40 hexadecimal digits
  std::string architecture;  // general.architecture of the GGUFs, where the hub tells it
  std::vector<ListedFile> files;
};

// `repo` is for messages.  kBadFile: not JSON, not a listing, absurd, or with a name that could lead out of
// the folder it is for.
Result<Listing> parse_listing(std::string_view json, std::string_view repo);

}  // namespace odmoe::hub
