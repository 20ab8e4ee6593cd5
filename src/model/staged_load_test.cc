#include "model/staged_load.h"

#include <ggml-cpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"
#include "io/fake_reader.h"
#include "io/testing.h"

namespace odmoe {
namespace {

constexpr uint64_t kFileBytes = 200'000;

// Tensors of so many bytes, which lie in a file in another order than they are given, with gaps between.
class StagedLoad : public ::testing::Test {
 protected:
  StagedLoad()
      : disk_(std::make_shared<FakeDisk>()),
        context_(
            ggml_init({.mem_size = ggml_tensor_overhead() * 16, .mem_buffer = nullptr, .no_alloc = true})) {
    disk_->add("weights.gguf", pattern(kFileBytes, 1));
    reader_ = std::make_unique<FakeReader>(disk_, 4, ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
    EXPECT_TRUE(reader_->add_file("weights.gguf").has_value());
  }

  void make(const std::vector<uint64_t>& sizes) {
    infos_.resize(sizes.size());
    uint64_t offset = 96;
    for (size_t i = 0; i < sizes.size(); ++i) {
      infos_[i] = {.name = "t", .type = GGML_TYPE_I8, .file = 0, .offset = offset, .bytes = sizes[i]};
      ggml_tensor* tensor = ggml_new_tensor_1d(context_.get(), GGML_TYPE_I8, static_cast<int64_t>(sizes[i]));
      tensors_.insert(tensors_.begin(), StagedTensor{.info = &infos_[i], .tensor = tensor});
      offset += sizes[i] + 32;
    }
    buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), ggml_backend_cpu_buffer_type()));
  }

  auto load(uint64_t staging_bytes, int threads = 2) {
    staging_ = AlignedBuffer::allocate(staging_bytes).value();
    return load_staged(*reader_, tensors_,
                       {.staging = staging_.span(),
                        .threads = threads,
                        .progress =
                            [this](uint64_t done) {
                              EXPECT_GE(done, done_);
                              done_ = done;
                              return done_ < stop_;
                            },
                        .all_read = [this] { ++n_all_read_; }});
  }

  std::shared_ptr<FakeDisk> disk_;
  std::unique_ptr<FakeReader> reader_;
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr buffer_;
  std::vector<TensorInfo> infos_;
  std::vector<StagedTensor> tensors_;
  AlignedBuffer staging_;
  uint64_t done_ = 0, stop_ = UINT64_MAX;
  std::atomic<int> n_all_read_ = 0;
};

TEST_F(StagedLoad, EveryTensorHasItsBytesHoweverSmallTheStagingBuffer) {
  // Two halves of several, one that needs all of the smallest buffer, and what comes after it.
  make({3000, 5000, 4096, 20'000, 100, 7000, 8192, 20'480, 20'480, 1});
  disk_->randomise(7, 30, 0);
  for (const uint64_t staging : {20'480U, 41'000U, 65'536U, 1U << 20U}) {
    SCOPED_TRACE(staging);
    done_ = 0;
    n_all_read_ = 0;
    ggml_backend_buffer_clear(buffer_.get(), 0);
    const auto digests = load(staging);
    ASSERT_TRUE(digests.has_value()) << digests.error().message;
    ASSERT_EQ(digests->size(), infos_.size());
    for (size_t i = 0; i < infos_.size(); ++i) {
      const auto wanted = pattern(kFileBytes, 1);
      const auto bytes = std::span(wanted).subspan(infos_[i].offset, infos_[i].bytes);
      EXPECT_TRUE(std::ranges::equal(host_bytes(tensors_[infos_.size() - 1 - i].tensor), bytes)) << i;
      EXPECT_EQ((*digests)[i].hex(), Fingerprint::of(bytes).hex()) << "in the order of the file";
    }
    EXPECT_EQ(n_all_read_, 1);
  }
}

TEST_F(StagedLoad, NothingToReadIsAllRead) {
  EXPECT_TRUE(load(0).has_value());
  EXPECT_EQ(n_all_read_, 1);
}

TEST_F(StagedLoad, AReadThatFailsWhileOthersAreHandedOverIsTheError) {
  make({9000, 9000, 9000, 9000});
  disk_->inject({.path = "weights.gguf", .begin = 17'000, .end = 18'500, .error = EIO, .times = -1});
  const auto digests = load(20'480);
  ASSERT_FALSE(digests.has_value());
  EXPECT_EQ(digests.error().kind, ErrorKind::kIo);
  EXPECT_THAT(digests.error().message, ::testing::HasSubstr("weights.gguf"));
  EXPECT_EQ(n_all_read_, 0);
}

TEST_F(StagedLoad, EndsWhenToldTo) {
  make({9000, 9000, 9000, 9000});
  stop_ = 12'000;
  const auto digests = load(20'480);
  ASSERT_FALSE(digests.has_value());
  EXPECT_EQ(digests.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace odmoe
