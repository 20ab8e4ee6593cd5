#include "server/live_rates.h"

#include <algorithm>

namespace odmoe::server {
namespace {

std::optional<double> ratio(double part, double whole) {
  return whole > 0 ? std::optional(part / whole) : std::nullopt;
}

std::optional<double> ratio(uint64_t part, uint64_t whole) {
  return ratio(static_cast<double>(part), static_cast<double>(whole));
}

}  // namespace

void RateWindow::clear() {
  samples_.clear();
  rates_ = {};
}

// A slow model writes less than a token in the window.  What was seen last stands then, but no more than the
// time since the last token allows.
std::optional<double> RateWindow::decode_speed(const Sample& first, const Sample& last, bool running) const {
  const uint64_t tokens = last.decode_tokens - first.decode_tokens;
  if (tokens > 0) return ratio(static_cast<double>(tokens), last.decode_seconds - first.decode_seconds);
  if (!running) return 0;
  const std::optional<double>& before = rates_.tokens_per_second;
  if (!before || last.at_us <= last_token_us_) return before;
  return std::min(*before, 1e6 / static_cast<double>(last.at_us - last_token_us_));
}

void RateWindow::add(const Stats& stats, bool running, int64_t now_us) {
  const Sample last{.at_us = now_us,
                    .decode_tokens = stats.decode.tokens,
                    .prefill_tokens = stats.prefill.tokens,
                    .decode_seconds = stats.decode.seconds,
                    .prefill_seconds = stats.prefill.seconds,
                    .stall_seconds = stats.decode.stall_seconds + stats.prefill.stall_seconds,
                    .demands = stats.experts.demands,
                    .hits = stats.experts.hits,
                    .late_hits = stats.experts.late_hits,
                    .read_bytes = stats.io.total_read_bytes()};
  if (samples_.empty() || samples_.back().decode_tokens != last.decode_tokens) last_token_us_ = now_us;
  samples_.push_back(last);
  while (samples_.size() > 2 && samples_.front().at_us < now_us - kWindowUs) samples_.pop_front();
  if (samples_.size() < 2) return;
  const Sample& first = samples_.front();
  const double evaluated =
      last.decode_seconds + last.prefill_seconds - first.decode_seconds - first.prefill_seconds;
  rates_ = {
      .tokens_per_second = decode_speed(first, last, running),
      .prefill_tokens_per_second = ratio(static_cast<double>(last.prefill_tokens - first.prefill_tokens),
                                         last.prefill_seconds - first.prefill_seconds),
      .hit_rate = ratio(last.hits - first.hits, last.demands - first.demands),
      .late_hit_rate = ratio(last.late_hits - first.late_hits, last.demands - first.demands),
      .stall_share = ratio(last.stall_seconds - first.stall_seconds, evaluated),
      .read_bytes_per_second = ratio(static_cast<double>(last.read_bytes - first.read_bytes) * 1e6,
                                     static_cast<double>(last.at_us - first.at_us))};
}

}  // namespace odmoe::server
