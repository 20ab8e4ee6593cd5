#include "io/io_uring_reader.h"

#include <liburing.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <limits>
#include <optional>
#include <system_error>
#include <vector>

#include "base/file_descriptor.h"
#include "base/transfer.h"
#include "io/file_table.h"

namespace odmoe {
namespace {

// The user_data of the read that waits for wake(); the callers' ids live in a table, so all others are small.
// Not the largest number: where the kernel has no timeouts of its own, liburing keeps that for its.
constexpr uint32_t kWakeToken = std::numeric_limits<uint32_t>::max();

// How long the first operation may take, which only reads a counter, and how often it is looked for.
constexpr std::chrono::milliseconds kTryLimit{1000};
// How many calls in a row may fail with an error that passes, without anything having moved: with the pauses
// between them about two seconds.
constexpr int kMostFailures = 128;
constexpr int kMostPauseMs = 16;
// How often completions are looked for when the kernel cannot be asked to wait for them.
constexpr int kLookMs = 1;

// A signal; memory that is short; completions that must be taken first.
bool passes(int error) { return error == EINTR || error == EAGAIN || error == EBUSY; }

std::unexpected<Error> unsupported(std::string_view what, int error) {
  return fail(ErrorKind::kUnsupported, "io_uring cannot be used here: {}: {}; choose the pread reader", what,
              std::generic_category().message(error));
}

// The ring may stop working at any time: a sandbox that allows setting it up and then forbids to enter it, or
// one that comes later.  Then it is given up: what the kernel has already been given completes by itself and
// is waited for, everything else is read with pread, one after the other.
class IoUringReader final : public AsyncReader {
 public:
  explicit IoUringReader(const ReaderOptions& options)
      : files_(options.direct), depth_(options.depth), requests_(options.depth) {
    free_.reserve(depth_);
    for (uint32_t i = depth_; i-- > 0;) free_.push_back(i);
    queued_.reserve(depth_ + 1);
  }

  ~IoUringReader() override {
    if (has_ring_) {
      // Reads and the wake both write into memory that is about to go.
      std::array<ReadCompletion, 16> done{};
      stopping_ = true;
      while (in_flight_ > 0) wait(done, std::nullopt);
      if (wake_armed_) {
        wake();
        // One that the first try has shown not to complete ends with the ring.
        wait(done, works_ ? std::nullopt : std::optional<std::chrono::microseconds>(0));
      }
      io_uring_queue_exit(&ring_);
    }
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
    wake_descriptor_ = FileDescriptor(eventfd(0, EFD_CLOEXEC));
    if (!wake_descriptor_) return unsupported("making an eventfd", errno);
    return try_out();
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
    requests_[token] = request;
    ++in_flight_;
    if (!broken_) {
      if (!asked_for_fixed_files_) register_files();
      io_uring_sqe* const entry = next_entry();
      io_uring_prep_read(entry, fixed_files_ ? request.file : files_[request.file].descriptor(),
                         request.destination, request.bytes, request.offset);
      if (fixed_files_) io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
      io_uring_sqe_set_data64(entry, token);
    }
    queued_.push_back(token);
  }

  void flush() override {
    if (!broken_) enter(/*waits=*/false, [this] { return io_uring_submit(&ring_); });
  }

  size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) override {
    assert(!out.empty());
    using Clock = std::chrono::steady_clock;
    const auto deadline = timeout ? Clock::now() + *timeout : Clock::time_point::max();
    bool woken = false;
    while (true) {
      size_t count = reap(out, woken);
      if (broken_ && count == 0 && !woken) count = read_here(out);
      if (!wake_armed_ && !stopping_ && !broken_) arm_wake();
      if (count > 0 || woken) {
        flush();  // what was queued since must not wait for the caller to come back
        return count;
      }
      std::optional<std::chrono::nanoseconds> left;
      if (timeout) left = std::max(Clock::duration::zero(), deadline - Clock::now());
      if (broken_) {
        if (left && left->count() == 0) return 0;
        woken = look_for_wake(kLookMs);
        continue;
      }
      const bool waits = !left || left->count() > 0;
      const int result = enter(waits, [&] { return submit_and_wait(left); });
      if (!waits || (result == -ETIME && Clock::now() >= deadline)) return reap(out, woken);
    }
  }

  void wake() override {
    const uint64_t one = 1;
    (void)write_some(wake_descriptor_.number(), std::as_bytes(std::span(&one, 1)));
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
    io_uring_prep_read(entry, wake_descriptor_.number(), &wake_value_, sizeof wake_value_, 0);
    io_uring_sqe_set_data64(entry, kWakeToken);
    queued_.push_back(kWakeToken);
    wake_armed_ = true;
  }

  // Calls into the kernel with what is queued, and takes note of what it took.  An error that passes is left
  // to the next round, after a pause; one that does not ends the use of the ring, and so does a call that
  // changes nothing again and again.
  template <typename Call>
  int enter(bool waits, const Call& call) {
    const int result = call();
    const size_t left = std::min<size_t>(io_uring_sq_ready(&ring_), queued_.size());
    const bool moved = left < queued_.size();
    queued_.erase(queued_.begin(), queued_.end() - static_cast<ptrdiff_t>(left));  // taken in order
    const bool nothing = !moved && (left > 0 || (waits && io_uring_cq_ready(&ring_) == 0));
    if (moved || result == -ETIME || (result >= 0 && !nothing)) {
      n_failure_ = 0;
      return result;
    }
    const int error = result < 0 ? -result : EAGAIN;
    if (passes(error)) {
      // One who only waits for wake() may be sent signals for ever.
      if (in_flight_ > 0 || left > 0) ++n_failure_;
      if (n_failure_ < kMostFailures) {
        // The first is a signal as a rule, or is answered by taking what has completed.
        if (n_failure_ != 1) rest(std::clamp(n_failure_ - 1, 1, kMostPauseMs));
        return result;
      }
    }
    give_up(error);
    return result;
  }

