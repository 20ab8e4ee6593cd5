// odmoe evaluate: how good predictors are, on recorded data, and what they are worth, end to end.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/evaluation_report.h"
#include "cli/inference_options.h"
#include "cli/interrupt.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "cli/predictor_race.h"
#include "cli/progress.h"
#include "odmoe/format.h"
#include "predict/coactivation.h"
#include "predict/evaluation.h"
#include "predict/previous_token.h"
#include "predict/recorded_routers.h"
#include "predict/shadow_model.h"
#include "predict/weight_types.h"

namespace odmoe::cli {
namespace {

struct EvaluateCommand {
  std::string data;
  std::vector<std::string> shadows;
  std::vector<std::string> types = {"q8_0"};
  bool all_documents = false;
  int64_t max_tokens = 0;
  std::string json_file, picture;
  InferenceOptions inference;
  RaceOptions race;
};

Result<std::vector<Contestant>> contestants_for(const EvaluateCommand& options, const Collection& collection,
                                                int32_t lookahead) {
  const PredictorShape shape = predictor_shape(collection.model, lookahead);
  std::vector<Contestant> list;
  list.push_back({"previous-token", std::make_unique<PreviousToken>(shape)});
  list.push_back({"coactivation", std::make_unique<Coactivation>(shape)});
  if (collection.states.router_input) {
    ODMOE_ASSIGN_OR_RETURN(auto routers, read_routers(options.data, collection));
    list.push_back({"stale-gate", make_recorded_stale_gate(shape, collection.model, std::move(routers))});
  }
  for (const std::string& path : options.shadows) {
    for (const std::string& type : options.types) {
      ODMOE_ASSIGN_OR_RETURN(const ggml_type weights, weight_type(type));
      ODMOE_ASSIGN_OR_RETURN(auto shadow, ShadowModel::load(path, {.type = weights}));
      ODMOE_RETURN_IF_ERROR(check_shadow_model(shadow->spec(), collection.model, path));
      std::string name = std::filesystem::path(path).stem().string();
      if (options.types.size() > 1) name += " " + type;
      list.push_back({std::move(name), std::move(shadow)});
    }
  }
  return list;
}

// Files are made before the work: better to fail now.
Result<std::optional<Output>> create(const std::string& path) {
  if (path.empty()) return std::nullopt;
  ODMOE_ASSIGN_OR_RETURN(Output file, Output::create(path));
  return std::optional<Output>(std::move(file));
}

Status write(std::optional<Output>& file, const std::string& text) {
  if (!file) return {};
  ODMOE_RETURN_IF_ERROR(file->write(text));
  return file->close();
}

Result<int> evaluate_data(const EvaluateCommand& options) {
  ODMOE_ASSIGN_OR_RETURN(const Collection collection, read_collection(options.data));
  ODMOE_ASSIGN_OR_RETURN(auto contestants,
                         contestants_for(options, collection, options.inference.engine.lookahead));
  ODMOE_ASSIGN_OR_RETURN(std::optional<Output> json, create(options.json_file));
  ODMOE_ASSIGN_OR_RETURN(std::optional<Output> picture, create(options.picture));
  Progress bar("Evaluating");
  const auto result = evaluate_predictors(options.data, collection, std::move(contestants),
                                          {.lookahead = options.inference.engine.lookahead,
                                           .held_out_only = !options.all_documents,
                                           .max_tokens = options.max_tokens,
                                           .progress = [&bar](double share) {
                                             bar.update(share);
                                             return !interrupt::pending();
                                           }});
  bar.finish();
  if (!result.has_value()) return std::unexpected(result.error());
  ODMOE_RETURN_IF_ERROR(write(json, evaluation_json(*result, collection.model)));
  ODMOE_RETURN_IF_ERROR(write(picture, evaluation_picture(*result, collection.model)));
  Output output = Output::standard_output();
  (void)output.write(evaluation_table(*result, collection.model));
  if (output.reader_gone() || !output.exit_code().has_value() || !result->interrupted) {
    return output.exit_code();
  }
  return kExitInterrupted;
}

Result<int> evaluate_model(const EvaluateCommand& options) {
  RaceOptions race = options.race;
  if (options.shadows.size() > 1) {
    return fail(ErrorKind::kUsage, "a model runs with one --shadow at a time; give one, or --data");
  }
  race.engine = options.inference.engine;
  if (!options.shadows.empty()) race.shadow = options.shadows.front();
  ODMOE_ASSIGN_OR_RETURN(std::optional<Output> json, create(options.json_file));
  ODMOE_ASSIGN_OR_RETURN(const RaceResult result, race_predictors(race));
  ODMOE_RETURN_IF_ERROR(write(json, race_json(result)));
  Output output = Output::standard_output();
  (void)output.write(race_table(result));
  if (output.reader_gone() || !output.exit_code().has_value() || !result.interrupted) {
    return output.exit_code();
  }
  return kExitInterrupted;
}

// An option without effect is a mistake that somebody should hear of.
void refuse_options_of_others(const CLI::App& command, bool on_data) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0) continue;
    const std::string& group = option->get_group();
    const std::string name = option->get_name();
    if (name == "--help" || name == "--json" || name == "--shadow" || name == "--lookahead") continue;
    if (on_data == (group == "Data")) continue;
    throw CLI::ValidationError(name,
                               on_data ? "it has no effect with --data" : "it takes effect with --data only");
  }
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
  const auto options = std::make_shared<EvaluateCommand>();
  CLI::App* command =
      app.add_subcommand("evaluate", "Show how good the predictors of experts are, and what they are worth");
  command
      ->add_option(
          "--data", options->data,
          "A folder that `odmoe collect` made: recall, precision and calibration on its held-out documents")
      ->type_name("DIR")
      ->group("Data");
  command
      ->add_option("--type", options->types,
                   "Types of the shadow model's weights: f32, f16, q8_0, q5_0, q4_0, q4_k")
      ->type_name("TYPE,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->default_str("q8_0")
      ->group("Data");
  command->add_flag("--all-documents", options->all_documents, "Those that training sees, too")
      ->group("Data");
  command->add_option("--tokens", options->max_tokens, "Tokens to look at; 0: all")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber.description(""))
      ->group("Data");
  command->add_option("--picture", options->picture, "Draw recall by layer and layers ahead as SVG")
      ->type_name("FILE")
      ->group("Data");
  command->add_option("--json", options->json_file, "Write all figures as JSON")->type_name("FILE");

  add_inference_options(*command, options->inference);
  command->get_option("MODEL")->required(false);
  // Here several are compared, so these take several.
  for (const char* const name : {"--predictor", "--shadow", "--stats", "--verbose"}) {
    if (CLI::Option* option = command->get_option_no_throw(name)) command->remove_option(option);
  }
  command->get_option("--lookahead")
      ->default_str(odmoe::format("{} with --data, else {}", kMaxLookahead, EngineOptions{}.lookahead));
  command
      ->add_option("--shadow", options->shadows,
                   "A shadow model trained for this model (odmoe train); with --data several may be given")
      ->type_name("FILE")
      ->allow_extra_args(false);
  add_race_options(*command, options->race);
  command->footer(
      "With --data: what each predictor would have said of recorded tokens, against what the routers chose;\n"
      "the control, each layer's own router on its recorded state, must read 100 % but for what f16 rounds.\n"
      "With MODEL and --text: the model runs over the same tokens with each predictor in turn, round by "
      "round.\n"
      "\n"
      "Examples:\n"
      "  odmoe evaluate --data data/ --shadow shadow.safetensors --picture recall.svg\n"
      "  odmoe evaluate --data data/ --shadow shadow.safetensors --type f16,q8_0,q4_0 --json figures.json\n"
      "  odmoe evaluate model.gguf --text book.txt --memory 25% --shadow shadow.safetensors\n"
      "  odmoe evaluate model.gguf --text book.txt --memory 8GiB --predictor none,stale-gate --rounds 5");
  command->callback([&action, options, command] {
    const bool has_model = command->get_option("MODEL")->count() > 0;
    if (has_model != options->data.empty()) {
      throw CLI::ValidationError("MODEL", "give either --data DIR or a MODEL with --text FILE");
    }
    refuse_options_of_others(*command, !has_model);
    if (!has_model && command->get_option("--lookahead")->count() == 0) {
      options->inference.engine.lookahead = kMaxLookahead;
    }
    if (has_model && options->race.text.empty()) throw CLI::RequiredError("--text");
    for (const std::string& type : options->types) {
      if (const auto known = weight_type(type); !known.has_value()) {
        throw CLI::ValidationError("--type", known.error().message);
      }
    }
    action = with_model(options->inference.engine.model, [options, has_model] {
      return has_model ? evaluate_model(*options) : evaluate_data(*options);
    });
  });
}

}  // namespace odmoe::cli
