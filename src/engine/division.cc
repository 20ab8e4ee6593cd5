#include "odmoe/division.h"

#include <algorithm>
#include <cassert>

namespace odmoe {

Division Division::in_chunks(int32_t chunk, int32_t length) {
  Division division(chunk);
  if (length > 0) division.append(length, /*singly=*/false);
  return division;
}

bool Division::are_valid(std::span<const Stretch> stretches) {
  int32_t begin = 0;
  for (size_t i = 0; i < stretches.size(); ++i) {
    if (stretches[i].end <= begin) return false;
    if (i > 0 && stretches[i].singly && stretches[i - 1].singly) return false;
    begin = stretches[i].end;
  }
  return true;
}

Division Division::of(int32_t chunk, std::span<const Stretch> stretches) {
  assert(are_valid(stretches));
  Division division(chunk);
  division.stretches_.assign(stretches.begin(), stretches.end());
  return division;
}

void Division::append(int32_t n, bool singly) {
  assert(n >= 1);
  const int32_t end = length() + n;
  if (!stretches_.empty()) {
    Stretch& last = stretches_.back();
    const bool goes_on = singly || (last.end - begin_of(stretches_.size() - 1)) % chunk_ == 0;
    if (last.singly == singly && goes_on) {
      last.end = end;
      return;
    }
  }
  stretches_.push_back({.end = end, .singly = singly});
}

int32_t Division::truncate(int32_t n) {
  n = boundary(n);
  while (!stretches_.empty() && begin_of(stretches_.size() - 1) >= n) stretches_.pop_back();
  if (!stretches_.empty()) stretches_.back().end = std::min(stretches_.back().end, n);
  return n;
}

// The stretch that the token at `at` belongs to.
size_t Division::stretch_of(int32_t at) const {
  const auto found =
      std::ranges::upper_bound(stretches_, at, {}, [](const Stretch& stretch) { return stretch.end; });
  return static_cast<size_t>(found - stretches_.begin());
}

int32_t Division::boundary(int32_t n) const {
  if (n >= length()) return length();
  if (n <= 0) return 0;
  const size_t i = stretch_of(n);
  if (stretches_[i].singly) return n;
  const int32_t begin = begin_of(i);
  return begin + (n - begin) / chunk_ * chunk_;
}

int32_t Division::next(int32_t at) const {
  assert(at >= 0 && at < length() && boundary(at) == at);
  const size_t i = stretch_of(at);
  return stretches_[i].singly ? at + 1 : std::min(at + chunk_, stretches_[i].end);
}

int32_t Division::whole_chunks() const {
  if (stretches_.empty() || stretches_.front().singly) return 0;
  return stretches_.front().end / chunk_ * chunk_;
}

int32_t Division::shared(const Division& other, int32_t n) const {
  const int32_t most = std::min({n, length(), other.length()});
  int32_t at = 0;
  while (at < most) {
    const int32_t end = next(at);
    if (end > most || other.next(at) != end) break;
    at = end;
  }
  return at;
}

}  // namespace odmoe
