#include "server/batch/batch_store.h"

#include <algorithm>
#include <cassert>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/whole_file.h"
#include "odmoe/format.h"
#include "server/batch/batch_journal.h"
#include "server/event_log.h"
#include "server/limits.h"
#include "server/private_directory.h"

namespace odmoe::server {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRecordSuffix = ".json";
constexpr std::string_view kOutputSuffix = ".out";
constexpr std::string_view kBatchPrefix = "batch_";
constexpr size_t kMaxRecordBytes = 1 << 20;

ApiError no_batch(std::string_view id) {
  return {.status = 404,
          .fault = Fault::kRequest,
          .message = odmoe::format("No batch found with id '{}'.", id.substr(0, 128)),
          .param = "id"};
}

}  // namespace

Result<std::shared_ptr<BatchStore>> BatchStore::open(const BatchStoreOptions& options, UnixClock now) {
  ODMOE_RETURN_IF_ERROR(prepare_private_directory("--batch-dir", options.directory));
  ODMOE_ASSIGN_OR_RETURN(OutputFile lock, OutputFile::append_locked(options.directory / "lock"));
  const fs::path files = options.directory / "files", batches = options.directory / "batches";
  for (const fs::path& path : {files, batches}) {
    std::error_code error;
    fs::create_directory(path, error);
    if (error) return fail(ErrorKind::kIo, "cannot make {}: {}", path.string(), error.message());
  }
  auto states = std::make_unique<KeptStates>();
  ODMOE_ASSIGN_OR_RETURN(auto kept, FileStore::open(files, options.disk_bytes, std::move(now), states.get()));
  std::shared_ptr<BatchStore> store(
      new BatchStore(batches, std::move(lock), std::move(states), std::move(kept), options.disk_bytes));
  ODMOE_RETURN_IF_ERROR(store->read_directory());
  return store;
}

