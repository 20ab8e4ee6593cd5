// The files of clients, in a folder: what /v1/files takes and gives, and what batches answered.
//
// Each has two files, ID, its bytes, and ID.json, what it is, which is written once the bytes are on the
// drive: a crash leaves bytes without it, which are removed when the folder is opened again.  All of them and
// what batches write take no more than a bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "base/mutex.h"
#include "io/output_file.h"
#include "server/api_error.h"
#include "server/batch/list_page.h"
#include "server/json_guard.h"

namespace odmoe::server {

// Unix time; of tests: any.
using UnixClock = std::function<int64_t()>;
int64_t unix_time();

// A name that nobody can guess: PREFIX and 24 hexadecimal digits.
std::string new_stored_id(std::string_view prefix);

// 413: more bytes than a file may have.
ApiError file_too_large();
// 500: the drive failed.  Why is in the log, for who runs the server.
ApiError not_kept(const Error& error);

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct StoredFile {
  std::string id = {};
  std::string owner = {};    // whose it is: it is there for nobody else
  std::string name = {};     // as its client calls it; never a path
  std::string purpose = {};  // "batch", "batch_output"
  uint64_t bytes = 0;
  int64_t created = 0, expires = 0;  // Unix time; 0: it does not expire
  uint64_t number = 0;               // later ones have larger ones
};
// NOLINTEND(readability-redundant-member-init)

// As OpenAI's API has it.
Json file_json(const StoredFile& file);

// What is on the drive to spare work and nothing else: it gives way where a file needs its room.
// Thread-safe; called by a store that is locked, so that it must not call the store.
class SpareFiles {
 public:
  virtual ~SpareFiles() = default;
  virtual uint64_t bytes() const = 0;
  // So many, or more, or all that there are.
  virtual void give_up(uint64_t bytes) = 0;
};

// Thread-safe.  Must outlive its uploads.
class FileStore {
 public:
  // What remains when a file of this folder goes counts as so many bytes.
  static constexpr uint64_t kFileBytes = 4096;

  // `directory` is there.  `spare`, which must outlive the store, is of its room as well; null: nothing is.
  // kIo.
  static Result<std::unique_ptr<FileStore>> open(const std::filesystem::path& directory, uint64_t disk_bytes,
                                                 UnixClock now = unix_time, SpareFiles* spare = nullptr);

  // A file on its way; gone without finish().  Movable; one owner.
  class Upload {
   public:
    Upload(Upload&& other) noexcept;
    Upload& operator=(Upload&&) = delete;
    ~Upload();
    // 413 when the file or all files together become too large, 500 when the drive fails.
    ApiStatus write(std::string_view bytes);
    // Keeps it as `file`, whose id, bytes and number are set here; `created` too, unless it is set.
    ApiResult<StoredFile> finish(StoredFile file);

   private:
    friend class FileStore;
    Upload(FileStore& store, std::string id, OutputFile file, bool bounded)
        : store_(&store), id_(std::move(id)), file_(std::move(file)), bounded_(bounded) {}
    FileStore* store_;
    std::string id_;
    OutputFile file_;
    bool bounded_;
  };
  // 413 when there are too many files, or no room.
  ApiResult<Upload> begin();
  // One that batches write, whose room was kept (keep_room()); `id` is one of new_stored_id(), and replaces
  // what has it.
  ApiResult<Upload> begin_output(const std::string& id);

  std::optional<StoredFile> find(const std::string& id, const std::string& owner);
  ApiResult<ListPage<StoredFile>> list(const std::string& owner, std::string_view purpose,
                                       const PageQuery& query);
  // To read it from; it stays readable when the file is removed.  None: it is not there.
  FileDescriptor open_content(const std::string& id, const std::string& owner);
  // False: there is none.  400 when it is held.
  ApiResult<bool> remove(const std::string& id, const std::string& owner);

  // Somebody needs it: it is not removed and does not expire until as many release() it.  False: there is
  // none.
  bool hold(const std::string& id, const std::string& owner);
  // When the folder is opened again: one that was held may be past its time.
  void hold_again(const std::string& id, const std::string& owner);
  void release(const std::string& id);
  std::filesystem::path path_of(const std::string& id) const { return directory_ / id; }

  // So many bytes are kept for what a batch writes; false when there is not so much, and then they are kept
  // all the same.
  bool keep_room(const std::string& batch, uint64_t bytes);
  // Whether so many more would not make anything give way.
  bool has_room(uint64_t bytes) const;
  uint64_t used_bytes() const;
  uint64_t disk_bytes() const { return disk_bytes_; }
  int64_t now() const { return now_(); }

 private:
  struct Entry {
    StoredFile file;
    size_t holds = 0;
  };
  FileStore(std::filesystem::path directory, uint64_t disk_bytes, UnixClock now, SpareFiles* spare)
      : directory_(std::move(directory)), disk_bytes_(disk_bytes), now_(std::move(now)), spare_(spare) {}
  Status read_directory();
  Entry* entry_of(const std::string& id, const std::string& owner) ODMOE_REQUIRES(mutex_);
  void remove_expired() ODMOE_REQUIRES(mutex_);
  void forget(const std::string& id) ODMOE_REQUIRES(mutex_);
  uint64_t needed_bytes() const ODMOE_REQUIRES(mutex_) { return file_bytes_ + kept_room_; }
  uint64_t spare_bytes() const { return spare_ != nullptr ? spare_->bytes() : 0; }
  bool make_room(uint64_t bytes) ODMOE_REQUIRES(mutex_);
  ApiError full() const ODMOE_REQUIRES(mutex_);

  const std::filesystem::path directory_;
  const uint64_t disk_bytes_;
  const UnixClock now_;
  SpareFiles* const spare_;
  mutable Mutex mutex_;
  std::map<std::string, Entry> files_ ODMOE_GUARDED_BY(mutex_);
  uint64_t file_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;                     // of files and uploads
  std::map<std::string, uint64_t> kept_rooms_ ODMOE_GUARDED_BY(mutex_);  // by batch
  uint64_t kept_room_ ODMOE_GUARDED_BY(mutex_) = 0;                      // of all of them
  size_t n_upload_ ODMOE_GUARDED_BY(mutex_) = 0;
  uint64_t last_number_ ODMOE_GUARDED_BY(mutex_) = 0;
};

}  // namespace odmoe::server
