#include "model/sequence_state.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/units.h"

namespace odmoe {
namespace {

constexpr size_t kStatePieceBytes = 1 << 20;

}  // namespace

SequenceState::SequenceState(Backend& backend, std::shared_ptr<const StatePlan> plan)
    : backend_(&backend), plan_(std::move(plan)), first_kept_(plan_->groups().size()) {
  snapshots_.reserve(static_cast<size_t>(plan_->options().snapshots));
}

Result<std::unique_ptr<SequenceState>> SequenceState::create(Backend& backend,
                                                             std::shared_ptr<const StatePlan> plan) {
  std::unique_ptr<SequenceState> state(new SequenceState(backend, std::move(plan)));
  const StatePlan& p = *state->plan_;
  // It is zero, which the masked, never written rows must be: 0 times NaN is NaN.  Each tensor's rows grow
  // from a place of their own.
  uint64_t bytes = 0;
  for (const StatePlan::Tensor& tensor : p.tensors()) {
    bytes += (tensor.overwritten ? 2 : 1) * round_up(tensor.bytes, backend.alignment());
  }
  ODMOE_ASSIGN_OR_RETURN(state->memory_, DeviceMemory::allocate(backend, bytes, DeviceMemory::Use::kSparse));
  if (!p.holds_every_length()) {
    ODMOE_ASSIGN_OR_RETURN(state->snapshot_memory_,
                           AlignedBuffer::allocate(p.bytes() - p.tensor_bytes(), /*huge_pages=*/false));
  }
  state->context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * 2 * p.tensors().size(),
                                   .mem_buffer = nullptr,
                                   .no_alloc = true}));
  uint64_t offset = 0;
  bool placed = true;
  const auto make = [&](const StatePlan::Tensor& tensor) {
    ggml_context* ctx = state->context_.get();
    const int64_t rows = tensor.overwritten ? 1 : p.groups()[tensor.group].rows();
    ggml_tensor* made = tensor.overwritten  ? ggml_new_tensor_1d(ctx, tensor.type, tensor.values)
                        : tensor.transposed ? ggml_new_tensor_2d(ctx, tensor.type, rows, tensor.values)
                                            : ggml_new_tensor_2d(ctx, tensor.type, tensor.values, rows);
    placed = state->memory_.place(made, offset) && placed;
    offset += round_up(tensor.bytes, backend.alignment());
    return made;
  };
  for (const StatePlan::Tensor& tensor : p.tensors()) {
    state->tensors_[0].push_back(make(tensor));
    state->tensors_[1].push_back(tensor.overwritten ? make(tensor) : state->tensors_[0].back());
  }
  if (!placed) return fail(ErrorKind::kIo, "{} cannot hold a KV cache", backend.description());
  return state;
}

ggml_tensor* SequenceState::rows(int layer, size_t number) const {
  const StatePlan::Tensor& tensor = plan_->tensor(layer, number);
  assert(!tensor.overwritten);
  return tensors_[0][plan_->index(tensor)];
}

ggml_tensor* SequenceState::before(int layer, size_t number) const {
  const StatePlan::Tensor& tensor = plan_->tensor(layer, number);
  assert(tensor.overwritten);
  return tensors_[static_cast<size_t>(side_)][plan_->index(tensor)];
}

ggml_tensor* SequenceState::after(int layer, size_t number) const {
  const StatePlan::Tensor& tensor = plan_->tensor(layer, number);
  assert(tensor.overwritten);
  return tensors_[static_cast<size_t>(1 - side_)][plan_->index(tensor)];
}

uint64_t SequenceState::count(int64_t length, bool will_keep) {
  const auto snapshots =
      std::min(static_cast<int32_t>(snapshots_.size()) + (will_keep ? 1 : 0), plan_->options().snapshots);
  if (length <= counted_length_ && snapshots <= counted_snapshots_) return 0;  // as with most tokens
  const uint64_t before = counted_bytes();
  counted_length_ = std::max(counted_length_, RowGroup::padded(length));  // rows become resident so
  counted_snapshots_ = std::max(counted_snapshots_, snapshots);
  return counted_bytes() - before;
}

void SequenceState::begin(int64_t n) {
  assert(evaluating_ == 0 && n >= 1 && n <= plan_->options().chunk);
  assert(length_ + n <= plan_->options().context);
  evaluating_ = n;
  singly_ = false;
  first_side_ = side_;
  other_length_ = -1;
  for (size_t i = 0; i < first_kept_.size(); ++i) {
    first_kept_[i] = std::max(first_kept_[i], plan_->groups()[i].first_kept(length_ + n));
  }
}

