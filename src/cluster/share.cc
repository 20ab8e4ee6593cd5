#include "cluster/share.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <numeric>
#include <utility>

#include "cluster/hello.h"
#include "cluster/recorded_uses.h"
#include "engine/model_identity.h"
#include "format/account.h"
#include "model/decoder.h"
#include "model/weights.h"

namespace odmoe {
namespace {

// What all experts are is then the sum, so that each rank is given its part and nothing is left over.
void apply_sizes(std::span<const uint64_t> sizes, OwnershipFacts& facts) {
  facts.ranks.clear();
  for (const uint64_t size : sizes)
    facts.ranks.push_back({.memory_bytes = size, .drive_bytes_per_second = 0});
  facts.expert_bytes = std::accumulate(sizes.begin(), sizes.end(), uint64_t{0});
}

}  // namespace

Result<ExpertsOfShare> make_share(const Checkpoint& file, const ShareRequest& request) {
  Account account(file);
  DenseWeights weights(account);
  ODMOE_ASSIGN_OR_RETURN(const auto decoder, Decoder::create(account, weights));
  ODMOE_RETURN_IF_ERROR(weights.status());
  const ModelShape& shape = decoder->shape();
  ODMOE_ASSIGN_OR_RETURN(const auto source, file.expert_source(shape.n_layer, shape.router.n_expert,
                                                               shape.router.n_expert_used));
  OwnershipFacts facts = facts_of(*decoder, *source, {});
  apply_sizes(request.sizes, facts);
  ODMOE_ASSIGN_OR_RETURN(facts.uses, recorded_uses(request.balance, *decoder));
  ExpertsOfShare made{.share = {.rank = request.rank,
                                .sizes = request.sizes,
                                .uses = fingerprint_of_uses(facts.uses),
                                .model = {}},
                      .holds = {}};
  ODMOE_ASSIGN_OR_RETURN(made.share.model, identity_of_copies(file, *source));
  made.holds = [ownership = Ownership::of(facts), layers = facts.expert_layers, rank = request.rank](
                   int layer, int32_t expert) {
    const auto at = std::ranges::find(layers, layer);
    // Of layers that are not evaluated nobody needs any.
    return at != layers.end() && ownership.owner(static_cast<size_t>(at - layers.begin()), expert) == rank;
  };
  return made;
}

Result<ShareRequest> parse_share(const std::string& text) {
  const size_t slash = text.find('/');
  int32_t part = 0, of = 0;
  const auto number = [](std::string_view digits, int32_t& into) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), into);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  const std::string_view whole = text;
  if (slash == std::string::npos || !number(whole.substr(0, slash), part) ||
      !number(whole.substr(slash + 1), of) || part < 1 || part > of ||
      std::cmp_greater(of, ExpertShare::kMaxParts)) {
    return fail(ErrorKind::kUsage,
                "--share takes which of how many, such as 2/3, of at most {}, and not '{}'",
                ExpertShare::kMaxParts, text);
  }
  return ShareRequest{
      .rank = part - 1, .sizes = std::vector<uint64_t>(static_cast<size_t>(of), 1), .balance = {}};
}

void apply_shares(std::span<const Hello> hellos, OwnershipFacts& facts) {
  const auto first = std::ranges::find_if(hellos, [](const Hello& hello) { return hello.share.has_value(); });
  if (first != hellos.end()) apply_sizes(first->share->sizes, facts);
}

Status check_shares(std::span<const Hello> hellos, std::span<const std::string> names) {
  size_t first = 0;
  while (first < hellos.size() && !hellos[first].share) ++first;
  for (size_t i = first; i < hellos.size(); ++i) {
    if (!hellos[i].share) continue;
    const ExpertShare& share = *hellos[i].share;
    const ExpertShare& other = *hellos[first].share;
    if (share.sizes.size() != hellos.size() || std::cmp_not_equal(share.rank, i)) {
      return fail(ErrorKind::kUnsupported,
                  "{} has {} of the experts in {} and is number {} of {} ranks: give each rank its own share",
                  names[i], share.name(), hellos[i].path, i + 1, hellos.size());
    }
    if (share.sizes != other.sizes) {
      return fail(ErrorKind::kUnsupported,
                  "{} and {} have shares of different sizes (--share-sizes): make all shares alike",
                  names[first], names[i]);
    }
    if (share.uses != hellos.front().uses) {
      return fail(
          ErrorKind::kUnsupported,
          "{} has a share that was made {}: start with the same --balance as convert was given", names[i],
          share.uses.empty() ? "without a trace" : "by another trace, or by one where now there is none");
    }
  }
  return {};
}

Status check_held(const Ownership& ownership, int rank, std::span<const int> expert_layers, int32_t n_expert,
                  const Checkpoint& file, const ExpertSource& source) {
  for (size_t index = 0; index < expert_layers.size(); ++index) {
    for (int32_t expert = 0; expert < n_expert; ++expert) {
      if (ownership.owner(index, expert) != rank) continue;
      if (source.holds({.layer = expert_layers[index], .expert = expert})) continue;
      return fail(
          ErrorKind::kUnsupported,
          "{} has {} of the experts, without expert {} of layer {}, which this rank is to own: make the "
          "shares of all ranks by the same options",
          file.path().string(), file.share() != nullptr ? file.share()->name() : "some", expert,
          expert_layers[index]);
    }
  }
  return {};
}

}  // namespace odmoe
