// odmoe pull: a model from the hub into the hub's cache.
#include <memory>
#include <string>

#include "base/units.h"
#include "cli/command.h"
#include "cli/hub_settings.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "hub/names.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

struct PullCommand {
  std::string name;
  bool yes = false;
  int connections = hub::DownloadOptions().connections;
};

Result<int> pull(const PullCommand& options) {
  if (hub::place_of(options.name) != hub::Place::kHub) {
    return fail(ErrorKind::kUsage,
                "'{}' does not begin with hf:; a model of the hub is named hf:OWNER/REPO[:QUANTISATION]",
                options.name);
  }
  ODMOE_ASSIGN_OR_RETURN(const hub::RepoName name, hub::parse_repo_name(hub::without_prefix(options.name)));
  ODMOE_ASSIGN_OR_RETURN(HubSettings settings, hub_settings());
  settings.pull.download.connections = options.connections;
  ODMOE_ASSIGN_OR_RETURN(const hub::PulledModel model, pull_model(name, settings, !options.yes));
  say(model.downloaded == 0
          ? odmoe::format("{} is there, {}", options.name, format_bytes(model.bytes))
          : odmoe::format("{} is there, {}, of which {} were downloaded now; the checksum is right",
                          options.name, format_bytes(model.bytes), format_bytes(model.downloaded)));
  Output output = Output::standard_output();
  (void)output.write(model.path.string() + "\n");
  return output.exit_code();
}

}  // namespace

void add_pull(CLI::App& app, Action& action) {
  const auto options = std::make_shared<PullCommand>();
  CLI::App* command = app.add_subcommand("pull", "Download a model from Hugging Face, or go on with it");
  command
      ->add_option("NAME", options->name,
                   "hf:OWNER/REPO[:QUANTISATION][@REVISION], or hf:OWNER/REPO/FILE.gguf")
      ->required();
  command->add_flag("-y,--yes", options->yes, "Do not ask")->group("Download");
  command->add_option("--connections", options->connections, "Ranges of a file that are asked for at once")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, 32).description(""))
      ->group("Download");
  command->footer(
      "The model goes where `hf download` puts it (HF_HUB_CACHE, HF_HOME), and what that brought is found.\n"
      "Its path is written to standard output. Without a quantisation Q4_K_M is taken, or what is next to "
      "it.\n"
      "Whatever ends a download, the same command goes on from there; what came is compared with the hub's\n"
      "checksum. HF_TOKEN (or the token file) is for gated and private repositories, HF_ENDPOINT for "
      "another\n"
      "hub, HF_HUB_OFFLINE=1 for none; proxies are those of https_proxy and no_proxy.\n"
      "\n"
      "Every command takes such a name for MODEL too, and downloads what is not there.\n"
      "\n"
      "Examples:\n"
      "  odmoe pull hf:unsloth/Qwen3-30B-A3B-GGUF\n"
      "  odmoe pull hf:unsloth/Qwen3-30B-A3B-GGUF:Q8_0 --yes --connections 16\n"
      "  odmoe run hf:unsloth/Qwen3-30B-A3B-GGUF --chat\n"
      "  MODEL=$(odmoe pull hf:ggml-org/gpt-oss-20b-GGUF)");
  command->callback([&action, options] { action = [options] { return pull(*options); }; });
}

}  // namespace odmoe::cli
