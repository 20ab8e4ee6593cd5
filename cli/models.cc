// odmoe models: which families of models the program runs.
#include "cli/models.h"

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "odmoe/format.h"

namespace odmoe::cli {

std::string families_text(std::span<const FamilyInfo> families) {
  size_t width = 0;
  for (const FamilyInfo& family : families) width = std::max(width, family.name.size());
  const std::string indent = std::string().append(width + 2, ' ');
  std::string text;
  for (const FamilyInfo& family : families) {
    text += odmoe::format("{}{}{}\n", family.name, indent.substr(family.name.size()), family.models);
    text += odmoe::format("{}compared with llama.cpp: {}\n", indent, family.tested);
    if (!family.not_covered.empty()) text += odmoe::format("{}not: {}\n", indent, family.not_covered);
  }
  return text;
}

std::string families_markdown(std::span<const FamilyInfo> families) {
  std::string text =
      "| architecture in the GGUF | models | compared with llama.cpp | not |\n"
      "|---|---|---|---|\n";
  for (const FamilyInfo& family : families) {
    text += odmoe::format("| `{}` | {} | {} | {} |\n", family.name, family.models, family.tested,
                          family.not_covered);
  }
  return text;
}

namespace {

struct ModelsOptions {
  bool markdown = false;
};

Result<int> show(const ModelsOptions& options) {
  Output output = Output::standard_output();
  (void)output.write(options.markdown ? families_markdown(known_families())
                                      : families_text(known_families()));
  return output.exit_code();
}

}  // namespace

void add_models(CLI::App& app, Action& action) {
  const auto options = std::make_shared<ModelsOptions>();
  CLI::App* command = app.add_subcommand("models", "List the families of models that can be run");
  command->add_flag("--markdown", options->markdown, "As a table in Markdown")->group("Report");
  command->footer(
      "The name is general.architecture of a GGUF, which `odmoe inspect` shows. What was compared are tiny\n"
      "models of random weights with the family's structure, in these types: logits and continuations.\n"
      "\n"
      "Examples:\n"
      "  odmoe models");
  command->callback([&action, options] { action = [options] { return show(*options); }; });
}

}  // namespace odmoe::cli
