// Transport by MPI.  Its calls are made by one thread at a time (MPI_THREAD_SERIALIZED): whoever waits for a
// message asks for it himself, so that none has to be woken for another, and while nobody waits a thread of
// our own moves what is on its way.
//
// How it waits is measured (docs/scale.md).  MPI's own waiting spins, and so does a loop around
// sched_yield(): on processors that have anything else to do the kernel lets whoever yields wait for
// milliseconds, while a thread that has slept comes at once.
//   - whoever waits asks again and again for kSpin, which is longer than most answers of a rank beside this
//     one take, and gives way to nobody; then every kPause;
//   - while nobody does, threads compute: kDuringWork is enough to keep a long message going, and costs a few
//     per cent of one processor;
//   - when no message has come or gone for kLong, every kAtRest; notes, the signs of life, do not count.
//
// A rank that has gone: with ULFM (mpirun --with-ft ulfm) the head is told by what it waits for, and tells
// the others by revoking the communicator, since they wait for the head alone; then all that are left shrink
// it.
#include <mpi.h>
#include <sched.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/joining_thread.h"
#include "cluster/transport.h"

namespace odmoe {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using Time = std::chrono::steady_clock::time_point;

constexpr microseconds kSpin{100}, kPause{20}, kDuringWork{100}, kAtRest{1000};
constexpr microseconds kLong{2'000'000};
constexpr int kNoteTag = 1, kMessageTag = 2;
constexpr size_t kMostNotes = 64;     // that wait for one rank
constexpr size_t kMostComing = 1024;  // that have come and were not taken
constexpr milliseconds kFlush{2000};  // what was sent last arrives within

// Timers of this thread are late by 1 us; by 50 usually, which is longer than kPause.
void sleep_exactly() {
#ifdef __linux__
  thread_local const int once = prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  (void)once;
#endif
}

std::string text_of(int error) {
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  if (MPI_Error_string(error, text.data(), &length) != MPI_SUCCESS) return "error " + std::to_string(error);
  text.resize(static_cast<size_t>(length));
  return text;
}

class MpiTransport final : public Transport {
 public:
  // Once MPI is there.  Null, and why.
  static MpiTransport* join(std::string& error) {
    auto* transport = new MpiTransport();
    std::unique_lock lock(transport->mutex_);
    transport->changed_.wait(lock, [&] { return transport->joined_ || transport->error_; });
    if (transport->joined_) return transport;
    error = transport->error_->message;
    lock.unlock();
    delete transport;
    return nullptr;
  }
  ~MpiTransport() override {
    if (ending_ == Ending::kNo) leave();
  }

  int rank() const override { return rank_; }
  int n_rank() const override { return n_rank_; }
  const std::string& host(int rank) const override { return hosts_[static_cast<size_t>(rank)]; }

  Status send_note(int to, std::span<const std::byte> note) override {
    {
      const std::lock_guard lock(mutex_);
      if (error_) return std::unexpected(*error_);
      std::deque<std::vector<std::byte>>& notes = peer(to).notes;
      if (notes.size() >= kMostNotes) {
        return fail(ErrorKind::kBudget, "rank {} ({}) takes no notes", to, host(to));
      }
      notes.emplace_back(note.begin(), note.end());
      asked_ = true;
    }
    begin_asked();
    return {};
  }

