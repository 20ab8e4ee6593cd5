// Ranks that are threads of one process, and what can go wrong between them.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cluster/transport.h"
#include "cluster/wire.h"

namespace odmoe::testing {

class InProcessRank;

// What all ranks share.  Thread-safe.
class InProcessNetwork {
 public:
  explicit InProcessNetwork(int n_rank) : n_rank_(n_rank), boxes_(static_cast<size_t>(n_rank)) {
    for (int rank = 0; rank < n_rank; ++rank) hosts_.push_back("host" + std::to_string(rank));
    for (Box& box : boxes_) {
      box.messages.resize(static_cast<size_t>(n_rank));
      box.n_sent.resize(static_cast<size_t>(n_rank));
    }
  }
  std::unique_ptr<InProcessRank> rank(int rank);

  // From now on nothing comes from a rank, nor to it: it hangs, or its network is cut.
  void cut(int rank) {
    const std::lock_guard lock(mutex_);
    boxes_[static_cast<size_t>(rank)].is_cut = true;
  }
  // From now on whoever speaks to the rank, or waits for it, finds it gone.
  void end(int rank) {
    const std::lock_guard lock(mutex_);
    boxes_[static_cast<size_t>(rank)].has_ended = true;
    regroup_when_all_came();
    changed_.notify_all();
  }
  // The same, from when it is told of owners on; others that wait are not woken for it.
  void end_when_told_of_owners(int rank) {
    const std::lock_guard lock(mutex_);
    boxes_[static_cast<size_t>(rank)].ends_when_told = true;
  }
  // Messages that were sent.
  int n_sent(int from, int to) {
    const std::lock_guard lock(mutex_);
    return boxes_[static_cast<size_t>(to)].n_sent[static_cast<size_t>(from)];
  }
  // Whether those that are left can go on without a rank that has ended.
  bool regroups = false;
  // Called with each message before it is sent, which may change it.
  std::function<void(int from, int to, std::vector<std::byte>& message)> meddle;
  // How often it is sent; null: once.
  std::function<int(int from, int to)> times;

 private:
  friend class InProcessRank;
  struct Box {
    std::deque<std::pair<int, std::vector<std::byte>>> notes;
    std::vector<std::deque<std::vector<std::byte>>> messages;  // by sender
    std::vector<int> n_sent;                                   // likewise
    uint64_t room = 0;
    bool is_cut = false, has_ended = false, ends_when_told = false;
    bool regrouping = false;  // it waits for the others
    bool left_out = false;    // it has ended, and they have regrouped
  };
  bool passes(int from, int to) const {
    return !boxes_[static_cast<size_t>(from)].is_cut && !boxes_[static_cast<size_t>(to)].is_cut;
  }
  Status gone(int rank) const {
    if (!boxes_[static_cast<size_t>(rank)].has_ended) return {};
    return fail(ErrorKind::kIo, "rank {} ({}) has gone", rank, hosts_[static_cast<size_t>(rank)]);
  }
  // `self` has, or one of which not all know.
  Status any_gone(int self) const {
    for (int rank = 0; rank < n_rank_; ++rank) {
      if (rank == self || !boxes_[static_cast<size_t>(rank)].left_out) ODMOE_RETURN_IF_ERROR(gone(rank));
    }
    return {};
  }
  void regroup_when_all_came() {
    const auto waits = [](const Box& box) { return box.has_ended || box.regrouping; };
    if (std::ranges::none_of(boxes_, &Box::regrouping) || !std::ranges::all_of(boxes_, waits)) return;
    for (Box& box : boxes_) {
      box.regrouping = false;
      box.notes.clear();
      for (auto& messages : box.messages) messages.clear();
      box.left_out = box.has_ended;
    }
    ++n_regrouped_;
    changed_.notify_all();
  }

  int n_rank_;
  std::vector<std::string> hosts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Box> boxes_;
  int n_regrouped_ = 0;  // times that all came
};

class InProcessRank final : public Transport {
 public:
  InProcessRank(InProcessNetwork& network, int rank) : network_(network), rank_(rank) {}

  int rank() const override { return rank_; }
  int n_rank() const override { return network_.n_rank_; }
  const std::string& host(int rank) const override { return network_.hosts_[static_cast<size_t>(rank)]; }

