#include "cli/inference_options.h"

#include <string>

#include "base/units.h"
#include "cli/choice.h"
#include "cli/kept_files.h"
#include "cli/model_name.h"
#include "odmoe/format.h"

namespace odmoe::cli {

CLI::Option* add_model(CLI::App& command, EngineOptions& options) {
  return command
      .add_option_function<std::string>(
          "MODEL", [&options](const std::string& path) { options.model = path; }, kModelHelp)
      ->type_name("FILE")
      ->required();
}

void add_model_options(CLI::App& command, EngineOptions& options) {
  add_model(command, options);
  command
      .add_option("-c,--context", options.context,
                  "Tokens that the KV cache holds; 0: as many as the model was trained for, at most 4096")
      ->type_name("N")
      ->capture_default_str()
      ->group("Memory");
  add_size_options(command, options);
  add_device_options(command, options);
}

namespace {

void add_expert_option(CLI::App& command, EngineOptions& options) {
  add_choice<ExpertPlacement>(
      command, "--expert-placement", options.experts,
      {{"cpu", ExpertPlacement::kHost},
       {"in-place", ExpertPlacement::kInPlace},
       {"device", ExpertPlacement::kDevice}},
      "What computes routed experts beside a --device: the processor; the device, out of "
      "the host's arena; or the device, out of an arena in its own memory",
      [&options](ExpertPlacement placement) { options.experts = placement; })
      ->group("Memory");
}

}  // namespace

void add_device_options(CLI::App& command, EngineOptions& options) {
  options.device_file = default_device_file();
  command
      .add_option("--device", options.device,
                  "What computes all but the routed experts: cpu, a device that `odmoe devices` lists, or "
                  "auto: a GPU "
                  "that was measured to be faster for the model, which is kept; last bits depend on it")
      ->type_name("NAME")
      ->capture_default_str()
      ->group("Memory");
  command
      .add_option_function<std::string>(
          "--device-memory",
          [&options](const std::string& text) {
            const auto bytes = parse_bytes(text);
            if (!bytes.has_value() || *bytes == 0) {
              throw CLI::ValidationError("--device-memory",
                                         odmoe::format("'{}' is not a size; write it like 8GiB", text));
            }
            options.device_memory_bytes = *bytes;
          },
          "Most memory that is taken of the device's own")
      ->type_name("SIZE")
      ->default_str("what it has left")
      ->group("Memory");
  add_expert_option(command, options);
}

void add_size_options(CLI::App& command, EngineOptions& options) {
  add_choice<CacheType>(command, "--cache-type", options.cache_type,
                        {{"f16", CacheType::kF16},
                         {"bf16", CacheType::kBF16},
                         {"q8_0", CacheType::kQ8_0},
                         {"f32", CacheType::kF32}},
                        "Type of the KV cache", [&options](CacheType type) { options.cache_type = type; })
      ->group("Memory");
  command
      .add_option(
          "--chunk", options.chunk,
          "Tokens of a prompt evaluated at once: more is faster, takes memory and may change the last bits")
      ->type_name("N")
      ->capture_default_str()
      ->group("Memory");
  command
      .add_option("--snapshots", options.snapshots,
                  "Earlier states of a text that are kept to go back to, of models with windows or recurrent "
                  "states; other models can go back anywhere")
      ->type_name("N")
      ->capture_default_str()
      ->group("Memory");
}

void add_inference_options(CLI::App& command, InferenceOptions& options) {
  EngineOptions& engine = options.engine;
  add_model_options(command, engine);
  command
      .add_option_function<std::string>(
          "--memory",
          [&engine](const std::string& text) {
            const auto budget = parse_memory_budget(text);
            if (!budget.has_value()) throw CLI::ValidationError("--memory", budget.error().message);
            engine.memory = *budget;
          },
          "Most memory for the whole process (8GiB, 900MiB), the share of the experts to hold (25%), or "
          "auto: "
          "what is available, less a margin, and less when other programs need it")
      ->type_name("SIZE")
      ->default_str("auto")
      ->group("Memory");

  command
      .add_option("-t,--threads", engine.threads,
                  "Threads that compute; 0: one per processor that affinity and quota (cgroup) allow")
      ->type_name("N")
      ->capture_default_str()
      ->group("Speed");
  add_choice<FlashAttention>(
      command, "--flash-attention", engine.flash_attention,
      {{"auto", FlashAttention::kAuto}, {"on", FlashAttention::kOn}, {"off", FlashAttention::kOff}},
      "One kernel for attention; auto: for several tokens at once, where there is one for the model, while "
      "one token goes over keys and values once for all heads that share them",
      [&engine](FlashAttention choice) { engine.flash_attention = choice; })
      ->group("Speed");
  add_choice<ReaderChoice>(
      command, "--reader", engine.reader,
      {{"auto", ReaderChoice::kAuto}, {"io_uring", ReaderChoice::kIoUring}, {"pread", ReaderChoice::kPread}},
      "How experts are read", [&engine](ReaderChoice choice) { engine.reader = choice; })
      ->group("Speed");
  add_choice<PredictorKind>(command, "--predictor", engine.predictor,
                            {{"none", PredictorKind::kNone},
                             {"previous-token", PredictorKind::kPreviousToken},
                             {"coactivation", PredictorKind::kCoactivation},
                             {"stale-gate", PredictorKind::kStaleGate},
                             {"shadow", PredictorKind::kShadow}},
                            "What guesses the experts of layers to come, so that they are read early",
                            [&engine](PredictorKind kind) { engine.predictor = kind; })
      ->group("Speed");
  command
      .add_option_function<std::string>(
          "--shadow",
          [&engine](const std::string& file) {
            engine.shadow = file;
            engine.predictor = PredictorKind::kShadow;
          },
          "A shadow model trained for this model (odmoe train); it becomes the predictor")
      ->type_name("FILE")
      ->group("Speed");
  command
      .add_option("--lookahead", engine.lookahead,
                  "Layers by which the predictor is ahead; a shadow model no further than it was trained for")
      ->check(CLI::Range(1, kMaxLookahead))
      ->type_name("N")
      ->capture_default_str()
      ->group("Speed");
  add_choice<PolicyKind>(command, "--policy", engine.policy,
                         {{"forecast", PolicyKind::kForecast},
                          {"lru", PolicyKind::kLru},
                          {"layer-lru", PolicyKind::kLayerLru},
                          {"lfu", PolicyKind::kLfu},
                          {"lfu-aging", PolicyKind::kLfuAging}},
                         "Which experts stay in memory", [&engine](PolicyKind kind) { engine.policy = kind; })
      ->group("Speed");
  command
      .add_option("--read-depth", engine.read_depth, "Reads in flight at once, from each copy of the model")
      ->type_name("N")
      ->default_str("0: what suits the drive")
      ->group("Speed");
  command
      .add_option_function<std::vector<std::string>>(
          "--mirror",
          [&engine](const std::vector<std::string>& paths) {
            engine.mirrors.assign(paths.begin(), paths.end());
          },
          "A copy of the model on another drive, or its folder, to read from as well; several may be given")
      ->type_name("FILE")
      ->allow_extra_args(false)  // the next word is not another of them
      ->group("Speed");
  command
      .add_flag("--fill", engine.fill,
                "Read experts that nobody has asked for into memory that is still free, while the drive has "
                "nothing better to do")
      ->group("Speed");
  engine.drive_file = default_drive_file();
  engine.prefetching_file = default_prefetching_file();
  options.tuning_file = default_tuning_file();
  command
      .add_flag_callback(
          "--no-probe",
          [&options] {
            options.engine.drive_file.clear();
            options.engine.prefetching_file.clear();
            options.engine.device_file.clear();
            options.tuning_file.clear();
          },
          "Do not try out a drive or a device that is not known yet, nor look up what is known of drives, of "
          "devices, of reading ahead and of what suits the model here (odmoe tune)")
      ->group("Speed");

  command
      .add_flag("--allow-mixed", options.allow_mixed,
                "Of several machines (mpirun): let some take part whose kernels round otherwise; results may "
                "then differ from those of one")
      ->group("Several machines");
  command
      .add_option_function<std::string>(
          "--balance", [&options](const std::string& path) { options.balance = path; },
          "Of several machines: divide the experts so that each has its share of the uses that this trace "
          "recorded (odmoe collect)")
      ->type_name("TRACE")
      ->group("Several machines");

  command
      .add_option("--stats", options.stats_file,
                  "Write what was done and what it cost as JSON; -: to standard error")
      ->type_name("FILE")
      ->group("Report");
  command
      .add_flag("-v,--verbose", options.verbose,
                "Show the memory plan and a closing summary on standard error")
      ->group("Report");
}

GivenSettings given_settings(const CLI::App& command) {
  return {.threads = command.count("--threads") > 0,
          .lookahead = command.count("--lookahead") > 0,
          .memory = command.count("--memory") > 0,
          .chunk = command.count("--chunk") > 0};
}

}  // namespace odmoe::cli
