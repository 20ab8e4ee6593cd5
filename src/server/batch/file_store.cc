#include "server/batch/file_store.h"

#include <fcntl.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <ctime>
#include <random>
#include <span>
#include <system_error>
#include <utility>

#include "base/units.h"
#include "base/whole_file.h"
#include "odmoe/format.h"
#include "server/event_log.h"
#include "server/fields.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDescription = ".json";
constexpr std::string_view kUnfinishedUpload = ".part";
constexpr std::string_view kFilePrefix = "file-";
constexpr size_t kMaxDescriptionBytes = 64 << 10;
constexpr size_t kIdDigits = 24;

bool is_file_id(std::string_view text) {
  return text.starts_with(kFilePrefix) && text.size() == kFilePrefix.size() + kIdDigits &&
         text.substr(kFilePrefix.size()).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A description that was damaged is none.
std::optional<StoredFile> read_description(const fs::path& path) {
  const auto text = read_whole_text(path, kMaxDescriptionBytes);
  if (!text.has_value()) return std::nullopt;
  const auto json = parse_json(*text);
  if (!json.has_value() || !json->is_object()) return std::nullopt;
  const Fields fields(*json);
  StoredFile file;
  constexpr int64_t kMost = INT64_MAX;
  const auto bytes = fields.integer("bytes", 0, kMost), created = fields.integer("created", 0, kMost),
             expires = fields.integer("expires", 0, kMost), number = fields.integer("number", 0, kMost);
  if (!fields.read("id", file.id).has_value() || !fields.read("owner", file.owner).has_value() ||
      !fields.read("name", file.name).has_value() || !fields.read("purpose", file.purpose).has_value() ||
      !bytes.has_value() || !created.has_value() || !expires.has_value() || !number.has_value()) {
    return std::nullopt;
  }
  file.bytes = static_cast<uint64_t>(*bytes);
  file.created = *created;
  file.expires = *expires;
  file.number = static_cast<uint64_t>(*number);
  return file;
}

std::string description_of(const StoredFile& file) {
  return dump_json({{"id", file.id},
                    {"owner", file.owner},
                    {"name", file.name},
                    {"purpose", file.purpose},
                    {"bytes", file.bytes},
                    {"created", file.created},
                    {"expires", file.expires},
                    {"number", file.number}}) +
         "\n";
}

ApiError too_many_files() {
  return {
      .status = 413,
      .fault = Fault::kRequest,
      .message = odmoe::format("there are {} files already, which are the most that are kept: delete some "
                               "(DELETE /v1/files/ID)",
                               kMaxStoredFiles),
      .code = "too_many_files"};
}

}  // namespace

int64_t unix_time() { return static_cast<int64_t>(std::time(nullptr)); }

std::string new_stored_id(std::string_view prefix) {
  std::random_device random;
  return odmoe::format("{}{:08x}{:08x}{:08x}", prefix, random(), random(), random());
}

ApiError file_too_large() {
  return {.status = 413,
          .fault = Fault::kRequest,
          .message = odmoe::format("the file has more than the {} that one may have: divide it",
                                   format_bytes(kMaxFileBytes)),
          .param = "file",
          .code = "file_too_large"};
}

ApiError not_kept(const Error& error) {
  log_event(spdlog::level::err, "not_kept", {{"why", error.message}});
  return {.status = 500,
          .fault = Fault::kServer,
          .message = "the server could not write to its drive: its log says why"};
}

Json file_json(const StoredFile& file) {
  Json json = {{"id", file.id},         {"object", "file"},
               {"bytes", file.bytes},   {"created_at", file.created},
               {"filename", file.name}, {"purpose", file.purpose},
               {"status", "processed"}, {"status_details", nullptr}};
  if (file.expires > 0) json["expires_at"] = file.expires;
  return json;
}

Result<std::unique_ptr<FileStore>> FileStore::open(const fs::path& directory, uint64_t disk_bytes,
                                                   UnixClock now, SpareFiles* spare) {
  std::unique_ptr<FileStore> store(new FileStore(directory, disk_bytes, std::move(now), spare));
  ODMOE_RETURN_IF_ERROR(store->read_directory());
  return store;
}

