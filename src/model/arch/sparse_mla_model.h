// Families of multi-head latent attention to rows that a lightning indexer chooses.
#pragma once

#include <memory>
#include <vector>

#include "model/arch/architecture.h"
#include "model/arch/mla_model.h"
#include "model/blocks/lightning_indexer.h"

namespace odmoe {

struct SparseMlaModel {
  MlaModel mla;
  IndexerShape indexer;
  // By layer: whether it has an indexer of its own.  One that has none takes what the last one before it
  // chose.
  std::vector<bool> has_indexer;
};

// attention.indexer.{head_count,key_length,top_k}; RoPE is attention's.
Result<IndexerShape> read_indexer(const Metadata& metadata, const MlaShape& mla);

// Reads all but has_indexer, which is true for all layers.  The indexer's RoPE is attention's, of `pairs`.
Result<SparseMlaModel> read_sparse_mla_model(const Metadata& metadata, const FamilyRules& rules,
                                             RopePairs indexer_pairs);

// The architecture of options that are whole.
std::unique_ptr<Architecture> make_sparse_mla(SparseMlaModel model);

}  // namespace odmoe
