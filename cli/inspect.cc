// odmoe inspect: what a model is, and how much memory makes sense for it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/processors.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/hit_rates.h"
#include "cli/inference_options.h"
#include "cli/kept_files.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cli/speed_estimate.h"
#include "engine/drives.h"
#include "format/checkpoint.h"
#include "odmoe/engine.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

// Three digits, but never 1.3e+03.
std::string three_digits(double v) {
  return v < 100 ? odmoe::format("{:.3g}", v) : odmoe::format("{:.0f}", v);
}

struct InspectOptions {
  EngineOptions engine;
  bool json = false;
  bool all = false;
};

struct Budget {
  std::string name;
  uint64_t bytes;  // of the whole process
};

// The least, and what lets a share of the experts stay in memory; `plan` is that for all of them.
std::vector<Budget> budgets(const MemoryPlan& plan) {
  const uint64_t rest = plan.budget_bytes - plan.arena_bytes;
  std::vector<Budget> list{{"minimum", plan.minimum_bytes}};
  for (const int percent : {10, 25, 50, 100}) {
    const auto arena =
        static_cast<uint64_t>(std::llround(static_cast<double>(plan.arena_bytes) * percent / 100));
    if (rest + arena > plan.minimum_bytes) list.push_back({odmoe::format("{}%", percent), rest + arena});
  }
  return list;
}

// What a layer takes, by name of its types: layers that are alike are shown once.
struct LayerSizes {
  uint64_t dense_bytes = 0;
  uint64_t expert_bytes = 0;  // of one expert
  int64_t n_expert = 0;
  std::string expert_types;  // "Q4_K, Q6_K"
  bool operator==(const LayerSizes&) const = default;
};

std::string type_text(const TensorInfo& tensor) {
  return odmoe::format("{}{}", ggml_type_name(tensor.type), tensor.repacked ? " repacked" : "");
}

std::vector<LayerSizes> layer_sizes(const Checkpoint& file, int n_layer) {
  std::vector<LayerSizes> layers(static_cast<size_t>(n_layer));
  for (const TensorInfo& tensor : file.tensors()) {
    int layer = -1;
    if (std::sscanf(tensor.name.c_str(), "blk.%d.", &layer) != 1 || layer < 0 || layer >= n_layer) continue;
    LayerSizes& sizes = layers[static_cast<size_t>(layer)];
    if (tensor.name.find("_exps.weight") == std::string::npos) {
      sizes.dense_bytes += tensor.bytes;
      continue;
    }
    sizes.n_expert = tensor.ne[2];
    sizes.expert_bytes += tensor.bytes / static_cast<uint64_t>(tensor.ne[2]);
    const std::string type = type_text(tensor);
    if (sizes.expert_types.find(type) == std::string::npos)
      sizes.expert_types += (sizes.expert_types.empty() ? "" : ", ") + type;
  }
  return layers;
}

std::string layer_table(const std::vector<LayerSizes>& layers) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (size_t first = 0, end = 0; first < layers.size(); first = end) {
    while (end < layers.size() && layers[end] == layers[first]) ++end;
    const LayerSizes& sizes = layers[first];
    std::string text = odmoe::format("dense {}", format_bytes(sizes.dense_bytes));
    if (sizes.n_expert > 0) {
      text += odmoe::format(", {} experts of {} ({})", sizes.n_expert, format_bytes(sizes.expert_bytes),
                            sizes.expert_types);
    }
    rows.emplace_back(end == first + 1 ? std::to_string(first) : odmoe::format("{} to {}", first, end - 1),
                      text);
  }
  return table(rows, Align::kLeft);
}

// What an expert directory has that is one machine's share.
struct Held {
  int64_t n_expert = 0, n_expert_of_all = 0;
  uint64_t bytes = 0;
};

Result<Held> held_experts(const Checkpoint& file, const ModelInfo& model) {
  ODMOE_ASSIGN_OR_RETURN(const auto source,
                         file.expert_source(model.n_layer, model.n_expert, model.n_expert_used));
  Held held;
  for (int layer = 0; layer < model.n_layer; ++layer) {
    for (int32_t expert = 0; expert < source->n_expert(layer); ++expert) {
      ++held.n_expert_of_all;
      if (!source->holds({.layer = layer, .expert = expert})) continue;
      ++held.n_expert;
      held.bytes += source->layout(layer).bytes();
    }
  }
  return held;
}

std::string share_text(const ExpertShare& share, const Held& held) {
  return odmoe::format(
      "share of one machine\n"
      "  {}: {} of {} experts, {}\n"
      "  by itself it cannot run: mpirun starts {} ranks, each with its own share (docs/scale.md)\n",
      share.name(), held.n_expert, held.n_expert_of_all, format_bytes(held.bytes), share.sizes.size());
}

