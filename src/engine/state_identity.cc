// What the bits of a saved state depend on, as one line of text.
#include "engine/engine_impl.h"
#include "odmoe/format.h"

namespace odmoe {

Result<std::string> EngineImpl::state_identity() const {
  ODMOE_RETURN_IF_ERROR(identity_->check());
  ODMOE_ASSIGN_OR_RETURN(const Fingerprint::Value samples, sample_experts(*source_));
  Fingerprint model;
  model.add(identity_->value());
  model.add(weights_->fingerprint());
  model.add(samples);
  return odmoe::format("{} {}, KV cache {}, chunks of {}, {}{} attention, odmoe {}, ggml {}, {}, {}",
                       info_.architecture, model.value().hex(),
                       ggml_type_name(cache_ggml_type(options_.cache_type)), options_.chunk,
                       state_plan_->has_transposed() ? "grouped and " : "",
                       options_.flash_attention == FlashAttention::kOn ? "tiled flash" : "plain",
                       ODMOE_VERSION, ggml_build(), backend_->description(), backend_->features()) +
         (host_backend_ == nullptr ? ""
          : options_.experts != ExpertPlacement::kHost
              ? odmoe::format("; experts: {}", placement_name(options_.experts))
              : odmoe::format("; experts: {}, {}", host_backend_->description(), host_backend_->features()));
}

}  // namespace odmoe
