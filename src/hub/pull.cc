#include "hub/pull.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/file_descriptor.h"
#include "base/transfer.h"
#include "base/units.h"
#include "format/printable.h"
#include "hub/cache.h"
#include "hub/choice.h"
#include "hub/file_lock.h"
#include "io/output_file.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr milliseconds kLockTick{200};
constexpr size_t kCheckBytes = size_t{4} << 20U;  // read at once of what is there already

std::string hub_name(const RepoName& name) { return "hf:" + name.id(); }

// The hash that names a blob.
class ContentHash {
 public:
  ContentHash(const std::string& content_id, uint64_t bytes)
      : content_id_(content_id),
        digest_(content_id.size() == 64 ? Digest::Kind::kSha256 : Digest::Kind::kSha1) {
    // Git hashes a header too.
    if (content_id.size() == 40) {
      const std::string header = odmoe::format("blob {}", bytes);
      digest_.add(std::as_bytes(std::span(header.c_str(), header.size() + 1)));
    }
  }
  void add(std::span<const std::byte> bytes) { digest_.add(bytes); }
  // What is wrong; empty: nothing.
  std::string check() {
    const std::string found = digest_.hex();
    return found == content_id_ ? "" : odmoe::format("{} instead of {}", found, content_id_);
  }

 private:
  std::string content_id_;
  Digest digest_;
};

// The beginning of a blob on the disk, hashed as it grows.
class IncompleteBlob final : public Blob {
 public:
  IncompleteBlob(OutputFile file, ContentHash& hash, uint64_t bytes)
      : file_(std::move(file)), hash_(&hash), bytes_(bytes) {}

  uint64_t bytes() const override { return bytes_; }
  Status append(std::span<const std::byte> bytes) override {
    ODMOE_RETURN_IF_ERROR(file_.write(bytes));
    hash_->add(bytes);
    bytes_ += bytes.size();
    return {};
  }
  Status sync() { return file_.sync(); }

 private:
  OutputFile file_;
  ContentHash* hash_;
  uint64_t bytes_;
};

class Pull {
 public:
  Pull(const RepoName& name, const PullOptions& options, Http& api, Http& data, PullWatcher& watcher)
      : name_(name),
        options_(options),
        data_(data),
        watcher_(watcher),
        client_(options.hub, api, watcher),
        repo_(options.cache, name.id()) {}

  Result<PulledModel> run() {
    ODMOE_ASSIGN_OR_RETURN(const Listing listing, client_.list(name_));
    commit_ = listing.commit;
    ODMOE_ASSIGN_OR_RETURN(model_, choose(listing, name_, hub_name(name_)));
    for (ListedFile& file : model_.files) {
      if (!file.content_id.empty()) continue;
      ODMOE_ASSIGN_OR_RETURN(const Location location, client_.locate(name_, commit_, file.path));
      file.content_id = location.content_id;
      if (file.content_id.empty()) {
        return fail(ErrorKind::kBadFile, "the hub tells no checksum of {}", printable(file.path));
      }
    }
    uint64_t left = 0;
    for (const ListedFile& file : model_.files) left += file.bytes - here(file);
    if (left > 0) ODMOE_RETURN_IF_ERROR(ask_and_make_sure(listing.architecture, left));
    PulledModel pulled{.path = repo_.file(commit_, model_.files.front().path), .bytes = model_.bytes};
    for (const ListedFile& file : model_.files) {
      ODMOE_RETURN_IF_ERROR(get(file));
      done_ += file.bytes;
    }
    // Last, so that a revision that the cache knows is there as far as somebody has asked for it.
    ODMOE_RETURN_IF_ERROR(repo_.remember(name_.revision, commit_));
    pulled.downloaded = downloaded_;
    return pulled;
  }

 private:
  bool is_here(const ListedFile& file) const {
    std::error_code error;
    return fs::exists(repo_.file(commit_, file.path), error) ||
           fs::exists(repo_.blob(file.content_id), error);
  }

  // Bytes that need not be downloaded.
  uint64_t here(const ListedFile& file) const {
    if (is_here(file)) return file.bytes;
    std::error_code error;
    const uint64_t bytes = fs::file_size(repo_.incomplete(file.content_id), error);
    return error || bytes > file.bytes ? 0 : bytes;
  }

  Status ask_and_make_sure(const std::string& architecture, uint64_t left) {
    std::error_code error;
    fs::create_directories(repo_.blobs(), error);
    if (error) {
      return fail(ErrorKind::kIo, "cannot make {}: {}; HF_HUB_CACHE names another folder",
                  repo_.blobs().string(), error.message());
    }
    const std::optional<uint64_t> room = free_bytes();
    if (room && *room < left) {
      return fail(ErrorKind::kIo,
                  "{}: {} are to be downloaded, and {} has {} free: make room, or name another folder with "
                  "HF_HUB_CACHE",
                  hub_name(name_), format_bytes(left), options_.cache.string(), format_bytes(*room));
    }
    const PullPlan plan{.name = hub_name(name_),
                        .stem = printable(model_.stem),
                        .quantisation = model_.quantisation,
                        .architecture = printable(architecture),
                        .n_file = model_.n_file,
                        .bytes = model_.bytes,
                        .bytes_left = left,
                        .folder = options_.cache.string()};
    if (!watcher_.confirm(plan)) return fail(ErrorKind::kInterrupted, "{} is not wanted", hub_name(name_));
    return {};
  }

  std::optional<uint64_t> free_bytes() const {
    if (options_.free_bytes) return options_.free_bytes(repo_.blobs());
    std::error_code error;
    const fs::space_info space = fs::space(repo_.blobs(), error);
    return error ? std::nullopt : std::optional<uint64_t>(space.available);
  }

