#include "cli/run_options.h"

#include "cli/choice.h"

namespace odmoe::cli {
namespace {

void add_text_options(CLI::App& command, RunOptions& options) {
  auto* prompt =
      command
          .add_option("-p,--prompt", options.prompt,
                      "Text to go on from; -: standard input, as without -p when that is not a terminal")
          ->type_name("TEXT")
          ->group("Text");
  auto* file = command
                   .add_option("-f,--file", options.prompt_file,
                               "File with the text to go on from, less its last newline")
                   ->type_name("FILE")
                   ->group("Text")
                   ->excludes(prompt);
  command
      .add_option("-n,--predict", options.generate.max_tokens,
                  "Most tokens to write; -1: until the model ends or the context is full")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(-1, 1 << 30).description(""))
      ->group("Text");
  command.add_option("--stop", options.generate.stop, "End before this text; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false)  // the next word is not another of them
      ->group("Text");
  command.add_flag("--ignore-eos", options.generate.ignore_eos, "Go on when the model wants to end")
      ->group("Text");
  auto* echo = command.add_flag("--echo,!--no-echo", options.echo, "Write the prompt before what follows it")
                   ->group("Text");
  add_choice<ContextOverflow>(
      command, "--context-overflow", options.generate.context_overflow,
      {{"stop", ContextOverflow::kStop}, {"shift", ContextOverflow::kShift}},
      "When the context is full: end, or forget the older half and evaluate the rest anew",
      [&options](ContextOverflow choice) { options.generate.context_overflow = choice; })
      ->group("Text");
  command
      .add_option(
          "--keep", options.generate.keep,
          "Tokens at the start that shift never forgets; -1: the prompt's, at most a quarter of the context")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(-1, 1 << 30).description(""))
      ->group("Text");

  auto* chat =
      command
          .add_flag("--chat", options.chat,
                    "Converse: each line is a message, in the model's own template; -p is the first one")
          ->group("Conversation")
          ->excludes(file)
          ->excludes(echo);
  command.add_option("--system", options.system, "What the conversation begins with")
      ->type_name("TEXT")
      ->needs(chat)
      ->group("Conversation");
  command
      .add_flag("--history,!--no-history", options.keeps_history,
                "Keep what is typed, for the arrow keys of the next conversation")
      ->needs(chat)
      ->group("Conversation");
  for (CLI::Option* option : add_chat_template_options(command, options.chat_template, "Conversation")) {
    option->needs(chat);
  }
}

void add_sampling_options(CLI::App& command, RunOptions& options) {
  SamplingOptions& sampling = options.generate.sampling;
  const auto add = [&command](const char* names, auto& value, const char* help, const char* type = "X") {
    command.add_option(names, value, help)->type_name(type)->capture_default_str()->group("Sampling");
  };
  add("--temperature", sampling.temperature, "0: always the likeliest token");
  add("--top-k", sampling.top_k, "Draw from the K likeliest; 0: from all", "K");
  add("--top-p", sampling.top_p, "Draw from the likeliest that together have this probability; 1: from all");
  add("--min-p", sampling.min_p, "Draw from those at least this likely, the likeliest being 1; 0: from all");
  add("--repetition-penalty", sampling.repetition_penalty, "Weakens tokens seen before; 1: not");
  add("--presence-penalty", sampling.presence_penalty, "Weakens tokens seen before, once; 0: not");
  add("--frequency-penalty", sampling.frequency_penalty,
      "Weakens tokens for each time they were seen; 0: not");
  add("--penalty-last-n", sampling.penalty_last_n, "Tokens that penalties look back at; -1: all", "N");
  command.add_option("--seed", options.seed, "The same seed draws the same text")
      ->type_name("N")
      ->default_str("a new one each time, shown by --verbose")
      ->group("Sampling");
}

}  // namespace

void add_run_options(CLI::App& command, RunOptions& options) {
  add_text_options(command, options);
  add_sampling_options(command, options);
  add_inference_options(command, options.inference);
}

}  // namespace odmoe::cli
