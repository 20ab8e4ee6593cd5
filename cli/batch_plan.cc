#include "cli/batch_plan.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <map>
#include <string_view>

#include "base/units.h"
#include "cli/batch_report.h"
#include "cli/report.h"
#include "cli/speed_estimate.h"
#include "engine/dense_pass.h"
#include "format/checkpoint.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

using server::SimulatedRequest;

// Of what sequences and experts share, the part for sequences.
constexpr uint64_t kShareOfSequences = 4;
constexpr int32_t kDefaultPrompts = 4;
constexpr size_t kWidthOfShare = 16;  // where the budget is a share of the experts
constexpr int32_t kPlannedWidths[] = {1, 4, 16, 64, 256};
// A chunk's rows of a weight are multiplied together; measured on two cores (docs/batch.md).
constexpr double kChunkGain = 2;

std::optional<int32_t> whole_number(const server::Json& body, const char* name) {
  const auto member = body.find(name);
  if (member == body.end() || !member->is_number()) return std::nullopt;
  return static_cast<int32_t>(std::clamp(member->get<double>(), 0.0, 1e9));
}

int32_t written_tokens_of(const server::Json& body, const SizeGuess& guess) {
  for (const char* name : {"max_completion_tokens", "max_tokens", "max_output_tokens"}) {
    if (const auto n = whole_number(body, name)) return *n;
  }
  return guess.written_tokens;
}

// What another sequence takes beside its share of the experts.
uint64_t memory_of(const MemoryPlan& plan) {
  return plan.kv_bytes + plan.buffer_bytes + plan.reserved_bytes + plan.device.shared_bytes();
}

// How many tokens may be multiplied together with weights of a type and layout without rounding any
// otherwise, where that is least (model/blocks/exact_columns.h): those that are quantised in blocks of 256
// may be laid out for kernels of four.
int32_t columns_of(const TensorInfo& tensor) {
  constexpr int64_t kLongBlock = 256;
  if (tensor.ne[2] > 1) return 1;
  return ggml_blck_size(tensor.type) == kLongBlock ? 3 : kJoined;
}

// Those that every token is multiplied with.
std::vector<server::SimulatedWeights> dense_weights(const ModelInfo& model, const Checkpoint& file) {
  std::map<int32_t, double> bytes;  // by columns
  bool has_shared = false;
  const bool has_head = file.find_tensor("output.weight") != nullptr;
  for (const TensorInfo& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    int32_t layer = 0;
    constexpr std::string_view kLayer = "blk.";
    if (name.starts_with(kLayer)) {
      std::from_chars(name.data() + kLayer.size(), name.data() + name.size(), layer);
    }
    const bool is_expert = name.contains("_exps.") || name.contains("_exps_");
    has_shared = has_shared || name.contains("_shexp.");
    const bool is_read = name != "token_embd.weight" || !has_head;
    if (tensor.ne[1] > 1 && !is_expert && is_read && layer < model.n_layer) {
      bytes[columns_of(tensor)] += static_cast<double>(tensor.bytes);
    }
  }
  double all = 0, shared = 0;
  for (const auto& [columns, of_them] : bytes) {
    all += of_them;
    shared += columns > 1 ? of_them : 0;
  }
  // Of small models building graphs for several takes longer than they spare.
  const int32_t n_graph = 2 + model.n_expert_layer * (has_shared ? 2 : 1);
  if (shared < static_cast<double>(DensePass::kLeastJointBytes) * n_graph)
    return {{.bytes = all, .columns = 1}};
  std::vector<server::SimulatedWeights> weights;
  for (const auto& [columns, of_them] : bytes) weights.push_back({.bytes = of_them, .columns = columns});
  return weights;
}

const char* batch_waits_for(const server::BatchForecast& all) {
  if (all.network_seconds > std::max(all.read_seconds, all.compute_seconds)) return "network";
  return all.read_seconds > all.compute_seconds ? "drive" : "computing";
}

}  // namespace

int32_t width_for(uint64_t shared_bytes, uint64_t sequence_bytes, int32_t most) {
  const uint64_t fit = shared_bytes / kShareOfSequences / std::max<uint64_t>(sequence_bytes, 1);
  const auto bounded =
      static_cast<uint32_t>(std::clamp<uint64_t>(fit, 1, static_cast<uint64_t>(std::max(most, 1))));
  return static_cast<int32_t>(std::bit_floor(bounded));
}