// What a token reads, and how fast that comes.
struct Estimate {
  SpeedInputs speed;
  std::string drive;
};

Result<Estimate> estimate(const EngineOptions& options, const Checkpoint& file, const ModelInfo& model) {
  Estimate result{.speed = bytes_of_a_token(model, file), .drive = {}};
  const int threads = options.threads > 0 ? options.threads : usable_processors();
  ODMOE_ASSIGN_OR_RETURN(
      result.speed.memory_bytes_per_second,
      measure_memory_bandwidth(threads, result.speed.dense_read_bytes + result.speed.cycle_bytes));
  const DriveSetup setup{.drive_file = options.drive_file,
                         .reader = {.direct = true},
                         .make_reader = make_reader,
                         .least_bytes = UINT64_MAX};  // looked up, not tried out: that would read
  ODMOE_ASSIGN_OR_RETURN(const auto drive, know_drive({file.files().back()}, setup));
  if (drive) {
    result.speed.drive_bytes_per_second = drive->profile.bytes_per_second;
    result.drive = drive->name;
  }
  return result;
}

std::optional<double> tokens_per_second(const Estimate& estimate, const MemoryPlan& plan,
                                        uint64_t budget_bytes) {
  const auto speed =
      reading_speed(estimate.speed, hit_rates_of_traces().at(expert_share(plan, budget_bytes)));
  return speed ? std::optional(speed->overlapped()) : std::nullopt;
}

std::string speed_text(const Estimate& estimate) {
  const bool known = estimate.speed.drive_bytes_per_second > 0;
  return odmoe::format(
      "Tokens per second are an estimate of what reading alone would allow, from memory ({},\n"
      "measured now) and drive ({}),\n"
      "with hit rates of other models (docs/residency.md). Computing makes it slower, experts that are\n"
      "wanted again more often make it faster.\n",
      format_rate(estimate.speed.memory_bytes_per_second),
      known ? format_rate(estimate.speed.drive_bytes_per_second) + ", " + estimate.drive
            : "not tried out yet: odmoe bench fetch does it");
}

// What of the file is not used and worth knowing: what is refused, and tensors that are passed over.
// Thousands of tensors may have one reason and are one line.
std::string left_over_text(const ModelInfo& model, const Checkpoint& file) {
  struct Group {
    std::string first;
    size_t n = 0;
    uint64_t bytes = 0;
  };
  std::string text;
  std::map<std::pair<bool, std::string>, Group> tensors;  // by whether they pass, and the reason
  for (const LeftOver& left : model.left_over) {
    if (left.kind == LeftOver::Kind::kKey) {
      if (left.refused) text += odmoe::format("  refused: key {} {}\n", left.name, left.reason);
      continue;
    }
    Group& group = tensors[{!left.refused, left.reason}];
    if (group.n++ == 0) group.first = left.name;
    const TensorInfo* tensor = file.find_tensor(left.name);
    group.bytes += tensor != nullptr ? tensor->bytes : 0;
  }
  for (const auto& [judged, group] : tensors) {
    const auto& [passes, reason] = judged;
    const std::string more = group.n > 1 ? odmoe::format(" and {} more", group.n - 1) : "";
    text += odmoe::format("  {}tensor {}{}, {}: {}\n", passes ? "" : "refused: ", group.first, more,
                          format_bytes(group.bytes), reason);
  }
  return text.empty() ? "" : "not used\n" + text;
}

