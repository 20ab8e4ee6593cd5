// odmoe run: text streams to standard output.
#include <iostream>
#include <memory>
#include <random>
#include <utility>

#include "cli/chat.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/kept_tuning.h"
#include "cli/model_name.h"
#include "cli/ranks.h"
#include "cli/report.h"
#include "cli/run_options.h"

namespace odmoe::cli {
namespace {

Result<std::string> prompt_text(const RunOptions& options) {
  if (!options.prompt_file.empty()) return read_file(options.prompt_file).transform(without_last_newline);
  if (options.prompt && *options.prompt != "-") return *options.prompt;
  if (!options.prompt && input_is_terminal()) {
    return fail(ErrorKind::kUsage,
                "nothing to go on from: give -p TEXT or -f FILE, pipe a text in, or converse with --chat");
  }
  return read_standard_input().transform(without_last_newline);
}

Result<int> complete(const RunOptions& options, Engine& engine, const std::string& prompt) {
  const std::vector<Token> tokens = engine.encode(prompt);
  if (tokens.empty())
    return fail(ErrorKind::kUsage, "the prompt is empty, and this model has no token that begins a text");
  ODMOE_ASSIGN_OR_RETURN(const auto session, engine.new_session());
  Output output = Output::standard_output();
  if (options.echo && !output.write(prompt).has_value()) return output.exit_code();
  ODMOE_ASSIGN_OR_RETURN(const auto result, generate_to(output, engine, *session, tokens, options.generate));
  if (output.reader_gone()) return kExitReaderGone;
  return result.finish == FinishReason::kInterrupted ? kExitInterrupted : kExitOk;
}

Result<int> run(RunOptions options) {
  ODMOE_RETURN_IF_ERROR(options.generate.sampling.validate());
  ODMOE_RETURN_IF_ERROR(options.inference.engine.validate());
  for (const std::string& stop : options.generate.stop) {
    if (stop.empty()) return fail(ErrorKind::kUsage, "--stop needs a text, not an empty one");
  }
  // Before the model is opened, so that a prompt that cannot be read costs no time.
  std::string prompt;
  ChatTemplateChoice chat_template;
  if (options.chat) {
    ODMOE_ASSIGN_OR_RETURN(chat_template, chosen_chat_template(options.chat_template));
  } else {
    ODMOE_ASSIGN_OR_RETURN(prompt, prompt_text(options));
  }
  ODMOE_ASSIGN_OR_RETURN(options.inference.engine.model, find_model(options.inference.engine.model.string()));
  use_kept_tuning(options.inference);
  // 32 bits, so that it is short to type again.
  options.generate.sampling.seed = options.seed ? *options.seed : std::random_device{}();
  if (options.inference.verbose) std::cerr << "seed " << options.generate.sampling.seed << "\n";

  ODMOE_ASSIGN_OR_RETURN(auto engine, ReportedEngine::open(options.inference));
  const interrupt::Watch watch(*engine);
  return engine.finish(options.chat ? converse(options, chat_template, *engine)
                                    : complete(options, *engine, prompt));
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "Write text that follows a prompt, or converse");
  add_run_options(*command, *options);
  command->footer(
      "Examples:\n"
      "  odmoe run model.gguf -p 'Once upon a time' -n 200\n"
      "  odmoe run hf:unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M --chat\n"
      "  odmoe run model.gguf -f story.txt --memory 8GiB --verbose\n"
      "  odmoe run model.gguf --chat --system 'Answer in one sentence.' --memory 25%\n"
      "  odmoe run model.gguf -p 'def fib(n):' --temperature 0 --stop $'\\n\\n'\n"
      "  zcat article.gz | odmoe run model.gguf --context 8192 --stats stats.json\n"
      "\n"
      "Ctrl-C ends the text (in a conversation: the answer), a second one the program. In a conversation at "
      "a\n"
      "terminal /help lists the commands: /system, /retry, /new, /save, /load, /stats, /quit.");
  command->callback([&action, options, command] {
    options->inference.given = given_settings(*command);
    action = ranks::on_each(options->inference, [options] { return run(*options); });
  });
}

}  // namespace odmoe::cli