Status settle_width(EngineOptions& options, const server::BatchOptions& batch, const WantedWidth& wanted,
                    size_t most) {
  const auto planned_for = [&](int32_t width, int32_t prompts) {
    const server::BatchNeeds needs = server::batch_needs(batch, width);
    options.sessions = width;
    options.prompts = std::min(prompts, width);
    options.reserved_bytes = needs.bytes;
    options.reserved_bytes_per_token = needs.bytes_per_token;
    return Engine::memory_plan(options);
  };
  int32_t prompts = wanted.prompts.value_or(kDefaultPrompts);
  int32_t width = 1;
  if (wanted.width) {
    width = *wanted.width;
  } else if (options.memory.kind == MemoryBudget::Kind::kExpertPercent) {
    // What sequences take comes on top.
    width = static_cast<int32_t>(std::min<size_t>(most, kWidthOfShare));
  } else {
    ODMOE_ASSIGN_OR_RETURN(const MemoryPlan one, planned_for(1, 1));
    if (const auto two = planned_for(2, 1); two.has_value()) {
      const uint64_t fixed = one.dense_bytes + memory_of(one);
      width =
          width_for(one.budget_bytes - std::min(fixed, one.budget_bytes), memory_of(*two) - memory_of(one),
                    static_cast<int32_t>(std::min<size_t>(most, kMaxSessions)));
    }
  }
  while (true) {
    const auto plan = planned_for(width, prompts);
    const auto with_one = wanted.prompts || prompts == 1 ? plan : planned_for(width, 1);
    // What prompts that are read together take is not worth much of the experts' memory.
    const bool good = plan.has_value() && plan->arena_bytes >= with_one->arena_bytes / 4 * 3;
    if (good) {
      (void)planned_for(width, prompts);
      return {};
    }
    if (!wanted.prompts && prompts > 1) {
      prompts /= 2;
    } else if (!wanted.width && width > 1) {
      width /= 2;
    } else {
      return std::unexpected(plan.error());
    }
  }
}

Result<std::vector<SimulatedRequest>> sizes_of(const server::BatchInput& input, const SizeGuess& guess,
                                               int32_t context) {
  std::vector<SimulatedRequest> sizes;
  for (size_t i = 0; i < input.size(); ++i) {
    ODMOE_ASSIGN_OR_RETURN(const server::BatchRequest request, input.request(i));
    if (!request.good.has_value()) continue;
    const auto body = server::parse_json(request.body);
    if (!body.has_value()) continue;
    SimulatedRequest size{.prompt_tokens = static_cast<int32_t>(
                              std::clamp(static_cast<double>(request.body.size()) / guess.bytes_per_token,
                                         1.0, static_cast<double>(context))),
                          .written_tokens = written_tokens_of(*body, guess)};
    size.written_tokens = std::clamp(size.written_tokens, 1, std::max(context - size.prompt_tokens, 1));
    const int32_t n = std::clamp(whole_number(*body, "n").value_or(1), 1, 16);
    sizes.insert(sizes.end(), static_cast<size_t>(n), size);
  }
  return sizes;
}