  Status send_note(int to, std::span<const std::byte> note) override {
    const std::lock_guard lock(network_.mutex_);
    if (box(to).ends_when_told && read_note(note)->kind == NoteKind::kSetup) box(to).has_ended = true;
    ODMOE_RETURN_IF_ERROR(network_.gone(to));
    if (!network_.passes(rank_, to)) return {};
    box(to).notes.push_back({rank_, {note.begin(), note.end()}});
    network_.changed_.notify_all();
    return {};
  }
  Result<std::optional<Note>> receive_note(std::span<std::byte> into,
                                           std::chrono::milliseconds timeout) override {
    std::unique_lock lock(network_.mutex_);
    auto& notes = box(rank_).notes;
    network_.changed_.wait_for(lock, timeout,
                               [&] { return !notes.empty() || !network_.any_gone(rank_).has_value(); });
    ODMOE_RETURN_IF_ERROR(network_.any_gone(rank_));
    if (notes.empty()) return std::nullopt;
    const auto [from, note] = std::move(notes.front());
    notes.pop_front();
    std::ranges::copy(note, into.begin());
    return Note{.from = from, .bytes = note.size()};
  }

  Status make_room(uint64_t message_bytes) override {
    const std::lock_guard lock(network_.mutex_);
    box(rank_).room = message_bytes;
    received_.resize(static_cast<size_t>(n_rank()));
    return {};
  }
  Status send(int to, std::span<const std::byte> message) override {
    std::vector<std::byte> copy(message.begin(), message.end());
    const std::lock_guard lock(network_.mutex_);
    if (network_.meddle) network_.meddle(rank_, to, copy);
    ODMOE_RETURN_IF_ERROR(network_.gone(to));
    if (message.size() > box(to).room) {
      return fail(ErrorKind::kIo, "rank {} has no room for {} bytes", to, message.size());
    }
    if (!network_.passes(rank_, to)) return {};
    ++box(to).n_sent[static_cast<size_t>(rank_)];
    const int n = network_.times ? network_.times(rank_, to) : 1;
    for (int i = 0; i < n; ++i) box(to).messages[static_cast<size_t>(rank_)].push_back(copy);
    network_.changed_.notify_all();
    return {};
  }
  bool can_regroup() const override {
    const std::lock_guard lock(network_.mutex_);
    return network_.regroups && is_there_locked(rank_) && is_there_locked(0) &&
           !network_.any_gone(rank_).has_value();
  }
  bool is_there(int rank) const override {
    const std::lock_guard lock(network_.mutex_);
    return is_there_locked(rank);
  }
  Status regroup(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(network_.mutex_);
    const int before = network_.n_regrouped_;
    box(rank_).regrouping = true;
    network_.regroup_when_all_came();
    const auto over = [&] { return network_.n_regrouped_ != before || !network_.gone(rank_).has_value(); };
    if (!network_.changed_.wait_for(lock, timeout, over)) {
      return fail(ErrorKind::kIo, "not all ranks that are left came");
    }
    ODMOE_RETURN_IF_ERROR(network_.gone(0));
    return network_.gone(rank_);
  }
  Result<bool> wait_sent(int /*to*/, std::chrono::milliseconds /*timeout*/) override { return true; }
  Result<std::optional<std::span<const std::byte>>> receive(int from,
                                                            std::chrono::milliseconds timeout) override {
    std::unique_lock lock(network_.mutex_);
    auto& messages = box(rank_).messages[static_cast<size_t>(from)];
    const auto come = [&] { return !messages.empty() || !network_.gone(from).has_value(); };
    network_.changed_.wait_for(lock, timeout, come);
    if (messages.empty()) {
      ODMOE_RETURN_IF_ERROR(network_.gone(from));
      return std::nullopt;
    }
    std::vector<std::byte>& received = received_[static_cast<size_t>(from)];
    received = std::move(messages.front());
    messages.pop_front();
    return received;
  }

 private:
  bool is_there_locked(int rank) const { return !network_.boxes_[static_cast<size_t>(rank)].has_ended; }
  InProcessNetwork::Box& box(int rank) { return network_.boxes_[static_cast<size_t>(rank)]; }
  InProcessNetwork& network_;
  int rank_;
  std::vector<std::vector<std::byte>> received_;  // by sender
};

inline std::unique_ptr<InProcessRank> InProcessNetwork::rank(int rank) {
  return std::make_unique<InProcessRank>(*this, rank);
}

}  // namespace odmoe::testing
