#include "model/kv_cache.h"

#include <unistd.h>

#include <cassert>

#include "backend/tensor_memory.h"
#include "base/units.h"

namespace odmoe {
namespace {

int64_t padded_rows(int64_t context) {
  return static_cast<int64_t>(round_up(static_cast<uint64_t>(context), KvCache::kRowPadding));
}

uint64_t tensor_bytes(ggml_type type, int64_t row, int64_t rows) {
  return round_up(ggml_row_size(type, row) * static_cast<uint64_t>(rows), kTensorAlignment);
}

}  // namespace

ggml_type cache_ggml_type(CacheType type) {
  switch (type) {
    case CacheType::kF16:
      return GGML_TYPE_F16;
    case CacheType::kQ8_0:
      return GGML_TYPE_Q8_0;
    case CacheType::kF32:
      return GGML_TYPE_F32;
  }
  return GGML_TYPE_F16;
}

Status KvCache::check(const KvLayout& layout, CacheType type) {
  const int64_t block = ggml_blck_size(cache_ggml_type(type));
  if (layout.key % block != 0 || layout.value % block != 0) {
    return fail(ErrorKind::kUsage,
                "this model's KV cache rows of {} and {} values cannot be stored as {}; use f16", layout.key,
                layout.value, ggml_type_name(cache_ggml_type(type)));
  }
  return {};
}

uint64_t KvCache::bytes(const KvLayout& layout, CacheType type, int64_t context) {
  const ggml_type ggml = cache_ggml_type(type);
  const int64_t rows = padded_rows(context);
  return static_cast<uint64_t>(layout.n_layer) *
         (tensor_bytes(ggml, layout.key, rows) + tensor_bytes(ggml, layout.value, rows));
}

uint64_t KvCache::resident_bytes(const KvLayout& layout, CacheType type, int64_t rows) {
  if (rows == 0) return 0;
  const ggml_type ggml = cache_ggml_type(type);
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  // Tensors do not begin on pages.
  const auto pages = [&](int64_t row) {
    return row == 0 ? 0 : round_up(ggml_row_size(ggml, row) * static_cast<uint64_t>(rows), page) + page;
  };
  return static_cast<uint64_t>(layout.n_layer) * (pages(layout.key) + pages(layout.value));
}

// Calls visit(tensor, bytes per row) for each layer's keys and values.
template <typename Visit>
void KvCache::each_tensor(const Visit& visit) const {
  for (size_t layer = 0; layer < keys_.size(); ++layer) {
    for (ggml_tensor* tensor : {keys_[layer], values_[layer]}) {
      if (tensor != nullptr) visit(tensor, tensor->nb[1]);
    }
  }
}

uint64_t KvCache::state_bytes(int64_t n) const {
  uint64_t bytes = 0;
  each_tensor([&](const ggml_tensor*, size_t row) { bytes += row * static_cast<size_t>(n); });
  return bytes;
}

void KvCache::save(int64_t n, std::span<std::byte> state) const {
  assert(n <= rows_ && state.size() == state_bytes(n));
  each_tensor([&](const ggml_tensor* tensor, size_t row) {
    const size_t bytes = row * static_cast<size_t>(n);
    read_tensor(tensor, 0, state.first(bytes));
    state = state.subspan(bytes);
  });
}

void KvCache::restore(int64_t n, int64_t state_rows, std::span<const std::byte> state) {
  assert(n <= rows_ && n <= state_rows && state.size() == state_bytes(state_rows));
  each_tensor([&](ggml_tensor* tensor, size_t row) {
    write_tensor(tensor, 0, state.first(row * static_cast<size_t>(n)));
    state = state.subspan(row * static_cast<size_t>(state_rows));
  });
}

void KvCache::clear() {
  memory_.clear();
  rows_in_use_ = 0;
}

Result<std::unique_ptr<KvCache>> KvCache::create(const Backend& backend, const KvLayout& layout,
                                                 CacheType type, int64_t context) {
  ODMOE_RETURN_IF_ERROR(check(layout, type));
  std::unique_ptr<KvCache> cache(new KvCache);
  cache->rows_ = padded_rows(context);
  // It is zero, which the masked, never written rows must be: 0 times NaN is NaN.  Each layer's rows grow
  // from a place of their own.
  ODMOE_ASSIGN_OR_RETURN(cache->memory_, DeviceMemory::allocate(backend, bytes(layout, type, context),
                                                                DeviceMemory::Use::kSparse));
  cache->context_.reset(
      ggml_init({.mem_size = ggml_tensor_overhead() * static_cast<size_t>(2 * layout.n_layer),
                 .mem_buffer = nullptr,
                 .no_alloc = true}));
  const ggml_type ggml = cache_ggml_type(type);
  uint64_t offset = 0;
  bool placed = true;
  const auto place = [&](int64_t row) -> ggml_tensor* {
    if (row == 0) return nullptr;
    ggml_tensor* tensor = ggml_new_tensor_2d(cache->context_.get(), ggml, row, cache->rows_);
    placed = cache->memory_.place(tensor, offset) && placed;
    offset += tensor_bytes(ggml, row, cache->rows_);
    return tensor;
  };
  for (int layer = 0; layer < layout.n_layer; ++layer) {
    cache->keys_.push_back(place(layout.key));
    cache->values_.push_back(place(layout.value));
  }
  if (!placed) return fail(ErrorKind::kIo, "{} cannot hold a KV cache", backend.description());
  return cache;
}

}  // namespace odmoe
