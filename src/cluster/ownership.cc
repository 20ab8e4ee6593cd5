#include "cluster/ownership.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <numeric>

namespace odmoe {
namespace {

constexpr uint64_t kOne = uint64_t{1} << 32;  // a share of everything

// Whole numbers throughout, since every rank must come to the same.  The numbers are scaled to 31 bits, so
// that no product overflows.
void scale(std::span<uint64_t* const> numbers) {
  uint64_t most = 0;
  for (const uint64_t* number : numbers) most = std::max(most, *number);
  const int shift = std::max(static_cast<int>(std::bit_width(most)) - 31, 0);
  for (uint64_t* number : numbers) *number >>= shift;
}

std::vector<uint64_t> shares_of(const OwnershipFacts& facts) {
  uint64_t experts = std::max<uint64_t>(facts.expert_bytes, 1);
  std::vector<uint64_t> memory, drive;
  for (const OwnershipFacts::Rank& rank : facts.ranks) {
    memory.push_back(std::min(rank.memory_bytes, experts));
    drive.push_back(rank.drive_bytes_per_second);
  }
  if (std::ranges::contains(drive, 0U)) std::ranges::fill(drive, 1);
  std::vector<uint64_t*> bytes{&experts}, bandwidths;
  for (uint64_t& one : memory) bytes.push_back(&one);
  for (uint64_t& one : drive) bandwidths.push_back(&one);
  scale(bytes);
  scale(bandwidths);
  for (uint64_t& one : drive) one = std::max<uint64_t>(one, 1);
  experts = std::max<uint64_t>(experts, 1);

  const auto held = std::accumulate(memory.begin(), memory.end(), uint64_t{0});
  const auto drives = std::accumulate(drive.begin(), drive.end(), uint64_t{0});
  const uint64_t read = experts > held ? experts - held : 0;
  const uint64_t whole = std::max(held, experts);
  std::vector<uint64_t> shares;
  for (size_t i = 0; i < memory.size(); ++i) {
    shares.push_back((memory[i] + read * drive[i] / drives) * (kOne / 2) / whole * 2);
  }
  return shares;
}

// Of one layer: who gets how many.  `credit` is what each is still owed, in kOne of an expert.
std::vector<int32_t> counts_of_layer(std::span<const uint64_t> shares, int32_t n_expert,
                                     std::span<int64_t> credit) {
  std::vector<int32_t> counts(shares.size());
  for (size_t i = 0; i < shares.size(); ++i) credit[i] += static_cast<int64_t>(shares[i]) * n_expert;
  for (int32_t e = 0; e < n_expert; ++e) {
    const auto most = static_cast<size_t>(std::ranges::max_element(credit) - credit.begin());
    ++counts[most];
    credit[most] -= static_cast<int64_t>(kOne);
  }
  return counts;
}

// In turns: always the one that is farthest behind its count.
void take_turns(std::span<const int32_t> counts, std::span<uint8_t> owners) {
  std::vector<int64_t> behind(counts.size());
  for (uint8_t& owner : owners) {
    for (size_t i = 0; i < counts.size(); ++i) behind[i] += counts[i];
    const auto most = static_cast<size_t>(std::ranges::max_element(behind) - behind.begin());
    owner = static_cast<uint8_t>(most);
    behind[most] -= std::ssize(owners);
  }
}

// The most used first, each to whom of those that still get one has the fewest uses for its count.
void take_by_use(std::span<const int32_t> counts, std::span<const uint64_t> uses, std::span<uint8_t> owners) {
  std::vector<size_t> order(owners.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater<>(), [&](size_t expert) { return uses[expert]; });
  std::vector<int32_t> left(counts.begin(), counts.end());
  std::vector<uint64_t> used(counts.size());
  const auto fewer = [&](size_t a, size_t b) {
    return used[a] * static_cast<uint64_t>(counts[b]) < used[b] * static_cast<uint64_t>(counts[a]);
  };
  for (const size_t expert : order) {
    size_t best = counts.size();
    for (size_t i = 0; i < counts.size(); ++i) {
      if (left[i] > 0 && (best == counts.size() || fewer(i, best))) best = i;
    }
    owners[expert] = static_cast<uint8_t>(best);
    --left[best];
    used[best] += uses[expert];
  }
}

}  // namespace

Ownership Ownership::of(const OwnershipFacts& facts) {
  assert(!facts.ranks.empty() && facts.ranks.size() <= 255);
  const auto n_expert = static_cast<size_t>(facts.n_expert);
  assert(facts.uses.empty() || facts.uses.size() == n_expert * facts.expert_layers.size());
  Ownership ownership;
  ownership.n_expert_ = facts.n_expert;
  ownership.owner_.resize(n_expert * facts.expert_layers.size());
  const std::vector<uint64_t> shares = shares_of(facts);
  std::vector<int64_t> credit(shares.size());
  for (size_t layer = 0; layer < facts.expert_layers.size(); ++layer) {
    const std::vector<int32_t> counts = counts_of_layer(shares, facts.n_expert, credit);
    const std::span<uint8_t> owners = std::span(ownership.owner_).subspan(layer * n_expert, n_expert);
    if (facts.uses.empty()) {
      take_turns(counts, owners);
    } else {
      take_by_use(counts, std::span(facts.uses).subspan(layer * n_expert, n_expert), owners);
    }
  }
  return ownership;
}

int32_t Ownership::n_owned(int rank) const {
  return static_cast<int32_t>(std::ranges::count(owner_, static_cast<uint8_t>(rank)));
}

Fingerprint::Value Ownership::fingerprint() const {
  Fingerprint all;
  all.add(static_cast<uint64_t>(n_expert_));
  all.add(std::as_bytes(std::span(owner_)));
  return all.value();
}

}  // namespace odmoe
