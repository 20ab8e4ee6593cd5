#include "engine/device_support.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/dense_pass.h"
#include "engine/engine_impl.h"
#include "engine/live_stale_gate.h"
#include "format/checkpoint.h"
#include "model/decoder.h"
#include "model/sequence_state.h"
#include "model/weights.h"

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

Status forget_device(const EngineOptions& options) { return EngineImpl::forget_device(options); }

}  // namespace odmoe