Status BatchStore::read_directory() {
  const MutexLock lock(mutex_);
  std::error_code error;
  std::vector<fs::path> others;
  for (fs::directory_iterator entry(directory_, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    if (!path.filename().string().starts_with(kBatchPrefix)) continue;
    if (path.extension() != kRecordSuffix) {
      others.push_back(path);
      continue;
    }
    const auto text = read_whole_text(path, kMaxRecordBytes);
    auto record = text.has_value() ? read_record(*text) : std::nullopt;
    if (!record || path.stem() != record->id) {
      log_event(spdlog::level::warn, "batch_damaged", {{"file", path.string()}});
      continue;
    }
    last_number_ = std::max(last_number_, record->number);
    if (!is_over(record->phase)) files_->hold_again(record->input_file, record->owner);
    put(*std::move(record));
  }
  if (error) return fail(ErrorKind::kIo, "cannot read {}: {}", directory_.string(), error.message());
  // Answers of batches that are over, and of none.
  std::map<std::string, uint64_t> rooms;
  for (const fs::path& path : others) {
    const std::string name = path.filename().string();
    const std::string id = name.substr(0, name.find('.'));
    const auto batch = batches_.find(id);
    if (batch == batches_.end() || is_over(batch->second.record.phase)) {
      fs::remove_all(path, error);
    } else if (fs::is_directory(path, error)) {
      states_->take(id, path);
      rooms[id] += BatchJournal::bytes_in(path) - BatchJournal::state_bytes_in(path);
    } else if (const uintmax_t bytes = fs::file_size(path, error); !error) {
      rooms[id] += 2 * bytes;  // the files that they become are written beside them
    }
  }
  for (const auto& [id, bytes] : rooms) (void)files_->keep_room(id, bytes);
  forget_old();
  return {};
}

Status BatchStore::keep(const BatchRecord& record) {
  const std::string text = record_text(record);
  ODMOE_RETURN_IF_ERROR(
      replace_whole(directory_ / (record.id + std::string(kRecordSuffix)), std::as_bytes(std::span(text))));
  return sync_directory(directory_);
}

void BatchStore::put(BatchRecord record) {
  Entry& entry = batches_[record.id];
  record_bytes_ -= entry.bytes;
  entry.bytes = sizeof(Entry) + record_text(record).size();
  record_bytes_ += entry.bytes;
  entry.record = std::move(record);
}

// Of those that are over, the first ones go where there are too many.
void BatchStore::forget_old() {
  while (batches_.size() > kMaxStoredBatches || record_bytes_ > kMaxBatchRecordBytes) {
    const Entry* oldest = nullptr;
    for (const auto& [id, entry] : batches_) {
      if (!is_over(entry.record.phase) || id == current_) continue;
      if (oldest == nullptr || entry.record.number < oldest->record.number) oldest = &entry;
    }
    if (oldest == nullptr) return;
    const std::string id = oldest->record.id;
    std::error_code ignored;
    fs::remove(directory_ / (id + std::string(kRecordSuffix)), ignored);
    record_bytes_ -= oldest->bytes;
    batches_.erase(id);
  }
}

ApiResult<BatchRecord> BatchStore::create(BatchRecord record) {
  if (!files_->hold(record.input_file, record.owner)) {
    return bad_request("input_file_id", "there is no file {}",
                       dump_json(Json(record.input_file.substr(0, 128))));
  }
  const MutexLock lock(mutex_);
  const auto waiting = static_cast<size_t>(
      std::ranges::count_if(batches_, [](const auto& entry) { return !is_over(entry.second.record.phase); }));
  if (waiting >= kMaxStoredBatches / 2 || record_bytes_ > 2 * kMaxBatchRecordBytes) {
    files_->release(record.input_file);
    return std::unexpected(ApiError{.status = 429,
                                    .fault = Fault::kRate,
                                    .message = "too many batches wait already: try again later",
                                    .code = "too_many_batches",
                                    .retry_after_s = 60});
  }
  record.number = ++last_number_;
  record.id = new_stored_id(kBatchPrefix);
  record.phase = BatchPhase::kValidating;
  if (const Status status = keep(record); !status.has_value()) {
    files_->release(record.input_file);
    return std::unexpected(not_kept(status.error()));
  }
  put(record);
  forget_old();
  ++woken_;
  changed_.notify_all();
  return record;
}

std::optional<BatchRecord> BatchStore::find(const std::string& id, const std::string& owner) const {
  const MutexLock lock(mutex_);
  const auto found = batches_.find(id);
  if (found == batches_.end() || found->second.record.owner != owner) return std::nullopt;
  return found->second.record;
}

ApiResult<ListPage<BatchRecord>> BatchStore::list(const std::string& owner, const PageQuery& query) const {
  std::vector<Listed<BatchRecord>> records;
  const MutexLock lock(mutex_);
  for (const auto& [id, entry] : batches_) {
    if (entry.record.owner == owner) records.push_back({.item = &entry.record, .bytes = entry.bytes});
  }
  std::ranges::sort(records, {}, [](const Listed<BatchRecord>& listed) { return listed.item->number; });
  return page_of_list(records, query);
}

ApiResult<BatchRecord> BatchStore::cancel(const std::string& id, const std::string& owner) {
  const auto found = find(id, owner);
  if (!found) return std::unexpected(no_batch(id));
  bool was_over = false;
  const auto record = update(id, [&](BatchRecord& batch) ODMOE_REQUIRES(mutex_) {
    was_over = is_over(batch.phase) || batch.phase == BatchPhase::kFinalizing;
    if (was_over || batch.phase == BatchPhase::kCancelling) return;
    batch.cancelling = now();
    // What waits for its turn has no answers yet.
    const bool waits = batch.in_progress == 0 && batch.id != current_;
    batch.phase = waits ? BatchPhase::kCancelled : BatchPhase::kCancelling;
    if (waits) batch.cancelled = batch.cancelling;
  });
  if (!record.has_value()) return std::unexpected(not_kept(record.error()));
  if (was_over) {
    return std::unexpected(ApiError{.status = 409,
                                    .fault = Fault::kRequest,
                                    .message = odmoe::format("Cannot cancel a batch with status '{}'.",
                                                             batch_phase_name(record->phase))});
  }
  return *record;
}

std::optional<BatchRecord> BatchStore::next(std::chrono::milliseconds wait) {
  const auto end = std::chrono::steady_clock::now() + wait;
  const MutexLock lock(mutex_);
  const uint64_t woken = woken_;
  while (true) {
    current_.clear();
    const BatchRecord* first = nullptr;
    const auto turn = [&](const BatchRecord& record) ODMOE_REQUIRES(mutex_) {
      const auto last = last_turns_.find(record.owner);
      return std::pair(last == last_turns_.end() ? 0 : last->second, record.number);
    };
    for (const auto& [id, entry] : batches_) {
      if (is_over(entry.record.phase)) continue;
      if (first == nullptr || turn(entry.record) < turn(*first)) first = &entry.record;
    }
    if (first != nullptr) {
      current_ = first->id;
      last_turns_[first->owner] = ++turns_;
      return *first;
    }
    if (woken_ != woken || !changed_.wait_until(mutex_, end)) return std::nullopt;
  }
}

bool BatchStore::others_wait() const {
  const MutexLock lock(mutex_);
  const auto current = batches_.find(current_);
  return current != batches_.end() && std::ranges::any_of(batches_, [&](const auto& entry) {
           return !is_over(entry.second.record.phase) &&
                  entry.second.record.owner != current->second.record.owner;
         });
}

void BatchStore::wake() {
  const MutexLock lock(mutex_);
  ++woken_;
  changed_.notify_all();
}

bool BatchStore::is_cancelling(const std::string& id) const {
  const MutexLock lock(mutex_);
  const auto found = batches_.find(id);
  return found == batches_.end() || found->second.record.phase == BatchPhase::kCancelling;
}

Result<BatchRecord> BatchStore::update(const std::string& id,
                                       const std::function<void(BatchRecord& record)>& change) {
  const MutexLock lock(mutex_);
  const auto found = batches_.find(id);
  if (found == batches_.end()) return fail(ErrorKind::kNotFound, "there is no batch {}", id);
  BatchRecord record = found->second.record;
  const bool was_over = is_over(record.phase);
  change(record);
  ODMOE_RETURN_IF_ERROR(keep(record));
  if (!was_over && is_over(record.phase)) files_->release(record.input_file);
  put(record);
  return record;
}

void BatchStore::count(const std::string& id, size_t completed, size_t failed) {
  const MutexLock lock(mutex_);
  const auto found = batches_.find(id);
  if (found == batches_.end()) return;
  found->second.record.n_completed = completed;
  found->second.record.n_failed = failed;
}

fs::path BatchStore::output_path(const std::string& id) const {
  return directory_ / (id + std::string(kOutputSuffix));
}

void BatchStore::remove_output(const std::string& id) {
  std::error_code ignored;
  fs::remove(output_path(id), ignored);
  fs::remove(output_path(id).string() + ".progress", ignored);
  BatchJournal::remove(journal_path_of(output_path(id)));
  states_->forget(id);
}

}  // namespace odmoe::server