  void give_up(int error) {
    broken_ = true;
    error_ = error;
    // A wake that the kernel was not given is looked for here.
    if (const auto wake = std::ranges::find(queued_, kWakeToken); wake != queued_.end()) {
      queued_.erase(wake);
      wake_armed_ = false;
    }
    if (works_) {
      spdlog::warn("io_uring has stopped working ({}): reading on, one read at a time",
                   std::generic_category().message(error));
    }
  }

  // One of the reads that the kernel was not given.
  size_t read_here(std::span<ReadCompletion> out) {
    if (queued_.empty()) return 0;
    const uint32_t token = queued_.front();
    queued_.erase(queued_.begin());
    const ReadRequest& request = requests_[token];
    out[0] = {.id = request.id, .result = stopping_ ? -ECANCELED : files_.read(request)};
    free_.push_back(token);
    --in_flight_;
    return 1;
  }

  static void rest(int ms) { ::poll(nullptr, 0, ms); }

  // For a ring that is broken: waits so long at most, and says whether there was a wake.  One that the kernel
  // holds a read for comes as a completion.
  bool look_for_wake(int limit_ms) {
    if (wake_armed_) {
      rest(limit_ms);
      return false;
    }
    pollfd bell{.fd = wake_descriptor_.number(), .events = POLLIN, .revents = 0};
    return ::poll(&bell, 1, limit_ms) > 0 &&
           ::read(wake_descriptor_.number(), &wake_value_, sizeof wake_value_) > 0;
  }

  // Whether an operation runs from its submission to its end: of the sandboxes that forbid io_uring some do
  // so only when it is entered.
  Status try_out() {
    arm_wake();
    wake();
    std::array<ReadCompletion, 1> none{};
    wait(none, kTryLimit);
    if (broken_) return unsupported("entering the ring", error_);
    if (!tried_) return unsupported("its first read does not end", ETIMEDOUT);
    if (*tried_ < 0) return unsupported("its first read", -*tried_);
    works_ = true;
    return {};
  }

  // Takes what has completed.
  size_t reap(std::span<ReadCompletion> out, bool& woken) {
    size_t count = 0;
    io_uring_cqe* entry = nullptr;
    while (count < out.size() && io_uring_peek_cqe(&ring_, &entry) == 0) {
      if (const uint64_t token = io_uring_cqe_get_data64(entry); token == kWakeToken) {
        wake_armed_ = false;
        woken = true;
        if (!tried_) tried_ = entry->res;
      } else {
        out[count++] = {.id = requests_[token].id, .result = entry->res};
        free_.push_back(static_cast<uint32_t>(token));
        --in_flight_;
      }
      io_uring_cqe_seen(&ring_, entry);
      n_failure_ = 0;
    }
    return count;
  }

  int submit_and_wait(std::optional<std::chrono::nanoseconds> left) {
    if (!left) return io_uring_submit_and_wait(&ring_, 1);
    if (left->count() == 0) return io_uring_submit(&ring_);
    if ((ring_.features & IORING_FEAT_EXT_ARG) == 0) {
      // liburing would queue a timeout of its own among the reads, which are told apart by their order.
      const int result = io_uring_submit(&ring_);
      if (result >= 0 && io_uring_cq_ready(&ring_) == 0) rest(kLookMs);
      return result >= 0 && io_uring_cq_ready(&ring_) == 0 ? -ETIME : result;
    }
    io_uring_cqe* entry = nullptr;
    __kernel_timespec limit{.tv_sec = left->count() / 1'000'000'000,
                            .tv_nsec = left->count() % 1'000'000'000};
    return io_uring_submit_and_wait_timeout(&ring_, &entry, 1, &limit, nullptr);
  }

  FileTable files_;
  const uint32_t depth_;
  uint32_t in_flight_ = 0;
  std::vector<ReadRequest> requests_;  // in flight, by token
  std::vector<uint32_t> free_;         // tokens
  std::vector<uint32_t> queued_;       // tokens in flight that the kernel was not given yet, in order

  io_uring ring_{};
  bool has_ring_ = false;
  bool asked_for_fixed_files_ = false;
  bool fixed_files_ = false;
  FileDescriptor wake_descriptor_;
  uint64_t wake_value_ = 0;  // where the read of the eventfd lands
  bool wake_armed_ = false;
  bool stopping_ = false;

  std::optional<int> tried_;  // what the first operation came to
  bool works_ = false;        // it has worked
  bool broken_ = false;       // the ring is no longer entered, because of:
  int error_ = 0;             // errno
  int n_failure_ = 0;         // calls in a row that failed and moved nothing
};

}  // namespace

Result<std::unique_ptr<AsyncReader>> make_io_uring_reader(const ReaderOptions& options) {
  auto reader = std::make_unique<IoUringReader>(options);
  ODMOE_RETURN_IF_ERROR(reader->start());
  return reader;
}

}  // namespace odmoe
