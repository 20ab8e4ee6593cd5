// routers.safetensors, and what ties data to a model.
#include <xxhash.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/whole_file.h"
#include "format/safetensors.h"
#include "predict/routing_data.h"

namespace odmoe {
namespace {

constexpr std::string_view kRouterFile = "routers.safetensors";

// As GGUF calls them.
std::string weight_name(int layer) { return odmoe::format("blk.{}.ffn_gate_inp.weight", layer); }
std::string norm_name(int layer) { return odmoe::format("blk.{}.ffn_norm.weight", layer); }
std::string norm_bias_name(int layer) { return odmoe::format("blk.{}.ffn_norm.bias", layer); }
std::string bias_name(int layer) { return odmoe::format("blk.{}.exp_probs_b.bias", layer); }

}  // namespace

std::string fingerprint_of(std::span<const RouterWeights> routers, int32_t n_embd, int32_t n_expert) {
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  for (const RouterWeights& router : routers) {
    const int32_t shape[] = {router.layer, n_embd, n_expert};
    XXH3_64bits_update(state, shape, sizeof shape);
    XXH3_64bits_update(state, router.weight.data(), router.weight.size() * sizeof(float));
  }
  const XXH64_hash_t hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return odmoe::format("{:016x}", hash);
}

Status write_routers(const std::filesystem::path& folder, const RoutedModel& model,
                     std::span<const RouterWeights> routers) {
  std::vector<SafetensorsEntry> entries;
  std::string data;
  const auto add = [&](std::string name, std::vector<int64_t> shape, const std::vector<float>& values) {
    entries.push_back({.name = std::move(name), .dtype = "F32", .shape = std::move(shape)});
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  };
  for (const RouterWeights& router : routers) {
    add(weight_name(router.layer), {model.n_expert, model.n_embd}, router.weight);
    add(norm_name(router.layer), {model.n_embd}, router.norm);
    if (!router.norm_bias.empty()) add(norm_bias_name(router.layer), {model.n_embd}, router.norm_bias);
    if (!router.bias.empty()) add(bias_name(router.layer), {model.n_expert}, router.bias);
  }
  ODMOE_ASSIGN_OR_RETURN(std::string bytes,
                         make_safetensors_header(entries, {{"fingerprint", model.fingerprint}}));
  bytes += data;
  return replace_whole(folder / kRouterFile, std::as_bytes(std::span(bytes)));
}

Result<std::vector<RouterWeights>> read_routers(const std::filesystem::path& folder,
                                                const Collection& collection) {
  const RoutedModel& model = collection.model;
  const std::filesystem::path path = folder / kRouterFile;
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, read_whole(path, kMaxShardBytes));
  ODMOE_ASSIGN_OR_RETURN(const SafetensorsFile file,
                         parse_safetensors_header(bytes, bytes.size(), path.string()));
  Status status;
  const auto take = [&](const std::string& name, const std::vector<int64_t>& shape, bool optional) {
    std::vector<float> values;
    const SafetensorsTensor* tensor = file.find(name);
    if (!status.has_value() || (tensor == nullptr && optional)) return values;
    if (tensor == nullptr || tensor->dtype != "F32" || tensor->shape != shape) {
      status = fail(ErrorKind::kBadFile, "{}: {} is missing or not of the shape that collection.json says",
                    path.string(), name);
      return values;
    }
    values.resize(tensor->bytes / sizeof(float));
    std::memcpy(values.data(), bytes.data() + tensor->offset, tensor->bytes);
    for (const float value : values) {
      if (!std::isfinite(value)) {
        status = fail(ErrorKind::kBadFile, "{}: {} holds a value that is not a number", path.string(), name);
      }
    }
    return values;
  };
  std::vector<RouterWeights> routers;
  for (const int32_t layer : model.layers) {
    RouterWeights router{.layer = layer};
    router.weight = take(weight_name(layer), {model.n_expert, model.n_embd}, false);
    router.norm = take(norm_name(layer), {model.n_embd}, false);
    router.norm_bias = take(norm_bias_name(layer), {model.n_embd}, true);
    router.bias = take(bias_name(layer), {model.n_expert}, true);
    ODMOE_RETURN_IF_ERROR(status);
    routers.push_back(std::move(router));
  }
  if (fingerprint_of(routers, model.n_embd, model.n_expert) != model.fingerprint) {
    return fail(ErrorKind::kBadFile, "{} holds the routers of another model than collection.json names",
                path.string());
  }
  return routers;
}

bool is_held_out(int32_t document) {
  // splitmix64's finaliser: documents that follow one another share their subject.
  auto x = static_cast<uint64_t>(static_cast<uint32_t>(document)) + 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return (x ^ (x >> 31U)) % 10 == 0;
}

}  // namespace odmoe
