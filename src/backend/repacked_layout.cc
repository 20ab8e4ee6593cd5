#include "backend/repacked_layout.h"

#include <bit>
#include <cassert>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/tensor_memory.h"
#include "base/checksum.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

ggml_context_ptr small_context(size_t n_tensor) {
  return ggml_context_ptr(
      ggml_init({.mem_size = ggml_tensor_overhead() * n_tensor, .mem_buffer = nullptr, .no_alloc = true}));
}

uint64_t split_mix(uint64_t& state) {
  uint64_t z = state += 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31U);
}

// Whether the buffer, of a type that may have nothing to do with this, can have experts as we want them.
bool can_hold(const Backend& backend, ggml_backend_buffer_t buffer, ggml_type type, int64_t n_in,
              int64_t n_out) {
  // ggml asks for three dimensions, and one expert would have two.
  constexpr int64_t kExperts = 2;
  const ggml_context_ptr context = small_context(5);
  ggml_context* ctx = context.get();
  ggml_tensor* experts = ggml_new_tensor_3d(ctx, type, n_in, n_out, kExperts);
  ggml_tensor* product = ggml_mul_mat_id(ctx, experts, ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_in, 1, 1),
                                         ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 1, 1));
  experts->buffer = buffer;
  if (!backend.supports(product)) return false;
  const ggml_backend_buffer_type_t layout = ggml_backend_buffer_get_type(buffer);
  if (ggml_backend_buft_get_alloc_size(layout, experts) != ggml_nbytes(experts)) return false;
  ggml_tensor* one = ggml_new_tensor_3d(ctx, type, n_in, n_out, 1);
  one->buffer = buffer;
  one->data = ggml_backend_buffer_get_base(buffer);
  return ggml_backend_buffer_init_tensor(buffer, one) == GGML_STATUS_SUCCESS && one->extra != nullptr;
}

}  // namespace

std::unique_ptr<RepackedLayout> RepackedLayout::create(const Backend& backend) {
  for (const ggml_backend_buffer_type_t type : backend.extra_buffer_types()) {
    ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type, kLayoutBufferBytes));
    if (buffer == nullptr) continue;
    // A shape of many blocks and whole groups of rows, in the types that files of experts have most.
    for (const ggml_type quantised : {GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q2_K, GGML_TYPE_IQ4_NL,
                                      GGML_TYPE_MXFP4, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_Q8_0}) {
      if (!can_hold(backend, buffer.get(), quantised, 1024, 256)) continue;
      return std::unique_ptr<RepackedLayout>(new RepackedLayout(backend, type, std::move(buffer)));
    }
  }
  return nullptr;
}

std::string RepackedLayout::name() const { return ggml_backend_buft_name(type_); }

std::string RepackedLayout::ggml() const { return ggml_build(); }

std::string RepackedLayout::processor() const { return backend_->features(); }

bool RepackedLayout::takes(ggml_type type, int64_t n_in, int64_t n_out) const {
  return can_hold(*backend_, buffer_.get(), type, n_in, n_out);
}

void RepackedLayout::place(ggml_tensor* tensor, std::byte* data) const {
  [[maybe_unused]] const bool placed = place_laid_out(buffer_.get(), tensor, data);
  assert(placed);
}

void RepackedLayout::repack(ggml_type type, int64_t n_in, int64_t n_out, std::span<const std::byte> plain,
                            std::span<std::byte> out) const {
  const ggml_context_ptr context = small_context(1);
  ggml_tensor* matrix = ggml_new_tensor_3d(context.get(), type, n_in, n_out, 1);
  assert(plain.size() == ggml_nbytes(matrix) && out.size() == plain.size());
  place(matrix, out.data());
  ggml_backend_tensor_set(matrix, plain.data(), 0, plain.size());
}

uint64_t RepackedLayout::fingerprint(ggml_type type, int64_t n_in, int64_t n_out) const {
  static_assert(std::endian::native == std::endian::little);
  const uint64_t bytes = ggml_row_size(type, n_in) * static_cast<uint64_t>(n_out);
  std::vector<uint64_t> words((bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  uint64_t state = 0;
  for (uint64_t& word : words) word = split_mix(state);
  std::vector<std::byte> out(bytes);
  repack(type, n_in, n_out, std::as_bytes(std::span(words)).first(bytes), out);
  return Checksum::of(out);
}

}  // namespace odmoe