  Result<std::optional<Note>> receive_note(std::span<std::byte> into, milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return !come_.empty() || error_; });
    if (come_.empty()) {
      if (error_) return std::unexpected(*error_);
      return std::nullopt;
    }
    const auto [from, note] = std::move(come_.front());
    come_.pop_front();
    if (come_.size() + 1 == kMostComing) asked_ = true;  // none were let in any more
    std::ranges::copy(note, into.begin());
    return Note{.from = from, .bytes = note.size()};
  }

  Status make_room(uint64_t message_bytes) override {
    const std::lock_guard lock(mutex_);
    for (int rank = 0; rank < n_rank_; ++rank) {
      if (!speaks_to(rank)) continue;
      if (!std::in_range<int>(message_bytes)) {
        return fail(ErrorKind::kUsage, "messages of {} bytes are longer than MPI's: a smaller --chunk",
                    message_bytes);
      }
      auto room = AlignedBuffer::allocate(message_bytes);
      if (!room.has_value()) return std::unexpected(room.error());
      peer(rank).room = std::move(*room);
      peer(rank).wants_message = true;
    }
    asked_ = true;
    return {};
  }

  Status send(int to, std::span<const std::byte> message) override {
    {
      const std::lock_guard lock(mutex_);
      if (error_) return std::unexpected(*error_);
      peer(to).message = message;
      peer(to).sending = true;
      last_moved_ = std::chrono::steady_clock::now();
      asked_ = true;
    }
    begin_asked();
    return {};
  }

  Result<bool> wait_sent(int to, milliseconds timeout) override {
    const bool sent = wait_until(timeout, [&] { return !peer(to).sending; });
    const std::lock_guard lock(mutex_);
    if (!sent && error_) return std::unexpected(*error_);
    return sent;
  }

  Result<std::optional<std::span<const std::byte>>> receive(int from, milliseconds timeout) override {
    Peer& peer = this->peer(from);
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(peer.taken, false)) peer.wants_message = asked_ = true;
    }
    wait_until(timeout, [&] { return peer.come.has_value(); });
    const std::lock_guard lock(mutex_);
    if (!peer.come) {
      if (error_) return std::unexpected(*error_);
      return std::nullopt;
    }
    const std::span<const std::byte> message = peer.room.span().first(*peer.come);
    peer.come.reset();
    peer.taken = true;
    return message;
  }

  bool can_regroup() const override {
    const std::lock_guard lock(mutex_);
    return error_.has_value() && lost_ && there_[0];
  }
  bool is_there(int rank) const override {
    const std::lock_guard lock(mutex_);
    return there_[static_cast<size_t>(rank)];
  }
  Status regroup(milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    regrouping_ = true;
    wake_.notify_one();
    // MPI waits for whom it counts among those that are left, and cannot be told how long.
    if (!changed_.wait_for(lock, timeout, [&] { return !regrouping_; })) {
      stuck_ = true;
      return fail(ErrorKind::kIo, "the ranks that are left did not find each other in {} ms",
                  timeout.count());
    }
    if (error_) return std::unexpected(*error_);
    return {};
  }

  void leave() override { end(Ending::kInOrder); }
  void abort(int exit_code) override {
    exit_code_ = exit_code;
    // The thread has MPI and does not come back.
    if (stuck_) end_all();
    end(Ending::kAtOnce);
  }

 private:
  enum class Ending : uint8_t { kNo, kInOrder, kAtOnce };

  // What is asked for and what has come, by rank.
  struct Peer {
    std::deque<std::vector<std::byte>> notes;  // to be sent
    std::span<const std::byte> message;        // likewise
    bool sending = false;                      // a message has not been handed over yet
    AlignedBuffer room;
    bool wants_message = false;  // room may be filled
    bool taken = false;          // what is in room has been given out
    std::optional<size_t> come;  // bytes in room
  };
  // What is theirs who call MPI.
  struct Flow {
    std::vector<std::byte> note_out;
    MPI_Request note_sending = MPI_REQUEST_NULL, message_sending = MPI_REQUEST_NULL;
    std::vector<std::byte> note_in;
    MPI_Request note_coming = MPI_REQUEST_NULL, message_coming = MPI_REQUEST_NULL;
    std::optional<size_t> come;  // bytes of a message of which nobody has been told yet
  };

  MpiTransport() : thread_([this] { run(); }) {}

  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }
  // Only the head speaks to all.
  bool speaks_to(int rank) const { return rank != rank_ && (rank_ == 0 || rank == 0); }
  int number(int rank) const { return numbers_[static_cast<size_t>(rank)]; }
  void end(Ending how) {
    {
      const std::lock_guard lock(mutex_);
      ending_ = how;
      wake_.notify_one();
    }
    thread_.join();
  }

  // What was asked for is begun now: by this thread, or by the other where that has MPI.
  void begin_asked() {
    if (try_drive().has_value()) return;
    const std::lock_guard lock(mutex_);
    wake_.notify_one();
  }
  template <typename There>
  bool wait_until(milliseconds timeout, const There& there);

  void run();
  std::optional<bool> try_drive();
  bool drive();
  bool join_all();
  void shrink();
  bool end_requests();
  Status shrink_world();
  void begin_anew(Status shrunk);
  void end_without_order();
  [[noreturn]] void end_all();
  bool start();
  bool look(int rank);
  bool done(MPI_Request& request, int rank, MPI_Status& status);
  bool check(int error, int rank);
  void rest();
  void finish();

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // what others wait for
  std::condition_variable wake_;     // what the thread waits for
  bool joined_ = false;
  std::optional<Error> error_;
  bool lost_ = false;        // the error is a rank that has gone, and the others can go on
  bool regrouping_ = false;  // asked for, and not done yet
  std::vector<bool> there_;  // by rank
  std::vector<Peer> peers_;
  std::deque<std::pair<int, std::vector<std::byte>>> come_;  // notes
  std::atomic<bool> asked_ = false;
  std::atomic<int> n_waiting_ = 0;  // threads that ask MPI themselves
  // A message, not a note.
  std::atomic<Time> last_moved_ = std::chrono::steady_clock::now();
  std::atomic<Ending> ending_ = Ending::kNo;
  std::atomic<int> exit_code_ = 1;
  std::atomic<bool> stuck_ = false;

  // Set before joined_, and then as they are.
  int rank_ = 0, n_rank_ = 1;
  std::vector<std::string> hosts_;
  // Whoever calls MPI holds it; taken before mutex_.
  std::mutex mpi_mutex_;
  MPI_Comm world_ = MPI_COMM_NULL;  // of the ranks that are there
  std::vector<int> numbers_;        // theirs in it, by rank
  std::vector<Flow> flows_;
  JoiningThread thread_;  // last: it uses the others
};

