// Shards: safetensors packed by gzip.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>

#include "base/whole_file.h"
#include "format/safetensors.h"
#include "predict/gzip.h"
#include "predict/routing_data.h"

static_assert(std::endian::native == std::endian::little, "safetensors are little endian");

namespace odmoe {
namespace {

struct Column {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

// What a shard of n_token tokens holds, in the order of the file.  `Shard` is const or not.
std::vector<Column> columns(const RoutingShard& shard, const Collection& collection) {
  const int64_t n = shard.n_token;
  const auto n_layer = static_cast<int64_t>(collection.model.layers.size());
  const int64_t n_used = collection.model.n_expert_used, n_embd = collection.model.n_embd;
  std::vector<Column> columns;
  const auto add = [&](std::string name, std::string dtype, std::vector<int64_t> shape, const auto& values) {
    columns.push_back(
        {std::move(name), std::move(dtype), std::move(shape), std::as_bytes(std::span(values))});
  };
  add("token", "I32", {n}, shard.token);
  add("document", "I32", {n}, shard.document);
  add("position", "I32", {n}, shard.position);
  add("experts", "U16", {n, n_layer, n_used}, shard.experts);
  add("weights", "F16", {n, n_layer, n_used}, shard.weights);
  const RecordedStates& states = collection.states;
  if (states.router_input) add("router_input", "F16", {n, n_layer, n_embd}, shard.router_input);
  if (states.attention_input) add("attention_input", "F16", {n, n_layer, n_embd}, shard.attention_input);
  if (states.embedding) add("embedding", "F16", {n, n_embd}, shard.embedding);
  return columns;
}

uint64_t elements(const std::vector<int64_t>& shape) {
  uint64_t n = 1;
  for (const int64_t extent : shape) n *= static_cast<uint64_t>(extent);
  return n;
}

Status check_values(const RoutingShard& shard, const Collection& collection, const std::string& name) {
  const auto n_used = static_cast<size_t>(collection.model.n_expert_used);
  for (size_t i = 0; i < shard.experts.size(); i += n_used) {
    for (size_t k = 0; k < n_used; ++k) {
      const uint16_t expert = shard.experts[i + k];
      if (std::cmp_less(expert, collection.model.n_expert)) continue;
      return fail(ErrorKind::kBadFile, "{} names expert {} of {}; it is damaged: collect again", name, expert,
                  collection.model.n_expert);
    }
  }
  // Not-a-number or infinity in a state or weight would spread through all that is trained on it.
  const auto infinite = [](uint16_t half) { return (half & 0x7C00U) == 0x7C00U; };
  for (const auto* values : {&shard.weights, &shard.router_input, &shard.attention_input, &shard.embedding}) {
    if (std::ranges::any_of(*values, infinite)) {
      return fail(ErrorKind::kBadFile, "{} holds a value that is not a number; it is damaged: collect again",
                  name);
    }
  }
  for (size_t t = 0; t < shard.document.size(); ++t) {
    const bool follows = t == 0 || shard.document[t] == shard.document[t - 1]
                             ? shard.position[t] == (t == 0 ? 0 : shard.position[t - 1] + 1)
                             : shard.document[t] == shard.document[t - 1] + 1 && shard.position[t] == 0;
    if (shard.document[t] < 0 || !follows) {
      return fail(ErrorKind::kBadFile, "{}: token {} follows no other token; it is damaged: collect again",
                  name, t);
    }
  }
  return {};
}

}  // namespace

Result<std::vector<std::byte>> serialise_shard(const RoutingShard& shard, const Collection& collection) {
  std::vector<SafetensorsEntry> entries;
  uint64_t bytes = 0;
  const std::vector<Column> parts = columns(shard, collection);
  for (const Column& part : parts) {
    entries.push_back({.name = part.name, .dtype = part.dtype, .shape = part.shape});
    if (part.bytes.size() * 8 != elements(part.shape) * safetensors_dtype_bits(part.dtype)) {
      return fail(ErrorKind::kUsage, "a shard of {} tokens has {} bytes of {}", shard.n_token,
                  part.bytes.size(), part.name);
    }
    bytes += part.bytes.size();
  }
  ODMOE_ASSIGN_OR_RETURN(const std::string header,
                         make_safetensors_header(entries, {{"fingerprint", collection.model.fingerprint}}));
  std::vector<std::byte> result(header.size() + bytes);
  std::memcpy(result.data(), header.data(), header.size());
  size_t at = header.size();
  for (const Column& part : parts) {
    std::ranges::copy(part.bytes, result.begin() + static_cast<ptrdiff_t>(at));
    at += part.bytes.size();
  }
  return result;
}

Result<RoutingShard> parse_shard(std::span<const std::byte> bytes, const Collection& collection,
                                 const std::string& name) {
  ODMOE_ASSIGN_OR_RETURN(const SafetensorsFile file, parse_safetensors_header(bytes, bytes.size(), name));
  const auto fingerprint = file.metadata().find("fingerprint");
  if (fingerprint == file.metadata().end() || fingerprint->second != collection.model.fingerprint) {
    return fail(ErrorKind::kBadFile, "{} was collected from another model than collection.json names", name);
  }
  const SafetensorsTensor* tokens = file.find("token");
  if (tokens == nullptr || tokens->shape.size() != 1) {
    return fail(ErrorKind::kBadFile, "{} has no one-dimensional tensor 'token'", name);
  }
  RoutingShard shard;
  shard.n_token = tokens->shape[0];
  for (const Column& column : columns(shard, collection)) {
    const SafetensorsTensor* tensor = file.find(column.name);
    if (tensor == nullptr || tensor->dtype != column.dtype || tensor->shape != column.shape) {
      return fail(ErrorKind::kBadFile,
                  "{}: tensor '{}' is missing or not of the shape that collection.json says", name,
                  column.name);
    }
  }
  const auto take = [&](std::string_view tensor_name, auto& values) {
    const SafetensorsTensor& tensor = *file.find(tensor_name);
    values.resize(tensor.bytes / sizeof(values[0]));
    if (tensor.bytes != 0) std::memcpy(values.data(), bytes.data() + tensor.offset, tensor.bytes);
  };
  take("token", shard.token);
  take("document", shard.document);
  take("position", shard.position);
  take("experts", shard.experts);
  take("weights", shard.weights);
  if (collection.states.router_input) take("router_input", shard.router_input);
  if (collection.states.attention_input) take("attention_input", shard.attention_input);
  if (collection.states.embedding) take("embedding", shard.embedding);
  ODMOE_RETURN_IF_ERROR(check_values(shard, collection, name));
  return shard;
}

Result<RoutingShard> read_shard(const std::filesystem::path& folder, const Collection& collection,
                                size_t index) {
  const ShardEntry& entry = collection.shards.at(index);
  const std::filesystem::path path = folder / entry.file;
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::byte> packed, read_whole(path, kMaxShardBytes));
  if (packed.size() != entry.bytes) {
    return fail(ErrorKind::kBadFile,
                "{} has {} bytes, but collection.json says {}; it is damaged: collect again", path.string(),
                packed.size(), entry.bytes);
  }
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, gunzip(packed, kMaxShardBytes, path.string()));
  ODMOE_ASSIGN_OR_RETURN(RoutingShard shard, parse_shard(bytes, collection, path.string()));
  if (shard.n_token != entry.n_token || std::cmp_not_equal(shard.document.front(), entry.first_document) ||
      std::cmp_not_equal(shard.document.back(), entry.first_document + entry.n_document - 1)) {
    return fail(ErrorKind::kBadFile, "{} has other documents than collection.json says; collect again",
                path.string());
  }
  return shard;
}

Status append_shard(const std::filesystem::path& folder, Collection& collection, const RoutingShard& shard) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, serialise_shard(shard, collection));
  const std::vector<std::byte> packed = gzip(bytes);
  ShardEntry entry;
  entry.file = odmoe::format("shard-{:05}.safetensors.gz", collection.shards.size());
  entry.first_document = shard.document.front();
  entry.n_document = shard.document.back() - shard.document.front() + 1;
  entry.n_token = shard.n_token;
  entry.bytes = packed.size();
  ODMOE_RETURN_IF_ERROR(replace_whole(folder / entry.file, packed));
  collection.n_token += entry.n_token;
  collection.n_document += entry.n_document;
  collection.shards.push_back(std::move(entry));
  return write_collection(folder, collection);
}

}  // namespace odmoe
