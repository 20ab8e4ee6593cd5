#include "io/fake_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/mutex.h"
#include "io/direct_file.h"

namespace odmoe {
namespace {

// Holds in every build: a broken request must fail the test that makes it, optimised or not.
void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FakeReader: %s\n", what);
  std::abort();
}

}  // namespace

void FakeDisk::add(const std::filesystem::path& path, std::vector<std::byte> contents) {
  const MutexLock lock(mutex_);
  files_[path] = std::move(contents);
}

void FakeDisk::truncate(const std::filesystem::path& path, uint64_t bytes) {
  const MutexLock lock(mutex_);
  auto& contents = files_.at(path);
  contents.resize(std::min<uint64_t>(bytes, contents.size()));
}

void FakeDisk::inject(Fault fault) {
  const MutexLock lock(mutex_);
  faults_.push_back(std::move(fault));
}

void FakeDisk::randomise(uint32_t seed, int short_percent, int error_percent, int damage_percent) {
  const MutexLock lock(mutex_);
  random_.seed(seed);
  short_percent_ = short_percent;
  error_percent_ = error_percent;
  damage_percent_ = damage_percent;
  shuffled_ = true;
}

void FakeDisk::set_latency_us(int64_t latency_us) {
  const MutexLock lock(mutex_);
  latency_us_ = latency_us;
}

void FakeDisk::advance_us(int64_t us) {
  const MutexLock lock(mutex_);
  now_us_ += us;
  changed_.notify_all();
}

void FakeDisk::set_speed(const std::filesystem::path& path, int64_t latency_us, double bytes_per_us) {
  const MutexLock lock(mutex_);
  speeds_[path] = {.latency_us = latency_us, .bytes_per_us = bytes_per_us};
}

void FakeDisk::run_by_itself() {
  const MutexLock lock(mutex_);
  runs_by_itself_ = true;
}

// When a read that is submitted now completes.
int64_t FakeDisk::due_us(const std::filesystem::path& path, uint32_t bytes) {
  const auto entry = speeds_.find(path);
  if (entry == speeds_.end()) return now_us_ + latency_us_;
  Speed& speed = entry->second;
  speed.busy_until_us =
      std::max(speed.busy_until_us, static_cast<double>(now_us_)) + bytes / speed.bytes_per_us;
  return static_cast<int64_t>(speed.busy_until_us) + speed.latency_us;
}

int64_t FakeDisk::now_us() const {
  const MutexLock lock(mutex_);
  return now_us_;
}

void FakeDisk::hold() {
  const MutexLock lock(mutex_);
  held_ = true;
}

void FakeDisk::resume() {
  const MutexLock lock(mutex_);
  held_ = false;
  changed_.notify_all();
}

void FakeDisk::complete(size_t n) {
  const MutexLock lock(mutex_);
  // Those released earlier but not yet taken by the reader are no longer in flight for the test.
  for (Pending& read : pending_) {
    if (read.released || n-- > 0) continue;
    read.released = true;
    changed_.notify_all();
    return;
  }
  require(false, "complete() of a read that is not in flight");
}

std::vector<FakeDisk::Read> FakeDisk::reads() const {
  const MutexLock lock(mutex_);
  return log_;
}

std::vector<FakeDisk::Read> FakeDisk::in_flight() const {
  const MutexLock lock(mutex_);
  std::vector<Read> reads;
  for (const Pending& read : pending_) {
    if (!read.released) reads.push_back({read.path, read.request.offset, read.request.bytes});
  }
  return reads;
}

void FakeDisk::wait_for_reads(size_t n) const {
  MutexLock lock(mutex_);
  while (log_.size() < n) changed_.wait(mutex_);
}

uint64_t FakeDisk::n_read() const {
  const MutexLock lock(mutex_);
  return log_.size();
}

uint64_t FakeDisk::bytes_read() const {
  const MutexLock lock(mutex_);
  return bytes_read_;
}

// The bytes of a read that goes right, `limit` of them at most.
int64_t FakeDisk::copy(const Pending& read, uint64_t limit) const {
  const ReadRequest& request = read.request;
  const uint64_t wanted = std::min<uint64_t>(request.bytes, limit);
  if (const auto file = files_.find(read.path); file != files_.end()) {
    const uint64_t size = file->second.size();
    const uint64_t bytes = request.offset < size ? std::min(wanted, size - request.offset) : 0;
    if (bytes > 0) std::memcpy(request.destination, file->second.data() + request.offset, bytes);
    return static_cast<int64_t>(bytes);
  }
  std::ifstream in(read.path, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(request.offset));
  in.read(reinterpret_cast<char*>(request.destination), static_cast<std::streamsize>(wanted));
  return in.gcount();
}