void MpiTransport::run() {
  sleep_exactly();
  if (!join_all()) return;
  while (ending_ == Ending::kNo) {
    (void)try_drive();
    rest();
    shrink();
  }
  const std::lock_guard mpi(mpi_mutex_);
  finish();
}

// Whether something moved; nothing when another thread has MPI.
std::optional<bool> MpiTransport::try_drive() {
  const std::unique_lock mpi(mpi_mutex_, std::try_to_lock);
  if (!mpi.owns_lock() || ending_ != Ending::kNo) return std::nullopt;
  return drive();
}

bool MpiTransport::drive() {
  bool moved = asked_.exchange(false) && start();
  for (int rank = 0; rank < n_rank_; ++rank) {
    if (speaks_to(rank)) moved = look(rank) || moved;
  }
  return moved;
}

// Whoever waits asks MPI itself.  `there` is asked with the lock held; false when it was not so in time, or
// nothing works any more.
template <typename There>
bool MpiTransport::wait_until(milliseconds timeout, const There& there) {
  sleep_exactly();
  const Time begin = std::chrono::steady_clock::now();
  ++n_waiting_;
  const auto ready = [&] { return there() || error_.has_value(); };
  while (true) {
    const bool moved = try_drive().value_or(false);
    std::unique_lock lock(mutex_);
    if (ready()) break;
    const Time now = std::chrono::steady_clock::now();
    if (now - begin >= timeout) break;
    if (moved || (now - begin < kSpin && now - last_moved_.load() < kLong)) continue;
    changed_.wait_for(lock, now - last_moved_.load() < kLong ? kPause : kAtRest, ready);
  }
  --n_waiting_;
  const std::lock_guard lock(mutex_);
  // Nobody else asks now for what is on its way; the thread may still be at rest.
  if (std::ranges::any_of(peers_, &Peer::sending)) wake_.notify_one();
  return there();
}

