#include "model/sequence_state.h"

#include <gtest/gtest.h>

#include <vector>

#include "backend/tensor_memory.h"

namespace odmoe {
namespace {

constexpr int64_t kLength = 2000, kChunk = 32, kWindow = 20;

// One layer of each kind, and rows that are transposed.  What a token leaves in a row is its number, and the
// same and more in the row's other values; the overwritten value is a sum that tells every sequence of tokens
// from every other.
class SequenceStateTest : public ::testing::TestWithParam<bool> {
 protected:
  enum Layer { kAll, kWindowed, kBlocks, kRecurrent };

  void SetUp() override {
    auto backend = Backend::create({.threads = 1, .memory_of_its_own = GetParam()});
    ASSERT_TRUE(backend.has_value());
    backend_ = std::move(*backend);
    plan_ = plan(layout());
    state_ = make(plan_);
  }
  static StateLayout layout() {
    const RowKind window{.window = kWindow};
    return {{StateTensor::rows(1, {}, GGML_TYPE_F32), StateTensor::summed_rows(3)},
            {StateTensor::rows(1, window, GGML_TYPE_F32), StateTensor::summed_rows(2, window)},
            {StateTensor::rows(1, {.tokens_per_row = 4, .made_from = 4}, GGML_TYPE_F32)},
            {StateTensor::overwritten(1)}};
  }
  static std::shared_ptr<const StatePlan> plan(const StateLayout& layout, int64_t context = kLength) {
    auto plan = StatePlan::make(
        layout,
        {.type = CacheType::kF32, .context = context, .chunk = kChunk, .snapshots = 2, .transposes = true});
    EXPECT_TRUE(plan.has_value());
    return std::make_shared<const StatePlan>(std::move(*plan));
  }
  std::unique_ptr<SequenceState> make(const std::shared_ptr<const StatePlan>& plan) {
    auto state = SequenceState::create(*backend_, plan);
    EXPECT_TRUE(state.has_value());
    return std::move(*state);
  }

