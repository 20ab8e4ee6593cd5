// Families of multi-head latent attention to rows that a lightning indexer chooses.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/arch/architecture.h"
#include "model/arch/mla_model.h"
#include "model/blocks/lightning_indexer.h"

namespace odmoe {

// Which rows a layer attends to.
enum class RowChoice : uint8_t {
  kIndexer,  // what its indexer chooses
  kEarlier,  // what the last indexer before it chose
  kAll,      // all that it can see
};

struct SparseMlaModel {
  MlaModel mla;
  MlaShape windowed;  // of layers with RowChoice::kAll
  IndexerShape indexer;
  std::vector<RowChoice> choices;            // by layer
  std::unique_ptr<ResidualStreams> streams;  // null: none
};

// attention.indexer.{head_count,key_length,top_k}; RoPE is attention's.
Result<IndexerShape> read_indexer(const Metadata& metadata, const MlaShape& mla);

// attention.indexer.types, of each layer 1, or 0 where the choice is an earlier one's.  Without the key all
// have an indexer.
Result<std::vector<RowChoice>> read_indexer_types(const Metadata& metadata, const ModelShape& shape);

// Reads attention and the indexer, which every layer has.  The indexer's RoPE is attention's, of `pairs`.
Result<SparseMlaModel> read_sparse_mla_model(const Metadata& metadata, const FamilyRules& rules,
                                             RopePairs indexer_pairs);

// The architecture of options that are whole.
std::unique_ptr<Architecture> make_sparse_mla(SparseMlaModel model);

}  // namespace odmoe
