#include "cli/bench_predict.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <utility>

#include "base/units.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "odmoe/format.h"
#include "predict/shadow_model.h"
#include "predict/shadow_network.h"
#include "predict/weight_types.h"

namespace odmoe::cli {
namespace {

// Read between two cold predictions, as a model does with its own weights: more than caches hold.
constexpr uint64_t kEvictionBytes = 128 * kMiB;
constexpr uint64_t kMaxWeights = uint64_t{1} << 34U;

struct Latency {
  double p50_us = 0, p95_us = 0, p99_us = 0;
};

struct TimedNetwork {
  std::string type;
  bool shared = false;
  bool repacked = false;
  uint64_t weight_bytes = 0, bytes = 0, bytes_per_prediction = 0;
  Latency cold, warm;
};

// As designed: Linear(n_embd, hidden), LayerNorm, SiLU, one Linear(hidden, n_expert) head for each layer
// ahead, for each layer; or all of it shared but for the first bias.
ShadowPlan designed(const PredictOptions& o, bool shared) {
  const int32_t n_out = o.n_expert * o.lookahead;
  ShadowPlan plan;
  const auto vector = [&](int32_t n) {
    plan.vectors.push_back(n);
    return static_cast<int>(plan.vectors.size()) - 1;
  };
  const auto matrix = [&](int32_t n_in, int32_t n) {
    plan.matrices.push_back({n_in, n});
    return static_cast<int>(plan.matrices.size()) - 1;
  };
  for (int32_t layer = 0; layer < o.n_layer; ++layer) {
    if (shared && layer > 0) {
      plan.layers.push_back(plan.layers.front());
      plan.layers.back().blocks.front().bias = vector(o.hidden);
      continue;
    }
    plan.layers.push_back({.n_in = o.n_embd,
                           .n_out = n_out,
                           .blocks = {{.matrix = matrix(o.n_embd, o.hidden),
                                       .bias = vector(o.hidden),
                                       .norm_weight = vector(o.hidden),
                                       .norm_bias = vector(o.hidden)}},
                           .heads = {{.matrix = matrix(o.hidden, n_out)}},
                           .bias = vector(n_out)});
  }
  return plan;
}

void fill_at_random(const ShadowPlan& plan, ShadowNetwork& network, Progress& bar, const std::string& label) {
  size_t longest = 0;
  for (const auto& m : plan.matrices) {
    longest = std::max(longest, static_cast<size_t>(m.n_in) * static_cast<size_t>(m.n_out));
  }
  for (const int32_t n : plan.vectors) longest = std::max(longest, static_cast<size_t>(n));
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> value(-0.05F, 0.05F);
  std::vector<float> values(longest);
  std::ranges::generate(values, [&] { return value(random); });
  for (size_t i = 0; i < plan.matrices.size() && !interrupt::pending(); ++i) {
    bar.update(static_cast<double>(i) / static_cast<double>(plan.matrices.size()), label);
    const auto& m = plan.matrices[i];
    network.set_matrix(i,
                       std::span(values).first(static_cast<size_t>(m.n_in) * static_cast<size_t>(m.n_out)));
  }
  for (size_t i = 0; i < plan.vectors.size(); ++i) {
    network.set_vector(i, std::span(values).first(static_cast<size_t>(plan.vectors[i])));
  }
  std::ranges::generate(network.input(0), [&] { return 20 * value(random); });
}

Latency percentiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  const auto at = [&](double share) {
    return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
  };
  return {at(0.5), at(0.95), at(0.99)};
}

Result<double> time_us(ShadowNetwork& network, size_t layer) {
  const auto begin = std::chrono::steady_clock::now();
  ODMOE_RETURN_IF_ERROR(network.compute(layer));
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

// One layer after the other, as in decoding: with other memory read before (cold), then the same once more.
Result<TimedNetwork> time_network(const PredictOptions& options, ShadowNetwork& network, TimedNetwork row,
                                  Progress& bar, bool& interrupted) {
  row.repacked = network.repacked();
  row.weight_bytes = network.weight_bytes();
  row.bytes = network.bytes();
  row.bytes_per_prediction = network.bytes_read(0);
  std::vector<uint64_t> other(kEvictionBytes / sizeof(uint64_t), 1);
  std::vector<double> cold, warm;
  for (int32_t i = 0; i < options.samples; ++i) {
    if (interrupt::pending()) {
      interrupted = true;
      break;
    }
    bar.update(static_cast<double>(i) / options.samples, row.type);
    const size_t layer = static_cast<size_t>(i) % network.n_layer();
    for (uint64_t& word : other) ++word;
    ODMOE_ASSIGN_OR_RETURN(const double first_us, time_us(network, layer));
    cold.push_back(first_us);
    ODMOE_ASSIGN_OR_RETURN(const double again_us, time_us(network, layer));
    warm.push_back(again_us);
  }
  row.cold = percentiles(std::move(cold));
  row.warm = percentiles(std::move(warm));
  return row;
}

Result<TimedNetwork> measure(const PredictOptions& options, const std::string& type, bool shared,
                             bool& interrupted) {
  const ShadowPlan plan = designed(options, shared);
  ODMOE_ASSIGN_OR_RETURN(const ggml_type weights, weight_type(type));
  const std::string label = odmoe::format("{}, {}", type, shared ? "shared" : "per layer");
  Progress bar("Predicting");
  bar.update(0, label);
  ODMOE_ASSIGN_OR_RETURN(const auto network,
                         ShadowNetwork::create(plan, {.type = weights, .repack = options.repack}));
  fill_at_random(plan, *network, bar, label);
  return time_network(options, *network, {.type = type, .shared = shared}, bar, interrupted);
}

Result<TimedNetwork> measure_file(const PredictOptions& options, const std::filesystem::path& shadow,
                                  const std::string& type, bool& interrupted) {
  ODMOE_ASSIGN_OR_RETURN(const ggml_type weights, weight_type(type));
  Progress bar("Predicting");
  bar.update(0, type);
  ODMOE_ASSIGN_OR_RETURN(const auto model,
                         ShadowModel::load(shadow, {.type = weights, .repack = options.repack}));
  return time_network(options, model->network(), {.type = type, .shared = model->spec().shared_trunk}, bar,
                      interrupted);
}

std::string readable(const std::string& what, const std::vector<TimedNetwork>& rows) {
  std::string text = odmoe::format(
      "{}; one thread, microseconds\n"
      "{:>6} {:>10} {:>9} {:>12} {:>9}{:>9}{:>9}   {:>9}{:>9}{:>9}\n",
      what, "type", "weights", "memory", "each reads", "cold p50", "p95", "p99", "warm p50", "p95", "p99");
  for (const TimedNetwork& row : rows) {
    text += odmoe::format("{:>6} {:>10} {:>9} {:>12} {:>9.0f}{:>9.0f}{:>9.0f}   {:>9.0f}{:>9.0f}{:>9.0f}\n",
                          row.type, row.shared ? "shared" : "per layer", format_bytes(row.bytes),
                          format_bytes(row.bytes_per_prediction), row.cold.p50_us, row.cold.p95_us,
                          row.cold.p99_us, row.warm.p50_us, row.warm.p95_us, row.warm.p99_us);
  }
  return text;
}

nlohmann::ordered_json machine_readable(const std::string& what, int32_t samples,
                                        const std::vector<TimedNetwork>& rows) {
  nlohmann::ordered_json json = {{"what", what}, {"threads", 1}, {"samples", samples}};
  json["networks"] = nlohmann::ordered_json::array();
  const auto object = [](const Latency& l) {
    return nlohmann::ordered_json{{"p50_us", l.p50_us}, {"p95_us", l.p95_us}, {"p99_us", l.p99_us}};
  };
  for (const TimedNetwork& row : rows) {
    json["networks"].push_back({{"type", row.type},
                                {"shared", row.shared},
                                {"repacked", row.repacked},
                                {"weight_bytes", row.weight_bytes},
                                {"bytes", row.bytes},
                                {"bytes_per_prediction", row.bytes_per_prediction},
                                {"cold", object(row.cold)},
                                {"warm", object(row.warm)}});
  }
  return json;
}

}  // namespace

void add_predict_options(CLI::App& command, PredictOptions& options) {
  const auto number = [&](const std::string& name, int32_t& value, int32_t most, const std::string& help) {
    command.add_option(name, value, "predict: " + help)
        ->type_name("N")
        ->capture_default_str()
        ->check(CLI::Range(1, most).description(""))
        ->group("Predict");
  };
  number("--n-embd", options.n_embd, 1 << 16, "width of the state that the predictor sees");
  number("--experts", options.n_expert, 4096, "experts of a layer");
  number("--layers", options.n_layer, 1024, "layers with experts");
  number("--hidden", options.hidden, 1 << 16, "width between");
  number("--ahead", options.lookahead, 4, "layers that a prediction looks ahead");
  number("--samples", options.samples, 1'000'000, "predictions that are timed");
  command
      .add_option_function<std::vector<std::string>>(
          "--type",
          [&options](const std::vector<std::string>& types) {
            for (const std::string& type : types) {
              if (const auto known = weight_type(type); !known.has_value()) {
                throw CLI::ValidationError("--type", known.error().message);
              }
            }
            options.types = types;
          },
          "predict: types of the weights")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("TYPE,...")
      ->default_str("q8_0,q4_0")
      ->group("Predict");
  add_choice<bool>(command, "--repack", true, {{"on", true}, {"off", false}},
                   "predict: weights laid out for wider kernels",
                   [&options](bool repack) { options.repack = repack; })
      ->group("Predict");
}

Result<int> bench_predict(const PredictOptions& options, const std::filesystem::path& shadow, bool json) {
  const uint64_t each = static_cast<uint64_t>(options.n_embd + options.n_expert * options.lookahead) *
                        static_cast<uint64_t>(options.hidden);
  if (each * static_cast<uint64_t>(options.n_layer) > kMaxWeights) {
    return fail(ErrorKind::kUsage, "{} layers of {} weights each are more than this measures; give less",
                options.n_layer, each);
  }
  std::string what = shadow.string();
  if (shadow.empty()) {
    what = odmoe::format("{} inputs, {} hidden, {} experts, {} layers ahead, {} layers", options.n_embd,
                         options.hidden, options.n_expert, options.lookahead, options.n_layer);
  }
  std::vector<TimedNetwork> rows;
  bool interrupted = false;
  for (const std::string& type : options.types) {
    for (const bool shared : {false, true}) {
      if (interrupted || (shared && !shadow.empty())) break;
      ODMOE_ASSIGN_OR_RETURN(TimedNetwork row, shadow.empty()
                                                   ? measure(options, type, shared, interrupted)
                                                   : measure_file(options, shadow, type, interrupted));
      rows.push_back(std::move(row));
    }
  }
  Output output = Output::standard_output();
  (void)output.write(json ? machine_readable(what, options.samples, rows)
                                    .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
                                "\n"
                          : readable(what, rows));
  if (output.reader_gone() || !output.exit_code().has_value() || !interrupted) return output.exit_code();
  return kExitInterrupted;
}

}  // namespace odmoe::cli
