// The root of the option tree: what comes before the command, and how help is laid out.
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

#include "backend/backend.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

// One line per option: names, the kind of value, what it is for and what it is when it is not given.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(32); }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string fallback = option->get_default_str();
    return option->get_description() + (fallback.empty() ? "" : " [" + fallback + "]");
  }
};

}  // namespace

Program::Program() : app("Runs mixture-of-experts language models that are larger than memory.", "odmoe") {
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", odmoe::format("odmoe {}, ggml {}", ODMOE_VERSION, ggml_build()),
                       "Show the version, and that of ggml, and leave");
  app.set_help_flag("-h,--help", "Show this help and leave");
  add_choice<spdlog::level::level_enum>(app, "--log-level", spdlog::level::warn,
                                        {{"debug", spdlog::level::debug},
                                         {"info", spdlog::level::info},
                                         {"warning", spdlog::level::warn},
                                         {"error", spdlog::level::err},
                                         {"off", spdlog::level::off}},
                                        "What is logged to standard error",
                                        [](spdlog::level::level_enum level) { spdlog::set_level(level); });
  app.require_subcommand(1);
  app.fallthrough();  // --log-level may also follow the command
  app.footer(
      "Examples:\n"
      "  odmoe run hf:unsloth/Qwen3-30B-A3B-GGUF --chat\n"
      "  odmoe run model.gguf -p 'Once upon a time' --memory 8GiB\n"
      "  odmoe run model.gguf --chat\n"
      "  odmoe serve model.gguf --memory 80GiB\n"
      "  odmoe inspect model.gguf\n"
      "\n"
      "Exit status: 0 done, 1 error (one line on standard error), 2 wrong usage, 130 interrupted (what was\n"
      "made so far has been written), 141 the reader of standard output went away.");
  add_run(app, action);
  add_inspect(app, action);
  add_pull(app, action);
  add_list(app, action);
  add_plan(app, action);
  add_models(app, action);
  add_devices(app, action);
  add_tokenize(app, action);
  add_render(app, action);
  add_perplexity(app, action);
  add_convert(app, action);
  add_simulate(app, action);
  add_collect(app, action);
  add_train(app, action);
  add_tune(app, action);
  add_bench(app, action);
  add_serve(app, action);
  add_batch(app, action);
  add_top(app, action);
  add_evaluate(app, action);
  add_completion(app, action);
  add_man(app, action);
}

}  // namespace odmoe::cli
