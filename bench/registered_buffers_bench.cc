// Whether it would pay to register the memory that reads land in with io_uring (docs/io.md): random direct
// reads at a depth of 16, into ordinary and into huge pages, plain and registered, in turns.
//
//   odmoe_registered_buffers_bench [FILE]      a large file; makes none of its own
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>

#include "base/aligned_buffer.h"
#include "base/file_descriptor.h"

namespace odmoe {
namespace {

constexpr unsigned kDepth = 16;
constexpr uint64_t kMemoryBytes = 64U << 20U;
constexpr double kSeconds = 0.25;

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool measure(int file, uint64_t file_bytes, uint32_t read_bytes, bool huge, bool registered, bool print) {
  auto memory = AlignedBuffer::allocate(kMemoryBytes, huge);
  io_uring ring{};
  if (!memory.has_value() || io_uring_queue_init(kDepth, &ring, 0) < 0) return false;
  if (!huge) madvise(memory->data(), memory->size(), MADV_NOHUGEPAGE);
  double begin = seconds();
  if (registered) {
    const iovec all{.iov_base = memory->data(), .iov_len = memory->size()};
    if (const int error = io_uring_register_buffers(&ring, &all, 1); error < 0) {
      std::fprintf(stderr, "cannot register %llu bytes: %s\n", static_cast<unsigned long long>(kMemoryBytes),
                   std::strerror(-error));
      io_uring_queue_exit(&ring);
      return false;
    }
  } else {
    std::memset(memory->data(), 0, memory->size());
  }
  const double prepare_ms = (seconds() - begin) * 1e3;

  std::minstd_rand random(1);
  const uint64_t n_place = (file_bytes - read_bytes) / 4096;
  const auto submit = [&](uint64_t place) {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring);
    const uint64_t offset = std::uniform_int_distribution<uint64_t>(0, n_place)(random) * 4096;
    std::byte* const destination = memory->data() + place * read_bytes;
    if (registered) {
      io_uring_prep_read_fixed(entry, file, destination, read_bytes, offset, 0);
    } else {
      io_uring_prep_read(entry, file, destination, read_bytes, offset);
    }
    io_uring_sqe_set_data64(entry, place);
  };
  begin = seconds();
  const double cpu_begin = cpu_seconds();
  uint64_t bytes = 0;
  unsigned in_flight = kDepth;
  for (uint64_t place = 0; place < kDepth; ++place) submit(place);
  while (in_flight > 0) {
    io_uring_submit_and_wait(&ring, 1);
    io_uring_cqe* entry = nullptr;
    while (io_uring_peek_cqe(&ring, &entry) == 0) {
      const uint64_t place = io_uring_cqe_get_data64(entry);
      bytes += entry->res > 0 ? static_cast<uint64_t>(entry->res) : 0;
      io_uring_cqe_seen(&ring, entry);
      if (seconds() - begin < kSeconds) {
        submit(place);
      } else {
        --in_flight;
      }
    }
  }
  const double gib = static_cast<double>(bytes) / (1U << 30U);
  if (print) {
    std::printf("%4u KiB  %-8s  %-10s  %5.2f GiB/s  %5.1f ms of CPU per GiB  %6.1f ms to prepare 64 MiB\n",
                read_bytes >> 10U, huge ? "huge" : "ordinary", registered ? "registered" : "plain",
                gib / (seconds() - begin), (cpu_seconds() - cpu_begin) * 1e3 / gib, prepare_ms);
  }
  io_uring_queue_exit(&ring);
  return bytes > 0;
}

}  // namespace
}  // namespace odmoe

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {  // run with all the others, whose options these are
    std::printf("skipped: name a large FILE to read from\n");
    return 0;
  }
  const odmoe::FileDescriptor file = odmoe::FileDescriptor::open(argv[1], O_RDONLY | O_DIRECT);
  struct stat info{};
  if (!file || fstat(file.number(), &info) != 0 || info.st_size < (64 << 20)) {
    std::fprintf(stderr, "%s: no file of 64 MiB or more where direct I/O is possible\n", argv[1]);
    return 2;
  }
  const auto bytes = static_cast<uint64_t>(info.st_size);
  for (int round = 0; round < 4; ++round) {  // the first warms up
    for (const uint32_t read_bytes : {128U << 10U, 576U << 10U, 1024U << 10U}) {
      for (const bool huge : {false, true}) {
        for (const bool registered : {false, true}) {
          if (!odmoe::measure(file.number(), bytes, read_bytes, huge, registered, round > 0)) return 1;
        }
      }
    }
  }
  return 0;
}
