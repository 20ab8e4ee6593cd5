#include "io/io_uring_reader.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <limits>
#include <system_error>
#include <vector>

#include "io/file_table.h"

namespace odmoe {
namespace {

// The user_data of the read that waits for wake(); the callers' ids live in a table, so all others are small.
constexpr uint64_t kWakeToken = std::numeric_limits<uint64_t>::max();

std::unexpected<Error> unsupported(std::string_view what, int error) {
  return fail(ErrorKind::kUnsupported, "io_uring cannot be used here: {}: {}; choose the pread reader", what,
              std::generic_category().message(error));
}

class IoUringReader final : public AsyncReader {
 public:
  explicit IoUringReader(const ReaderOptions& options)
      : files_(options.direct), depth_(options.depth), ids_(options.depth) {
    free_.reserve(depth_);
    for (uint32_t i = depth_; i-- > 0;) free_.push_back(i);
  }

  ~IoUringReader() override {
    if (has_ring_) {
      if (wake_armed_) wake();
      // Reads and the wake both write into memory that is about to go.
      std::array<ReadCompletion, 16> done{};
      stopping_ = true;
      while (in_flight_ > 0 || wake_armed_) wait(done, std::nullopt);
      io_uring_queue_exit(&ring_);
    }
    if (wake_descriptor_ >= 0) ::close(wake_descriptor_);
  }

  Status start() {
    // One entry more than the depth, for the wake.
    if (const int error = io_uring_queue_init(depth_ + 1, &ring_, 0); error < 0) {
      return unsupported("setting up the ring", -error);
    }
    has_ring_ = true;
    io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
    const bool can_read = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) != 0;
    io_uring_free_probe(probe);
    if (!can_read) return unsupported("its read operation", EOPNOTSUPP);
    wake_descriptor_ = eventfd(0, EFD_CLOEXEC);
    if (wake_descriptor_ < 0) return unsupported("making an eventfd", errno);
    arm_wake();
    return {};
  }

  Result<int> add_file(const std::filesystem::path& path) override { return files_.add(path); }
  int n_file() const override { return static_cast<int>(files_.size()); }
  uint64_t file_bytes(int file) const override { return files_[file].bytes(); }
  const std::filesystem::path& path(int file) const override { return files_[file].path(); }
  ReadAlignment alignment() const override { return files_.alignment(); }
  uint32_t depth() const override { return depth_; }
  uint32_t in_flight() const override { return in_flight_; }
  std::string_view name() const override { return "io_uring"; }

  void submit(const ReadRequest& request) override {
    assert(in_flight_ < depth_);
    const uint32_t token = free_.back();
    free_.pop_back();
    ids_[token] = request.id;
    ++in_flight_;
    if (!asked_for_fixed_files_) register_files();
    io_uring_sqe* const entry = next_entry();
    io_uring_prep_read(entry, fixed_files_ ? request.file : files_[request.file].descriptor(),
                       request.destination, request.bytes, request.offset);
    if (fixed_files_) io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data64(entry, token);
  }

  void flush() override { io_uring_submit(&ring_); }

  size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) override {
    assert(!out.empty());
    using Clock = std::chrono::steady_clock;
    const auto deadline = timeout ? Clock::now() + *timeout : Clock::time_point::max();
    bool woken = false;
    while (true) {
      const size_t count = reap(out, woken);
      if (!wake_armed_ && !stopping_) arm_wake();
      if (count > 0 || woken) {
        io_uring_submit(&ring_);  // what was queued since must not wait for the caller to come back
        return count;
      }
      std::optional<std::chrono::nanoseconds> left;
      if (timeout) left = std::max(Clock::duration::zero(), deadline - Clock::now());
      const int error = submit_and_wait(left);
      // EINTR: a signal.  EAGAIN, EBUSY: the kernel wants completions taken first, which the next round does.
      if (error == -ETIME || (timeout && left->count() == 0)) {
        return reap(out, woken);
      }
    }
  }

  void wake() override {
    const uint64_t one = 1;
    while (::write(wake_descriptor_, &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

 private:
  // Spares the kernel a look-up and a reference for each read.  Where it is refused (too many files) the
  // reads name their descriptors.  The memory that reads land in is not registered: it would be faulted in
  // and pinned as a whole, and reads would go on landing in the old pages of memory that was given back
  // (docs/io.md).
  void register_files() {
    asked_for_fixed_files_ = true;
    std::vector<int> descriptors(files_.size());
    for (size_t i = 0; i < descriptors.size(); ++i) {
      descriptors[i] = files_[static_cast<int>(i)].descriptor();
    }
    fixed_files_ =
        io_uring_register_files(&ring_, descriptors.data(), static_cast<unsigned>(descriptors.size())) == 0;
  }

  // Never null: the ring has room for every read in flight and the wake.
  io_uring_sqe* next_entry() {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    assert(entry != nullptr);
    return entry;
  }

  // A read of the eventfd, which completes when wake() writes to it.
  void arm_wake() {
    io_uring_sqe* const entry = next_entry();
    io_uring_prep_read(entry, wake_descriptor_, &wake_value_, sizeof wake_value_, 0);
    io_uring_sqe_set_data64(entry, kWakeToken);
    wake_armed_ = true;
  }

  // Takes what has completed.
  size_t reap(std::span<ReadCompletion> out, bool& woken) {
    size_t count = 0;
    io_uring_cqe* entry = nullptr;
    while (count < out.size() && io_uring_peek_cqe(&ring_, &entry) == 0) {
      if (const uint64_t token = io_uring_cqe_get_data64(entry); token == kWakeToken) {
        wake_armed_ = false;
        woken = true;
      } else {
        out[count++] = {.id = ids_[token], .result = entry->res};
        free_.push_back(static_cast<uint32_t>(token));
        --in_flight_;
      }
      io_uring_cqe_seen(&ring_, entry);
    }
    return count;
  }

  int submit_and_wait(std::optional<std::chrono::nanoseconds> left) {
    if (!left) return io_uring_submit_and_wait(&ring_, 1);
    if (left->count() == 0) return io_uring_submit(&ring_);
    io_uring_cqe* entry = nullptr;
    __kernel_timespec limit{.tv_sec = left->count() / 1'000'000'000,
                            .tv_nsec = left->count() % 1'000'000'000};
    return io_uring_submit_and_wait_timeout(&ring_, &entry, 1, &limit, nullptr);
  }

  FileTable files_;
  const uint32_t depth_;
  uint32_t in_flight_ = 0;
  std::vector<uint64_t> ids_;   // of the reads in flight, by token
  std::vector<uint32_t> free_;  // tokens

  io_uring ring_{};
  bool has_ring_ = false;
  bool asked_for_fixed_files_ = false;
  bool fixed_files_ = false;
  int wake_descriptor_ = -1;
  uint64_t wake_value_ = 0;  // where the read of the eventfd lands
  bool wake_armed_ = false;
  bool stopping_ = false;
};

}  // namespace

Result<std::unique_ptr<AsyncReader>> make_io_uring_reader(const ReaderOptions& options) {
  auto reader = std::make_unique<IoUringReader>(options);
  ODMOE_RETURN_IF_ERROR(reader->start());
  return reader;
}

}  // namespace odmoe
