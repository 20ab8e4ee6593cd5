#include "convert/convert.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "base/checksum.h"
#include "base/mutex.h"
#include "convert/journal.h"
#include "convert/ordered_pipeline.h"
#include "convert/verify.h"
#include "io/file_stamp.h"
#include "io/output_file.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

namespace fs = std::filesystem;

// Files that are written and wait to reach the drive: few, so that progress does not run ahead of it.
constexpr size_t kMaxUnsynced = 4;

std::unexpected<Error> cannot(const char* what, const fs::path& path, const std::error_code& error) {
  return fail(ErrorKind::kIo, "cannot {} {}: {}", what, path.string(), error.message());
}

// All that decides about the bytes made.
Result<std::string> identity_of(const TensorSource& source, const ConversionPlan& plan) {
  Checksum all;
  const auto add = [&all](const std::string& text) { all.add(std::as_bytes(std::span(text))); };
  for (const TensorSource::File& file : source.files()) {
    const Result<FileStamp> stamp = stamp_of(file.path);
    if (!stamp.has_value()) return std::unexpected(stamp.error());
    add(odmoe::format("{} {}\n", file.path.filename().string(), stamp->text()));
  }
  add(source.recipe() + "\n");
  add(plan.manifest.to_json());
  for (const PlannedFile& file : plan.files)
    add(odmoe::format("{} {} {}\n", file.path, file.bytes, file.header));
  return odmoe::format("{:016x}", all.value());
}

// Brings files to the drive behind the writer's back, then into the journal, in order.
class Syncer {
 public:
  explicit Syncer(Journal& journal) : journal_(journal), thread_([this] { run(); }) {}
  Syncer(const Syncer&) = delete;
  Syncer& operator=(const Syncer&) = delete;
  ~Syncer() { (void)finish(); }

  // Waits while too many files are under way.  The first error of any file comes back from a later call.
  Status add(std::string name, OutputFile file, JournalEntry entry) {
    MutexLock lock(mutex_);
    while (queue_.size() >= kMaxUnsynced && status_.has_value()) changed_.wait(mutex_);
    ODMOE_RETURN_IF_ERROR(status_);
    queue_.push_back({std::move(name), std::move(file), std::move(entry)});
    changed_.notify_all();
    return {};
  }
  // Until all is on the drive.
  Status finish() {
    {
      const MutexLock lock(mutex_);
      done_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
    const MutexLock lock(mutex_);
    return status_;
  }

 private:
  struct Written {
    std::string name;
    OutputFile file;
    JournalEntry entry;
  };

  void run() {
    MutexLock lock(mutex_);
    while (true) {
      while (!done_ && queue_.empty()) changed_.wait(mutex_);
      if (queue_.empty()) break;
      Written& next = queue_.front();  // stays in place while others are added behind it
      lock.unlock();
      Status status = next.file.sync();
      if (status.has_value()) status = journal_.add(next.name, next.entry);
      lock.lock();
      queue_.pop_front();
      if (!status.has_value() && status_.has_value()) status_ = std::move(status);
      changed_.notify_all();
    }
    lock.unlock();
    Status status = journal_.sync();
    lock.lock();
    if (!status.has_value() && status_.has_value()) status_ = std::move(status);
  }

  Journal& journal_;
  Mutex mutex_;
  Condition changed_;
  std::deque<Written> queue_ ODMOE_GUARDED_BY(mutex_);
  bool done_ ODMOE_GUARDED_BY(mutex_) = false;
  Status status_ ODMOE_GUARDED_BY(mutex_);
  std::thread thread_;  // last: it uses the others
};

class Conversion {
 public:
  Conversion(const TensorSource& source, const ConversionPlan& plan, const fs::path& out,
             const ConvertOptions& options)
      : source_(source),
        plan_(plan),
        out_(out),
        options_(options),
        partial_(partial_path(out)),
        tree_(partial_ / "tree") {}

