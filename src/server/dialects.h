// The dialects that the server speaks (dialect.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace odmoe::server {

class BatchStore;
class Dialect;

// The first is the default: its words tell what is wrong where no route says whose to use.
using Dialects = std::vector<std::shared_ptr<const Dialect>>;

struct DialectOptions {
  uint64_t response_store_bytes = 0;              // ServerOptions has it too
  std::shared_ptr<BatchStore> batches = nullptr;  // null: files and batches are refused
};
Dialects all_dialects(const DialectOptions& options = {});

}  // namespace odmoe::server