bool MpiTransport::join_all() {
  const auto give_up = [this](std::string why) {
    const std::lock_guard lock(mutex_);
    error_ = Error{.kind = ErrorKind::kIo, .message = std::move(why)};
    changed_.notify_all();
    return false;
  };
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) {
    return give_up("MPI cannot be started");
  }
  if (provided < MPI_THREAD_SERIALIZED) return give_up("this MPI does not go with threads");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  if (MPI_Comm_dup(MPI_COMM_WORLD, &world_) != MPI_SUCCESS) return give_up("MPI cannot join the ranks");
  MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(world_, &rank_);
  MPI_Comm_size(world_, &n_rank_);
  if (n_rank_ > kMaxRanks) {
    return give_up(odmoe::format("there are {} ranks; {} at most can work together", n_rank_, kMaxRanks));
  }
  const auto n = static_cast<size_t>(n_rank_);
  std::vector<char> own(MPI_MAX_PROCESSOR_NAME), all(n * own.size());
  int length = 0;
  MPI_Get_processor_name(own.data(), &length);
  if (MPI_Allgather(own.data(), MPI_MAX_PROCESSOR_NAME, MPI_CHAR, all.data(), MPI_MAX_PROCESSOR_NAME,
                    MPI_CHAR, world_) != MPI_SUCCESS) {
    return give_up("MPI cannot reach all ranks");
  }
  for (size_t i = 0; i < n; ++i) hosts_.emplace_back(all.data() + i * own.size());
  flows_.resize(n);
  for (int rank = 0; rank < n_rank_; ++rank) numbers_.push_back(rank);
  const std::lock_guard lock(mutex_);
  peers_.resize(n);
  there_.assign(n, true);
  joined_ = true;
  asked_ = true;
  changed_.notify_all();
  return true;
}

// What was asked for since: sends, and room that may be filled.
bool MpiTransport::start() {
  const std::lock_guard lock(mutex_);
  if (error_) return false;
  for (int rank = 0; rank < n_rank_; ++rank) {
    if (!speaks_to(rank) || !there_[static_cast<size_t>(rank)]) continue;
    Peer& peer = this->peer(rank);
    Flow& flow = flows_[static_cast<size_t>(rank)];
    if (flow.note_coming == MPI_REQUEST_NULL && come_.size() < kMostComing) {
      flow.note_in.resize(kMaxNoteBytes);
      if (!check(MPI_Irecv(flow.note_in.data(), static_cast<int>(kMaxNoteBytes), MPI_BYTE, number(rank),
                           kNoteTag, world_, &flow.note_coming),
                 rank)) {
        return false;
      }
    }
    if (flow.note_sending == MPI_REQUEST_NULL && !peer.notes.empty()) {
      flow.note_out = std::move(peer.notes.front());
      peer.notes.pop_front();
      if (!check(MPI_Isend(flow.note_out.data(), static_cast<int>(flow.note_out.size()), MPI_BYTE,
                           number(rank), kNoteTag, world_, &flow.note_sending),
                 rank)) {
        return false;
      }
    }
    if (peer.sending && flow.message_sending == MPI_REQUEST_NULL &&
        !check(MPI_Isend(peer.message.data(), static_cast<int>(peer.message.size()), MPI_BYTE, number(rank),
                         kMessageTag, world_, &flow.message_sending),
               rank)) {
      return false;
    }
    if (std::exchange(peer.wants_message, false) &&
        !check(MPI_Irecv(peer.room.data(), static_cast<int>(peer.room.size()), MPI_BYTE, number(rank),
                         kMessageTag, world_, &flow.message_coming),
               rank)) {
      return false;
    }
  }
  return true;
}

// What has come from a rank, and gone to it.
bool MpiTransport::look(int rank) {
  Flow& flow = flows_[static_cast<size_t>(rank)];
  MPI_Status status;
  bool moved = false;
  if (done(flow.note_sending, rank, status)) {
    moved = true;
    asked_ = true;  // for the next one
  }
  if (done(flow.message_sending, rank, status)) {
    moved = true;
    last_moved_ = std::chrono::steady_clock::now();
    const std::lock_guard lock(mutex_);
    peer(rank).sending = false;
    changed_.notify_all();
  }
  if (done(flow.note_coming, rank, status)) {
    moved = true;
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    const std::lock_guard lock(mutex_);
    come_.push_back({rank, {flow.note_in.begin(), flow.note_in.begin() + bytes}});
    asked_ = true;
    changed_.notify_all();
  }
  if (done(flow.message_coming, rank, status)) {
    moved = true;
    last_moved_ = std::chrono::steady_clock::now();
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    flow.come = static_cast<size_t>(bytes);
  }
  // Whoever has an answer may send again at once: what was answered has to be seen to have gone before.
  if (flow.come && flow.message_sending == MPI_REQUEST_NULL) {
    moved = true;
    const std::lock_guard lock(mutex_);
    peer(rank).come = *std::exchange(flow.come, std::nullopt);
    changed_.notify_all();
  }
  return moved;
}

