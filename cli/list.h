// The models on this disk, as `odmoe list` shows them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "hub/local_models.h"

namespace odmoe::cli {

enum class Runs { kYes, kNo, kDamaged };

struct ListedModel {
  hub::LocalModel model;
  std::string architecture;  // empty: unknown
  std::string quantisation;
  Runs runs = Runs::kNo;
  std::string reason;  // why not
};

// Looks into the model's file: what it is, and whether it can be run.  Reads no weights.
ListedModel look_into(hub::LocalModel model);

// A line for each, under a line that says what the columns are.
std::string list_text(std::span<const ListedModel> models);
// [{"name": ..., "path": ..., "bytes": ..., "files": ..., "architecture": ..., "quantisation": ...,
//   "runs": "yes"|"no"|"damaged", "reason": ...}, ...]
std::string list_json(std::span<const ListedModel> models);

}  // namespace odmoe::cli