// What is not a file with its description goes, if it is of this folder at all.
Status FileStore::read_directory() {
  const MutexLock lock(mutex_);
  std::error_code error;
  std::vector<fs::path> others;
  for (fs::directory_iterator entry(directory_, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string name = path.filename().string();
    const std::string id = name.substr(0, name.find('.'));
    if (!is_file_id(id)) continue;
    if (path.extension() != kDescription) {
      others.push_back(path);
      continue;
    }
    std::error_code none;
    const auto file = read_description(path);
    const bool whole = file && file->id == id &&
                       fs::is_regular_file(fs::symlink_status(directory_ / id, none)) &&
                       fs::file_size(directory_ / id, none) == file->bytes;
    if (!whole) {
      log_event(spdlog::level::warn, "file_damaged", {{"file", path.string()}});
      fs::remove(path, none);
      continue;
    }
    last_number_ = std::max(last_number_, file->number);
    file_bytes_ += file->bytes + kFileBytes;
    files_[id] = {.file = *file};
  }
  if (error) return fail(ErrorKind::kIo, "cannot read {}: {}", directory_.string(), error.message());
  for (const fs::path& path : others) {
    if (!files_.contains(path.filename().string())) fs::remove(path, error);
  }
  return {};
}

FileStore::Upload::Upload(Upload&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      id_(std::move(other.id_)),
      file_(std::move(other.file_)),
      bounded_(other.bounded_) {}

FileStore::Upload::~Upload() {
  if (store_ == nullptr) return;
  std::error_code ignored;
  fs::remove(file_.path(), ignored);
  const MutexLock lock(store_->mutex_);
  --store_->n_upload_;
  store_->file_bytes_ -= file_.bytes() + kFileBytes;
}

ApiStatus FileStore::Upload::write(std::string_view bytes) {
  {
    const MutexLock lock(store_->mutex_);
    if (bounded_ && file_.bytes() + bytes.size() > kMaxFileBytes) return std::unexpected(file_too_large());
    if (bounded_ && !store_->make_room(bytes.size())) return std::unexpected(store_->full());
    store_->file_bytes_ += bytes.size();
  }
  const uint64_t before = file_.bytes();
  if (const Status status = file_.write(bytes); !status.has_value()) {
    const MutexLock lock(store_->mutex_);
    store_->file_bytes_ -= bytes.size() - (file_.bytes() - before);
    return std::unexpected(not_kept(status.error()));
  }
  return {};
}

ApiResult<StoredFile> FileStore::Upload::finish(StoredFile file) {
  file.id = id_;
  file.bytes = file_.bytes();
  if (file.created == 0) file.created = store_->now_();
  {
    const MutexLock lock(store_->mutex_);
    file.number = ++store_->last_number_;
  }
  const fs::path path = store_->path_of(id_);
  const auto keep = [&]() -> Status {
    ODMOE_RETURN_IF_ERROR(file_.sync());
    std::error_code error;
    fs::rename(file_.path(), path, error);
    if (error) return fail(ErrorKind::kIo, "cannot write {}: {}", path.string(), error.message());
    const std::string text = description_of(file);
    ODMOE_RETURN_IF_ERROR(
        replace_whole(path.string() + std::string(kDescription), std::as_bytes(std::span(text))));
    return sync_directory(store_->directory_);
  };
  if (const Status status = keep(); !status.has_value()) {
    std::error_code ignored;
    fs::remove(path, ignored);
    return std::unexpected(not_kept(status.error()));
  }
  FileStore& store = *std::exchange(store_, nullptr);
  const MutexLock lock(store.mutex_);
  --store.n_upload_;
  Entry& entry = store.files_[id_];
  if (!entry.file.id.empty()) store.file_bytes_ -= entry.file.bytes + kFileBytes;
  entry.file = file;
  return file;
}

ApiResult<FileStore::Upload> FileStore::begin() {
  {
    const MutexLock lock(mutex_);
    remove_expired();
    if (files_.size() + n_upload_ >= kMaxStoredFiles) return std::unexpected(too_many_files());
    if (!make_room(kFileBytes)) return std::unexpected(full());
    ++n_upload_;
    file_bytes_ += kFileBytes;
  }
  const std::string id = new_stored_id(kFilePrefix);
  auto file = OutputFile::create_private(path_of(id).string() + std::string(kUnfinishedUpload));
  if (file.has_value()) return Upload(*this, id, *std::move(file), /*bounded=*/true);
  const MutexLock lock(mutex_);
  --n_upload_;
  file_bytes_ -= kFileBytes;
  return std::unexpected(not_kept(file.error()));
}

ApiResult<FileStore::Upload> FileStore::begin_output(const std::string& id) {
  assert(is_file_id(id));
  auto file = OutputFile::create_private(path_of(id).string() + std::string(kUnfinishedUpload));
  if (!file.has_value()) return std::unexpected(not_kept(file.error()));
  const MutexLock lock(mutex_);
  ++n_upload_;
  file_bytes_ += kFileBytes;
  return Upload(*this, id, *std::move(file), /*bounded=*/false);
}

ApiError FileStore::full() const {
  return {.status = 413,
          .fault = Fault::kRequest,
          .message = odmoe::format("files and batches take {} of the {} of disk that they may: delete files "
                                   "(DELETE /v1/files/ID), or start the server with a larger --batch-disk",
                                   format_bytes(needed_bytes()), format_bytes(disk_bytes_)),
          .code = "batch_disk_full"};
}

FileStore::Entry* FileStore::entry_of(const std::string& id, const std::string& owner) {
  remove_expired();
  const auto found = files_.find(id);
  return found == files_.end() || found->second.file.owner != owner ? nullptr : &found->second;
}

std::optional<StoredFile> FileStore::find(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  const Entry* entry = entry_of(id, owner);
  if (entry == nullptr) return std::nullopt;
  return entry->file;
}

ApiResult<ListPage<StoredFile>> FileStore::list(const std::string& owner, std::string_view purpose,
                                                const PageQuery& query) {
  constexpr size_t kTextBytes = 256;
  std::vector<Listed<StoredFile>> files;
  const MutexLock lock(mutex_);
  remove_expired();
  for (const auto& [id, entry] : files_) {
    const StoredFile& file = entry.file;
    if (file.owner == owner && (purpose.empty() || file.purpose == purpose)) {
      files.push_back({.item = &file, .bytes = kTextBytes + file.name.size()});
    }
  }
  std::ranges::sort(files, {}, [](const Listed<StoredFile>& listed) { return listed.item->number; });
  return page_of_list(files, query);
}

FileDescriptor FileStore::open_content(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  return entry_of(id, owner) == nullptr ? FileDescriptor() : FileDescriptor::open(path_of(id), O_RDONLY);
}

ApiResult<bool> FileStore::remove(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  const Entry* entry = entry_of(id, owner);
  if (entry == nullptr) return false;
  if (entry->holds > 0) {
    return std::unexpected(ApiError{.status = 400,
                                    .fault = Fault::kRequest,
                                    .message = "a batch that is not done needs this file: cancel it first "
                                               "(POST /v1/batches/ID/cancel)",
                                    .code = "file_in_use"});
  }
  forget(id);
  return true;
}

// The description first: what is left without it goes when the folder is opened again.
void FileStore::forget(const std::string& id) {
  std::error_code ignored;
  fs::remove(path_of(id).string() + std::string(kDescription), ignored);
  fs::remove(path_of(id), ignored);
  const auto found = files_.find(id);
  file_bytes_ -= found->second.file.bytes + kFileBytes;
  files_.erase(found);
}

void FileStore::remove_expired() {
  const int64_t now = now_();
  std::vector<std::string> expired;
  for (const auto& [id, entry] : files_) {
    if (entry.file.expires > 0 && entry.file.expires <= now && entry.holds == 0) expired.push_back(id);
  }
  for (const std::string& id : expired) forget(id);
}

bool FileStore::hold(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  Entry* entry = entry_of(id, owner);
  if (entry == nullptr) return false;
  ++entry->holds;
  return true;
}

void FileStore::hold_again(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  const auto found = files_.find(id);
  if (found != files_.end() && found->second.file.owner == owner) ++found->second.holds;
}

void FileStore::release(const std::string& id) {
  const MutexLock lock(mutex_);
  const auto found = files_.find(id);
  if (found != files_.end() && found->second.holds > 0) --found->second.holds;
}

bool FileStore::keep_room(const std::string& batch, uint64_t bytes) {
  const MutexLock lock(mutex_);
  uint64_t& of_batch = kept_rooms_[batch];
  kept_room_ += bytes;
  kept_room_ -= std::exchange(of_batch, bytes);
  if (bytes == 0) kept_rooms_.erase(batch);
  return make_room(0);
}

bool FileStore::has_room(uint64_t bytes) const {
  const MutexLock lock(mutex_);
  return needed_bytes() + spare_bytes() + bytes <= disk_bytes_;
}

// For so many more, of what has expired or is spare; of the latter nothing goes where that would not do.
bool FileStore::make_room(uint64_t bytes) {
  if (needed_bytes() + spare_bytes() + bytes <= disk_bytes_) return true;
  remove_expired();
  if (needed_bytes() + bytes > disk_bytes_) return false;
  const uint64_t taken = needed_bytes() + spare_bytes() + bytes;
  if (taken > disk_bytes_) spare_->give_up(taken - disk_bytes_);
  return needed_bytes() + spare_bytes() + bytes <= disk_bytes_;
}

uint64_t FileStore::used_bytes() const {
  const MutexLock lock(mutex_);
  return needed_bytes() + spare_bytes();
}

}  // namespace odmoe::server
