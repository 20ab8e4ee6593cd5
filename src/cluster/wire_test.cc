#include "cluster/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "backend/device_memory.h"
#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"

namespace odmoe {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr WireShape kShape{.width = 4, .n_expert = 8, .n_expert_used = 2, .n_layer = 5, .lanes = 6};

// Three tokens in columns 5, 0 and 3, of which the first and the last have experts of the receiver (6 and 7).
class WireTest : public ::testing::Test {
 protected:
  WireTest()
      : backend_(Backend::create(1).value()),
        context_(
            ggml_init({.mem_size = ggml_tensor_overhead() * 2, .mem_buffer = nullptr, .no_alloc = true})),
        message_(AlignedBuffer::allocate(max_work_bytes(kShape)).value()) {
    input_ = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, kShape.width, kShape.max_tokens());
    weight_ =
        ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 1, kShape.max_tokens() * kShape.n_expert_used);
    memory_ = DeviceMemory::allocate(*backend_, 4096, DeviceMemory::Use::kWhole).value();
    EXPECT_TRUE(memory_.place(input_, 0) && memory_.place(weight_, 2048));
    for (size_t i = 0; i < host_values<float>(input_).size(); ++i)
      host_values<float>(input_)[i] = static_cast<float>(i / 4);
    for (size_t i = 0; i < host_values<float>(weight_).size(); ++i)
      host_values<float>(weight_)[i] = static_cast<float>(100 + i);
    demand_.set(3, chosen_, token_columns_);
    work_ = {.tokens = ExpertWork::Tokens::kTimelines,
             .demand = &demand_,
             .experts = own_,
             .columns = {.input = input_, .weight = weight_}};
  }
  std::span<std::byte> written() {
    return message_.span().first(write_work(message_.span(), kShape, 7, work_, scratch_));
  }

  std::unique_ptr<Backend> backend_;
  ggml_context_ptr context_;
  DeviceMemory memory_;
  ggml_tensor *input_ = nullptr, *weight_ = nullptr;
  AlignedBuffer message_;
  std::array<int32_t, 6> chosen_ = {1, 6, 2, 1, 7, 6};
  std::array<int32_t, 3> token_columns_ = {5, 0, 3};
  std::array<int32_t, 2> own_ = {6, 7};
  std::array<uint8_t, 8> scratch_{};
  LayerDemand demand_{8, 2, 6};
  ExpertWork work_;
};

TEST_F(WireTest, WorkComesWithWhatItsTokensShowAndNoOthers) {
  const ReadWork work = read_work(written(), kShape).value();
  EXPECT_EQ(work.sequence, 7);
  EXPECT_EQ(work.layer, 3);
  EXPECT_EQ(work.tokens, ExpertWork::Tokens::kTimelines);
  EXPECT_EQ(work.n_token, 3);
  EXPECT_THAT(work.chosen, ElementsAre(1, 6, 2, 1, 7, 6));
  EXPECT_THAT(work.weights, ElementsAre(110, 111, 100, 101, 106, 107));
  EXPECT_THAT(work.columns, ElementsAre(0, -1, 1));
  ASSERT_EQ(work.input.size(), 8);
  EXPECT_THAT(work.input.first(4), Each(5));
  EXPECT_THAT(work.input.last(4), Each(3));
}

TEST_F(WireTest, WorkThatIsCutOrDoesNotFitTheModelIsAnError) {
  const std::span<std::byte> whole = written();
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(read_work(whole.first(n), kShape).has_value()) << n;
  WireShape smaller = kShape;
  smaller.lanes = 2;
  EXPECT_FALSE(read_work(whole, smaller).has_value());
  smaller = kShape;
  smaller.n_layer = 3;
  EXPECT_FALSE(read_work(whole, smaller).has_value());
  smaller = kShape;
  smaller.n_expert = 7;
  EXPECT_FALSE(read_work(whole, smaller).has_value());
}

// A single token and a chunk of two, in columns 1 and 2.
TEST_F(WireTest, ChunksAreToldByTheirTokens) {
  WireShape shape = kShape;
  shape.chunk = 2;
  shape.lanes = 2;
  shape.places = 2;
  const std::array<int32_t, 3> columns = {5, 1, 2};
  demand_.set(3, chosen_, columns);
  const std::array<ExpertWork::Chunk, 1> chunks = {{{.first = 1, .n_token = 2, .columns = {}}}};
  work_.chunks = chunks;
  const size_t n = write_work(message_.span(), shape, 7, work_, scratch_);
  const std::span<std::byte> whole = message_.span().first(n);
  const ReadWork work = read_work(whole, shape).value();
  ASSERT_EQ(work.chunks.size(), 1);
  EXPECT_EQ(work.chunks[0].first, 1);
  EXPECT_EQ(work.chunks[0].n_token, 2);
  EXPECT_THAT(work.columns, ElementsAre(0, -1, 1));
  EXPECT_THAT(work.input.last(4), Each(2));

  const auto is_read = [&](int32_t first, int32_t n_token) {
    const std::array changed = {first, n_token};
    std::memcpy(whole.data() + 32, changed.data(), sizeof(changed));
    return read_work(whole, shape).has_value();
  };
  EXPECT_TRUE(is_read(1, 2));
  EXPECT_TRUE(is_read(0, 2));
  for (const auto& [first, n_token] : {std::pair(2, 2), {-1, 2}, {1, 1}, {1, 3}, {1, -2}, {INT32_MAX, 2}}) {
    EXPECT_FALSE(is_read(first, n_token)) << first << ", " << n_token;
  }
  ASSERT_TRUE(is_read(1, 2));
  shape.places = 0;
  EXPECT_FALSE(read_work(whole, shape).has_value());
}

