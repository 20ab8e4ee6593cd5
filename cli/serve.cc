// odmoe serve: the model behind OpenAI's API.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "base/heap.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/kept_tuning.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/report.h"
#include "cli/serve_options.h"
#include "odmoe/format.h"
#include "server/event_log.h"
#include "trace/trace_file.h"

namespace odmoe::cli {
namespace {

// The experts of a recorded trace, those used most first.
Result<std::vector<LikelyExpert>> commonest_experts(const std::string& path, const ModelInfo& model) {
  Progress bar("Reading the trace");
  ODMOE_ASSIGN_OR_RETURN(const RoutingTrace trace,
                         read_trace(path, {.progress = [&](uint64_t) { return !interrupt::pending(); }}));
  bar.finish();
  if (trace.n_expert != model.n_expert || trace.n_layer > model.n_layer) {
    return fail(ErrorKind::kUsage,
                "--warm {}: it was recorded from a model with {} layers of {} experts, this one has {} of {}",
                path, trace.n_layer, trace.n_expert, model.n_layer, model.n_expert);
  }
  std::map<std::pair<int32_t, int32_t>, uint64_t> counts;
  for (const RoutingTrace::Event& event : trace.events) {
    for (const int32_t expert : trace.experts_of(event)) ++counts[{event.layer, expert}];
  }
  std::vector<std::pair<uint64_t, LikelyExpert>> ranked;
  for (const auto& [key, count] : counts)
    ranked.push_back({count, {.layer = key.first, .expert = key.second}});
  std::ranges::stable_sort(ranked, std::greater<>(), [](const auto& entry) { return entry.first; });
  std::vector<LikelyExpert> experts;
  for (const auto& entry : ranked) experts.push_back(entry.second);
  return experts;
}

Status warm(const ServeOptions& options, Engine& engine) {
  if (options.warm.empty()) return {};
  ODMOE_ASSIGN_OR_RETURN(const auto experts, commonest_experts(options.warm, engine.model()));
  Progress bar("Reading the commonest experts");
  return engine.warm(experts, [&](uint64_t done, uint64_t total) {
    bar.update(total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1,
               odmoe::format("{} of {} experts", done, total));
    return !interrupt::pending();
  });
}

// Batches read several prompts at once where that does not take much of the experts' memory.
void settle_batch_prompts(EngineOptions& options, int32_t width) {
  constexpr int32_t kMostBatchPrompts = 4;
  const auto one = Engine::memory_plan(options);
  if (!one.has_value()) return;  // which says why when the model is opened
  for (int32_t prompts = std::min(kMostBatchPrompts, width); prompts > 1; prompts /= 2) {
    EngineOptions several = options;
    several.prompts = prompts;
    const auto plan = Engine::memory_plan(several);
    if (!plan.has_value() || plan->arena_bytes < one->arena_bytes / 4 * 3) continue;
    options.prompts = prompts;
    return;
  }
}

// Until somebody asks it to end.
void wait_for_signal() {
  while (!interrupt::pending()) {
    pollfd bell{.fd = interrupt::descriptor(), .events = POLLIN, .revents = 0};
    if (poll(&bell, bell.fd >= 0 ? 1 : 0, bell.fd >= 0 ? -1 : 100) < 0 && errno != EINTR) return;
  }
}

Result<int> serve(ServeOptions options) {
  settle_heap();
  ODMOE_RETURN_IF_ERROR(settle_memory(options));
  ODMOE_RETURN_IF_ERROR(options.inference.engine.validate());
  ODMOE_ASSIGN_OR_RETURN(options.server.api_keys, api_keys(options));
  ODMOE_ASSIGN_OR_RETURN(options.server.chat_template, chosen_chat_template(options.chat_template));
  std::filesystem::path& model = options.inference.engine.model;
  if (options.server.model_id.empty()) options.server.model_id = name_for_clients(model.string());
  ODMOE_ASSIGN_OR_RETURN(model, find_model(model.string()));
  if (options.server.model_id.empty()) options.server.model_id = model.stem().string();
  use_kept_tuning(options.inference);
  // What other ranks have memory for is not known here.
  if (!options.server.batch_dir.empty() && !ranks::several()) {
    settle_batch_prompts(options.inference.engine, options.server.batch_width);
  }
  if (options.json_log) server::log_as_json();
  interrupt::install_terminate();
  ODMOE_ASSIGN_OR_RETURN(const auto server, server::Server::listen(options.server));
  say(odmoe::format("listening on {} while the model is loading", server->url()));
  if (options.server.api_keys.empty() && !server::is_loopback_host(options.server.host)) {
    say("anybody who reaches this address can use the model: --api-key-file asks for a key");
  }

  ODMOE_ASSIGN_OR_RETURN(auto engine, ReportedEngine::open(options.inference));
  if (!options.inference.verbose) (void)Output::standard_error().write(plan_text(engine->plan()));
  ODMOE_RETURN_IF_ERROR(warm(options, *engine));
  ODMOE_RETURN_IF_ERROR(server->serve(*engine, options.inference.engine));
  const int of_batches = options.server.batch_dir.empty() ? 0 : options.server.batch_width;
  say(odmoe::format("ready: {} serves {} ({} sessions{})", server->url(), options.server.model_id,
                    options.inference.engine.sessions - of_batches,
                    of_batches > 0 ? odmoe::format(", {} for batches", of_batches) : ""));
  wait_for_signal();

  say("ending: requests under way may finish; another signal ends at once");
  if (!server->drain(std::chrono::seconds(options.drain_seconds))) {
    say("some requests took longer than --drain allows and were ended");
  }
  server->stop();
  return engine.finish(kExitOk);
}

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  const auto options = std::make_shared<ServeOptions>();
  CLI::App* command = app.add_subcommand("serve", "Serve the model over OpenAI's API");
  add_serve_options(*command, *options);
  command->footer(
      "Examples:\n"
      "  odmoe serve model.gguf --memory 80GiB --context 32768\n"
      "  odmoe serve hf:unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M --memory 8GiB\n"
      "  odmoe serve model.gguf --host 0.0.0.0 --api-key-file keys.txt --sessions 4\n"
      "  odmoe serve model.gguf --port 0 --warm session.trace.xz --log-level info --log-format json\n"
      "  odmoe serve model.gguf --vision-url http://mac2:8080\n"
      "\n"
      "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "       -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'\n"
      "\n"
      "SIGTERM or Ctrl-C lets requests under way finish and ends with status 0; a second signal ends at "
      "once.");
  command->callback([&action, options, command] {
    options->inference.given = given_settings(*command);
    action = ranks::on_each(options->inference, [options] { return serve(*options); });
  });
}

}  // namespace odmoe::cli
