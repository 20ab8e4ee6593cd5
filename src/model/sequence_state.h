// What one sequence remembers of its tokens: keys and values, windows of them, recurrent states.
//
// Evaluations are transactions: begin(), then commit() or roll_back(), which leaves everything as it was.
// Rows are appended; overwritten values exist twice, and an evaluation reads one copy and writes the other.
// Going back needs nothing where the rows of all tokens are kept.  Of windows the older rows are lost in
// time, and overwritten values at once: there a sequence can go back to where it began, by one commit, and to
// where a snapshot was taken.
#pragma once

#include <ggml-cpp.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "base/aligned_buffer.h"
#include "model/state_plan.h"
#include "odmoe/result.h"

namespace odmoe {

// One owner.  Memory is reserved at once, but becomes resident only as tokens come.
class SequenceState {
 public:
  // The backend must outlive it; when a device fails, what is read here may be anything.  kIo without memory.
  static Result<std::unique_ptr<SequenceState>> create(Backend& backend,
                                                       std::shared_ptr<const StatePlan> plan);

  const StatePlan& plan() const { return *plan_; }

  // For graphs, of a tensor by its layer and number.
  // [values of a row, RowGroup::rows()], or the other way round where it is transposed()
  ggml_tensor* rows(int layer, size_t number) const;
  bool transposed(int layer, size_t number) const { return plan_->tensor(layer, number).transposed; }
  // Overwritten values, [values]: what is there, and where an evaluation leaves what comes after it.
  ggml_tensor* before(int layer, size_t number) const;
  ggml_tensor* after(int layer, size_t number) const;
  // Which of the two copies before() is, 0 or 1: always 0 where nothing is overwritten.
  int side() const { return side_; }

  int64_t length() const { return length_; }  // tokens

  // What `length` tokens and, if it `will_keep`, a snapshot make resident in the host's memory more than is
  // counted so far; counts it from now on.  To be asked before they come.
  uint64_t count(int64_t length, bool will_keep);
  // All that is counted.
  uint64_t counted_bytes() const {
    return plan_->resident_snapshot_bytes(counted_snapshots_) +
           (backend_->computes_on_host_memory() ? plan_->resident_tensor_bytes(counted_length_) : 0);
  }

  // An evaluation of n more tokens begins; went well; or failed.
  void begin(int64_t n);
  void commit();
  void roll_back();
  // One of n more tokens, each by itself but layer by layer together.  Before each token of a layer step(),
  // with the token's number: before() and after() are its own then.  Where values are overwritten and n > 1,
  // roll_back() goes to the last snapshot, or to no tokens.
  void begin_singly(int64_t n);
  void step(int64_t i);
  // How many tokens the last commit() was of; 0 after anything else.
  int64_t last_commit() const { return last_commit_; }

  // The most tokens, at most n, that rewind() can go back to.
  int64_t reachable(int64_t n) const;
  // Forgets all but the first reachable(n) tokens; returns how many that is.
  int64_t rewind(int64_t n);
  // Whether keep() would take a snapshot: where one is needed, and there is none of this length.
  bool worth_keeping() const;
  // Takes a snapshot, to which it can go back; the one of the fewest tokens makes room if there are too many.
  void keep();

  // All that is remembered of the first n tokens, reachable(n) == n: how many bytes, and to and from them.
  // Those of a plan that holds_every_length() may be restored in part: the first n tokens of a state of
  // `state_length`; of others only the whole.
  uint64_t state_bytes(int64_t n) const { return plan_->rows_bytes(n) + plan_->tail_bytes(n); }
  void save(int64_t n, std::span<std::byte> state) const;
  void restore(int64_t n, int64_t state_length, std::span<const std::byte> state);

  // The same bytes of all tokens, piece by piece and in order, as they are taken or given until that fails.
  // After a failure of restore_from() nothing is known of the state: clear() it.
  using TakeBytes = std::function<Status(std::span<const std::byte>)>;
  using GiveBytes = std::function<Status(std::span<std::byte>)>;
  Status save_to(const TakeBytes& take) const;
  Status restore_from(int64_t n, const GiveBytes& give);

  // Forgets everything and gives the memory back.
  void clear();

 private:
  struct Snapshot {
    int64_t length = 0;
    size_t place = 0;
  };
  SequenceState(Backend& backend, std::shared_ptr<const StatePlan> plan);
  std::span<std::byte> place(size_t i) const;
  const Snapshot* snapshot_of(int64_t length) const;
  bool windows_reach(int64_t length) const;
  bool other_side_is(int64_t length) const;
  void zero_rows(int64_t first, int64_t n);
  template <typename Move>
  void each_saved_piece(int64_t n, const Move& move) const;
  template <typename Move>
  void each_tail_piece(int64_t length, int side, const Move& move) const;
  void has_tail(int64_t length);
  // The tail of `length` tokens, from what the tensors have now; `side` of the overwritten values.
  void read_tail(int64_t length, int side, std::span<std::byte> tail) const;
  void write_tail(int64_t length, std::span<const std::byte> tail);
  template <typename Move>
  void each_piece(const StatePlan::Tensor& tensor, int64_t row, int64_t n, const Move& move) const;
  template <typename Move>
  void each_window_piece(const StatePlan::Tensor& tensor, int64_t length, const Move& move) const;
  void go_back(int64_t length);
  void forget_after(int64_t length);

  Backend* backend_;
  std::shared_ptr<const StatePlan> plan_;
  DeviceMemory memory_;
  AlignedBuffer snapshot_memory_;
  ggml_context_ptr context_;
  std::array<std::vector<ggml_tensor*>, 2>
      tensors_;  // by StatePlan::index(); the second of what is overwritten
  int side_ = 0;
  int64_t length_ = 0;
  int64_t evaluating_ = 0;  // tokens, between begin() and its end
  bool singly_ = false;     // they are evaluated by themselves
  int first_side_ = 0;      // before() of the first of them
  int64_t last_commit_ = 0;
  int64_t other_length_ = -1;        // tokens after which the other copy was; -1: none
  std::vector<int64_t> first_kept_;  // by group: earlier positions' rows may be other ones
  std::vector<Snapshot> snapshots_;  // by length
  int64_t counted_length_ = 0;
  int32_t counted_snapshots_ = 0;
};

}  // namespace odmoe
