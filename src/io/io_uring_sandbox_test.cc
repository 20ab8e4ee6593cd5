// Sandboxes that forbid a part of io_uring, from the start or later: real filters of system calls, in a child
// of its own for each, since a filter stays for good.
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <thread>

#include "base/aligned_buffer.h"
#include "base/units.h"
#include "io/async_reader.h"
#include "io/testing.h"

namespace odmoe {
namespace {

constexpr int kPassed = 0, kSkipped = 77;

// From now on this system call fails so in this thread and what it starts.
bool forbid(long number, int error) {
  std::array code = {
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = code.size(), .filter = code.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Runs it in a child that is ended should it hang, and says what it came to.
int in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    _exit(body());
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Reads all of the file in pieces, as many in flight as the depth allows; whether every byte is right.
bool reads(AsyncReader& reader, int file, std::span<const std::byte> data, AlignedBuffer& buffer) {
  constexpr uint32_t kPiece = 8192;
  const uint64_t n_piece = data.size() / kPiece;
  std::array<ReadCompletion, 4> done{};
  for (uint64_t next = 0, seen = 0; seen < n_piece;) {
    while (next < n_piece && reader.in_flight() < reader.depth()) {
      reader.submit({.id = next,
                     .file = file,
                     .offset = next * kPiece,
                     .bytes = kPiece,
                     .destination = buffer.data() + next * kPiece});
      ++next;
    }
    const size_t count = reader.wait(done, std::nullopt);
    for (size_t i = 0; i < count; ++i) {
      if (done[i].result != kPiece) return false;
    }
    seen += count;
  }
  return std::ranges::equal(std::span(buffer.data(), data.size()), data);
}

// A thread that calls wake() ends the wait, and a time that passes does.
bool wakes(AsyncReader& reader) {
  std::array<ReadCompletion, 1> none{};
  std::thread waker([&] { reader.wake(); });
  const size_t count = reader.wait(none, std::nullopt);
  waker.join();
  return count == 0 && reader.wait(none, std::chrono::milliseconds(1)) == 0;
}

class IoUringSandbox : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto reader = make_reader({.kind = ReaderKind::kIoUring});
    if (!reader.has_value()) GTEST_SKIP() << reader.error().message;
  }
  void expect_passed(const std::function<int()>& body) {
    const int result = in_child(body);
    if (result == kSkipped) GTEST_SKIP() << "no filters of system calls here";
    EXPECT_EQ(result, kPassed);
  }

  TemporaryFolder folder_;
  std::vector<std::byte> data_ = pattern(kMiB, 5);
  std::filesystem::path path_ = folder_.write("file", data_);
  AlignedBuffer buffer_ = AlignedBuffer::allocate(kMiB).value();
};

TEST_F(IoUringSandbox, WhereAPartOfItIsForbiddenThePoolOfThreadsReads) {
  for (const long call : {SYS_io_uring_setup, SYS_io_uring_register, SYS_io_uring_enter}) {
    for (const int error : {EPERM, EACCES, ENOSYS, EAGAIN, 0}) {
      // A descriptor 0 is one that is there: what does nothing and says nothing is only an entry.
      if (error == 0 && call != SYS_io_uring_enter) continue;
      expect_passed([&] {
        if (!forbid(call, error)) return kSkipped;
        const auto asked_for = make_reader({.kind = ReaderKind::kIoUring});
        if (asked_for.has_value() || asked_for.error().kind != ErrorKind::kUnsupported) return 1;
        const auto reader = make_reader({.depth = 8});
        if (!reader.has_value() || (*reader)->name() != "pread") return 2;
        const auto file = (*reader)->add_file(path_);
        return file.has_value() && reads(**reader, *file, data_, buffer_) ? kPassed : 3;
      });
      if (HasFailure()) FAIL() << "system call " << call << " with error " << error;
    }
  }
}

TEST_F(IoUringSandbox, WhenEnteringItIsForbiddenLaterItReadsOn) {
  for (const int error : {EPERM, EAGAIN, 0}) {
    for (const bool idle : {true, false}) {
      expect_passed([&] {
        const auto reader = make_reader({.kind = ReaderKind::kIoUring, .depth = 8});
        if (!reader.has_value()) return 1;
        const auto file = (*reader)->add_file(path_);
        if (!file.has_value() || !reads(**reader, *file, data_, buffer_) || !wakes(**reader)) return 2;
        std::ranges::fill(std::span(buffer_.data(), data_.size()), std::byte{});
        constexpr uint32_t kBlock = 4096;
        if (!idle) {  // one that the kernel has, one that it was not given
          (*reader)->submit({.id = 1, .file = *file, .bytes = kBlock, .destination = buffer_.data()});
          (*reader)->flush();
          (*reader)->submit({.id = 2,
                             .file = *file,
                             .offset = kBlock,
                             .bytes = kBlock,
                             .destination = buffer_.data() + kBlock});
        }
        if (!forbid(SYS_io_uring_enter, error)) return kSkipped;
        std::array<ReadCompletion, 4> done{};
        while ((*reader)->in_flight() > 0) {
          const size_t count = (*reader)->wait(done, std::nullopt);
          for (size_t i = 0; i < count; ++i) {
            if (done[i].result != kBlock) return 3;
          }
        }
        if (!wakes(**reader)) return 4;
        return reads(**reader, *file, data_, buffer_) && wakes(**reader) ? kPassed : 5;
      });
      if (HasFailure()) FAIL() << "error " << error << (idle ? ", idle" : ", reading");
    }
  }
}

TEST_F(IoUringSandbox, AReaderThatGoesWhileItIsForbiddenDoesNotHang) {
  expect_passed([&] {
    auto reader = make_reader({.kind = ReaderKind::kIoUring, .depth = 8});
    if (!reader.has_value()) return 1;
    const auto file = (*reader)->add_file(path_);
    if (!file.has_value()) return 2;
    constexpr uint32_t kBlock = 4096;
    (*reader)->submit({.id = 1, .file = *file, .bytes = kBlock, .destination = buffer_.data()});
    if (!forbid(SYS_io_uring_enter, EPERM)) return kSkipped;
    reader->reset();
    return kPassed;
  });
}

}  // namespace
}  // namespace odmoe
