#include "cluster/hello.h"

#include "cluster/recorded_uses.h"
#include "engine/model_identity.h"

namespace odmoe {

Result<Hello> make_hello(const Introduced& rank) {
  Hello hello;
  hello.version = ODMOE_VERSION;
  hello.path = rank.file.path().string();
  ODMOE_ASSIGN_OR_RETURN(hello.model, identity_of_copies(rank.file, rank.source));
  if (const ExpertShare* share = rank.file.share(); share != nullptr) hello.share = *share;
  hello.uses = fingerprint_of_uses(rank.uses);
  ODMOE_ASSIGN_OR_RETURN(const Fingerprint::Value products, rank.site.kernel_fingerprint());
  hello.kernels = {.ggml = ggml_build(),
                   .device = rank.backend.description(),
                   .features = rank.backend.features(),
                   .products = products.hex()};
  hello.memory_bytes = rank.arena_bytes;
  double bandwidth = 0;
  bool known = true;
  for (const ModelCopy& copy : rank.copies) {
    known = known && copy.drive.has_value();
    if (copy.drive) bandwidth += copy.drive->profile.bytes_per_second;
  }
  hello.drive_bytes_per_second = known ? static_cast<uint64_t>(bandwidth) : 0;
  hello.takes_what_is_available = rank.memory.kind == MemoryBudget::Kind::kAuto;
  return hello;
}

OwnershipFacts facts_of(const Decoder& decoder, const ExpertSource& source, std::span<const Hello> hellos) {
  OwnershipFacts facts{.expert_layers = decoder.expert_layers(),
                       .n_expert = decoder.shape().router.n_expert,
                       .expert_bytes = source.total_bytes(),
                       .ranks = {},
                       .uses = {}};
  for (const Hello& hello : hellos) {
    facts.ranks.push_back(
        {.memory_bytes = hello.memory_bytes, .drive_bytes_per_second = hello.drive_bytes_per_second});
  }
  return facts;
}

}  // namespace odmoe
