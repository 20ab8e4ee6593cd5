// odmoe inspect: what a model is, and how much memory makes sense for it.
#include <algorithm>
#include <cmath>
#include <format>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "cli/command.h"
#include "cli/inference_options.h"
#include "cli/output.h"
#include "cli/report.h"
#include "format/checkpoint.h"
#include "odmoe/engine.h"

namespace odmoe::cli {
namespace {

struct InspectOptions {
  EngineOptions engine;
  bool json = false;
  bool all = false;
};

struct Budget {
  std::string name;
  uint64_t bytes;  // of the whole process
};

// The least, and what lets a share of the experts stay in memory.
std::vector<Budget> budgets(const MemoryPlan& plan) {
  const uint64_t rest = plan.budget_bytes - plan.arena_bytes;
  std::vector<Budget> list{{"minimum", plan.minimum_bytes}};
  for (const int percent : {10, 25, 50, 100}) {
    const auto bytes =
        rest + static_cast<uint64_t>(std::ceil(static_cast<double>(plan.expert_bytes) * percent / 100));
    if (bytes > plan.minimum_bytes) list.push_back({std::format("{}%", percent), bytes});
  }
  return list;
}

std::string readable(const ModelInfo& model, const MemoryPlan& plan, int32_t context) {
  using Rows = std::vector<std::pair<std::string, std::string>>;
  Rows shape{{"architecture", model.architecture}};
  if (!model.name.empty()) shape.emplace_back("name", model.name);
  const std::string lead =
      model.n_layer_dense_lead > 0 ? std::format(", the first {} dense", model.n_layer_dense_lead) : "";
  shape.emplace_back("layers", std::format("{}{}", model.n_layer, lead));
  shape.emplace_back("embedding", std::to_string(model.n_embd));
  shape.emplace_back("attention heads",
                     std::format("{}, {} of keys and values", model.n_head, model.n_head_kv));
  shape.emplace_back("experts per layer",
                     std::format("{}, {} per token", model.n_expert, model.n_expert_used));
  shape.emplace_back("expert width", std::to_string(model.n_ff_exp));
  shape.emplace_back("vocabulary", std::to_string(model.n_vocab));
  shape.emplace_back("context trained for", std::to_string(model.n_context_train));

  Rows sizes{{"file", format_bytes(model.file_bytes)},
             {"experts", format_bytes(model.expert_bytes)},
             {"dense weights", format_bytes(model.dense_bytes)},
             {"experts that one token uses", format_bytes(model.cycle_bytes)},
             {std::format("KV cache of {} tokens", context), format_bytes(plan.kv_bytes)},
             {"buffers", format_bytes(plan.buffer_bytes)}};
  Rows types;
  for (const auto& [type, bytes] : model.bytes_per_type) types.emplace_back(type, format_bytes(bytes));
  Rows memory;
  for (const Budget& budget : budgets(plan)) {
    memory.emplace_back(budget.name == "minimum" ? "least that will do" : budget.name + " of the experts",
                        format_bytes(budget.bytes));
  }
  return "model\n" + table(shape, Align::kLeft) + "sizes\n" + table(sizes) + "weights by type\n" +
         table(types) + "memory that makes sense (--memory)\n" + table(memory);
}

nlohmann::ordered_json machine_readable(const ModelInfo& model, const MemoryPlan& plan, int32_t context) {
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
                              {"dense_bytes", model.dense_bytes},
                              {"cycle_bytes", model.cycle_bytes},
                              {"kv_bytes_per_token", model.kv_bytes_per_token},
                              {"context", context},
                              {"kv_bytes", plan.kv_bytes},
                              {"buffer_bytes", plan.buffer_bytes}};
  auto& types = json["bytes_per_type"] = nlohmann::ordered_json::object();
  for (const auto& [type, bytes] : model.bytes_per_type) types[type] = bytes;
  auto& memory = json["budget_bytes"] = nlohmann::ordered_json::object();
  for (const Budget& budget : budgets(plan)) memory[budget.name] = budget.bytes;
  return json;
}

std::string dimensions(const TensorInfo& tensor) {
  size_t rank = tensor.ne.size();
  while (rank > 1 && tensor.ne[rank - 1] == 1) --rank;
  std::string text;
  for (size_t i = 0; i < rank; ++i) text += std::format("{}{}", i > 0 ? " x " : "", tensor.ne[i]);
  return text;
}

std::string everything(const Checkpoint& file) {
  std::string text = "metadata\n";
  for (const auto& [key, value] : file.describe_metadata()) text += std::format("  {} = {}\n", key, value);
  text += std::format("tensors, {}\n", file.tensors().size());
  for (const TensorInfo& tensor : file.tensors()) {
    text += std::format("  {:<40} {:>7}  {:<24} {:>10}\n", tensor.name, ggml_type_name(tensor.type),
                        dimensions(tensor), format_bytes(tensor.bytes));
  }
  return text;
}

void add_everything(nlohmann::ordered_json& json, const Checkpoint& file) {
  auto& metadata = json["metadata"] = nlohmann::ordered_json::object();
  for (const auto& [key, value] : file.describe_metadata()) metadata[key] = value;
  auto& tensors = json["tensors"] = nlohmann::ordered_json::array();
  for (const TensorInfo& tensor : file.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"type", ggml_type_name(tensor.type)},
                       {"ne", tensor.ne},
                       {"bytes", tensor.bytes}});
  }
}

Result<int> inspect(InspectOptions options) {
  ODMOE_RETURN_IF_ERROR(options.engine.validate());
  ODMOE_ASSIGN_OR_RETURN(const ModelInfo model, Engine::inspect(options.engine));
  options.engine.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 100};
  ODMOE_ASSIGN_OR_RETURN(const MemoryPlan plan, Engine::memory_plan(options.engine));
  const auto context = static_cast<int32_t>(plan.kv_bytes / std::max<uint64_t>(model.kv_bytes_per_token, 1));

  std::string text;
  if (options.json) {
    auto json = machine_readable(model, plan, context);
    if (options.all) {
      ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.engine.model));
      add_everything(json, *file);
    }
    // Names come from the file and may hold any bytes.
    text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  } else {
    text = readable(model, plan, context);
    if (options.all) {
      ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.engine.model));
      text += everything(*file);
    }
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
      "\n"
      "Examples:\n"
      "  odmoe inspect model.gguf\n"
      "  odmoe inspect model.gguf --context 32768 --cache-type q8_0\n"
      "  odmoe inspect model.gguf --json --all | jq .metadata");
  command->callback([&action, options] { action = [options] { return inspect(*options); }; });
}

}  // namespace odmoe::cli
