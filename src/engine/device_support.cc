#include "engine/device_support.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/dense_pass.h"
#include "engine/device_site.h"
#include "engine/drives.h"
#include "engine/engine_impl.h"
#include "engine/live_stale_gate.h"
#include "format/checkpoint.h"
#include "io/async_reader.h"
#include "model/decoder.h"
#include "model/sequence_state.h"
#include "model/weights.h"
#include "store/slot_arena.h"

namespace odmoe {

Result<std::vector<std::string>> lacking_on(const Backend& device, const EngineOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.model));
  Account account(*file);
  DenseWeights weights(account);
  ODMOE_ASSIGN_OR_RETURN(const auto decoder, Decoder::create(account, weights));
  ODMOE_ASSIGN_OR_RETURN(StatePlan plan, plan_state(*decoder, options));
  // Graphs are built in addresses of the host, which cost nothing until they are used.
  ODMOE_ASSIGN_OR_RETURN(const auto host, Backend::create(1));
  ODMOE_RETURN_IF_ERROR(weights.reserve(*host, *host));
  ODMOE_ASSIGN_OR_RETURN(const auto state,
                         SequenceState::create(*host, std::make_shared<const StatePlan>(std::move(plan))));
  const bool flash = options.flash_attention != FlashAttention::kOff &&
                     (options.flash_attention == FlashAttention::kOn ||
                      DensePass::supports_flash_attention(device, *decoder, *state));
  std::vector<std::string> lacking;
  const DensePass::Options dense{
      .chunk = options.chunk, .flash_attention = flash, .asked = &device, .lacking = &lacking};
  ODMOE_ASSIGN_OR_RETURN(const auto pass, DensePass::create(*host, *host, *decoder, *file, *state, dense));
  // What looks at values that are not finite there (FiniteSums).
  const ggml_context_ptr context(
      ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  ggml_tensor* values = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, decoder->shape().n_embd, 2);
  ggml_tensor* half = ggml_cast(context.get(), values, GGML_TYPE_F16);
  ggml_tensor* whole = ggml_cast(context.get(), half, GGML_TYPE_F32);
  const auto ask = [&](const ggml_tensor* node) {
    if (device.supports(node)) return;
    std::string operation =
        odmoe::format("{} on {}", ggml_op_desc(node),
                      ggml_type_name(node->src[0] != nullptr ? node->src[0]->type : node->type));
    if (!std::ranges::contains(lacking, operation)) lacking.push_back(std::move(operation));
  };
  for (const ggml_tensor* node : {half, whole, ggml_sum_rows(context.get(), whole)}) ask(node);
  if (options.predictor == PredictorKind::kStaleGate && !decoder->expert_layers().empty()) {
    ODMOE_ASSIGN_OR_RETURN(const auto gate, LiveStaleGate::create(*host, *decoder, options.lookahead));
    gate->each_operation(ask);
  }
  return lacking;
}

namespace {

// What is asked of the model, without its weights.
struct AskedModel {
  const Checkpoint* file;
  const Decoder* decoder;
  const ExpertSource* source;
};

Status try_placement(Backend& device, Backend& host, const AskedModel& model, const EngineOptions& options,
                     bool in_place) {
  if (in_place && !device.reads_host_memory()) {
    return fail(ErrorKind::kUnsupported, "{} does not compute on the host's memory where it is",
                device.description());
  }
  ODMOE_ASSIGN_OR_RETURN(const auto site,
                         DeviceSite::create(device, host, *model.decoder, *model.file,
                                            {.max_tokens = options.chunk, .in_place = in_place}));
  if (!in_place) {
    SlotPlan plan = site->arena_plan(*model.source);
    plan.divide(plan.max_bytes());
    return site->try_slots(plan);
  }
  // Slots are as the drive asks.
  ODMOE_ASSIGN_OR_RETURN(const auto reader,
                         make_reader({.kind = reader_kind(options.reader), .direct = true}));
  for (const auto& path : model.file->files()) ODMOE_RETURN_IF_ERROR(reader->add_file(path));
  SlotPlan plan(*model.source, reader->alignment(), site->slot_kernels());
  plan.divide(plan.max_bytes());
  return site->try_slots(plan);
}

}  // namespace

Result<std::vector<PlacementVerdict>> placements_on(Backend& device, const EngineOptions& options) {
  std::vector<PlacementVerdict> verdicts(1);
  if (device.computes_on_host_memory()) return verdicts;
  ODMOE_RETURN_IF_ERROR(options.validate());
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.model));
  Account account(*file);
  DenseWeights weights(account);
  ODMOE_ASSIGN_OR_RETURN(const auto decoder, Decoder::create(account, weights));
  const ModelShape& shape = decoder->shape();
  ODMOE_ASSIGN_OR_RETURN(const auto source, file->expert_source(shape.n_layer, shape.router.n_expert,
                                                                shape.router.n_expert_used));
  ODMOE_ASSIGN_OR_RETURN(const auto host, Backend::create(options.threads));
  ODMOE_RETURN_IF_ERROR(weights.reserve(*host, *host));
  const AskedModel model{.file = file.get(), .decoder = decoder.get(), .source = source.get()};
  for (const ExpertPlacement placement : {ExpertPlacement::kInPlace, ExpertPlacement::kDevice}) {
    PlacementVerdict& verdict = verdicts.emplace_back(PlacementVerdict{.placement = placement});
    const bool in_place = placement == ExpertPlacement::kInPlace;
    if (const Status tried = try_placement(device, *host, model, options, in_place); !tried.has_value()) {
      verdict.obstacle = tried.error().message;
    }
  }
  return verdicts;
}

Status forget_device(const EngineOptions& options) { return EngineImpl::forget_device(options); }

}  // namespace odmoe
