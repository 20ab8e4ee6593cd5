// How fast a device computes the model: an engine on it, and what it counts.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "engine/choose_device.h"
#include "engine/engine_impl.h"

namespace odmoe {
namespace {

constexpr const char* kTrialText =
    "It was late in the year, and the roads were so bad that the post came but twice a week. ";
constexpr int32_t kTrialAnswer = 16;

double tokens_per_second(const Stats::Phase& phase, const Stats::Phase& before) {
  const double seconds = phase.seconds - before.seconds - (phase.stall_seconds - before.stall_seconds);
  return static_cast<double>(phase.tokens - before.tokens) / std::max(seconds, 1e-9);
}

// `longest_prompt` is found by the first engine, so that all devices have the same one; 0 until then.
Result<DeviceSpeed> measure_dense(const EngineOptions& options, const LoadProgress& progress,
                                  const EngineDependencies& dependencies, int32_t& longest_prompt) {
  const auto goes_on = [&] { return !progress || progress(0, 1); };
  ODMOE_ASSIGN_OR_RETURN(
      const auto engine,
      EngineImpl::open(options, [&](uint64_t, uint64_t) { return goes_on(); }, dependencies));
  const int32_t room = engine->options().context - 1;
  const int32_t n_answer = std::clamp(room / 2, 1, kTrialAnswer);
  if (longest_prompt == 0) longest_prompt = longest_trial_prompt(engine->plan());
  const auto n_prompt =
      static_cast<size_t>(std::clamp(room - n_answer, 1, std::min(longest_prompt, options.chunk)));
  const std::vector<Token> words = engine->encode(kTrialText, true, false);
  if (words.empty()) return fail(ErrorKind::kUnsupported, "the vocabulary has no words for it");
  std::vector<Token> prompt;
  while (prompt.size() < n_prompt) prompt.push_back(words[prompt.size() % words.size()]);

  DeviceSpeed best;
  const int64_t begin_us = dependencies.clock->now_us();
  const auto passed = [&] { return std::chrono::microseconds(dependencies.clock->now_us() - begin_us); };
  for (int round = 0; wants_trial_round(round, passed()); ++round) {
    ODMOE_ASSIGN_OR_RETURN(const auto session, engine->new_session());
    const Stats before = engine->stats();
    ODMOE_RETURN_IF_ERROR(session->evaluate(prompt));
    for (int32_t i = 0; i < n_answer; ++i) {
      if (!goes_on()) return fail(ErrorKind::kInterrupted, "interrupted");
      const Token token = words[static_cast<size_t>(i) % words.size()];
      ODMOE_RETURN_IF_ERROR(session->evaluate({&token, 1}));
    }
    if (round == 0) continue;
    const Stats after = engine->stats();
    best.prefill = std::max(best.prefill, tokens_per_second(after.prefill, before.prefill));
    best.decode = std::max(best.decode, tokens_per_second(after.decode, before.decode));
  }
  return best;
}

}  // namespace

DeviceTrials EngineImpl::device_trials(const LoadProgress& progress) const {
  EngineOptions options = options_;
  options.device_file.clear();
  options.drive_file.clear();
  options.prefetching_file.clear();
  options.predictor = PredictorKind::kNone;  // what is foreseen says nothing of the device
  options.shadow.clear();
  options.fill = false;
  options.prompts = 1;
  return {
      .devices = dependencies_.find_devices(),
      .model = identity_->value().hex(),
      .kernels = kernels_and_drivers(),
      .measure = [this, options, &progress, longest_prompt = int32_t{0}](const std::string& device) mutable {
        EngineOptions here = options;
        here.device = device;
        if (device == "cpu") {  // what is asked of a device is nothing to it
          here.device_memory_bytes = 0;
          here.experts = ExpertPlacement::kHost;
        }
        return dependencies_.measure_device ? dependencies_.measure_device(here)
                                            : measure_dense(here, progress, dependencies_, longest_prompt);
      }};
}

Status EngineImpl::settle_device(const LoadProgress& progress, bool measures) {
  if (options_.device != "auto") return {};
  DeviceChoice choice;
  // Ranks of several machines agree on the kernels that all have.
  if (!dependencies_.make_sites) {
    const DeviceTrials trials = device_trials(progress);
    choice = kept_device(options_, trials);
    if (measures) {
      ODMOE_ASSIGN_OR_RETURN(choice, choose_device(options_, trials));
    }
  }
  options_.device = choice.device;
  if (!choice.why.empty())
    device_choice_ = odmoe::format("--device auto is {}: {}", choice.device, choice.why);
  return {};
}

Status EngineImpl::forget_device(const EngineOptions& options) {
  EngineImpl engine(options, {});
  ODMOE_RETURN_IF_ERROR(engine.read_metadata());
  return forget_devices(options.device_file, engine.identity_->value().hex());
}

}  // namespace odmoe
