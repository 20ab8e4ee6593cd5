#include "grammar/token_mask.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>

namespace odmoe::grammar {
namespace {

constexpr size_t kMaxPath = kMaxTokenBytes + 1;

}  // namespace

Vocabulary::Vocabulary(int32_t n_token, const std::function<std::string(int32_t)>& bytes,
                       const std::function<bool(int32_t)>& is_end)
    : n_token_(n_token), entry_of_(static_cast<size_t>(n_token), -1) {
  for (int32_t token = 0; token < n_token; ++token) {
    if (is_end(token)) {
      ends_.push_back(token);
      continue;
    }
    const std::string text = bytes(token);
    if (text.empty() || text.size() > kMaxTokenBytes) continue;
    entries_.push_back({.begin = static_cast<uint32_t>(bytes_.size()),
                        .length = static_cast<uint16_t>(text.size()),
                        .token = token});
    bytes_ += text;
  }
  std::ranges::sort(entries_, {},
                    [&](const Entry& entry) { return std::pair(this->bytes(entry), entry.token); });
  for (size_t i = 0; i < entries_.size(); ++i) {
    entry_of_[static_cast<size_t>(entries_[i].token)] = static_cast<int32_t>(i);
    if (i == 0) continue;
    const std::string_view before = this->bytes(entries_[i - 1]), now = this->bytes(entries_[i]);
    entries_[i].shared = static_cast<uint16_t>(std::ranges::mismatch(before, now).in1 - before.begin());
  }
}

std::string_view Vocabulary::bytes_of(int32_t token) const {
  if (token < 0 || token >= n_token_) return {};
  const int32_t entry = entry_of_[static_cast<size_t>(token)];
  return entry < 0 ? std::string_view() : bytes(entries_[static_cast<size_t>(entry)]);
}

namespace {

// Where the bytes lead from there; kDead: nowhere.  The states of a long text are forgotten on the way.
int32_t walk(Automaton& automaton, int32_t state, std::string_view bytes) {
  for (const char byte : bytes) {
    state = automaton.next(state, static_cast<uint8_t>(byte));
    if (state == Automaton::kDead) break;
    if (automaton.bytes() > kMaxAutomatonBytes) automaton.flush(std::span(&state, 1));
  }
  return state;
}

}  // namespace

bool may_begin(const std::shared_ptr<const Grammar>& grammar, std::string_view bytes) {
  Automaton automaton(grammar);
  return walk(automaton, automaton.start(), bytes) != Automaton::kDead;
}

Matcher::Matcher(const TokenMasks& masks) : vocabulary_(masks.vocabulary), automaton_(masks.grammar) {
  state_ = walk(automaton_, automaton_.start(), masks.begun);
  assert(state_ != Automaton::kDead);
}

const std::vector<uint64_t>& Matcher::allowed() {
  if (const auto known = allowed_.find(state_); known != allowed_.end()) return known->second;
  // Masks that are too many are forgotten; they come again as they are needed.
  if (allowed_.size() >= kMaxMasks) allowed_.clear();
  std::vector<uint64_t> mask((static_cast<size_t>(vocabulary_->n_token()) + 63) / 64);
  const auto allow = [&](int32_t token) {
    mask[static_cast<size_t>(token) / 64] |= uint64_t{1} << (static_cast<size_t>(token) % 64);
  };
  std::array<int32_t, kMaxPath> path;  // the state after each byte of the token before
  path[0] = state_;
  size_t reached = 0;  // bytes of it that the grammar took
  uint64_t most_work = automaton_.work() + kMaxMaskWork;
  for (const Vocabulary::Entry& entry : vocabulary_->entries()) {
    if (entry.shared > reached) continue;  // it failed within what the two share
    const std::string_view bytes = vocabulary_->bytes(entry);
    reached = entry.shared;
    if (bytes.size() > 1 && automaton_.work() > most_work) continue;
    while (reached < bytes.size()) {
      const int32_t next = automaton_.next(path[reached], static_cast<uint8_t>(bytes[reached]));
      if (next == Automaton::kDead) break;
      path[++reached] = next;
      if (automaton_.bytes() > 2 * kMaxAutomatonBytes) break;
    }
    if (reached == bytes.size()) allow(entry.token);
    if (automaton_.bytes() > kMaxAutomatonBytes) {
      // States too are forgotten, but for those along this token.
      automaton_.flush(std::span(path).first(reached + 1));
      state_ = path[0];
      allowed_.clear();
      // Those alone are too many.
      if (automaton_.bytes() > kMaxAutomatonBytes) most_work = 0;
    }
  }
  for (const int32_t token : automaton_.tokens(state_)) allow(token);
  if (automaton_.accepts(state_)) {
    for (const int32_t token : vocabulary_->end_tokens()) allow(token);
  }
  return allowed_.emplace(state_, std::move(mask)).first->second;
}

void Matcher::mask(std::span<float> logits) {
  const std::vector<uint64_t>& mask = allowed();
  for (size_t token = 0; token < logits.size(); ++token) {
    const bool may = token / 64 < mask.size() && (mask[token / 64] >> (token % 64) & 1U) != 0;
    if (!may) logits[token] = -std::numeric_limits<float>::infinity();
  }
}

bool Matcher::allows(int32_t token) {
  if (token < 0 || token >= vocabulary_->n_token()) return false;
  return (allowed()[static_cast<size_t>(token) / 64] >> (static_cast<size_t>(token) % 64) & 1U) != 0;
}

bool Matcher::allows_any() {
  return std::ranges::any_of(allowed(), [](uint64_t tokens) { return tokens != 0; });
}

ByteSet Matcher::next_bytes() {
  ByteSet bytes;
  for (size_t byte = 0; byte < bytes.size(); ++byte) {
    bytes[byte] = automaton_.next(state_, static_cast<uint8_t>(byte)) != Automaton::kDead;
  }
  return bytes;
}

bool Matcher::accept(int32_t token) {
  const std::string_view bytes = vocabulary_->bytes_of(token);
  if (bytes.empty()) {
    const int32_t state = automaton_.next_token(state_, token);
    if (state == Automaton::kDead) return false;
    state_ = state;
  } else if (!accept_bytes(bytes)) {
    return false;
  }
  return automaton_.goes_on(state_);
}

bool Matcher::accept_bytes(std::string_view bytes) {
  int32_t state = state_;
  for (const char byte : bytes) {
    state = automaton_.next(state, static_cast<uint8_t>(byte));
    if (state == Automaton::kDead) return false;
  }
  state_ = state;
  return true;
}

}  // namespace odmoe::grammar
