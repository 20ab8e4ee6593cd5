// Keys and values of one session's tokens.
#pragma once

#include <ggml-cpp.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe {

// Values per token and layer.  MLA keeps one compressed row (kv_lora_rank + rope), of which the values are a
// part: value is 0 then.
struct KvLayout {
  int32_t n_layer = 0;
  int64_t key = 0;
  int64_t value = 0;
};

ggml_type cache_ggml_type(CacheType type);

// One owner.  Memory is reserved at once, but becomes resident only as rows are written.
class KvCache {
 public:
  // Rows are a multiple of this, so that graphs are built for few lengths.
  static constexpr int64_t kRowPadding = 256;

  static uint64_t bytes(const KvLayout& layout, CacheType type, int64_t context);
  // What `rows` rows from the first make resident, at most: never more than bytes() of as many and two pages
  // for each layer's keys and values.
  static uint64_t resident_bytes(const KvLayout& layout, CacheType type, int64_t rows);
  // kUsage when a row cannot be stored in this type (Q8_0 holds multiples of 32 values); kIo without memory.
  static Result<std::unique_ptr<KvCache>> create(const Backend& backend, const KvLayout& layout,
                                                 CacheType type, int64_t context);
  static Status check(const KvLayout& layout, CacheType type);

  ggml_tensor* key(int layer) const { return keys_[static_cast<size_t>(layer)]; }      // [layout.key, rows]
  ggml_tensor* value(int layer) const { return values_[static_cast<size_t>(layer)]; }  // null with MLA
  int64_t rows() const { return rows_; }

  // Rows, from the first, that may have been written since clear(): whoever evaluates says so beforehand.
  int64_t rows_in_use() const { return rows_in_use_; }
  void use_rows(int64_t rows) { rows_in_use_ = std::max(rows_in_use_, rows); }
  // The first n rows of all layers, one after the other, each layer's keys before its values: how many bytes,
  // and to and from them.  n is at most rows(); the state may be of more rows, of which n are taken.
  uint64_t state_bytes(int64_t n) const;
  void save(int64_t n, std::span<std::byte> state) const;
  void restore(int64_t n, int64_t state_rows, std::span<const std::byte> state);

  // Forgets everything and gives the memory back.
  void clear();

 private:
  KvCache() = default;
  template <typename Visit>
  void each_tensor(const Visit& visit) const;
  int64_t rows_ = 0, rows_in_use_ = 0;
  DeviceMemory memory_;
  ggml_context_ptr context_;
  std::vector<ggml_tensor*> keys_, values_;
};

}  // namespace odmoe