void SequenceState::begin_singly(int64_t n) {
  begin(n);
  singly_ = true;
}

void SequenceState::step(int64_t i) {
  assert(singly_ && i < evaluating_);
  if (plan_->has_overwritten()) side_ = i % 2 == 0 ? first_side_ : 1 - first_side_;
}

void SequenceState::commit() {
  assert(evaluating_ > 0);
  const int64_t at_once = singly_ ? 1 : evaluating_;
  if (plan_->has_overwritten()) {
    if (singly_) step(evaluating_ - 1);
    other_length_ = length_ + evaluating_ - at_once;
    side_ = 1 - side_;
  }
  length_ += evaluating_;
  last_commit_ = at_once;
  evaluating_ = 0;
}

// Rows that failed may hold what is not finite, and rows are multiplied by 0 where they are not seen.
void SequenceState::roll_back() {
  if (evaluating_ == 0) return;
  zero_rows(length_, evaluating_);
  const bool lost = plan_->has_overwritten() && singly_ && evaluating_ > 1;  // both copies were written
  evaluating_ = 0;
  side_ = first_side_;
  if (lost) go_back(snapshots_.empty() ? 0 : snapshots_.back().length);
}

void SequenceState::zero_rows(int64_t first, int64_t n) {
  std::vector<std::byte> zeros;
  for (const StatePlan::Tensor& tensor : plan_->tensors()) {
    if (tensor.overwritten) continue;
    const auto zero = [&](uint64_t offset, size_t bytes) {
      zeros.resize(std::max(zeros.size(), bytes));
      backend_->write(tensors_[0][plan_->index(tensor)], offset, std::span(zeros).first(bytes));
    };
    const RowGroup& group = plan_->groups()[tensor.group];
    std::vector<int64_t> rows(static_cast<size_t>(group.rows_written(first, n)));
    group.fill_rows(first, n, rows);
    for (size_t i = 0, next = 0; i < rows.size(); i = next) {  // those that follow each other at once
      while (next < rows.size() && rows[next] == rows[i] + static_cast<int64_t>(next - i)) ++next;
      each_piece(tensor, rows[i], static_cast<int64_t>(next - i), zero);
    }
  }
}

// Calls move(offset into the tensor, bytes) for n rows that follow each other: once, or for each value of
// them.
template <typename Move>
void SequenceState::each_piece(const StatePlan::Tensor& tensor, int64_t row, int64_t n,
                               const Move& move) const {
  if (!tensor.transposed) {
    move(static_cast<uint64_t>(row) * tensor.row_bytes, static_cast<size_t>(n) * tensor.row_bytes);
    return;
  }
  const size_t size = ggml_type_size(tensor.type);
  const auto rows = static_cast<uint64_t>(plan_->groups()[tensor.group].rows());
  for (int64_t value = 0; value < tensor.values; ++value) {
    move((static_cast<uint64_t>(value) * rows + static_cast<uint64_t>(row)) * size,
         static_cast<size_t>(n) * size);
  }
}

const SequenceState::Snapshot* SequenceState::snapshot_of(int64_t length) const {
  const auto found = std::ranges::find(snapshots_, length, &Snapshot::length);
  return found == snapshots_.end() ? nullptr : &*found;
}

// Whether the windows' rows that the token after `length` tokens needs are there.
bool SequenceState::windows_reach(int64_t length) const {
  for (size_t i = 0; i < first_kept_.size(); ++i) {
    const int64_t window = plan_->groups()[i].kind().window;
    if (window > 0 && std::max<int64_t>(0, length - window + 1) < first_kept_[i]) return false;
  }
  return true;
}

bool SequenceState::other_side_is(int64_t length) const {
  return other_length_ == length && windows_reach(length);
}

int64_t SequenceState::reachable(int64_t n) const {
  if (n >= length_) return length_;
  if (plan_->holds_every_length()) return n;
  if (!plan_->has_overwritten() && windows_reach(n)) return n;
  int64_t reached = 0;
  if (other_length_ >= 0 && other_length_ <= n && other_side_is(other_length_)) reached = other_length_;
  for (const Snapshot& snapshot : snapshots_) {
    if (snapshot.length <= n) reached = std::max(reached, snapshot.length);
  }
  return reached;
}

int64_t SequenceState::rewind(int64_t n) {
  assert(evaluating_ == 0);
  n = reachable(n);
  if (n != length_) go_back(n);
  return n;
}