TEST_F(WireTest, ResultsComeBackWithTheirRowsOrTheirError) {
  const AlignedBuffer buffer = AlignedBuffer::allocate(max_result_bytes(kShape)).value();
  std::ranges::copy(std::array{1.F, 2.F, 3.F, 4.F, 5.F, 6.F, 7.F, 8.F},
                    result_rows(buffer.span(), kShape, 2).begin());
  ResultHeader header{.sequence = 9, .outcome = Outcome::kDone, .first_row = 4, .n_row = 2};
  header.figures.hits = 12;
  size_t n = write_result(buffer.span(), kShape, header);
  const ReadResult rows = read_result(buffer.span().first(n), kShape).value();
  EXPECT_EQ(rows.header.sequence, 9);
  EXPECT_EQ(rows.header.first_row, 4);
  EXPECT_EQ(rows.header.figures.hits, 12);
  EXPECT_THAT(rows.rows, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_FALSE(read_result(buffer.span().first(n - 1), kShape).has_value());

  n = write_result(buffer.span(), kShape,
                   {.outcome = Outcome::kFailed, .error_kind = static_cast<uint32_t>(ErrorKind::kIo)},
                   "the drive is gone");
  const ReadResult failed = read_result(buffer.span().first(n), kShape).value();
  EXPECT_EQ(failed.header.outcome, Outcome::kFailed);
  EXPECT_EQ(failed.text, "the drive is gone");
}

TEST(Wire, ResultsAreCutWhereTheyWouldBeLong) {
  const WireShape large{.width = 7168, .n_expert = 384, .n_expert_used = 8, .n_layer = 61, .chunk = 512};
  EXPECT_LT(max_result_bytes(large), uint64_t{5} << 20);
  EXPECT_GT(rows_per_result(large), 100U);
  EXPECT_EQ(rows_per_result({.width = 4 << 20, .n_expert = 8, .n_expert_used = 2, .n_layer = 1, .chunk = 2}),
            1U);
}

TEST(Wire, NotesAreWhatTheyWere) {
  std::array<std::byte, kMaxHintsBytes> note{};
  const std::array<ExpertKey, 2> keys = {ExpertKey{3, 1}, ExpertKey{4, 2}};
  const size_t n = write_hints(note, keys, PrefetchDepth::kMany);
  const auto read = read_note(std::span(note).first(n));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->kind, NoteKind::kHints);
  const auto hints = read_hints(read->body);
  ASSERT_TRUE(hints.has_value());
  EXPECT_EQ(hints->depth, PrefetchDepth::kMany);
  EXPECT_THAT(hints->experts, ElementsAre(ExpertKey{3, 1}, ExpertKey{4, 2}));
  EXPECT_FALSE(read_hints(read->body.first(11)).has_value());

  const std::string warm = make_warm_part({.number = 3, .last = true, .experts = keys});
  const auto warm_note = read_note(std::as_bytes(std::span(warm)));
  ASSERT_TRUE(warm_note.has_value());
  EXPECT_EQ(warm_note->kind, NoteKind::kWarm);
  const auto part = read_warm_part(warm_note->body);
  ASSERT_TRUE(part.has_value());
  EXPECT_EQ(part->number, 3);
  EXPECT_TRUE(part->last);
  EXPECT_THAT(part->experts, ElementsAre(ExpertKey{3, 1}, ExpertKey{4, 2}));
  for (const size_t cut : {0U, 4U, 7U, 11U})
    EXPECT_FALSE(read_warm_part(warm_note->body.first(cut)).has_value());
  const std::string warmed = make_warmed({.number = 3, .done = 1, .n_read = 5, .n_expert = 7});
  const auto said = read_warmed(read_note(std::as_bytes(std::span(warmed)))->body);
  ASSERT_TRUE(said.has_value());
  EXPECT_EQ(said->n_read, 5);
  EXPECT_FALSE(read_warmed(std::as_bytes(std::span(warmed)).first(20)).has_value());

  const auto abandon = read_note(std::span(note).first(write_abandon(note, 77)));
  EXPECT_EQ(read_abandon(abandon->body), 77);
  EXPECT_FALSE(read_note({}).has_value());
  const std::string unknown = "\xff\xff\xff\xff";
  EXPECT_FALSE(read_note(std::as_bytes(std::span(unknown))).has_value());
}

}  // namespace
}  // namespace odmoe