Result<BatchPlan> plan_batch(EngineOptions options, const server::BatchOptions& batch, const Machine& machine,
                             const HitRates& rates, double prompt_tokens_per_second,
                             const std::vector<SimulatedRequest>& requests, const WantedWidth& wanted) {
  BatchPlan plan{.file = options.model.filename().string(),
                 .machine = machine,
                 .budget_bytes = budget_of(machine.ram_bytes),
                 .chunk = options.chunk,
                 .requests = static_cast<double>(requests.size())};
  ODMOE_ASSIGN_OR_RETURN(plan.model, Engine::inspect(options));
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.model));
  SpeedInputs of_token = bytes_of_a_token(plan.model, *file);
  of_token.memory_bytes_per_second = machine.memory_bytes_per_second;
  plan.prompt_tokens_per_second = prompt_tokens_per_second > 0
                                      ? prompt_tokens_per_second
                                      : kChunkGain * reading_speed(of_token, 1)->memory;
  for (const SimulatedRequest& request : requests) {
    plan.prompt_tokens += request.prompt_tokens;
    plan.written_tokens += request.written_tokens;
  }
  options.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = plan.budget_bytes, .percent = 0};
  EngineOptions settled = options;
  ODMOE_RETURN_IF_ERROR(settle_width(settled, batch, wanted, requests.size()));
  plan.chosen = settled.sessions;
  std::vector<int32_t> widths(std::begin(kPlannedWidths), std::end(kPlannedWidths));
  if (!std::ranges::contains(widths, plan.chosen)) widths.push_back(plan.chosen);
  std::ranges::sort(widths);
  const auto most = expected_most_of(machine.machines);
  const std::vector<server::SimulatedWeights> dense = dense_weights(plan.model, *file);
  for (const int32_t n : widths) {
    EngineOptions of_width = options;
    if (!settle_width(of_width, batch, {.width = n, .prompts = wanted.prompts}, n).has_value()) continue;
    ODMOE_ASSIGN_OR_RETURN(const MemoryPlan memory, Engine::memory_plan(of_width));
    const double n_expert = static_cast<double>(memory.n_expert_total);
    PlannedWidth planned{.width = n,
                         .prompts = of_width.prompts,
                         .kv_bytes = memory.kv_bytes,
                         .share = n_expert > 0 ? std::min(1.0, memory.n_slot / n_expert) : 1};
    if (machine.machines > 1) {
      of_width.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 100};
      ODMOE_ASSIGN_OR_RETURN(const MemoryPlan whole, Engine::memory_plan(of_width));
      planned.share = share_of_all(whole, plan.budget_bytes, machine.machines);
    }
    const server::SimulatedMachine simulated{
        .n_layer = static_cast<double>(plan.model.n_expert_layer),
        .n_expert = static_cast<double>(plan.model.n_expert),
        .n_expert_used = static_cast<double>(plan.model.n_expert_used),
        .expert_bytes = static_cast<double>(plan.model.expert_bytes) / std::max(n_expert, 1.0),
        .share = planned.share,
        .hit_rate = rates.at(planned.share),
        .kv_bytes_per_token = static_cast<double>(plan.model.kv_bytes_per_token),
        .dense = dense,
        .memory_bytes_per_second = machine.memory_bytes_per_second,
        .drive_bytes_per_second = machine.drive_bytes_per_second,
        .prompt_tokens_per_second = plan.prompt_tokens_per_second,
        .machines = static_cast<double>(machine.machines),
        .network_bytes_per_second = machine.network_bytes_per_second,
        .latency_seconds = machine.latency_seconds,
        .n_embd = static_cast<double>(plan.model.n_embd),
        .most = most};
    planned.forecast = server::forecast(requests, n, of_width.prompts, options.chunk, simulated);
    plan.widths.push_back(planned);
  }
  return plan;
}

std::string batch_plan_text(const BatchPlan& plan) {
  std::string text = odmoe::format(
      "{}: {:.0f} requests, {:.0f} prompt tokens to read, {:.0f} tokens to write\n"
      "{}: {} for odmoe, memory {}, drive {}, {:.0f} prompt tokens/s{}\n"
      "chunks of {} tokens, contexts of {}\n",
      plan.file, plan.requests, plan.prompt_tokens, plan.written_tokens,
      plan.machine.machines > 1 ? odmoe::format("each of {} machines", plan.machine.machines) : "machine",
      format_bytes(plan.budget_bytes), format_rate(plan.machine.memory_bytes_per_second),
      format_rate(plan.machine.drive_bytes_per_second), plan.prompt_tokens_per_second,
      plan.machine.machines > 1
          ? odmoe::format(", network {}, {:.0f} us", format_rate(plan.machine.network_bytes_per_second),
                          1e6 * plan.machine.latency_seconds)
          : "",
      plan.chunk, plan.model.context);
  text += odmoe::format("{:>7}{:>9}{:>12}{:>10}{:>16}{:>18}{:>22}  {}\n", "width", "prompts", "KV caches",
                        "experts", "read per token", "tokens/s", "hours", "waits for");
  for (const PlannedWidth& at : plan.widths) {
    const server::BatchForecast& all = at.forecast;
    const double tokens = std::max(all.prompt_tokens + all.written_tokens, 1.0);
    const double written = std::max(all.written_tokens, 1.0);
    text += odmoe::format(
        "{:>7}{:>9}{:>12}{:>8.1f} %{:>16}{:>18}{:>22}  {}{}\n", at.width, at.prompts,
        format_bytes(at.kv_bytes), 100 * at.share,
        format_bytes(static_cast<uint64_t>(all.read_bytes / tokens)),
        odmoe::format("{:.3g} to {:.3g}", written / all.at_most_seconds, written / all.at_least_seconds),
        odmoe::format("{:.3g} to {:.3g}", all.at_least_seconds / 3600, all.at_most_seconds / 3600),
        batch_waits_for(all), at.width == plan.chosen ? " <" : "");
  }
  return text +
         "Tokens/s are those written; prompts are read meanwhile. Bytes are of each token, read or written.\n"
         "Figures are ASSUMED: misses drawn by chance, at hit rates of other models' traces\n"
         "(docs/batch.md).\n";
}

}  // namespace odmoe::cli