std::string readable(const ModelInfo& model, const MemoryPlan& plan, const Checkpoint& file,
                     const Estimate& estimate, const std::optional<Held>& held) {
  using Rows = std::vector<std::pair<std::string, std::string>>;
  Rows shape{{"architecture", model.architecture}};
  if (!model.name.empty()) shape.emplace_back("name", model.name);
  std::string lead;
  if (model.n_expert_layer != model.n_layer - model.n_layer_dense_lead) {
    lead = odmoe::format(", {} with experts", model.n_expert_layer);
  } else if (model.n_layer_dense_lead > 0) {
    lead = odmoe::format(", the first {} dense", model.n_layer_dense_lead);
  }
  shape.emplace_back("layers", odmoe::format("{}{}", model.n_layer, lead));
  shape.emplace_back("embedding", std::to_string(model.n_embd));
  shape.emplace_back("attention heads",
                     odmoe::format("{}, {} of keys and values", model.n_head, model.n_head_kv));
  shape.emplace_back("experts per layer",
                     odmoe::format("{}, {} per token", model.n_expert, model.n_expert_used));
  shape.emplace_back("expert width", std::to_string(model.n_ff_exp));
  shape.emplace_back("vocabulary", std::to_string(model.n_vocab));
  shape.emplace_back("context trained for", std::to_string(model.n_context_train));

  Rows sizes{{"file", format_bytes(model.file_bytes)}, {"experts", format_bytes(model.expert_bytes)}};
  if (model.repacked_bytes > 0) {
    sizes.emplace_back(odmoe::format("of them repacked ({})", model.repacked_layout),
                       format_bytes(model.repacked_bytes));
  }
  sizes.emplace_back("dense weights", format_bytes(model.dense_bytes));
  sizes.emplace_back("dense weights in memory", format_bytes(plan.dense_bytes));
  sizes.emplace_back("experts that one token uses", format_bytes(model.cycle_bytes));
  sizes.emplace_back(odmoe::format("KV cache of {} tokens", model.context), format_bytes(plan.kv_bytes));
  sizes.emplace_back("buffers", format_bytes(plan.buffer_bytes));
  Rows types;
  for (const auto& [type, bytes] : model.bytes_per_type) types.emplace_back(type, format_bytes(bytes));
  Rows memory;
  for (const Budget& budget : budgets(plan)) {
    const auto speed = tokens_per_second(estimate, plan, budget.bytes);
    memory.emplace_back(
        budget.name == "minimum" ? "least that will do" : budget.name + " of the experts",
        format_bytes(budget.bytes) +
            (speed ? odmoe::format("   reading allows {} tokens/s", three_digits(*speed)) : ""));
  }
  return "model\n" + table(shape, Align::kLeft) + "sizes\n" + table(sizes) + "weights by type\n" +
         table(types) + "layers\n" + layer_table(layer_sizes(file, model.n_layer)) +
         left_over_text(model, file) + device_text(plan.device) +
         (held ? share_text(*file.share(), *held)
               : "memory that makes sense (--memory)\n" + table(memory, Align::kLeft) + speed_text(estimate));
}

nlohmann::ordered_json machine_readable(const ModelInfo& model, const MemoryPlan& plan,
                                        const Checkpoint& file, const Estimate& estimate,
                                        const std::optional<Held>& held) {
  nlohmann::ordered_json json{{"architecture", model.architecture},
                              {"name", model.name},
                              {"n_layer", model.n_layer},
                              {"n_layer_dense_lead", model.n_layer_dense_lead},
                              {"n_embd", model.n_embd},
                              {"n_head", model.n_head},
                              {"n_head_kv", model.n_head_kv},
                              {"n_expert", model.n_expert},
                              {"n_expert_used", model.n_expert_used},
                              {"n_ff_exp", model.n_ff_exp},
                              {"n_vocab", model.n_vocab},
                              {"n_context_train", model.n_context_train},
                              {"file_bytes", model.file_bytes},
                              {"expert_bytes", model.expert_bytes},
                              {"repacked_layout", model.repacked_layout},
                              {"repacked_bytes", model.repacked_bytes},
                              {"dense_bytes", model.dense_bytes},
                              {"dense_memory_bytes", plan.dense_bytes},
                              {"cycle_bytes", model.cycle_bytes},
                              {"kv_bytes_per_token", model.kv_bytes_per_token},
                              {"fixed_state_bytes", model.fixed_state_bytes},
                              {"context", model.context},
                              {"kv_bytes", plan.kv_bytes},
                              {"buffer_bytes", plan.buffer_bytes}};
  if (!plan.device.name.empty()) {
    json["device"] = {{"name", plan.device.name},
                      {"shares_host_memory", plan.device.shares_host_memory},
                      {"budget_bytes", plan.device.available_bytes},
                      {"minimum_bytes", plan.device.minimum_bytes},
                      {"dense_bytes", plan.device.dense_bytes},
                      {"kv_bytes", plan.device.kv_bytes},
                      {"buffer_bytes", plan.device.buffer_bytes},
                      {"arena_bytes", plan.device.arena_bytes},
                      {"slots", plan.device.n_slot}};
  }
  if (held) {
    json["share"] = {{"part", file.share()->rank + 1},
                     {"of", file.share()->sizes.size()},
                     {"experts", held->n_expert},
                     {"expert_bytes", held->bytes}};
  }
  auto& types = json["bytes_per_type"] = nlohmann::ordered_json::object();
  for (const auto& [type, bytes] : model.bytes_per_type) types[type] = bytes;
  auto& memory = json["budget_bytes"] = nlohmann::ordered_json::object();
  for (const Budget& budget : budgets(plan)) memory[budget.name] = budget.bytes;
  auto& layers = json["layers"] = nlohmann::ordered_json::array();
  for (const LayerSizes& sizes : layer_sizes(file, model.n_layer)) {
    layers.push_back({{"dense_bytes", sizes.dense_bytes},
                      {"n_expert", sizes.n_expert},
                      {"expert_bytes", sizes.expert_bytes},
                      {"expert_types", sizes.expert_types}});
  }
  auto& left_over = json["not_used"] = nlohmann::ordered_json::array();
  for (const LeftOver& left : model.left_over) {
    left_over.push_back({{"kind", left.kind == LeftOver::Kind::kKey ? "key" : "tensor"},
                         {"name", left.name},
                         {"reason", left.reason},
                         {"refused", left.refused}});
  }
  auto& speed = json["estimate"] = nlohmann::ordered_json::object();
  const nlohmann::ordered_json unknown = nullptr;
  speed["dense_read_bytes"] = estimate.speed.dense_read_bytes;
  speed["memory_bytes_per_second"] = estimate.speed.memory_bytes_per_second;
  speed["drive_bytes_per_second"] = estimate.speed.drive_bytes_per_second > 0
                                        ? nlohmann::ordered_json(estimate.speed.drive_bytes_per_second)
                                        : unknown;
  auto& rooflines = speed["roofline_tokens_per_second"] = nlohmann::ordered_json::object();
  for (const Budget& budget : budgets(plan)) {
    const auto tokens = tokens_per_second(estimate, plan, budget.bytes);
    rooflines[budget.name] = tokens ? nlohmann::ordered_json(*tokens) : unknown;
  }
  return json;
}