  static float get(const ggml_tensor* tensor, int64_t row) {
    float value = 0;
    read_tensor(tensor, static_cast<uint64_t>(row) * sizeof(float),
                std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  static void set(ggml_tensor* tensor, int64_t row, float value) {
    write_tensor(tensor, static_cast<uint64_t>(row) * sizeof(float), std::as_bytes(std::span(&value, 1)));
  }
  // Where a value of a row is.
  static int64_t place(const StatePlan& plan, const StatePlan::Tensor& tensor, int64_t row, int64_t value) {
    return tensor.transposed ? value * plan.groups()[tensor.group].rows() + row : row * tensor.values + value;
  }
  static float left(int token, int64_t value) { return static_cast<float>(token + 10000 * value); }
  // What a model does: writes as graphs do.
  static void write(SequenceState& state, const std::vector<int>& tokens) {
    const auto n = static_cast<int64_t>(tokens.size());
    for (const StatePlan::Tensor& tensor : state.plan().tensors()) {
      if (tensor.overwritten) {
        float sum = get(state.before(tensor.layer, tensor.number), 0);
        for (const int token : tokens) sum = sum * 0.75F + static_cast<float>(token);
        set(state.after(tensor.layer, tensor.number), 0, sum);
        continue;
      }
      const RowGroup& group = state.plan().groups()[tensor.group];
      std::vector<int64_t> rows(static_cast<size_t>(group.rows_written(state.length(), n)));
      group.fill_rows(state.length(), n, rows);
      for (size_t i = 0; i < rows.size(); ++i) {
        // A block's row is that of its last token so far.
        const size_t per_row = static_cast<size_t>(group.kind().tokens_per_row);
        const size_t last =
            per_row == 1 ? i
                         : std::min((i + 1) * per_row - 1 - static_cast<size_t>(state.length()) % per_row,
                                    tokens.size() - 1);
        for (int64_t value = 0; value < tensor.values; ++value) {
          set(state.rows(tensor.layer, tensor.number), place(state.plan(), tensor, rows[i], value),
              left(tokens[last], value));
        }
      }
    }
  }
  static void evaluate(SequenceState& state, const std::vector<int>& tokens) {
    state.begin(static_cast<int64_t>(tokens.size()));
    write(state, tokens);
    state.commit();
  }
  void feed(int64_t n) {
    while (n > 0) {
      const int64_t some = std::min(n, kChunk);
      std::vector<int> tokens;
      for (int64_t i = 0; i < some; ++i) {
        history_.push_back(1 + static_cast<int>(history_.size()) * 7 % 1000);
        tokens.push_back(history_.back());
      }
      evaluate(*state_, tokens);
      n -= some;
    }
  }
  // All that the next token may look at is that of the history's tokens.
  void expect_remembers(const SequenceState& state, int64_t n) const {
    ASSERT_EQ(state.length(), n);
    for (const StatePlan::Tensor& tensor : state.plan().tensors()) {
      if (tensor.overwritten) {
        float sum = 0;
        for (int64_t i = 0; i < n; ++i)
          sum = sum * 0.75F + static_cast<float>(history_[static_cast<size_t>(i)]);
        EXPECT_EQ(get(state.before(tensor.layer, tensor.number), 0), sum) << n;
        continue;
      }
      const RowGroup& group = state.plan().groups()[tensor.group];
      const int64_t per_row = group.kind().tokens_per_row;
      for (int64_t p = group.first_needed(n); p < n; ++p) {
        if ((p + 1) % per_row != 0) continue;
        for (int64_t value = 0; value < tensor.values; ++value) {
          EXPECT_EQ(get(state.rows(tensor.layer, tensor.number),
                        place(state.plan(), tensor, p / per_row % group.rows(), value)),
                    left(history_[static_cast<size_t>(p)], value))
              << "position " << p << " of " << n << ", layer " << tensor.layer << ", value " << value;
        }
      }
    }
  }
  void rewind_to(int64_t n, int64_t reached) {
    EXPECT_EQ(state_->reachable(n), reached);
    EXPECT_EQ(state_->rewind(n), reached);
    history_.resize(static_cast<size_t>(reached));
    expect_remembers(*state_, reached);
  }

  std::unique_ptr<Backend> backend_;
  std::shared_ptr<const StatePlan> plan_;
  std::unique_ptr<SequenceState> state_;
  std::vector<int> history_;
};

TEST_P(SequenceStateTest, RemembersWhatTheNextTokenNeeds) {
  for (int i = 0; i < 60; ++i) {
    feed(i % 3 == 0 ? 1 : i % kChunk + 1);
    expect_remembers(*state_, std::ssize(history_));
  }
  EXPECT_GT(state_->length(), 2 * 256) << "rows of the window were used again";
}

TEST_P(SequenceStateTest, AnEvaluationThatFailsLeavesItAsItWas) {
  feed(600);
  for (const int n : {1, 20, 32}) {
    state_->begin(n);
    write(*state_, std::vector<int>(static_cast<size_t>(n), -5));
    state_->roll_back();
    expect_remembers(*state_, 600);
  }
  feed(1);
  expect_remembers(*state_, 601);
}

TEST_P(SequenceStateTest, RowsOfAFailedEvaluationAreZero) {
  feed(10);
  state_->begin(3);
  write(*state_, {7, 7, 7});
  state_->roll_back();
  for (int64_t row = 10; row < 13; ++row) {
    EXPECT_EQ(get(state_->rows(kAll, 0), row), 0);
    EXPECT_EQ(get(state_->rows(kWindowed, 0), row), 0);
    for (int64_t value = 0; value < 3; ++value) {
      EXPECT_EQ(get(state_->rows(kAll, 1), place(*plan_, plan_->tensor(kAll, 1), row, value)), 0);
    }
  }
}

TEST_P(SequenceStateTest, GoesBackByOneCommit) {
  feed(600);
  feed(1);
  rewind_to(600, 600);
  feed(30);
  rewind_to(629, 600);
  feed(40);
  EXPECT_EQ(state_->reachable(639), 632) << "the commit before the last one of 8";
}

TEST_P(SequenceStateTest, GoesBackToSnapshotsAndToTheBeginning) {
  feed(500);
  ASSERT_TRUE(state_->worth_keeping());
  state_->keep();
  EXPECT_FALSE(state_->worth_keeping()) << "it is there";
  feed(300);
  state_->keep();
  feed(400);
  EXPECT_EQ(state_->reachable(1100), 800);
  rewind_to(1000, 800);
  feed(400);
  rewind_to(799, 500);
  feed(300);
  rewind_to(499, 0);
  feed(40);
  expect_remembers(*state_, 40);
}

TEST_P(SequenceStateTest, TheSnapshotOfTheFewestTokensMakesRoom) {
  for (int i = 0; i < 3; ++i) {
    feed(100);
    state_->keep();
  }
  feed(100);
  EXPECT_EQ(state_->reachable(399 - 30), 300);
  EXPECT_EQ(state_->reachable(250), 200);
  EXPECT_EQ(state_->reachable(150), 0);
}

TEST_P(SequenceStateTest, WindowsAloneGoBackAsFarAsTheirRowsAreThere) {
  plan_ = plan({{StateTensor::rows(1, {.window = kWindow}, GGML_TYPE_F32)}});
  state_ = make(plan_);
  feed(1000);
  const int64_t lost = 1000 - 256;
  rewind_to(900, 900);
  rewind_to(lost + kWindow - 1, lost + kWindow - 1);
  feed(300);
  EXPECT_EQ(state_->reachable(state_->length() - 256 + kWindow - 2), 0);
}

TEST_P(SequenceStateTest, RowsOfAllTokensGoBackAnywhere) {
  plan_ = plan({{StateTensor::rows(1, {}, GGML_TYPE_F32)}});
  state_ = make(plan_);
  feed(1000);
  EXPECT_FALSE(state_->worth_keeping());
  rewind_to(7, 7);
}

TEST_P(SequenceStateTest, WhatIsSavedIsBroughtBackElsewhere) {
  feed(500);
  state_->keep();
  feed(33);
  for (const int64_t n : {int64_t{500}, state_->reachable(532), state_->length()}) {
    ASSERT_EQ(state_->reachable(n), n);
    std::vector<std::byte> saved(state_->state_bytes(n));
    state_->save(n, saved);
    const auto longer = make(plan(layout(), 5000));
    evaluate(*longer, std::vector<int>(32, 3));
    evaluate(*longer, {4});
    ASSERT_EQ(longer->state_bytes(n), saved.size());
    longer->restore(n, n, saved);
    expect_remembers(*longer, n);
    EXPECT_EQ(longer->reachable(n - 1), 0) << "what came before was not saved";
  }
}

TEST_P(SequenceStateTest, WhatIsTakenInPiecesIsWhatIsSaved) {
  for (const size_t n : {100, 33, 400}) {
    feed(n);
    std::vector<std::byte> saved(state_->state_bytes(state_->length())), taken;
    state_->save(state_->length(), saved);
    const Status status = state_->save_to([&](std::span<const std::byte> piece) -> Status {
      taken.insert(taken.end(), piece.begin(), piece.end());
      return {};
    });
    ASSERT_TRUE(status.has_value());
    EXPECT_TRUE(taken == saved);
    const auto other = make(plan(layout(), 5000));
    evaluate(*other, std::vector<int>(32, 3));
    other->rewind(0);
    size_t given = 0;
    const auto give = [&](std::span<std::byte> piece) -> Status {
      std::ranges::copy(std::span(saved).subspan(given, piece.size()), piece.begin());
      given += piece.size();
      return {};
    };
    ASSERT_TRUE(other->restore_from(state_->length(), give).has_value());
    EXPECT_EQ(given, saved.size());
    expect_remembers(*other, state_->length());
  }
}

TEST_P(SequenceStateTest, PiecesThatAreNotTakenOrGivenEndIt) {
  feed(50);
  const auto fails = [](auto) -> Status { return fail(ErrorKind::kIo, "no more"); };
  EXPECT_FALSE(state_->save_to(fails).has_value());
  expect_remembers(*state_, 50);
  const auto other = make(plan_);
  EXPECT_FALSE(other->restore_from(50, fails).has_value());
  other->clear();
  EXPECT_EQ(other->length(), 0);
}

TEST_P(SequenceStateTest, RowsOfAllTokensAreBroughtBackInPart) {
  plan_ = plan({{StateTensor::rows(1, {}, GGML_TYPE_F32), StateTensor::summed_rows(2)}});
  state_ = make(plan_);
  feed(100);
  std::vector<std::byte> saved(state_->state_bytes(90));
  state_->save(90, saved);
  const auto other = make(plan_);
  other->restore(50, 90, saved);
  expect_remembers(*other, 50);
}

TEST_P(SequenceStateTest, CountsWhatBecomesResidentOnce) {
  EXPECT_EQ(state_->counted_bytes(), 0U);
  const bool of_device = GetParam();  // whose memory is none of the host's
  EXPECT_EQ(state_->count(10, false) > 0, !of_device);
  EXPECT_EQ(state_->count(10, false), 0U);
  feed(10);
  EXPECT_GT(state_->count(11, true), 0U);
  state_->keep();
  EXPECT_EQ(state_->count(20, false), 0U) << "rows become resident by the 256";
  EXPECT_EQ(state_->count(kLength, false) > 0, !of_device);
  state_->clear();
  EXPECT_EQ(state_->counted_bytes(), 0U);
  EXPECT_EQ(state_->length(), 0);
  history_.clear();
  feed(40);
  expect_remembers(*state_, 40);
}

INSTANTIATE_TEST_SUITE_P(Memory, SequenceStateTest, ::testing::Bool(),
                         [](const auto& one) { return one.param ? "OfADevice" : "OfTheHost"; });

}  // namespace
}  // namespace odmoe
