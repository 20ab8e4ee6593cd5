#include "engine/device_support.h"

#include <memory>
#include <utility>

#include "engine/dense_pass.h"
#include "engine/engine_impl.h"
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
  return lacking;
}

}  // namespace odmoe