  Result<ConvertResult> run() {
    std::error_code error;
    if (fs::exists(fs::symlink_status(out_, error))) {
      return fail(ErrorKind::kUsage,
                  "{} is there already, and nothing is overwritten: give another name or remove it",
                  out_.string());
    }
    const fs::path parent = fs::absolute(out_).parent_path();
    if (!fs::is_directory(parent, error)) {
      return fail(ErrorKind::kNotFound, "cannot make {} in {}, which is not a directory; check the path",
                  out_.filename().string(), parent.string());
    }
    for (const char* folder : {"tree/base_model", "tree/experts"}) {
      fs::create_directories(partial_ / folder, error);
      if (error) return cannot("make the directory", partial_ / folder, error);
    }
    ODMOE_ASSIGN_OR_RETURN(const OutputFile lock, OutputFile::append_locked(partial_ / "lock"));
    ODMOE_RETURN_IF_ERROR(keep_finished());
    ODMOE_RETURN_IF_ERROR(write_files());
    ODMOE_RETURN_IF_ERROR(write_manifest());
    for (const fs::path& path : {tree_ / "base_model", tree_ / "experts", tree_})
      ODMOE_RETURN_IF_ERROR(sync_directory(path));
    fs::rename(tree_, out_, error);
    if (error) return cannot("rename to", out_, error);
    ODMOE_RETURN_IF_ERROR(sync_directory(parent));
    fs::remove_all(partial_, error);  // the lock and the journal: no harm in them
    ConvertResult result{.bytes = 0, .kept_bytes = kept_bytes_};
    for (const ExpertManifest::File& file : manifest_.files) result.bytes += file.bytes;
    for (const PlannedFile& file : plan_.files) result.bytes += file.layer >= 0 ? file.bytes : 0;
    return result;
  }

 private:
  // What an earlier attempt finished and is still as it was; all else goes.
  Status keep_finished() {
    ODMOE_ASSIGN_OR_RETURN(const std::string identity, identity_of(source_, plan_));
    finished_ = Journal::read(partial_ / "journal", identity);
    std::vector<CheckedFile> files;
    for (const PlannedFile& file : plan_.files) {
      const auto entry = finished_.find(file.path);
      if (entry == finished_.end()) continue;
      std::error_code error;
      const uint64_t bytes = fs::file_size(tree_ / file.path, error);
      if (error || bytes != file.bytes || entry->second.bytes != bytes ||
          entry->second.checksums.size() != file.n_section()) {
        finished_.erase(entry);
        continue;
      }
      files.push_back(checked(file, entry->second));
    }
    ODMOE_ASSIGN_OR_RETURN(const auto damages, check_files(files, [this](uint64_t done, uint64_t total) {
                             return tell(ConvertProgress::Phase::kChecking, done, total);
                           }));
    for (const Damage& damage : damages)
      finished_.erase(fs::relative(files[damage.file].path, tree_).generic_string());
    remove_others();
    ODMOE_ASSIGN_OR_RETURN(Journal journal, Journal::create(partial_ / "journal", identity, finished_));
    journal_.emplace(std::move(journal));
    return {};
  }

  // Everything in the file but padding.
  CheckedFile checked(const PlannedFile& file, const JournalEntry& entry) const {
    CheckedFile result{.path = tree_ / file.path, .ranges = {}};
    if (file.layer < 0) {
      result.ranges.push_back({.offset = 0, .bytes = file.bytes, .checksum = entry.checksums.front()});
      return result;
    }
    std::vector<std::byte> header(plan_.ranges[file.first_range].bytes);
    fill_header(file, header);
    result.ranges.push_back({.offset = 0, .bytes = header.size(), .checksum = Checksum::of(header)});
    const auto& layer = plan_.manifest.layers[static_cast<size_t>(file.layer)];
    for (size_t i = 0; i < file.experts.size(); ++i) {
      add_record_ranges(layer, layer.first_offset + i * layer.stride,
                        {.gate_up = entry.checksums[2 * i], .down = entry.checksums[2 * i + 1]}, "an expert",
                        result.ranges);
    }
    return result;
  }