std::string dimensions(const TensorInfo& tensor) {
  size_t rank = tensor.ne.size();
  while (rank > 1 && tensor.ne[rank - 1] == 1) --rank;
  std::string text;
  for (size_t i = 0; i < rank; ++i) text += odmoe::format("{}{}", i > 0 ? " x " : "", tensor.ne[i]);
  return text;
}

std::string everything(const Checkpoint& file, const ModelInfo& model) {
  std::string text = "metadata\n";
  for (const auto& [key, value] : file.metadata_text()) text += odmoe::format("  {} = {}\n", key, value);
  text += "metadata that is not used\n";
  for (const LeftOver& left : model.left_over) {
    if (left.kind == LeftOver::Kind::kKey && !left.refused)
      text += odmoe::format("  {}: {}\n", left.name, left.reason);
  }
  text += odmoe::format("tensors, {}\n", file.tensors().size());
  for (const TensorInfo& tensor : file.tensors()) {
    text += odmoe::format("  {:<40} {:>7}  {:<24} {:>10}\n", tensor.name, type_text(tensor),
                          dimensions(tensor), format_bytes(tensor.bytes));
  }
  return text;
}

void add_everything(nlohmann::ordered_json& json, const Checkpoint& file) {
  auto& metadata = json["metadata"] = nlohmann::ordered_json::object();
  for (const auto& [key, value] : file.metadata_text()) metadata[key] = value;
  auto& tensors = json["tensors"] = nlohmann::ordered_json::array();
  for (const TensorInfo& tensor : file.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"type", ggml_type_name(tensor.type)},
                       {"repacked", tensor.repacked},
                       {"ne", tensor.ne},
                       {"bytes", tensor.bytes}});
  }
}

Result<int> inspect(InspectOptions options) {
  ODMOE_RETURN_IF_ERROR(options.engine.validate());
  ODMOE_ASSIGN_OR_RETURN(const ModelInfo model, Engine::inspect(options.engine));
  options.engine.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 100};
  ODMOE_ASSIGN_OR_RETURN(const MemoryPlan plan, Engine::memory_plan(options.engine));
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.engine.model));
  options.engine.drive_file = default_drive_file();
  ODMOE_ASSIGN_OR_RETURN(const Estimate speed, estimate(options.engine, *file, model));
  std::optional<Held> held;
  if (file->share() != nullptr) {
    ODMOE_ASSIGN_OR_RETURN(held, held_experts(*file, model));
  }
  std::string text;
  if (options.json) {
    auto json = machine_readable(model, plan, *file, speed, held);
    if (options.all) add_everything(json, *file);
    // Names come from the file and may hold any bytes.
    text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  } else {
    text = readable(model, plan, *file, speed, held);
    if (options.all) text += everything(*file, model);
  }
  Output output = Output::standard_output();
  (void)output.write(text);
  return output.exit_code();
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App* command =
      app.add_subcommand("inspect", "Show what a model is and how much memory makes sense for it");
  add_model_options(*command, options->engine);
  command->add_flag("--json", options->json, "For programs; sizes in bytes")->group("Report");
  command->add_flag("--all", options->all, "Every metadata key and every tensor too")->group("Report");
  command->footer(
      "No weights are read. The sizes of the KV cache and of the budgets are those with the options given.\n"
      "Tokens a second are what reading alone would allow: routing is guessed, and computing may take "
      "longer.\n"
      "\n"
      "Examples:\n"
      "  odmoe inspect model.gguf\n"
      "  odmoe inspect model.gguf --context 32768 --cache-type q8_0\n"
      "  odmoe inspect model.gguf --json --all | jq .metadata");
  command->callback([&action, options] {
    action = with_model(options->engine.model, [options] { return inspect(*options); });
  });
}

}  // namespace odmoe::cli
