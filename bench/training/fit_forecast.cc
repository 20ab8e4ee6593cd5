// Fits the weights of the forecast policy to recorded routing and prints them for
// src/store/forecast_policy.cc.
//
//   odmoe_fit_forecast gpt-oss-20b.trace.xz [FIRST:END:STEP]      sessions, default 5:562:24
//
// Logistic regression of the discounted future use (store/forecast_policy.h) on the policy's own features, by
// AdaGrad (Duchi et al., JMLR 12, 2011) over the sessions in order, three times.  Deterministic.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "store/forecast_policy.h"
#include "store/reuse_evidence.h"
#include "trace/trace_file.h"

namespace odmoe {
namespace {

constexpr int kPasses = 3;
constexpr double kStep = 0.1;
constexpr size_t kRestart = 64;  // tokens after which the past is forgotten: what little is known counts too
constexpr int64_t kTail = 16;    // last tokens, whose future is cut off
using Weights = std::array<double, ReuseEvidence::kFeatures>;

Weights fit(const RoutingTrace& trace) {
  const auto n_layer = static_cast<size_t>(trace.n_layer), n_expert = static_cast<size_t>(trace.n_expert);
  const size_t n_key = n_layer * n_expert, n_token = trace.events.size() / n_layer;
  // future[t]: of the tokens from t on.
  std::vector<float> future((n_token + 1) * n_key);
  for (size_t t = n_token; t-- > 0;) {
    for (size_t i = 0; i < n_key; ++i) {
      future[t * n_key + i] = static_cast<float>(kForecastDiscount) * future[(t + 1) * n_key + i];
    }
    for (size_t layer = 0; layer < n_layer; ++layer) {
      for (const int32_t expert : trace.experts_of(trace.events[t * n_layer + layer])) {
        future[t * n_key + layer * n_expert + static_cast<size_t>(expert)] +=
            static_cast<float>(1 - kForecastDiscount);
      }
    }
  }
  std::vector<PolicyLayer> layers;
  for (int32_t layer = 0; layer < trace.n_layer; ++layer) layers.push_back({layer, trace.n_expert});
  Weights weights{}, squares{};
  squares.fill(1);
  for (int pass = 0; pass < kPasses; ++pass) {
    ReuseEvidence evidence(layers, trace.n_expert_used);
    double loss = 0;
    for (size_t t = 0; t + kTail < n_token; ++t) {
      for (size_t layer = 0; layer < n_layer; ++layer) {
        if (layer == 0 && t % kRestart == 0) evidence = ReuseEvidence(layers, trace.n_expert_used);
        const RoutingTrace::Event& event = trace.events[t * n_layer + layer];
        evidence.observe(layer, trace.experts_of(event), trace.weights_of(event));
        Weights gradient{};
        for (size_t e = 0; e < n_expert; ++e) {
          const auto x = evidence.features(layer, static_cast<int32_t>(e));
          const double z = std::inner_product(x.begin(), x.end(), weights.begin(), 0.0);
          const double y = future[(t + 1) * n_key + layer * n_expert + e];
          for (size_t i = 0; i < x.size(); ++i) gradient[i] += (y - 1 / (1 + std::exp(-z))) * x[i];
          loss += std::log1p(std::exp(-z)) + (1 - y) * z;
        }
        for (size_t i = 0; i < weights.size(); ++i) {
          squares[i] += gradient[i] * gradient[i];
          weights[i] += kStep * gradient[i] / std::sqrt(squares[i]);
        }
      }
    }
    std::fprintf(stderr, "pass %d: cross entropy %.5f\n", pass + 1,
                 loss / static_cast<double>((n_token - kTail) * n_key));
  }
  return weights;
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: odmoe_fit_forecast TRACE [FIRST:END:STEP]\n", stderr);
    return 2;
  }
  SessionRange range{.first = 5, .end = 562, .step = 24};
  if (argc > 2 &&
      (std::sscanf(argv[2], "%u:%u:%u", &range.first, &range.end, &range.step) != 3 || range.step == 0)) {
    std::fputs("odmoe_fit_forecast: write the sessions as FIRST:END:STEP, like 5:562:24\n", stderr);
    return 2;
  }
  const auto trace = read_trace(argv[1], {.sessions = {range}, .progress = {}});
  if (!trace.has_value()) {
    std::fprintf(stderr, "odmoe_fit_forecast: %s\n", trace.error().message.c_str());
    return 1;
  }
  for (const double weight : fit(*trace)) std::printf("%.3fF, ", weight);
  std::printf("\n");
  return 0;
}

}  // namespace
}  // namespace odmoe

int main(int argc, char** argv) { return odmoe::run(argc, argv); }
