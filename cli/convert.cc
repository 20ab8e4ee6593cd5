// odmoe convert: an expert directory from a checkpoint, and its checksums compared with what is there.
#include "convert/convert.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "backend/backend.h"
#include "backend/repacked_layout.h"
#include "base/clock.h"
#include "base/units.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/time_left.h"
#include "cluster/share.h"
#include "convert/conversion_plan.h"
#include "convert/hf_source.h"
#include "convert/verify.h"
#include "format/checkpoint.h"
#include "format/expert_directory.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

namespace fs = std::filesystem;

struct ConvertCommand {
  std::string in, out;
  LayoutOptions layout;
  std::string experts, dense;  // --experts, --dense; empty: not given
  std::string share, balance;  // --share, --balance; empty: not given
  std::vector<uint64_t> share_sizes;
  bool repack = false;
  bool verify = false;
  bool dry_run = false;
};

class StepBar {
 public:
  explicit StepBar(std::string label) : progress_(std::move(label)) {}
  bool update(uint64_t done, uint64_t total) {
    progress_.update(total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total),
                     time_.text(done, total));
    return !interrupt::pending();
  }

 private:
  Progress progress_;
  TimeLeft time_;
};

Result<int> show(const std::string& text) {
  Output output = Output::standard_output();
  (void)output.write(text);
  return output.exit_code();
}

Result<int> verify(const fs::path& directory) {
  if (!ExpertDirectory::is_one(directory)) {
    return fail(ErrorKind::kUsage,
                "{} has no model.json: --verify takes an expert directory that convert made",
                directory.string());
  }
  ODMOE_ASSIGN_OR_RETURN(const auto opened, ExpertDirectory::open(directory));
  const std::vector<CheckedFile> files = files_to_check(opened->manifest(), directory);
  StepBar bar("Verifying");
  ODMOE_ASSIGN_OR_RETURN(
      const std::vector<Damage> damages,
      check_files(files, [&](uint64_t done, uint64_t total) { return bar.update(done, total); }));
  if (damages.empty()) {
    size_t n_record = 0;
    for (const auto& layer : opened->manifest().layers) n_record += layer.checksums.size();
    return show(odmoe::format("{}: all {} experts and {} other files are as they were written\n",
                              directory.string(), n_record, opened->manifest().files.size()));
  }
  std::string text;
  for (const Damage& damage : damages) text += damage.what + "\n";
  (void)show(text);
  return fail(ErrorKind::kBadFile, "{}: damaged sections: {}; convert the model again", directory.string(),
              damages.size());
}

// A checkpoint of Hugging Face, mapped and quantised on the way; anything else as it is.  `notes` are lines
// that people should see.
Result<std::unique_ptr<TensorSource>> open_source(const ConvertCommand& command,
                                                  std::vector<std::string>& notes) {
  HfOptions options;
  if (!command.experts.empty()) {
    ODMOE_ASSIGN_OR_RETURN(options.experts, parse_weight_type(command.experts));
  }
  if (!command.dense.empty()) {
    ODMOE_ASSIGN_OR_RETURN(options.dense, parse_weight_type(command.dense));
  }
  if (looks_like_hf_checkpoint(command.in)) {
    ODMOE_ASSIGN_OR_RETURN(auto source, HfSource::open(command.in, options));
    notes = source->notes();
    return source;
  }
  if (options.experts || options.dense) {
    return fail(
        ErrorKind::kUsage,
        "--experts and --dense choose types for a checkpoint of Hugging Face, which {} is not: what is in a "
        "GGUF or expert directory stays as it is",
        command.in);
  }
  ODMOE_ASSIGN_OR_RETURN(auto checkpoint, open_checkpoint(command.in));
  return make_checkpoint_source(std::move(checkpoint));
}

std::string note_lines(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += odmoe::format("  {}\n", note);
  return text;
}

std::string summary(const ConversionPlan& plan, const fs::path& out) {
  const ExpertManifest& manifest = plan.manifest;
  uint64_t experts = 0, dense = 0;
  size_t n_record = 0, n_file = 0;
  for (const PlannedFile& file : plan.files) {
    (file.layer >= 0 ? experts : dense) += file.bytes;
    n_record += file.experts.size();
    n_file += file.layer >= 0 ? 1 : 0;
  }
  std::string text = odmoe::format("{}: {} with --layout {}\n", out.string(), format_bytes(plan.total_bytes),
                                   layout_name(manifest.layout));
  text += odmoe::format("  experts/     {:>10}  {} records in {} files, on pages of {} bytes\n",
                        format_bytes(experts), n_record, n_file, manifest.page_bytes);
  if (manifest.repacked) {
    uint64_t repacked = 0;
    for (const auto& layer : manifest.layers) {
      for (const auto& slice : layer.slices)
        repacked += slice.repacked ? slice.bytes * static_cast<uint64_t>(layer.n_record()) : 0;
    }
    text += odmoe::format("    repacked   {:>10}  for this processor's kernels ({})\n",
                          format_bytes(repacked), manifest.repacked->layout);
  }
  text += odmoe::format("  base_model/  {:>10}  what stays in memory, in {} files\n", format_bytes(dense),
                        manifest.files.size());
  return text;
}