// To a length that can be reached.
void SequenceState::go_back(int64_t n) {
  if (n == 0) {
    for (const StatePlan::Tensor& tensor : plan_->tensors()) {
      if (!tensor.overwritten) continue;
      const std::vector<std::byte> zeros(tensor.row_bytes);
      backend_->write(tensors_[static_cast<size_t>(side_)][plan_->index(tensor)], 0, zeros);
    }
    std::ranges::fill(first_kept_, 0);
  } else if (other_side_is(n)) {
    side_ = 1 - side_;
  } else if (plan_->has_overwritten() || !windows_reach(n)) {
    write_tail(n, place(snapshot_of(n)->place).first(plan_->tail_bytes(n)));
  }
  forget_after(n);
}

void SequenceState::forget_after(int64_t length) {
  length_ = length;
  last_commit_ = 0;
  other_length_ = -1;
  std::erase_if(snapshots_, [length](const Snapshot& snapshot) { return snapshot.length > length; });
}

bool SequenceState::worth_keeping() const {
  return !plan_->holds_every_length() && length_ > 0 && snapshot_of(length_) == nullptr;
}

void SequenceState::keep() {
  assert(evaluating_ == 0 && worth_keeping());
  size_t free = 0;
  if (std::cmp_less(snapshots_.size(), plan_->options().snapshots)) {
    while (std::ranges::contains(snapshots_, free, &Snapshot::place)) ++free;
  } else {
    free = snapshots_.front().place;
    snapshots_.erase(snapshots_.begin());
  }
  read_tail(length_, side_, place(free).first(plan_->tail_bytes(length_)));
  snapshots_.push_back({.length = length_, .place = free});  // nothing of more tokens is there
}

std::span<std::byte> SequenceState::place(size_t i) const {
  const uint64_t bytes = plan_->max_tail_bytes();
  return snapshot_memory_.span().subspan(i * bytes, bytes);
}

// Calls move(offset into the tensor, bytes) for the rows of the tail of `length` tokens, oldest first.
template <typename Move>
void SequenceState::each_window_piece(const StatePlan::Tensor& tensor, int64_t length,
                                      const Move& move) const {
  const int64_t rows = plan_->groups()[tensor.group].rows();
  const int64_t n = plan_->tail_rows(tensor, length);
  for (int64_t done = 0; done < n;) {
    const int64_t row = (length - n + done) % rows;
    const int64_t some = std::min(n - done, rows - row);
    each_piece(tensor, row, some, move);
    done += some;
  }
}

// Calls move(tensor, offset into it, bytes) for the tail of `length` tokens; `side` of the overwritten
// values.
template <typename Move>
void SequenceState::each_tail_piece(int64_t length, int side, const Move& move) const {
  for (const StatePlan::Tensor& tensor : plan_->tensors()) {
    ggml_tensor* const values = tensors_[static_cast<size_t>(side)][plan_->index(tensor)];
    const auto move_piece = [&](uint64_t offset, size_t bytes) { move(values, offset, bytes); };
    if (tensor.overwritten) {
      move_piece(0, tensor.row_bytes);
    } else {
      each_window_piece(tensor, length, move_piece);
    }
  }
}

// The same for all that save() gives of n tokens, which are those that the tensors have now.
template <typename Move>
void SequenceState::each_saved_piece(int64_t n, const Move& move) const {
  for (const StatePlan::Tensor& tensor : plan_->tensors()) {
    const int64_t rows = plan_->kept_rows(tensor, n);
    if (rows == 0) continue;
    each_piece(tensor, 0, rows, [&](uint64_t offset, size_t bytes) {
      move(tensors_[0][plan_->index(tensor)], offset, bytes);
    });
  }
  if (!plan_->holds_every_length()) each_tail_piece(n, side_, move);
}

void SequenceState::read_tail(int64_t length, int side, std::span<std::byte> tail) const {
  each_tail_piece(length, side, [&](const ggml_tensor* from, uint64_t offset, size_t bytes) {
    backend_->read(from, offset, tail.first(bytes));
    tail = tail.subspan(bytes);
  });
  assert(tail.empty());
}

void SequenceState::write_tail(int64_t length, std::span<const std::byte> tail) {
  each_tail_piece(length, side_, [&](ggml_tensor* to, uint64_t offset, size_t bytes) {
    backend_->write(to, offset, tail.first(bytes));
    tail = tail.subspan(bytes);
  });
  assert(tail.empty());
  has_tail(length);
}