  Status get(const ListedFile& file) {
    ODMOE_ASSIGN_OR_RETURN(const FileLock lock, locked(file));
    if (!is_here(file)) ODMOE_RETURN_IF_ERROR(fetch(file));
    watcher_.progress(done_ + file.bytes, model_.bytes, /*checking=*/false);
    return repo_.link(commit_, file.path, file.content_id);
  }

  // Another process may be at the same file.
  Result<FileLock> locked(const ListedFile& file) {
    while (true) {
      ODMOE_ASSIGN_OR_RETURN(std::optional<FileLock> lock, FileLock::try_take(repo_.lock(file.content_id)));
      if (lock) return *std::move(lock);
      const std::string why = odmoe::format("another process is downloading {}", printable(file.path));
      if (!watcher_.wait(kLockTick, why)) return fail(ErrorKind::kInterrupted, "interrupted");
    }
  }

  Status fetch(const ListedFile& file) {
    const fs::path incomplete = repo_.incomplete(file.content_id);
    ContentHash hash(file.content_id, file.bytes);
    ODMOE_ASSIGN_OR_RETURN(const uint64_t begin, check_beginning(incomplete, file, hash));
    ODMOE_ASSIGN_OR_RETURN(OutputFile output, OutputFile::append_locked(incomplete));
    IncompleteBlob blob(std::move(output), hash, begin);
    const RemoteFile remote{
        .name = printable(file.path), .bytes = file.bytes, .content_id = file.content_id, .locate = [&] {
          return client_.locate(name_, commit_, file.path);
        }};
    const Status came = download(remote, data_, blob, watcher_, options_.download, [&](uint64_t bytes) {
      watcher_.progress(done_ + bytes, model_.bytes, /*checking=*/false);
    });
    downloaded_ += blob.bytes() - begin;
    ODMOE_RETURN_IF_ERROR(came);
    std::error_code error;
    if (const std::string wrong = hash.check(); !wrong.empty()) {
      fs::remove(incomplete, error);
      if (begin > 0) {  // another program may have left something else
        const std::string why =
            odmoe::format("{} does not go on from what was there; beginning anew", printable(file.path));
        return watcher_.wait(milliseconds(0), why) ? fetch(file)
                                                   : fail(ErrorKind::kInterrupted, "interrupted");
      }
      return fail(ErrorKind::kBadFile,
                  "{} has a wrong checksum ({}): what came is removed; run the same command again",
                  printable(file.path), wrong);
    }
    ODMOE_RETURN_IF_ERROR(blob.sync());
    fs::rename(incomplete, repo_.blob(file.content_id), error);
    if (error) return fail(ErrorKind::kIo, "cannot rename {}: {}", incomplete.string(), error.message());
    return sync_directory(repo_.blobs());
  }

  // Reads what an earlier download left; how much of it there is.
  Result<uint64_t> check_beginning(const fs::path& incomplete, const ListedFile& file, ContentHash& hash) {
    std::error_code error;
    const uint64_t bytes = fs::file_size(incomplete, error);
    if (error || bytes == 0) return uint64_t{0};
    if (bytes > file.bytes) {
      fs::remove(incomplete, error);
      return uint64_t{0};
    }
    const FileDescriptor input = FileDescriptor::open(incomplete, O_RDONLY);
    std::vector<std::byte> piece(kCheckBytes);
    for (uint64_t at = 0; at < bytes;) {
      const std::span<std::byte> part = std::span(piece).first(std::min<uint64_t>(piece.size(), bytes - at));
      if (!input || !read_exactly(input.number(), at, part).has_value()) {
        return fail(ErrorKind::kIo, "cannot read {}; remove it to begin anew", incomplete.string());
      }
      hash.add(part);
      at += part.size();
      watcher_.progress(done_ + at, model_.bytes, /*checking=*/true);
      if (!watcher_.goes_on()) return fail(ErrorKind::kInterrupted, "interrupted");
    }
    return bytes;
  }

  const RepoName& name_;
  const PullOptions& options_;
  Http& data_;
  PullWatcher& watcher_;
  HubClient client_;
  CachedRepo repo_;
  std::string commit_;
  Candidate model_;
  uint64_t done_ = 0;  // of the files before
  uint64_t downloaded_ = 0;
};

}  // namespace

Result<std::optional<PulledModel>> find_in_cache(const RepoName& name, const fs::path& cache) {
  const CachedRepo repo(cache, name.id());
  const std::optional<std::string> commit = repo.commit_of(name.revision);
  if (!commit) return std::nullopt;
  auto choice = choose(repo.listing(*commit), name, hub_name(name) + " in " + cache.string());
  if (!choice.has_value()) {
    if (choice.error().kind == ErrorKind::kUsage) return std::unexpected(std::move(choice).error());
    return std::nullopt;
  }
  return PulledModel{.path = repo.file(*commit, choice->files.front().path), .bytes = choice->bytes};
}

Result<PulledModel> pull(const RepoName& name, const PullOptions& options, Http& api, Http& data,
                         PullWatcher& watcher) {
  if (options.offline) {
    ODMOE_ASSIGN_OR_RETURN(const std::optional<PulledModel> found, find_in_cache(name, options.cache));
    if (found) return *found;
    return fail(ErrorKind::kNotFound, "{} is not in {}, and HF_HUB_OFFLINE forbids asking the hub",
                hub_name(name), options.cache.string());
  }
  return Pull(name, options, api, data, watcher).run();
}

}  // namespace odmoe::hub
