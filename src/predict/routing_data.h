// Recorded routing and the states that led to it: what `odmoe collect` writes and training and evaluation
// read. docs/shadow-model.md, "Data", describes the files.
//
//   DIR/collection.json                 what was collected, of which model, and the shards that are whole
//   DIR/routers.safetensors             the model's routers and their norms, F32
//   DIR/shard-00000.safetensors.gz ...  the records, whole documents each
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

// Bounds of what is believed of a collection.
inline constexpr int32_t kMaxCollectionLayers = 1024;
inline constexpr int32_t kMaxCollectionExperts = 4096;
inline constexpr int32_t kMaxCollectionEmbd = 1 << 16;
inline constexpr size_t kMaxCollectionShards = 100'000;
inline constexpr uint64_t kMaxShardBytes = uint64_t{16} << 30U;  // of one shard, unpacked

// How a model's routers choose, and from what; the words of model/blocks/router.h.
struct RouterRule {
  // "softmax", "sigmoid", "softmax-over-chosen", "sqrt-softplus", "sigmoid-of-chosen"
  std::string gating = "softmax";
  int32_t n_group = 1, n_group_used = 1;
  bool normalise = false;
  float scale = 1;
  // "residual": after the layer's attention; "layer-input": before it; "streams": a mix of several, after it,
  // which each layer makes with weights of its own that are not in the data.
  std::string sees = "residual";
  std::string norm = "rms";  // of what it sees: "rms", "layer", "none"
  int32_t norm_groups = 1;   // parts that the norm is of, of equal width
  // The experts do not see what their router sees, but something else that is made of it or of the residual.
  bool experts_see_another = false;
  bool operator==(const RouterRule&) const = default;
};

// What ties data and weights to a model.
struct RoutedModel {
  std::string architecture, name;
  // XXH3-64 in hexadecimal of the routers' shapes and their values as F32: the same for every quantisation of
  // a model that leaves the routers alone, as all do.
  std::string fingerprint;
  int32_t n_embd = 0, n_expert = 0, n_expert_used = 0;
  std::vector<int32_t> layers;  // the model's numbers of the layers with experts, in order
  RouterRule router;
  bool operator==(const RoutedModel&) const = default;
};

// Which states are recorded beside tokens, experts and weights.
struct RecordedStates {
  bool router_input = true;
  bool attention_input = true;
  bool embedding = true;
  bool operator==(const RecordedStates&) const = default;
};

struct CorpusFile {
  std::string name;
  uint64_t bytes = 0;
  std::string hash;  // XXH3-64 of its bytes, hexadecimal
  bool operator==(const CorpusFile&) const = default;
};

struct ShardEntry {
  std::string file;  // in the folder
  int64_t first_document = 0, n_document = 0, n_token = 0;
  uint64_t bytes = 0;  // of the file
};

// collection.json
struct Collection {
  static constexpr int kVersion = 1;
  std::string tool;  // "odmoe 0.1.0"
  RoutedModel model;
  RecordedStates states;
  // What decides the records beside the model; a collection goes on only with the same.
  std::string source;  // "corpus", "generation", "synthetic"
  std::vector<CorpusFile> corpus;
  int64_t n_token_wanted = 0;
  int32_t document_tokens = 0;     // the longest document
  int32_t chunk = 0, threads = 0;  // of the evaluation: the last bits depend on them
  uint64_t seed = 0;               // of generation and of synthetic data
  int32_t n_generate = 0;          // tokens that the model adds to each prompt
  // What there is.
  bool complete = false;
  int64_t n_token = 0, n_document = 0;
  uint64_t n_clamped = 0;  // values beyond f16's range, recorded as its largest
  std::vector<ShardEntry> shards;
};

// The records of whole documents, token after token in the order of evaluation.  C order: the last index is
// the fastest.  States and weights are f16, as their bits; an empty vector: not recorded.
struct RoutingShard {
  int64_t n_token = 0;
  std::vector<int32_t> token;             // [n_token]
  std::vector<int32_t> document;          // [n_token], numbered through all shards
  std::vector<int32_t> position;          // [n_token], 0 at a document's start
  std::vector<uint16_t> experts;          // [n_token, n_layer, n_expert_used], best first
  std::vector<uint16_t> weights;          // f16 [n_token, n_layer, n_expert_used]
  std::vector<uint16_t> router_input;     // f16 [n_token, n_layer, n_embd], after the layer's second norm
  std::vector<uint16_t> attention_input;  // f16 [n_token, n_layer, n_embd], residual before the first norm
  std::vector<uint16_t> embedding;        // f16 [n_token, n_embd]
};

// One layer's router: logits = weight * x + nothing; x is the norm's output.
struct RouterWeights {
  int32_t layer = 0;             // the model's number
  std::vector<float> weight;     // C order [n_expert, n_embd]
  std::vector<float> norm;       // [n_embd], of the norm before it and whatever scales that; ones: none
  std::vector<float> norm_bias;  // [n_embd], what the norm adds; empty: nothing
  std::vector<float> bias;       // [n_expert], for choosing only; empty: none
};

// Errors of all readers: kNotFound, kIo, kBadFile (damaged, truncated, beyond the bounds, or shapes that are
// not the collection's), each one line naming the file.  Thread-compatible.

// Checks every number; the shards' files are not looked at.
Result<Collection> read_collection(const std::filesystem::path& folder);
Result<Collection> parse_collection(std::string_view json, const std::string& name);
// Replaces the file in one step, so that it is always whole.
Status write_collection(const std::filesystem::path& folder, const Collection& collection);

// All of one shard, in memory.  kInterrupted never: a shard is small (RoutingShard holds it whole).
Result<RoutingShard> read_shard(const std::filesystem::path& folder, const Collection& collection,
                                size_t index);
// The same from the unpacked bytes, for fuzzing and tests.
Result<RoutingShard> parse_shard(std::span<const std::byte> bytes, const Collection& collection,
                                 const std::string& name);
// The bytes of a shard before they are packed.
Result<std::vector<std::byte>> serialise_shard(const RoutingShard& shard, const Collection& collection);
// Packs and writes the next shard under a temporary name, renames it, and notes it in `collection` and in
// collection.json: what has been noted is whole on the drive.
Status append_shard(const std::filesystem::path& folder, Collection& collection, const RoutingShard& shard);

Result<std::vector<RouterWeights>> read_routers(const std::filesystem::path& folder,
                                                const Collection& collection);
Status write_routers(const std::filesystem::path& folder, const RoutedModel& model,
                     std::span<const RouterWeights> routers);

// RoutedModel::fingerprint.
std::string fingerprint_of(std::span<const RouterWeights> routers, int32_t n_embd, int32_t n_expert);

// Whether a document is held out of training: every tenth by its number, spread by a hash, so that the split
// is the same for whoever reads the data.
bool is_held_out(int32_t document);

}  // namespace odmoe