void SequenceState::has_tail(int64_t length) {
  for (size_t i = 0; i < first_kept_.size(); ++i) {
    const int64_t window = plan_->groups()[i].kind().window;
    if (window > 0) first_kept_[i] = std::max<int64_t>(0, length - window + 1);
  }
}

void SequenceState::save(int64_t n, std::span<std::byte> state) const {
  assert(reachable(n) == n && state.size() == state_bytes(n));
  for (const StatePlan::Tensor& tensor : plan_->tensors()) {
    const int64_t rows = plan_->kept_rows(tensor, n);
    if (rows == 0) continue;
    each_piece(tensor, 0, rows, [&](uint64_t offset, size_t bytes) {
      backend_->read(tensors_[0][plan_->index(tensor)], offset, state.first(bytes));
      state = state.subspan(bytes);
    });
  }
  if (state.empty()) return;
  const Snapshot* snapshot = snapshot_of(n);
  if (n == length_) {
    read_tail(n, side_, state);
  } else if (snapshot != nullptr) {
    std::ranges::copy(place(snapshot->place).first(state.size()), state.begin());
  } else {
    // Either nothing is overwritten, or the other copy is of this length.
    read_tail(n, 1 - side_, state);
  }
}

void SequenceState::restore(int64_t n, int64_t state_length, std::span<const std::byte> state) {
  assert(n <= state_length && state.size() == state_bytes(state_length));
  assert(n == state_length || plan_->holds_every_length());
  for (const StatePlan::Tensor& tensor : plan_->tensors()) {
    const int64_t rows = plan_->kept_rows(tensor, n);
    const int64_t saved = plan_->kept_rows(tensor, state_length);
    if (saved == 0) continue;
    // Of each piece of the state the part that is wanted.
    each_piece(tensor, 0, saved, [&](uint64_t offset, size_t bytes) {
      const size_t wanted = bytes / static_cast<size_t>(saved) * static_cast<size_t>(rows);
      if (wanted > 0) backend_->write(tensors_[0][plan_->index(tensor)], offset, state.first(wanted));
      state = state.subspan(bytes);
    });
  }
  snapshots_.clear();
  forget_after(n);
  if (!plan_->holds_every_length()) write_tail(n, state);
}

Status SequenceState::save_to(const TakeBytes& take) const {
  assert(evaluating_ == 0);
  std::vector<std::byte> held(kStatePieceBytes);
  size_t n_held = 0;
  Status status;
  each_saved_piece(length_, [&](const ggml_tensor* from, uint64_t offset, size_t bytes) {
    while (bytes > 0 && status.has_value()) {
      const size_t n = std::min(bytes, held.size() - n_held);
      backend_->read(from, offset, std::span(held).subspan(n_held, n));
      n_held += n;
      offset += n;
      bytes -= n;
      if (n_held == held.size()) status = take(std::span(held).first(std::exchange(n_held, 0)));
    }
  });
  if (status.has_value() && n_held > 0) status = take(std::span(held).first(n_held));
  return status;
}

Status SequenceState::restore_from(int64_t n, const GiveBytes& give) {
  std::vector<std::byte> held(static_cast<size_t>(std::min<uint64_t>(kStatePieceBytes, state_bytes(n))));
  uint64_t left = state_bytes(n);
  std::span<const std::byte> rest;
  Status status;
  each_saved_piece(n, [&](ggml_tensor* to, uint64_t offset, size_t bytes) {
    while (bytes > 0 && status.has_value()) {
      if (rest.empty()) {
        const auto piece = std::span(held).first(static_cast<size_t>(std::min<uint64_t>(left, held.size())));
        status = give(piece);
        if (!status.has_value()) return;
        left -= piece.size();
        rest = piece;
      }
      const size_t some = std::min(bytes, rest.size());
      backend_->write(to, offset, rest.first(some));
      rest = rest.subspan(some);
      offset += some;
      bytes -= some;
    }
  });
  ODMOE_RETURN_IF_ERROR(status);
  snapshots_.clear();
  forget_after(n);
  has_tail(n);
  return {};
}

void SequenceState::clear() {
  memory_.clear(*backend_);
  if (snapshot_memory_.size() > 0) snapshot_memory_.discard(0, snapshot_memory_.size());
  snapshots_.clear();
  forget_after(0);
  std::ranges::fill(first_kept_, 0);
  counted_length_ = 0;
  counted_snapshots_ = 0;
}

}  // namespace odmoe