bool MpiTransport::done(MPI_Request& request, int rank, MPI_Status& status) {
  if (request == MPI_REQUEST_NULL) return false;
  int flag = 0;
  const int error = MPI_Test(&request, &flag, &status);
  if (error != MPI_SUCCESS) {
    const std::lock_guard lock(mutex_);
    request = MPI_REQUEST_NULL;
    return check(error, rank);
  }
  return flag != 0;
}

// The lock is held.
bool MpiTransport::check(int error, int rank) {
  if (error == MPI_SUCCESS) return true;
  int kind = MPI_SUCCESS;
  MPI_Error_class(error, &kind);
  bool gone = false, revoked = false;
#ifdef OMPI_HAVE_MPIX_COMM_GET_FAILED
  gone = kind == MPIX_ERR_PROC_FAILED || kind == MPIX_ERR_PROC_FAILED_PENDING;
  revoked = kind == MPIX_ERR_REVOKED;
#endif
  if (gone) there_[static_cast<size_t>(rank)] = false;
  lost_ = lost_ || gone || revoked;
  if (!error_) {
    error_ =
        Error{.kind = ErrorKind::kIo,
              .message = revoked ? "a rank has gone, which the others are told"
                                 : odmoe::format("rank {} ({}) {}: {}", rank, host(rank),
                                                 kind == MPI_ERR_TRUNCATE ? "sent more than there is room for"
                                                                          : "has gone",
                                                 text_of(error))};
  }
  changed_.notify_all();
  return false;
}

// As asked for, once all that is under way has ended.
void MpiTransport::shrink() {
  {
    const std::lock_guard lock(mutex_);
    if (!regrouping_) return;
  }
  const std::lock_guard mpi(mpi_mutex_);
  begin_anew(shrink_world());
}

#ifdef OMPI_HAVE_MPIX_COMM_GET_FAILED
// All requests of a revoked communicator end, with an error.
bool MpiTransport::end_requests() {
  const Time end = std::chrono::steady_clock::now() + kFlush;
  for (Flow& flow : flows_) {
    for (MPI_Request* request :
         {&flow.note_sending, &flow.message_sending, &flow.note_coming, &flow.message_coming}) {
      for (int ended = 0; *request != MPI_REQUEST_NULL;) {
        if (MPI_Test(request, &ended, MPI_STATUS_IGNORE) != MPI_SUCCESS) *request = MPI_REQUEST_NULL;
        if (ended != 0) *request = MPI_REQUEST_NULL;
        if (std::chrono::steady_clock::now() > end) return false;
      }
    }
  }
  return true;
}

Status MpiTransport::shrink_world() {
  const auto failed = [](std::string_view what, int error) {
    return fail(ErrorKind::kIo, "{}: {}", what, text_of(error));
  };
  MPIX_Comm_revoke(world_);
  if (!end_requests()) return fail(ErrorKind::kIo, "messages to a rank that has gone do not end");
  MPI_Comm left = MPI_COMM_NULL;
  if (const int error = MPIX_Comm_shrink(world_, &left); error != MPI_SUCCESS) {
    return failed("MPI cannot find the ranks that are left", error);
  }
  MPI_Comm_set_errhandler(left, MPI_ERRORS_RETURN);
  MPI_Comm_free(&world_);
  world_ = left;
  MPI_Group all = MPI_GROUP_NULL, there = MPI_GROUP_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &all);
  MPI_Comm_group(world_, &there);
  std::vector<int> ranks(static_cast<size_t>(n_rank_));
  for (int rank = 0; rank < n_rank_; ++rank) ranks[static_cast<size_t>(rank)] = rank;
  const int error = MPI_Group_translate_ranks(all, n_rank_, ranks.data(), there, numbers_.data());
  MPI_Group_free(&all);
  MPI_Group_free(&there);
  if (error != MPI_SUCCESS) return failed("MPI cannot tell which ranks are left", error);
  return {};
}
#else
bool MpiTransport::end_requests() { return false; }
Status MpiTransport::shrink_world() {
  return fail(ErrorKind::kUnsupported, "this MPI cannot go on without a rank");
}
#endif