// Refuses before the first byte what cannot fit.
Status check_room(const fs::path& out, uint64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(fs::absolute(out).parent_path(), error);
  if (error || fs::exists(partial_path(out), error) || space.available >= bytes) return {};
  return fail(ErrorKind::kIo, "{} needs {}, and {} has {} free: make room or choose another drive",
              out.string(), format_bytes(bytes), fs::absolute(out).parent_path().string(),
              format_bytes(space.available));
}

// Which experts are left out, of one machine's share.
Result<std::optional<ExpertsOfShare>> choose_experts(const ConvertCommand& command) {
  if (command.share.empty()) {
    if (command.share_sizes.empty() && command.balance.empty()) return std::nullopt;
    return fail(ErrorKind::kUsage,
                "--share-sizes and --balance say how --share divides, which was not given");
  }
  ODMOE_ASSIGN_OR_RETURN(ShareRequest request, parse_share(command.share));
  if (!command.share_sizes.empty()) {
    if (command.share_sizes.size() != request.sizes.size()) {
      return fail(ErrorKind::kUsage, "--share-sizes has {} numbers, and --share {} is of {} machines",
                  command.share_sizes.size(), command.share, request.sizes.size());
    }
    request.sizes = command.share_sizes;
  }
  if (looks_like_hf_checkpoint(command.in)) {
    return fail(ErrorKind::kUsage,
                "--share takes a GGUF or an expert directory: convert {} whole, and make the shares of that",
                command.in);
  }
  request.balance = command.balance;
  ODMOE_ASSIGN_OR_RETURN(const auto checkpoint, open_checkpoint(command.in));
  ODMOE_ASSIGN_OR_RETURN(ExpertsOfShare made, make_share(*checkpoint, request));
  return made;
}