  // What an attempt at something else left, or this one half.
  void remove_others() const {
    std::error_code error;
    std::vector<fs::path> others;
    for (fs::recursive_directory_iterator it(tree_, error), end; !error && it != end; it.increment(error)) {
      std::error_code ignored;
      if (!it->is_directory(ignored) && !finished_.contains(fs::relative(it->path(), tree_).generic_string()))
        others.push_back(it->path());
    }
    for (const fs::path& path : others) fs::remove(path, error);
  }

  bool tell(ConvertProgress::Phase phase, uint64_t done, uint64_t total) const {
    return !options_.progress || options_.progress({.phase = phase, .done = done, .total = total});
  }

  static void fill_header(const PlannedFile& file, std::span<std::byte> out) {
    std::memset(out.data(), ' ', out.size());
    std::memcpy(out.data(), file.header.data(), file.header.size());
  }

  Status fill(const PlannedWrite& write, std::span<std::byte> buffer) const {
    for (size_t s = write.first_range; s < write.end_range; ++s) {
      const PlannedRange& range = plan_.ranges[s];
      const std::span<std::byte> out = buffer.first(range.bytes);
      if (range.tensor == PlannedRange::kZeros) {
        std::memset(out.data(), 0, out.size());
      } else if (range.tensor == PlannedRange::kHeader) {
        fill_header(plan_.files[write.file], out);
      } else if (range.repack) {
        ODMOE_RETURN_IF_ERROR(fill_repacked(range, out));
      } else {
        ODMOE_RETURN_IF_ERROR(source_.read(static_cast<size_t>(range.tensor), range.offset, out));
      }
      buffer = buffer.subspan(range.bytes);
    }
    return {};
  }

  // One matrix, read a few rows at a time and laid out.
  Status fill_repacked(const PlannedRange& range, std::span<std::byte> out) const {
    const auto index = static_cast<size_t>(range.tensor);
    const TensorSource::Tensor& tensor = source_.tensors()[index];
    const uint64_t row_bytes = ggml_row_size(tensor.type, tensor.ne[0]);
    const uint64_t most = std::max(row_bytes, TensorSource::kMaxReadBytes / row_bytes * row_bytes);
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(range.bytes);
    const std::span<std::byte> plain(memory.get(), range.bytes);
    for (uint64_t done = 0; done < range.bytes; done += most) {
      const auto piece = plain.subspan(done, std::min(most, range.bytes - done));
      ODMOE_RETURN_IF_ERROR(source_.read(index, range.offset + done, piece));
    }
    plan_.repack->repack(tensor.type, tensor.ne[0], static_cast<int64_t>(range.bytes / row_bytes), plain,
                         out);
    return {};
  }

  // A file as it is being written.
  struct Writing {
    OutputFile file;
    JournalEntry entry;
    Checksum checksum;
    int32_t section = -1;  // that the checksum is of
  };

  Status drain(const PlannedWrite& write, std::span<const std::byte> buffer) {
    const PlannedFile& planned = plan_.files[write.file];
    if (write.first_range == planned.first_range) {
      ODMOE_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(tree_ / planned.path, /*direct=*/true));
      writing_.emplace(Writing{.file = std::move(file), .entry = {}, .checksum = {}});
    }
    ODMOE_RETURN_IF_ERROR(writing_->file.write(buffer.first(write.bytes)));
    for (size_t s = write.first_range; s < write.end_range; ++s) {
      const PlannedRange& range = plan_.ranges[s];
      if (range.section != writing_->section) end_section();
      if (range.section >= 0) {
        if (writing_->section < 0) writing_->checksum.reset();
        writing_->section = range.section;
        writing_->checksum.add(buffer.first(range.bytes));
      }
      buffer = buffer.subspan(range.bytes);
    }
    if (write.end_range == planned.end_range) {
      end_section();
      writing_->entry.bytes = planned.bytes;
      finished_[planned.path] = writing_->entry;
      ODMOE_RETURN_IF_ERROR(
          syncer_->add(planned.path, std::move(writing_->file), std::move(writing_->entry)));
      writing_.reset();
    }
    return {};
  }

