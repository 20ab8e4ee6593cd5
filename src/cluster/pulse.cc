#include "cluster/pulse.h"

#include <algorithm>
#include <utility>

namespace odmoe {
namespace {

constexpr std::chrono::milliseconds kListen{50};

}  // namespace

Pulse::Pulse(Transport& transport, const Options& options, OnNote on_note, OnBroken on_broken)
    : transport_(transport),
      options_(options),
      on_note_(std::move(on_note)),
      on_broken_(std::move(on_broken)),
      heard_(static_cast<size_t>(transport.n_rank())) {
  restart();
}

Pulse::~Pulse() { stop(); }

void Pulse::stop() {
  stopping_ = true;
  thread_.join();
}

void Pulse::restart() {
  others_.clear();
  const bool head = transport_.rank() == 0;
  for (int rank = head ? 1 : 0; rank < (head ? transport_.n_rank() : 1); ++rank) {
    if (transport_.is_there(rank)) others_.push_back(rank);
  }
  std::ranges::fill(heard_, std::chrono::steady_clock::now());
  {
    const MutexLock lock(mutex_);
    error_.reset();
  }
  broken_ = stopping_ = false;
  thread_ = JoiningThread([this] { run(); });
}

Status Pulse::status() const {
  if (!broken_.load(std::memory_order_relaxed)) return {};
  const MutexLock lock(mutex_);
  return error_ ? Status(std::unexpected(*error_)) : Status();
}

void Pulse::break_with(const Error& error) {
  {
    const MutexLock lock(mutex_);
    if (error_) return;
    error_ = error;
  }
  broken_ = true;
  if (on_broken_) on_broken_(error);
}

void Pulse::run() {
  std::vector<std::byte> note(Transport::kMaxNoteBytes);
  Time told{};
  Time last = std::chrono::steady_clock::now();
  while (!stopping_ && !broken_) {
    const Time now = std::chrono::steady_clock::now();
    // Who was stopped himself has not listened: nobody was silent.
    if (now - last > options_.silence / 2) {
      for (Time& heard : heard_) heard = now;
    }
    last = now;
    if (now - told >= options_.interval) {
      tell();
      told = now;
    }
    listen(note);
    look(std::chrono::steady_clock::now());
  }
}

void Pulse::tell() {
  const std::string note = make_note(NoteKind::kAlive);
  for (const int rank : others_) {
    const Status sent = transport_.send_note(rank, std::as_bytes(std::span(note)));
    if (!sent.has_value() && sent.error().kind != ErrorKind::kBudget) break_with(sent.error());
  }
}

void Pulse::listen(std::span<std::byte> into) {
  const auto come = transport_.receive_note(into, std::min(kListen, options_.interval));
  if (!come.has_value()) return break_with(come.error());
  if (!*come) return;
  heard_[static_cast<size_t>((*come)->from)] = std::chrono::steady_clock::now();
  const auto note = read_note(into.first((*come)->bytes));
  if (note && note->kind != NoteKind::kAlive) on_note_((*come)->from, *note);
}

void Pulse::look(Time now) {
  for (const int rank : others_) {
    if (now - heard_[static_cast<size_t>(rank)] <= options_.silence) continue;
    return break_with(
        {.kind = ErrorKind::kIo,
         .message = odmoe::format("{} has not been heard of for {} s: it hangs, or the network is cut",
                                  rank_name(transport_, rank),
                                  std::chrono::duration<double>(options_.silence).count())});
  }
}

}  // namespace odmoe