Result<int> convert_model(const ConvertCommand& command) {
  if (command.verify) {
    if (!command.out.empty()) {
      return fail(ErrorKind::kUsage, "--verify takes one directory, and two paths were given");
    }
    return verify(command.in);
  }
  if (command.out.empty()) {
    return fail(ErrorKind::kUsage, "name the directory to make: odmoe convert {} OUT", command.in);
  }
  if (command.repack && command.layout.layout != ExpertManifest::Layout::kPacked) {
    return fail(ErrorKind::kUsage,
                "--repack auto is for --layout packed: files of single experts are for other tools to read");
  }
  std::vector<std::string> notes;
  ODMOE_ASSIGN_OR_RETURN(const auto source, open_source(command, notes));
  // Whose the experts' layout is.
  std::unique_ptr<Backend> backend;
  std::unique_ptr<RepackedLayout> repacked;
  LayoutOptions layout = command.layout;
  if (command.repack) {
    ODMOE_ASSIGN_OR_RETURN(backend, Backend::create(1));
    repacked = RepackedLayout::create(*backend);
    layout.repack = repacked.get();
  }
  ODMOE_ASSIGN_OR_RETURN(const std::optional<ExpertsOfShare> share, choose_experts(command));
  if (share) layout.share = &*share;
  ODMOE_ASSIGN_OR_RETURN(const ConversionPlan plan, plan_conversion(*source, layout));
  if (command.repack && !plan.manifest.repacked) {
    notes.emplace_back("no expert is repacked: this processor's kernels take them as they are");
  }
  if (command.dry_run) return show(summary(plan, command.out) + note_lines(notes));
  ODMOE_RETURN_IF_ERROR(check_room(command.out, plan.total_bytes));

  ConvertOptions options;
  std::optional<StepBar> bar;
  auto phase = ConvertProgress::Phase::kChecking;
  options.progress = [&](const ConvertProgress& progress) {
    if (!bar || progress.phase != phase) {
      bar.reset();  // wipes its line before another begins
      bar.emplace(progress.phase == ConvertProgress::Phase::kChecking ? "Checking what is there"
                                                                      : "Converting");
      phase = progress.phase;
    }
    return bar->update(progress.done, progress.total);
  };
  const int64_t start_us = SteadyClock::instance().now_us();
  const auto result = convert(*source, plan, command.out, options);
  bar.reset();
  if (!result.has_value()) return std::unexpected(result.error());
  const double seconds = static_cast<double>(SteadyClock::instance().now_us() - start_us) * 1e-6;
  const uint64_t written = result->bytes - std::min(result->bytes, result->kept_bytes);
  std::string text =
      odmoe::format("{}: {} in {:.1f} s, {}/s", command.out, format_bytes(result->bytes), seconds,
                    format_bytes(static_cast<uint64_t>(static_cast<double>(written) / seconds)));
  if (result->kept_bytes > 0)
    text += odmoe::format("; {} were there already", format_bytes(result->kept_bytes));
  return show(text + "\n" + note_lines(notes));
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  const auto options = std::make_shared<ConvertCommand>();
  CLI::App* command =
      app.add_subcommand("convert", "Make an expert directory: every expert in one read, with a checksum");
  command
      ->add_option("IN", options->in,
                   "A GGUF, the first file of a split one, an expert directory, or a folder as downloaded "
                   "from Hugging Face (safetensors, MLX's too)")
      ->type_name("MODEL")
      ->required();
  command->add_option("OUT", options->out, "The directory to make")->type_name("DIR");
  add_choice<ExpertManifest::Layout>(
      *command, "--layout", options->layout.layout,
      {{"packed", ExpertManifest::Layout::kPacked}, {"files", ExpertManifest::Layout::kFiles}},
      "packed: a file per layer; files: a safetensors file per expert",
      [options](ExpertManifest::Layout layout) { options->layout.layout = layout; })
      ->group("Layout");
  add_choice<bool>(
      *command, "--repack", false, {{"auto", true}, {"off", false}},
      "auto: experts as this processor's wider kernels want them, for this machine and its like alone",
      [options](bool repack) { options->repack = repack; })
      ->group("Layout");
  add_choice<uint32_t>(*command, "--page-size", options->layout.page_bytes,
                       {{"4096", 4096}, {"16384", 16384}},
                       "Bytes that records begin on multiples of; 16384 for Apple Silicon",
                       [options](uint32_t bytes) { options->layout.page_bytes = bytes; })
      ->group("Layout");
  command
      ->add_option(
          "--experts", options->experts,
          "What the experts of a Hugging Face checkpoint become: Q4_K, Q8_0, BF16, ...; without it, what is "
          "nearest to the checkpoint's own")
      ->type_name("TYPE")
      ->group("Types");
  command
      ->add_option("--dense", options->dense, "The same for all other matrices; norms and routers stay F32")
      ->type_name("TYPE")
      ->group("Types");
  command
      ->add_option(
          "--share", options->share,
          "Only the experts of one machine of several: 2/3 is for the second of three (docs/scale.md)")
      ->type_name("N/OF")
      ->group("Several machines");
  command
      ->add_option("--share-sizes", options->share_sizes,
                   "How large the shares of all machines are, in proportion (2,1,1); without it, equal")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->type_name("N,N...")
      ->group("Several machines");
  command
      ->add_option("--balance", options->balance,
                   "A trace by whose uses the shares are divided; the ranks are then started with it, too")
      ->type_name("TRACE")
      ->group("Several machines");
  command->add_flag("--dry-run", options->dry_run, "Say what would be made and how large")->group("Action");
  command->add_flag("--verify", options->verify, "Compare every record of the directory IN with its checksum")
      ->group("Action");
  command->footer(
      "Nothing is overwritten. OUT appears when it is complete; until then OUT.partial holds what is done, "
      "and\n"
      "the same command goes on from there after Ctrl-C, a kill or a full drive. Remove OUT.partial to "
      "start\n"
      "afresh.\n"
      "\n"
      "Of Hugging Face's checkpoints DeepSeek's, GLM's, gpt-oss, Kimi's, MiniMax-M2, OLMoE and Qwen's are "
      "read:\n"
      "docs/checkpoints.md has their names.\n"
      "\n"
      "Examples:\n"
      "  odmoe convert model.gguf model.odmoe\n"
      "  odmoe convert model-00001-of-00009.gguf model.odmoe --page-size 16384\n"
      "  odmoe convert model.gguf model.odmoe --repack auto\n"
      "  odmoe convert model.gguf model.odmoe --layout files --dry-run\n"
      "  odmoe convert Qwen3-30B-A3B model.odmoe --experts Q4_K --dense Q8_0\n"
      "  odmoe convert model.gguf model.odmoe --share 2/3\n"
      "  odmoe convert --verify model.odmoe\n"
      "  odmoe run model.odmoe -p 'Once upon a time' --memory 8GiB");
  command->callback([&action, options] {
    action = with_model(options->in, [options] { return convert_model(*options); });
  });
}

}  // namespace odmoe::cli
