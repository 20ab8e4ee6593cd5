// odmoe collect: records what a model's routers see and choose, to learn from.
#include "engine/collect.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "base/units.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/model_name.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/report.h"
#include "odmoe/format.h"
#include "predict/synthetic_data.h"
#include "trace/trace_writer.h"

namespace odmoe::cli {
namespace {

constexpr int32_t kDocumentTokens = 512;

struct CollectCommand {
  InferenceOptions inference;
  std::vector<std::string> corpus;
  std::string output;
  int64_t n_token = 50'000;
  int32_t document_tokens = 0;  // 0: as many as kDocumentTokens or the context
  int32_t n_generate = 0;
  uint64_t seed = 0;
  bool routing_only = false, no_attention_input = false;
  bool synthetic = false;
  SyntheticOptions made;
};

constexpr const char* kTool = "odmoe " ODMOE_VERSION;

std::string summary(const Collection& collection, const std::string& folder) {
  uint64_t bytes = 0;
  for (const ShardEntry& shard : collection.shards) bytes += shard.bytes;
  std::string text = odmoe::format("{}: {} tokens of {} documents in {} layers, {} in {} shards\n", folder,
                                   collection.n_token, collection.n_document, collection.model.layers.size(),
                                   format_bytes(bytes), collection.shards.size());
  if (collection.n_clamped > 0) {
    text += odmoe::format("{} values were beyond the range of f16 and are recorded as its largest\n",
                          collection.n_clamped);
  }
  return text;
}

// Counts on a bar, and stops when the user asks to.
auto show(Progress& bar) {
  return [&bar](int64_t done, int64_t total) {
    bar.update(static_cast<double>(done) / static_cast<double>(total),
               odmoe::format("{} of {} tokens", done, total));
    return !interrupt::pending();
  };
}

Result<int> make_synthetic(const CollectCommand& options) {
  SyntheticOptions made = options.made;
  made.n_token = options.n_token;
  made.seed = options.seed;
  if (options.document_tokens > 0) made.document_tokens = options.document_tokens;
  Progress bar("Making data");
  const auto result = make_synthetic_data(options.output, made, kTool, show(bar));
  bar.finish();
  if (!result.has_value()) return std::unexpected(result.error());
  std::string text = summary(result->collection, options.output);
  for (size_t i = 0; i < result->best_recall.size(); ++i) {
    text += odmoe::format("best recall possible {} {} ahead: {:.2f} %\n", i + 1, i == 0 ? "layer" : "layers",
                          100 * result->best_recall[i]);
  }
  Output output = Output::standard_output();
  (void)output.write(text);
  return output.exit_code();
}

Status write_routing(const CollectCommand& options, const Engine& engine,
                     const std::vector<RoutingShard>& documents) {
  std::vector<TraceSession> sessions;
  for (const RoutingShard& document : documents) {
    sessions.push_back({.first_position = 0, .experts = document.experts, .weights = document.weights});
  }
  const ModelInfo& model = engine.model();
  return write_trace(options.output,
                     {.n_layer = static_cast<uint32_t>(model.n_expert_layer),
                      .n_expert = static_cast<uint32_t>(model.n_expert),
                      .n_expert_used = static_cast<uint32_t>(model.n_expert_used)},
                     sessions);
}

Result<std::string> record_routing(const CollectCommand& options, Engine& engine, CollectOptions collect) {
  Progress bar("Collecting");
  collect.progress = show(bar);
  const auto documents = collect_routing(engine, collect);
  bar.finish();
  if (!documents.has_value()) return std::unexpected(documents.error());
  ODMOE_RETURN_IF_ERROR(write_routing(options, engine, *documents));
  int64_t n_token = 0;
  for (const RoutingShard& document : *documents) n_token += document.n_token;
  return odmoe::format("{}: the routing of {} tokens in {} sessions\n", options.output, n_token,
                       documents->size());
}

Result<std::string> record_states(const CollectCommand& options, Engine& engine,
                                  CollectOptions collect_options) {
  Progress bar("Collecting");
  collect_options.progress = show(bar);
  const auto collection = collect(engine, collect_options);
  bar.finish();
  if (!collection.has_value()) {
    // Ctrl-C is usually shown by its exit code alone; here there is something to know.
    if (collection.error().kind == ErrorKind::kInterrupted) {
      (void)Output::standard_error().write("odmoe: " + collection.error().message + "\n");
    }
    return std::unexpected(collection.error());
  }
  return summary(*collection, options.output);
}

// A large model's states are large: better to say so before the hours than after.
Status check_room(const CollectCommand& options, const ModelInfo& model) {
  const auto n_layer = static_cast<uint64_t>(model.n_expert_layer);
  const uint64_t n_state = n_layer * (options.no_attention_input ? 1 : 2) + 1;
  const uint64_t bytes = static_cast<uint64_t>(std::max<int64_t>(options.n_token, 0)) * n_state *
                         static_cast<uint64_t>(model.n_embd) * 2;
  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(options.output, error);
  while (!std::filesystem::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  const auto space = std::filesystem::space(folder, error);
  if (error || space.available >= bytes) return {};
  return fail(
      ErrorKind::kIo,
      "{} tokens take about {} in {}, which has {} left; collect fewer --tokens, or --no-attention-input",
      options.n_token, format_bytes(bytes), options.output, format_bytes(space.available));
}

Result<int> record(const CollectCommand& options) {
  EngineOptions engine_options = options.inference.engine;
  if (options.corpus.empty())
    return fail(ErrorKind::kUsage, "give a text to run the model on with --corpus FILE");
  std::vector<std::string> texts;
  CollectOptions collect;
  for (const std::string& path : options.corpus) {
    ODMOE_ASSIGN_OR_RETURN(std::string text, path == "-" ? read_standard_input() : read_file(path));
    texts.push_back(std::move(text));
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::filesystem::path path = options.corpus[i];
    collect.corpus.push_back({.name = path == "-" ? "-" : path.filename().string(), .text = texts[i]});
  }
  collect.folder = options.output;
  collect.tool = kTool;
  collect.n_token = options.n_token;
  collect.n_generate = options.n_generate;
  collect.seed = options.seed;
  collect.states.attention_input = !options.no_attention_input;
  ODMOE_ASSIGN_OR_RETURN(const ModelInfo model, Engine::inspect(engine_options));
  if (!options.routing_only) ODMOE_RETURN_IF_ERROR(check_room(options, model));
  const int32_t room = engine_options.context > 0 ? engine_options.context : model.n_context_train;
  collect.document_tokens =
      options.document_tokens > 0 ? options.document_tokens : std::min(kDocumentTokens, room);

  InferenceOptions inference = options.inference;
  if (inference.engine.context == 0) inference.engine.context = std::min(room, collect.document_tokens);
  ODMOE_ASSIGN_OR_RETURN(auto engine, ReportedEngine::open(inference));
  const interrupt::Watch watch(*engine);
  const auto text = options.routing_only ? record_routing(options, *engine, std::move(collect))
                                         : record_states(options, *engine, std::move(collect));
  if (!text.has_value()) return engine.finish(std::unexpected(text.error()));
  Output output = Output::standard_output();
  (void)output.write(*text);
  return engine.finish(options.routing_only && interrupt::pending() ? kExitInterrupted : output.exit_code());
}

Result<int> run(const CollectCommand& options) {
  if (options.synthetic) return make_synthetic(options);
  if (options.inference.engine.model.empty()) {
    return fail(ErrorKind::kUsage, "give a MODEL to collect from, or --synthetic");
  }
  ODMOE_RETURN_IF_ERROR(options.inference.engine.validate());
  return record(options);
}

}  // namespace

void add_collect(CLI::App& app, Action& action) {
  const auto options = std::make_shared<CollectCommand>();
  CLI::App* command = app.add_subcommand("collect", "Record what a model's routers see and choose");
  command->add_option("--corpus", options->corpus, "Texts to run the model on; -: standard input")
      ->type_name("FILE...")
      ->group("Data");
  command
      ->add_option("-o,--output", options->output,
                   "Folder of the data; with --routing-only a file, packed if .xz")
      ->type_name("PATH")
      ->required()
      ->group("Data");
  command->add_option("--tokens", options->n_token, "Tokens to record, of documents spread over the texts")
      ->type_name("N")
      ->capture_default_str()
      ->group("Data");
  command
      ->add_option("--document-tokens", options->document_tokens,
                   "Tokens of a document: texts are cut into such, each evaluated from an empty context")
      ->type_name("N")
      ->default_str("512, or the context")
      ->group("Data");
  command
      ->add_option("--generate", options->n_generate,
                   "Tokens at the end of each document that the model writes itself (one by one, so slower)")
      ->type_name("N")
      ->capture_default_str()
      ->group("Data");
  command->add_option("--seed", options->seed, "Of what the model writes, and of --synthetic")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 62U))
      ->type_name("N")
      ->capture_default_str()
      ->group("Data");
  command->add_flag("--routing-only", options->routing_only, "Record no states: a trace for odmoe simulate")
      ->group("Data");
  command
      ->add_flag("--no-attention-input", options->no_attention_input,
                 "Leave out the states before attention: half the size")
      ->group("Data");
  CLI::Option* synthetic =
      command->add_flag("--synthetic", options->synthetic, "Make data of known structure, without a model")
          ->group("Synthetic");
  const auto add_made = [&](const char* name, auto& value, const char* help) {
    command->add_option(name, value, help)
        ->needs(synthetic)
        ->type_name("N")
        ->capture_default_str()
        ->group("Synthetic");
  };
  add_made("--n-embd", options->made.n_embd, "Width of the states");
  add_made("--layers", options->made.n_layer, "Layers");
  add_made("--experts", options->made.n_expert, "Experts in a layer");
  add_made("--top-k", options->made.n_expert_used, "Experts chosen");
  add_made("--noise", options->made.noise, "What of a layer's state the one before does not tell, 0 to 1");
  add_inference_options(*command, options->inference);
  command->get_option("MODEL")->required(false);
  command->footer(
      "The folder gets collection.json, routers.safetensors and shards; docs/shadow-model.md describes them, "
      "and\n"
      "how Python reads them.  Ctrl-C keeps the shards that are whole; the same command goes on from there.\n"
      "States take 2 bytes x width x layers x 2 for each token, beside --memory one shard of them.\n"
      "\n"
      "Examples:\n"
      "  odmoe collect model.gguf --corpus wiki.txt code.txt --tokens 50000 --output data/\n"
      "  odmoe collect model.gguf --corpus prompts.txt --document-tokens 256 --generate 192 -o data/\n"
      "  odmoe collect model.gguf --corpus wiki.txt --routing-only -o routing.trace.xz\n"
      "  odmoe collect --synthetic --tokens 20000 --output data/");
  command->callback([&action, options] {
    const Action record = with_model(options->inference.engine.model, [options] { return run(*options); });
    action = options->synthetic ? record : ranks::on_each(options->inference, record);
  });
}

}  // namespace odmoe::cli
