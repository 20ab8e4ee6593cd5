#include "io/drive_probe.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <numeric>
#include <optional>
#include <system_error>

#include "base/units.h"

namespace odmoe {
namespace {

constexpr std::array<uint32_t, 7> kSizes = {64U << 10U,   128U << 10U,  256U << 10U, 512U << 10U,
                                            1024U << 10U, 2048U << 10U, 4096U << 10U};
constexpr std::array<uint32_t, 7> kDepths = {1, 2, 4, 8, 16, 32, 64};
// What others do to the drive moves single figures by more than this from one try to the next.
constexpr double kSizeKnee = 0.90;
constexpr double kDepthKnee = 0.95;

int64_t percentile(std::span<const int64_t> sorted, double share) {
  const auto index = static_cast<size_t>(share * static_cast<double>(sorted.size() - 1));
  return sorted[index];
}

}  // namespace

DriveProbe::DriveProbe(AsyncReader& reader, std::span<std::byte> memory, const Clock& clock, uint64_t seed)
    : reader_(reader),
      memory_(memory),
      clock_(clock),
      random_(static_cast<std::minstd_rand::result_type>(seed)),
      begin_us_(reader.depth()) {
  // Pages that are touched for the first time by a read make that read slow: measured, four fifths of the
  // bandwidth.
  std::memset(memory.data(), 0, memory.size());
}

ReadRequest DriveProbe::random_read(uint32_t read_bytes, uint32_t place) {
  const uint64_t unit = std::max<uint64_t>(reader_.alignment().offset_bytes, 4096);
  const uint64_t at = std::uniform_int_distribution<uint64_t>(0, weights_.back() - 1)(random_);
  const auto file = std::ranges::upper_bound(weights_, at) - weights_.begin();
  const uint64_t before = file == 0 ? 0 : weights_[static_cast<size_t>(file) - 1];
  const uint64_t n_place = memory_.size() / read_bytes;
  return {.id = place,
          .file = static_cast<int>(file),
          .offset = (at - before) * unit,
          .bytes = read_bytes,
          .destination = memory_.data() + place % n_place * read_bytes};
}

Result<ProbePoint> DriveProbe::measure(uint32_t read_bytes, uint32_t depth, int64_t limit_us) {
  assert(reader_.in_flight() == 0 && depth <= reader_.depth() && read_bytes <= memory_.size());
  const uint64_t unit = std::max<uint64_t>(reader_.alignment().offset_bytes, 4096);
  weights_.clear();
  for (int file = 0; file < reader_.n_file(); ++file) {
    const uint64_t have = reader_.file_bytes(file);
    weights_.push_back((weights_.empty() ? 0 : weights_.back()) +
                       (have < read_bytes ? 0 : (have - read_bytes) / unit + 1));
  }
  if (weights_.empty() || weights_.back() == 0) {
    return fail(ErrorKind::kUnsupported, "no file is large enough for reads of {}", format_bytes(read_bytes));
  }

  latencies_us_.clear();
  std::array<ReadCompletion, 32> done{};
  std::optional<Error> error;
  const int64_t begin_us = clock_.now_us();
  int64_t end_us = begin_us;
  uint64_t bytes = 0;
  const auto submit = [&](uint32_t place) {
    begin_us_[place] = clock_.now_us();
    reader_.submit(random_read(read_bytes, place));
  };
  for (uint32_t place = 0; place < depth; ++place) submit(place);
  while (reader_.in_flight() > 0) {
    const size_t count = reader_.wait(done, std::nullopt);
    const int64_t now_us = clock_.now_us();
    for (const ReadCompletion& completion : std::span(done).first(count)) {
      if (completion.result < 0) {
        error = Error{ErrorKind::kIo,
                      odmoe::format("cannot try out the drive of {}: {}", reader_.path(0).string(),
                                    std::generic_category().message(static_cast<int>(-completion.result)))};
        continue;
      }
      const auto place = static_cast<uint32_t>(completion.id);
      bytes += static_cast<uint64_t>(completion.result);
      latencies_us_.push_back(now_us - begin_us_[place]);
      end_us = now_us;
      if (!error && now_us - begin_us < limit_us) submit(place);
    }
  }
  if (error) return std::unexpected(std::move(*error));
  std::ranges::sort(latencies_us_);
  return ProbePoint{.read_bytes = read_bytes,
                    .depth = depth,
                    .n_read = latencies_us_.size(),
                    .bytes_per_second = static_cast<double>(bytes) * 1e6 /
                                        static_cast<double>(std::max<int64_t>(end_us - begin_us, 1)),
                    .p50_us = percentile(latencies_us_, 0.50),
                    .p95_us = percentile(latencies_us_, 0.95),
                    .p99_us = percentile(latencies_us_, 0.99)};
}

const ProbePoint& knee(std::span<const ProbePoint> points, double share) {
  double best = 0;
  for (const ProbePoint& point : points) best = std::max(best, point.bytes_per_second);
  return *std::ranges::find_if(
      points, [&](const ProbePoint& point) { return point.bytes_per_second >= share * best; });
}

namespace {

// One sweep over sizes or depths, several times in turn; of each point the best round counts, since what
// others do to the drive can only slow it down.
class Sweep {
 public:
  Sweep(DriveProbe& probe, const Clock& clock, const ProbeOptions& options, int64_t end_us)
      : probe_(probe), clock_(clock), options_(options), end_us_(end_us) {}

