#include "cli/bench_fetch.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/clock.h"
#include "base/units.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "cli/progress.h"
#include "engine/drives.h"
#include "format/checkpoint.h"
#include "format/mirror.h"
#include "odmoe/format.h"
#include "store/expert_store.h"

namespace odmoe::cli {
namespace {

constexpr uint64_t kTableMemory = 64 * kMiB;   // that the reads of the table land in
constexpr uint64_t kStoreMemory = 256 * kMiB;  // arena of the store, if the model's experts allow so little
constexpr int64_t kPlainUs = 30'000;           // of plain reads at a time
constexpr int kPlotColumns = 40;

// The store, asked for random experts of one layer after the other, none of them there.
struct StoreResult {
  double bytes_per_second = 0;  // while waiting
  // What the drives brought in turns with it, by plain reads of the same size, as many in flight; others who
  // use the drive slow both down.
  double plain_bytes_per_second = 0;
  uint64_t n_fetch = 0;                        // layers' worth of experts
  int64_t p50_us = 0, p95_us = 0, p99_us = 0;  // from asking for them to the last
  std::vector<ExpertCopyStats> copies;
};

struct Report {
  std::string reader;
  std::vector<ModelCopy> copies;
  std::vector<ProbePoint> points;  // sizes ascending, depths ascending in each
  std::optional<StoreResult> store;
  bool interrupted = false;
};

ReaderOptions reader_options(const EngineOptions& engine, const FetchOptions& options, uint32_t depth) {
  const ReaderKind kind = engine.reader == ReaderChoice::kIoUring ? ReaderKind::kIoUring
                          : engine.reader == ReaderChoice::kPread ? ReaderKind::kPread
                                                                  : ReaderKind::kAuto;
  return {.kind = kind, .depth = depth, .direct = options.direct};
}

Result<std::unique_ptr<ExpertSource>> experts_of(const Checkpoint& file) {
  if (const ExpertShare* share = file.share(); share != nullptr) {
    return fail(ErrorKind::kUsage, "{} has {} of the model's experts alone; name the whole model",
                file.path().string(), share->name());
  }
  ODMOE_ASSIGN_OR_RETURN(const std::string architecture, file.get_string("general.architecture"));
  std::array<int, 3> numbers{};
  for (size_t i = 0; const char* const key : {"block_count", "expert_count", "expert_used_count"}) {
    ODMOE_ASSIGN_OR_RETURN(const int64_t number, file.get_int(architecture + "." + key));
    numbers[i++] = static_cast<int>(std::clamp<int64_t>(number, 0, 1 << 20));
  }
  // Without the blocks for speculation, whose experts no token uses.
  if (const auto nextn = file.get_int(architecture + ".nextn_predict_layers"))
    numbers[0] -= static_cast<int>(std::clamp<int64_t>(*nextn, 0, numbers[0]));
  return file.expert_source(numbers[0], numbers[1], numbers[2]);
}

Status measure_table(const EngineOptions& engine, const FetchOptions& options, Report& report) {
  std::vector<uint32_t> sizes(options.sizes.begin(), options.sizes.end());
  if (sizes.empty()) {
    for (uint32_t bytes = 64U << 10U; bytes <= 4U << 20U; bytes *= 2) sizes.push_back(bytes);
  }
  std::vector<uint32_t> depths = options.depths;
  if (depths.empty()) depths = {1, 2, 4, 8, 16, 32, 64};
  std::ranges::sort(sizes);
  std::ranges::sort(depths);

  ODMOE_ASSIGN_OR_RETURN(const auto reader, make_reader(reader_options(engine, options, depths.back())));
  report.reader = reader->name();
  for (const auto& file : report.copies.front().files) ODMOE_RETURN_IF_ERROR(reader->add_file(file));
  ODMOE_ASSIGN_OR_RETURN(const AlignedBuffer memory, AlignedBuffer::allocate(kTableMemory, true));
  DriveProbe probe(*reader, memory.span(), SteadyClock::instance());
  const auto n_point = static_cast<double>(sizes.size() * depths.size());
  const auto point_us = static_cast<int64_t>(options.seconds * 1e6 / n_point);
  Progress bar("Reading from the drive");
  for (const uint32_t bytes : sizes) {
    for (const uint32_t depth : depths) {
      if (interrupt::pending()) {
        report.interrupted = true;
        return {};
      }
      bar.update(static_cast<double>(report.points.size()) / n_point,
                 odmoe::format("{} at once, {} each", depth, format_bytes(bytes)));
      ODMOE_ASSIGN_OR_RETURN(ProbePoint point, probe.measure(bytes, depth, point_us));
      report.points.push_back(point);
    }
  }
  return {};
}

Status measure_store(const EngineOptions& engine, const FetchOptions& options, const ExpertSource& source,
                     Report& report) {
  const Clock& clock = SteadyClock::instance();
  ExpertStoreOptions store_options;
  const uint32_t depth = plan_reads(source, report.copies, engine.read_depth, store_options);
  ODMOE_ASSIGN_OR_RETURN(auto reader, make_reader(reader_options(engine, options, depth)));
  // The alignment is not known before the files are open; 4096 asks for the most room.
  constexpr ReadAlignment kStrict{.offset_bytes = 4096, .memory_bytes = 4096};
  store_options.arena_bytes =
      std::max(std::min(kStoreMemory, ExpertStore::max_arena_bytes(source, kStrict) / 4),
               ExpertStore::min_arena_bytes(source, kStrict));
  ODMOE_ASSIGN_OR_RETURN(const auto store, ExpertStore::create(source, std::move(reader), store_options));

  // Plain reads in turns with the store's, of the size that the store cuts its slices into.
  uint64_t slice_bytes = 0;
  for (int layer = 0; layer < source.n_layer(); ++layer) {
    if (source.n_expert(layer) == 0) continue;
    for (const auto& slice : source.layout(layer).slices) slice_bytes = std::max(slice_bytes, slice.bytes);
  }
  const uint64_t n_piece = (slice_bytes + store_options.read_bytes - 1) / store_options.read_bytes;
  const auto plain_read_bytes =
      static_cast<uint32_t>(std::min(round_up((slice_bytes + n_piece - 1) / n_piece, 4096), kTableMemory));
  ODMOE_ASSIGN_OR_RETURN(const auto plain_reader, make_reader(reader_options(engine, options, depth)));
  for (const ModelCopy& copy : report.copies) {
    for (const auto& file : copy.files) ODMOE_RETURN_IF_ERROR(plain_reader->add_file(file));
  }
  ODMOE_ASSIGN_OR_RETURN(const AlignedBuffer memory, AlignedBuffer::allocate(kTableMemory, true));
  DriveProbe plain(*plain_reader, memory.span(), clock);

  std::vector<int> layers;
  for (int layer = 0; layer < source.n_layer(); ++layer) {
    if (source.n_expert(layer) > 0) layers.push_back(layer);
  }
  std::minstd_rand random(1);
  std::vector<int64_t> latencies;
  std::vector<ExpertLease> leases;
  std::vector<int32_t> experts;
  StoreResult result;
  ExpertStoreStats warm;
  uint64_t plain_bytes = 0;
  double plain_seconds = 0;
  int64_t next_plain_us = 0;
  Progress bar("Fetching experts");
  const int64_t begin_us = clock.now_us();
  const auto limit_us = static_cast<int64_t>(options.seconds * 0.5e6);
  for (size_t step = 0;; ++step) {
    const int64_t now_us = clock.now_us();
    if (interrupt::pending()) report.interrupted = true;
    if (report.interrupted || now_us - begin_us >= limit_us) break;
    bar.update(static_cast<double>(now_us - begin_us) / static_cast<double>(limit_us));
    // The first read into a page makes that page, which takes longer than the read: not counted.
    if (store->stats().evictions == 0) {
      latencies.clear();
      warm = store->stats();
    } else if (now_us >= next_plain_us) {
      ODMOE_ASSIGN_OR_RETURN(const ProbePoint point, plain.measure(plain_read_bytes, depth, kPlainUs));
      plain_bytes += point.n_read * plain_read_bytes;
      plain_seconds += static_cast<double>(point.n_read * plain_read_bytes) / point.bytes_per_second;
      next_plain_us = clock.now_us() + 2 * kPlainUs;
    }
    const int layer = layers[step % layers.size()];
    experts.resize(static_cast<size_t>(source.n_expert(layer)));
    std::iota(experts.begin(), experts.end(), 0);
    std::ranges::shuffle(experts, random);
    experts.resize(static_cast<size_t>(std::min(source.n_expert_used(), source.n_expert(layer))));
    const uint64_t misses_before = store->stats().misses;
    const int64_t asked_us = clock.now_us();
    store->lease(layer, experts, leases);
    ODMOE_RETURN_IF_ERROR(store->wait_all(leases));
    if (store->stats().misses > misses_before) latencies.push_back(clock.now_us() - asked_us);
    leases.clear();
  }
  const ExpertStoreStats stats = store->stats();
  result.copies = store->copy_stats();
  result.n_fetch = latencies.size();
  if (latencies.empty()) return {};  // stopped at once
  std::ranges::sort(latencies);
  const auto at = [&](double share) {
    return latencies[static_cast<size_t>(share * static_cast<double>(latencies.size() - 1))];
  };
  result.p50_us = at(0.50);
  result.p95_us = at(0.95);
  result.p99_us = at(0.99);
  result.bytes_per_second = static_cast<double>(stats.demand_read_bytes - warm.demand_read_bytes) * 1e6 /
                            static_cast<double>(std::max<uint64_t>(stats.stall_us - warm.stall_us, 1));
  if (plain_seconds > 0) result.plain_bytes_per_second = static_cast<double>(plain_bytes) / plain_seconds;
  report.store = std::move(result);
  return {};
}

double mib(double bytes) { return bytes / static_cast<double>(kMiB); }
// Bandwidth of every point: a row for each size, a column for each depth.
std::string bandwidth_table(std::span<const ProbePoint> points) {
  std::string text = odmoe::format("{:>10}", "MiB/s");
  for (const ProbePoint& point : points) {
    if (point.read_bytes == points.front().read_bytes) text += odmoe::format("{:>8}", point.depth);
  }
  text += "  reads in flight";
  uint32_t row = 0;
  for (const ProbePoint& point : points) {
    if (point.read_bytes != row) text += odmoe::format("\n{:>10}", format_bytes(point.read_bytes));
    row = point.read_bytes;
    text += odmoe::format("{:>8.0f}", mib(point.bytes_per_second));
  }
  return text + "\n";
}

std::string latency_table(std::span<const ProbePoint> points) {
  std::string text =
      odmoe::format("{:>10}{:>8}{:>10}{:>10}{:>10}  microseconds\n", "read", "depth", "p50", "p95", "p99");
  for (const ProbePoint& point : points) {
    text += odmoe::format("{:>10}{:>8}{:>10}{:>10}{:>10}\n", format_bytes(point.read_bytes), point.depth,
                          point.p50_us, point.p95_us, point.p99_us);
  }
  return text;
}

std::string readable(const Report& report, const std::filesystem::path& drive_file) {
  std::string text;
  if (!report.points.empty()) {
    text += odmoe::format("random reads of {} by {}\n", report.copies.front().files.front().string(),
                          report.reader) +
            bandwidth_table(report.points);
    // The sizes' rows are told apart by the size that was chosen, or else the one that did best.
    uint32_t shown = std::ranges::max_element(report.points, {}, &ProbePoint::bytes_per_second)->read_bytes;
    if (const auto& drive = report.copies.front().drive;
        drive && std::ranges::contains(report.points, drive->profile.read_bytes, &ProbePoint::read_bytes)) {
      shown = drive->profile.read_bytes;
    }
    std::vector<Bar> bars;
    for (const ProbePoint& point : report.points) {
      if (point.read_bytes != shown) continue;
      bars.push_back(
          {std::to_string(point.depth), point.bytes_per_second, format_rate(point.bytes_per_second)});
    }
    text += odmoe::format("\nreads of {}, by how many are in flight\n", format_bytes(shown)) +
            bar_chart(bars, kPlotColumns) + "\n" + latency_table(report.points);
  }
  text += "\n";
  for (const ModelCopy& copy : report.copies) {
    if (!copy.drive) {
      text += odmoe::format("{}: its drive was not tried out\n", copy.files.front().string());
      continue;
    }
    const DriveProfile& profile = copy.drive->profile;
    text += odmoe::format("{}: chosen for {} are {} reads of {} in flight, {}, {} us for one alone\n",
                          copy.files.front().string(), copy.drive->name, profile.depth,
                          format_bytes(profile.read_bytes), format_rate(profile.bytes_per_second),
                          profile.latency_us);
  }
  const bool known =
      std::ranges::any_of(report.copies, [](const ModelCopy& copy) { return copy.drive.has_value(); });
  if (drive_file.empty() || !known) {
    text += "nothing of this is kept\n";
  } else {
    text += odmoe::format("kept in {}\n", drive_file.string());
  }
  if (report.store) {
    const StoreResult& store = *report.store;
    text += odmoe::format("the expert store: {} while waiting for a layer's experts",
                          format_rate(store.bytes_per_second));
    if (store.plain_bytes_per_second > 0) {
      text += odmoe::format(", {:.0f} % of the {} that plain reads brought in turns with it",
                            100 * store.bytes_per_second / store.plain_bytes_per_second,
                            format_rate(store.plain_bytes_per_second));
    }
    text += odmoe::format("; {} fetches of p50 {} us, p95 {} us, p99 {} us\n", store.n_fetch, store.p50_us,
                          store.p95_us, store.p99_us);
    for (size_t i = 0; i < store.copies.size() && store.copies.size() > 1; ++i) {
      text += odmoe::format("  {} from {}{}\n", format_bytes(store.copies[i].read_bytes),
                            report.copies[i].files.front().string(),
                            store.copies[i].failed ? ", then no more: its reads failed" : "");
    }
  }
  if (report.interrupted) text += "interrupted; this is what was measured\n";
  return text;
}

nlohmann::ordered_json machine_readable(const Report& report, const std::filesystem::path& drive_file) {
  nlohmann::ordered_json json;
  json["reader"] = report.reader;
  json["interrupted"] = report.interrupted;
  json["kept_in"] = drive_file.string();
  json["copies"] = nlohmann::ordered_json::array();
  for (const ModelCopy& copy : report.copies) {
    nlohmann::ordered_json object = {{"path", copy.files.front().string()}};
    if (copy.drive) {
      object["drive"] = copy.drive->name;
      object["depth"] = copy.drive->profile.depth;
      object["read_bytes"] = copy.drive->profile.read_bytes;
      object["bytes_per_second"] = copy.drive->profile.bytes_per_second;
      object["latency_us"] = copy.drive->profile.latency_us;
    }
    json["copies"].push_back(std::move(object));
  }
  json["points"] = nlohmann::ordered_json::array();
  for (const ProbePoint& point : report.points) {
    json["points"].push_back({{"read_bytes", point.read_bytes},
                              {"depth", point.depth},
                              {"reads", point.n_read},
                              {"bytes_per_second", point.bytes_per_second},
                              {"p50_us", point.p50_us},
                              {"p95_us", point.p95_us},
                              {"p99_us", point.p99_us}});
  }
  if (report.store) {
    const StoreResult& store = *report.store;
    json["store"] = {{"bytes_per_second", store.bytes_per_second},
                     {"plain_bytes_per_second", store.plain_bytes_per_second},
                     {"fetches", store.n_fetch},
                     {"p50_us", store.p50_us},
                     {"p95_us", store.p95_us},
                     {"p99_us", store.p99_us}};
    for (const ExpertCopyStats& copy : store.copies) {
      json["store"]["copies"].push_back({{"read_bytes", copy.read_bytes}, {"failed", copy.failed}});
    }
  }
  return json;
}

}  // namespace

void add_fetch_options(CLI::App& command, FetchOptions& options) {
  add_choice<bool>(command, "--direct", true, {{"on", true}, {"off", false}},
                   "fetch: read past the page cache", [&options](bool direct) { options.direct = direct; })
      ->group("Fetch");
  command
      .add_option_function<std::vector<std::string>>(
          "--sizes",
          [&options](const std::vector<std::string>& texts) {
            options.sizes.clear();
            for (const std::string& text : texts) {
              const auto bytes = parse_bytes(text);
              if (!bytes.has_value() || *bytes < 4096 || *bytes > kTableMemory || *bytes % 4096 != 0) {
                throw CLI::ValidationError(
                    "--sizes", odmoe::format("'{}' is not a size of a read; give multiples of 4KiB up to {}",
                                             text, format_bytes(kTableMemory)));
              }
              options.sizes.push_back(*bytes);
            }
          },
          "fetch: sizes of a read to try")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("SIZE,...")
      ->default_str("64KiB to 4MiB")
      ->group("Fetch");
  command.add_option("--depths", options.depths, "fetch: how many reads in flight to try")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("N,...")
      ->default_str("1 to 64")
      ->check(CLI::Range(1, 1024).description(""))
      ->group("Fetch");
  command
      .add_option("--seconds", options.seconds, "fetch: for the table; the store takes half as long again")
      ->type_name("S")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0).description(""))
      ->group("Fetch");
}

