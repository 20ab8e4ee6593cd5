#include "engine/engine_impl.h"

namespace odmoe {

Result<ModelInfo> Engine::inspect(const EngineOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.model));
  Account account(*file);
  DenseWeights weights(account);
  ODMOE_ASSIGN_OR_RETURN(const auto decoder, Decoder::create(account, weights));
  // For the keys that it reads.
  ODMOE_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::create(account));
  const ModelShape& shape = decoder->shape();
  ODMOE_ASSIGN_OR_RETURN(const auto source, file->expert_source(shape.n_layer, shape.router.n_expert,
                                                                shape.router.n_expert_used));
  ODMOE_ASSIGN_OR_RETURN(const StatePlan state, plan_state(*decoder, options));
  return describe_model(account, *decoder, weights, *source, state);
}

}  // namespace odmoe