  Result<std::vector<ProbePoint>> run(std::vector<ProbePoint> points, double done_before) {
    constexpr int kRounds = 2;
    const int64_t point_us = (end_us_ - clock_.now_us()) / static_cast<int64_t>(kRounds * points.size());
    double known = 0;  // bandwidth, so far
    for (int round = 0; round < kRounds; ++round) {
      for (size_t i = 0; i < points.size(); ++i) {
        ProbePoint& best = points[i];
        // On a slow drive a long queue alone would take longer than there is time for.
        const auto queue_us = static_cast<int64_t>(
            known > 0 ? static_cast<double>(best.read_bytes) * best.depth * 1e6 / known : 0);
        const bool fits = queue_us <= 2 * point_us && clock_.now_us() < end_us_;
        if (!fits && (i > 0 || round > 0)) continue;
        // The last reads end after the limit, so it leaves time for them.
        ODMOE_ASSIGN_OR_RETURN(
            const ProbePoint point,
            probe_.measure(best.read_bytes, best.depth, point_us - std::min(queue_us, point_us / 2)));
        known = std::max(known, point.bytes_per_second);
        if (point.bytes_per_second > best.bytes_per_second) best = point;
        const double part =
            static_cast<double>(round * points.size() + i + 1) / static_cast<double>(kRounds * points.size());
        if (options_.progress && !options_.progress(point, done_before + part / 2)) {
          return fail(ErrorKind::kInterrupted, "trying out the drive was interrupted");
        }
      }
    }
    std::erase_if(points, [](const ProbePoint& point) { return point.n_read == 0; });
    return points;
  }

 private:
  DriveProbe& probe_;
  const Clock& clock_;
  const ProbeOptions& options_;
  int64_t end_us_;
};

}  // namespace

Result<DriveProfile> probe_drive(AsyncReader& reader, std::span<std::byte> memory, const Clock& clock,
                                 const ProbeOptions& options) {
  const std::span<const uint32_t> sizes = options.read_bytes.empty() ? kSizes : options.read_bytes;
  const std::span<const uint32_t> depths = options.depths.empty() ? kDepths : options.depths;
  const uint32_t most = std::min(depths.back(), reader.depth());
  const int64_t begin_us = clock.now_us();
  DriveProbe probe(reader, memory, clock);

  // Sizes with sixteen in flight: enough for the size to be what limits, and short enough to end in time.
  std::vector<ProbePoint> points;
  for (const uint32_t bytes : sizes) {
    if (bytes > memory.size()) break;
    points.push_back({.read_bytes = bytes, .depth = std::min(most, 16U)});
  }
  ODMOE_ASSIGN_OR_RETURN(
      const auto by_size,
      Sweep(probe, clock, options, begin_us + options.limit_us / 2).run(std::move(points), 0));
  const uint32_t read_bytes = knee(by_size, kSizeKnee).read_bytes;

  points.clear();
  for (const uint32_t depth : depths) {
    if (depth <= most) points.push_back({.read_bytes = read_bytes, .depth = depth});
  }
  ODMOE_ASSIGN_OR_RETURN(
      const auto by_depth,
      Sweep(probe, clock, options, begin_us + options.limit_us).run(std::move(points), 0.5));
  DriveProfile profile{.depth = std::min(std::max(knee(by_depth, kDepthKnee).depth, kLeastDepth), most),
                       .read_bytes = read_bytes,
                       .latency_us = by_depth.front().p50_us};
  for (const ProbePoint& point : by_depth) {
    profile.bytes_per_second = std::max(profile.bytes_per_second, point.bytes_per_second);
  }
  return profile;
}

uint32_t depth_for(const DriveProfile& profile, uint64_t slice_bytes) {
  const uint64_t piece = std::clamp<uint64_t>(slice_bytes, 4096, profile.read_bytes);
  const uint64_t depth = (uint64_t{profile.depth} * profile.read_bytes + piece - 1) / piece;
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(depth, profile.depth, std::max(profile.depth, kProbeDepth)));
}

}  // namespace odmoe