  void end_section() {
    if (writing_->section < 0) return;
    writing_->entry.checksums.push_back(writing_->checksum.value());
    writing_->section = -1;
  }

  Status write_files() {
    std::vector<size_t> writes;
    uint64_t total = 0, done = 0;
    for (size_t i = 0; i < plan_.writes.size(); ++i) {
      if (finished_.contains(plan_.files[plan_.writes[i].file].path)) {
        kept_bytes_ += plan_.writes[i].bytes;
        continue;
      }
      writes.push_back(i);
      total += plan_.writes[i].bytes;
    }
    syncer_.emplace(*journal_);
    Status status = run_ordered(
        {.n_item = writes.size(),
         .buffer_bytes = plan_.buffer_bytes,
         .n_buffer = kConvertBuffers,
         .n_thread = options_.threads},
        [&](size_t item, std::span<std::byte> buffer) { return fill(plan_.writes[writes[item]], buffer); },
        [&](size_t item, std::span<std::byte> buffer) -> Status {
          const PlannedWrite& write = plan_.writes[writes[item]];
          ODMOE_RETURN_IF_ERROR(drain(write, buffer));
          done += write.bytes;
          if (tell(ConvertProgress::Phase::kWriting, done, total)) return {};
          return fail(ErrorKind::kInterrupted, "interrupted; run the same command again to go on");
        });
    // What is complete is kept for the next attempt, whatever ended this one.
    Status synced = syncer_->finish();
    return status.has_value() ? synced : status;
  }

  Status write_manifest() {
    manifest_ = plan_.manifest;
    for (const PlannedFile& file : plan_.files) {
      const std::vector<uint64_t>& checksums = finished_.at(file.path).checksums;
      if (file.layer < 0) {
        std::ranges::find(manifest_.files, file.path, &ExpertManifest::File::path)->checksum =
            checksums.front();
        continue;
      }
      auto& layer = manifest_.layers[static_cast<size_t>(file.layer)];
      for (size_t i = 0; i < file.experts.size(); ++i) {
        const auto of_share = std::ranges::lower_bound(layer.held, file.experts[i]) - layer.held.begin();
        const auto record =
            manifest_.share ? static_cast<size_t>(of_share) : static_cast<size_t>(file.experts[i]);
        layer.checksums[record] = {.gate_up = checksums[2 * i], .down = checksums[2 * i + 1]};
      }
    }
    const std::string tokenizer = tokenizer_to_json(source_.metadata());
    manifest_.files.push_back({.path = "tokenizer.json",
                               .bytes = tokenizer.size(),
                               .checksum = Checksum::of(std::as_bytes(std::span(tokenizer)))});
    ODMOE_RETURN_IF_ERROR(write_text(tree_ / "tokenizer.json", tokenizer));
    return write_text(tree_ / "model.json", manifest_.to_json());
  }

  static Status write_text(const fs::path& path, const std::string& text) {
    ODMOE_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
    ODMOE_RETURN_IF_ERROR(file.write(text));
    return file.sync();
  }

  const TensorSource& source_;
  const ConversionPlan& plan_;
  const fs::path out_;
  const ConvertOptions& options_;
  const fs::path partial_;  // holds the lock, the journal and the tree
  const fs::path tree_;     // what becomes `out_`
  std::map<std::string, JournalEntry> finished_;
  uint64_t kept_bytes_ = 0;
  ExpertManifest manifest_;
  std::optional<Journal> journal_;
  std::optional<Syncer> syncer_;  // refers to the journal
  std::optional<Writing> writing_;
};

}  // namespace

fs::path partial_path(const fs::path& out) {
  // "OUT/" names the same directory as "OUT".
  fs::path path = out.has_filename() ? out : out.parent_path();
  path += ".partial";
  return path;
}

Result<ConvertResult> convert(const TensorSource& source, const ConversionPlan& plan, const fs::path& out,
                              const ConvertOptions& options) {
  return Conversion(source, plan, out.has_filename() ? out : out.parent_path(), options).run();
}

}  // namespace odmoe