int64_t FakeDisk::perform(const Pending& read) {
  const auto fault = std::ranges::find_if(faults_, [&](const Fault& candidate) {
    return candidate.times != 0 && (candidate.path.empty() || candidate.path == read.path) &&
           read.request.offset >= candidate.begin && read.request.offset < candidate.end;
  });
  int error = 0;
  uint64_t limit = std::numeric_limits<uint64_t>::max();
  bool damaged = false;
  if (fault != faults_.end()) {
    if (fault->times > 0) --fault->times;
    error = fault->error;
    limit = fault->short_bytes;
  } else if (shuffled_) {
    const auto dice = static_cast<int>(random_() % 100);
    if (dice < error_percent_) {
      error = EIO;
    } else if (dice < error_percent_ + short_percent_) {
      limit = random_() % (read.request.bytes + 1);
    } else {
      damaged = dice < error_percent_ + short_percent_ + damage_percent_;
    }
  }
  if (error != 0) {
    // A failed read may have written anything: nobody may rely on what was there.
    std::memset(read.request.destination, 0xdb, read.request.bytes);
    return -error;
  }
  const int64_t bytes = copy(read, limit);
  bytes_read_ += static_cast<uint64_t>(bytes);
  if (damaged && bytes > 0)
    read.request.destination[random_() % static_cast<uint64_t>(bytes)] ^= std::byte{4};
  return bytes;
}

FakeReader::FakeReader(std::shared_ptr<FakeDisk> disk, uint32_t depth, ReadAlignment alignment)
    : disk_(std::move(disk)), depth_(depth), alignment_(alignment) {
  const MutexLock lock(disk_->mutex_);
  ++disk_->n_reader_;
}

FakeReader::~FakeReader() {
  const MutexLock lock(disk_->mutex_);
  std::erase_if(disk_->pending_, [this](const FakeDisk::Pending& read) ODMOE_REQUIRES(disk_->mutex_) {
    if (read.reader == this) disk_->perform(read);
    return read.reader == this;
  });
  if (--disk_->n_reader_ == 0) disk_->held_ = false;
  disk_->changed_.notify_all();
}

Result<int> FakeReader::add_file(const std::filesystem::path& path) {
  uint64_t bytes = 0;
  const MutexLock lock(disk_->mutex_);
  if (const auto file = disk_->files_.find(path); file != disk_->files_.end()) {
    bytes = file->second.size();
  } else {
    ODMOE_ASSIGN_OR_RETURN(const DirectFile real, DirectFile::open(path, false));
    bytes = real.bytes();
  }
  files_.push_back({path, bytes});
  return static_cast<int>(files_.size()) - 1;
}

uint64_t FakeReader::file_bytes(int file) const { return files_.at(static_cast<size_t>(file)).bytes; }
const std::filesystem::path& FakeReader::path(int file) const {
  return files_.at(static_cast<size_t>(file)).path;
}

void FakeReader::submit(const ReadRequest& request) {
  require(in_flight_ < depth_, "more reads than the depth");
  require(request.offset % alignment_.offset_bytes == 0, "the offset is not aligned");
  require(request.bytes > 0 && request.bytes % alignment_.offset_bytes == 0, "the size is not aligned");
  require(reinterpret_cast<uintptr_t>(request.destination) % alignment_.memory_bytes == 0,
          "the destination is not aligned");
  ++in_flight_;
  const std::filesystem::path& path = files_.at(static_cast<size_t>(request.file)).path;
  const MutexLock lock(disk_->mutex_);
  disk_->pending_.push_back({this, request, path, disk_->due_us(path, request.bytes)});
  disk_->log_.push_back({path, request.offset, request.bytes});
  disk_->changed_.notify_all();
}

// Requires the disk's lock.
size_t FakeReader::take(std::span<ReadCompletion> out) {
  size_t count = 0;
  auto& pending = disk_->pending_;
  if (disk_->shuffled_) std::ranges::shuffle(pending, disk_->random_);
  for (auto read = pending.begin(); read != pending.end() && count < out.size();) {
    if (read->reader != this || !disk_->due(*read)) {
      ++read;
      continue;
    }
    out[count++] = {.id = read->request.id, .result = disk_->perform(*read)};
    read = pending.erase(read);
  }
  in_flight_ -= static_cast<uint32_t>(count);
  return count;
}

size_t FakeReader::wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) {
  require(!out.empty(), "wait() with nowhere to write completions");
  MutexLock lock(disk_->mutex_);
  size_t count = 0;
  const auto something = [&]() ODMOE_REQUIRES(disk_->mutex_) {
    count = take(out);
    return count > 0 || woken_;
  };
  if (disk_->runs_by_itself_ && !something()) {
    int64_t next_us = timeout ? disk_->now_us_ + timeout->count() : std::numeric_limits<int64_t>::max();
    for (const FakeDisk::Pending& read : disk_->pending_) next_us = std::min(next_us, read.due_us);
    if (next_us != std::numeric_limits<int64_t>::max() && !disk_->held_) {
      disk_->now_us_ = std::max(disk_->now_us_, next_us);
      timeout = std::chrono::microseconds(0);
    }
  }
  if (count > 0) {
    woken_ = false;
    return count;
  }
  const auto end = std::chrono::steady_clock::now() + timeout.value_or(std::chrono::microseconds(0));
  bool in_time = true;
  while (!something() && in_time) {
    if (timeout) {
      in_time = disk_->changed_.wait_until(disk_->mutex_, end);
    } else {
      disk_->changed_.wait(disk_->mutex_);
    }
  }
  woken_ = false;
  return count;
}

void FakeReader::wake() {
  const MutexLock lock(disk_->mutex_);
  woken_ = true;
  disk_->changed_.notify_all();
}

}  // namespace odmoe