void MpiTransport::begin_anew(Status shrunk) {
  const std::lock_guard lock(mutex_);
  come_.clear();
  for (int rank = 0; rank < n_rank_; ++rank) {
    const auto at = static_cast<size_t>(rank);
    there_[at] = there_[at] && (!shrunk.has_value() || numbers_[at] != MPI_UNDEFINED);
    flows_[at].come.reset();
    Peer& one = peers_[at];
    one.notes.clear();
    one.message = {};
    one.sending = one.taken = false;
    one.come.reset();
    one.wants_message = there_[at] && !one.room.span().empty();
  }
  error_.reset();
  lost_ = false;
  if (!shrunk.has_value()) error_ = shrunk.error();
  if (shrunk.has_value() && !there_[0])
    error_ = Error{.kind = ErrorKind::kIo, .message = "the head has gone"};
  asked_ = true;
  regrouping_ = false;
  changed_.notify_all();
}

// MPI_Finalize() may wait for a rank that has gone for ever (Open MPI 5.0.7).  The others, which have been
// told, end first, so that none takes the end of this one for another loss.
void MpiTransport::end_without_order() {
  const Time end = std::chrono::steady_clock::now() + kFlush;
  const auto waits = [&] {
    const std::lock_guard lock(mutex_);
    return rank_ == 0 && std::ranges::count(there_, true) > 1;
  };
  while (waits() && std::chrono::steady_clock::now() < end) {
    for (int rank = 1; rank < n_rank_; ++rank) look(rank);
    std::this_thread::sleep_for(kPause);
  }
}

void MpiTransport::end_all() {
  MPI_Abort(MPI_COMM_WORLD, exit_code_);
  std::_Exit(exit_code_);
}

void MpiTransport::rest() {
  std::unique_lock lock(mutex_);
  if (asked_ || regrouping_ || ending_ != Ending::kNo) return;
  const bool works = n_waiting_ == 0 && std::chrono::steady_clock::now() - last_moved_.load() < kLong;
  wake_.wait_for(lock, works ? kDuringWork : kAtRest);
}

void MpiTransport::finish() {
  if (ending_ == Ending::kAtOnce) end_all();
  // Notes that wait are sent: the head's last ones end the others.
  const Time end = std::chrono::steady_clock::now() + kFlush;
  bool waits = true;
  while (waits && std::chrono::steady_clock::now() < end) {
    start();
    waits = false;
    for (int rank = 0; rank < n_rank_; ++rank) {
      if (!speaks_to(rank) || !there_[static_cast<size_t>(rank)]) continue;
      look(rank);
      const std::lock_guard lock(mutex_);
      const Flow& flow = flows_[static_cast<size_t>(rank)];
      waits = waits || !peer(rank).notes.empty() || flow.note_sending != MPI_REQUEST_NULL;
    }
    sched_yield();
  }
  if (std::ranges::count(numbers_, MPI_UNDEFINED) > 0) return end_without_order();
  for (Flow& flow : flows_) {
    for (MPI_Request* request : {&flow.note_coming, &flow.message_coming}) {
      if (*request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(request);
      MPI_Wait(request, MPI_STATUS_IGNORE);
    }
  }
  MPI_Comm_free(&world_);
  MPI_Finalize();
}

}  // namespace
}  // namespace odmoe

// What cli/ranks.cc looks for.  A transport that the caller owns, or null and why.
extern "C" __attribute__((visibility("default"))) odmoe::Transport* odmoe_join_by_mpi(std::string* error) {
  return odmoe::MpiTransport::join(*error);
}
