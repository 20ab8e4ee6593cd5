// Matrices of experts in ggml's layout for this processor's wider kernels (the buffer type CPU_REPACK), in
// memory of ours and in files.
//
// ggml lays a matrix out when it is set in a buffer of that type and computes with it by the tensor's
// `extra`, which the buffer fills in when the tensor is made known to it.  Where the bytes lie says nothing:
// a tensor that belongs to a small buffer of the type and whose data is elsewhere is computed with in the
// same way. The layout itself is ggml's secret, and another version's or processor's may differ: see
// fingerprint().
#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "backend/backend.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable and thread-safe.  Must not outlive the backend.
class RepackedLayout {
 public:
  // The backend's first layout that ggml_mul_mat_id takes; null where it has none (another processor, a ggml
  // that was built without).
  static std::unique_ptr<RepackedLayout> create(const Backend& backend);

  std::string name() const;       // of the buffer type: "CPU_REPACK"
  std::string ggml() const;       // whose it is: "0.27.0 (1a2b3c)"
  std::string processor() const;  // and what its kernels were built for: Backend::features()

  // Whether experts [n_in, n_out] of this type can be laid out so, in as many bytes as they have, and be
  // multiplied by with ggml_mul_mat_id.
  bool takes(ggml_type type, int64_t n_in, int64_t n_out) const;

  // The bytes of one such matrix -> the same laid out; both spans are of as many bytes and do not overlap.
  void repack(ggml_type type, int64_t n_in, int64_t n_out, std::span<const std::byte> plain,
              std::span<std::byte> out) const;

  // Gives a tensor without memory, experts [n_in, n_out, n] whose matrices lie nb[2] bytes apart, the place
  // `data`, where they lie laid out, on a multiple of kDataAlignment (format/expert_source.h).  Allocates
  // nothing.
  void place(ggml_tensor* tensor, std::byte* data) const;

  // XXH3-64 of what this layout makes of a matrix [n_in, n_out] that is always the same: its bytes are those
  // of SplitMix64 from 0 on, least significant first.  Where it is the same, the layout is.
  uint64_t fingerprint(ggml_type type, int64_t n_in, int64_t n_out) const;

 private:
  RepackedLayout(const Backend& backend, ggml_backend_buffer_type_t type, ggml_backend_buffer_ptr buffer)
      : backend_(&backend), type_(type), buffer_(std::move(buffer)) {}

  const Backend* backend_;
  ggml_backend_buffer_type_t type_;
  ggml_backend_buffer_ptr buffer_;  // that the tensors belong to; holds none of their bytes
};

}  // namespace odmoe