Result<int> bench_fetch(const EngineOptions& engine, const FetchOptions& options, bool json) {
  ODMOE_RETURN_IF_ERROR(engine.validate());
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(engine.model));
  ODMOE_ASSIGN_OR_RETURN(const auto source, experts_of(*file));
  Report report;
  report.copies.push_back({.files = file->files(), .drive = {}});
  for (const std::filesystem::path& path : engine.mirrors) {
    ODMOE_ASSIGN_OR_RETURN(auto files, open_mirror(*file, path));
    report.copies.push_back({.files = std::move(files), .drive = {}});
  }

  // What is looked up by others must hold for how they read: only that is kept.
  const std::filesystem::path drive_file = options.direct ? engine.drive_file : std::filesystem::path();
  for (ModelCopy& copy : report.copies) {
    Progress bar("Trying out the drive");
    DriveSetup setup{.drive_file = drive_file,
                     .look_up = false,
                     .reader = reader_options(engine, options, kProbeDepth),
                     .make_reader = make_reader};
    setup.probe.progress = [&bar](const ProbePoint&, double done) {
      bar.update(done);
      return !interrupt::pending();
    };
    auto drive = know_drive(copy.files, setup);
    bar.finish();
    report.interrupted = !drive.has_value();
    if (report.interrupted) break;
    copy.drive = std::move(*drive);
  }
  if (!report.interrupted) ODMOE_RETURN_IF_ERROR(measure_table(engine, options, report));
  if (!report.interrupted) ODMOE_RETURN_IF_ERROR(measure_store(engine, options, *source, report));

  Output output = Output::standard_output();
  (void)output.write(json ? machine_readable(report, drive_file)
                                    .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
                                "\n"
                          : readable(report, drive_file));
  if (output.reader_gone() || !output.exit_code().has_value() || !report.interrupted)
    return output.exit_code();
  return kExitInterrupted;
}

}  // namespace odmoe::cli
