#include "model/weights.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "backend/tensor_memory.h"
#include "base/finite.h"
#include "base/units.h"
#include "model/staged_load.h"
#include "model/weight_digest.h"

namespace odmoe {
namespace {

// Matrices that the backend lays out go through a staging buffer of about this size, or of the largest of
// them; those that are larger still stay as they are rather than be in memory twice while loading.
constexpr uint64_t kStagingBytes = 32 * kMiB;
constexpr uint64_t kMaxLaidOutBytes = 256 * kMiB;

// Fingerprints are of pieces of tensors, so that little is left to do when the last byte has come.
constexpr uint64_t kPieceBytes = 16 * kMiB;

std::string shape_text(std::span<const int64_t> ne) {
  std::string text;
  for (const int64_t n : ne) text += (text.empty() ? "" : " x ") + std::to_string(n);
  return text;
}

}  // namespace

DenseWeights::DenseWeights(Account& account) : account_(&account), file_(&account.file()) {
  // A derived tensor is never more than one per tensor of the file.
  context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * (2 * file_->tensors().size() + 16),
                            .mem_buffer = nullptr,
                            .no_alloc = true}));
}

void DenseWeights::require_there(const std::string& name) {
  if (status_.has_value() && file_->find_tensor(name) == nullptr) {
    status_ =
        fail(ErrorKind::kBadFile,
             "{}: the model has no tensor {}; it was made by a converter that this program does not know",
             file_->path().string(), name);
  }
}

ggml_tensor* DenseWeights::require(const std::string& name, std::initializer_list<int64_t> ne) {
  require_there(name);
  return optional(name, ne);
}

ggml_tensor* DenseWeights::require_f32(const std::string& name, std::initializer_list<int64_t> ne) {
  ggml_tensor* tensor = require(name, ne);
  if (tensor == nullptr) return nullptr;
  if (tensor->type != GGML_TYPE_F32) {
    status_ = fail(ErrorKind::kUnsupported,
                   "{}: tensor {} is {}, which this program cannot compute with; F32 was expected",
                   file_->path().string(), name, ggml_type_name(tensor->type));
    return nullptr;
  }
  declared_.back().must_be_finite = true;
  return tensor;
}

ggml_tensor* DenseWeights::require_as_f32(const std::string& name, std::initializer_list<int64_t> ne) {
  ggml_tensor* tensor = require(name, ne);
  if (tensor == nullptr) return nullptr;
  if (tensor->type != GGML_TYPE_F32) {
    tensor = derive(name, ne, tensor, [](std::span<const float> source, std::span<float> result) {
      std::ranges::copy(source, result.begin());
    });
  }
  declared_.back().must_be_finite = true;
  return tensor;
}

ggml_tensor* DenseWeights::require_expert_f32(const std::string& name, std::initializer_list<int64_t> ne) {
  ggml_tensor* tensor = require_f32(name, ne);
  if (tensor != nullptr) declared_.back().of_experts = true;
  return tensor;
}

ggml_tensor* DenseWeights::require_host_i32(const std::string& name, std::initializer_list<int64_t> ne) {
  require_there(name);
  const TensorInfo* info = use_of_shape(name, ne);
  if (info == nullptr) return nullptr;
  if (info->type != GGML_TYPE_I32) {
    status_ = fail(ErrorKind::kBadFile, "{}: tensor {} is {}; I32 was expected",
                   file_->path_of(*info).string(), name, ggml_type_name(info->type));
    return nullptr;
  }
  ggml_tensor* tensor = declare(
      info->type, name, ne, {.tensor = nullptr, .info = info, .source = nullptr, .fill = {}, .offset = 0});
  declared_.back().on_host = true;
  return tensor;
}

// Null, or with another shape an error, unless the file has it.
const TensorInfo* DenseWeights::use_of_shape(const std::string& name, std::span<const int64_t> ne) {
  const TensorInfo* info = account_->use_tensor(name);
  if (!status_.has_value() || info == nullptr) return nullptr;
  std::array<int64_t, 4> wanted = {1, 1, 1, 1};
  std::ranges::copy(ne, wanted.begin());
  if (info->ne != wanted) {
    status_ = fail(ErrorKind::kBadFile, "{}: tensor {} is {}, but the model's metadata asks for {}",
                   file_->path_of(*info).string(), name, shape_text(info->ne), shape_text(wanted));
    return nullptr;
  }
  return info;
}

ggml_tensor* DenseWeights::optional(const std::string& name, std::initializer_list<int64_t> ne) {
  const TensorInfo* info = use_of_shape(name, ne);
  if (info == nullptr) return nullptr;
  // Kernels for adding and scaling take vectors as they are in every published file; those for products take
  // whatever weights can be.
  if (ne.size() == 1 ? info->type != GGML_TYPE_F32 : !is_weight_type(info->type)) {
    status_ = fail(ErrorKind::kUnsupported, "{}: tensor {} is {}, which this program cannot compute with{}",
                   file_->path_of(*info).string(), name, ggml_type_name(info->type),
                   ne.size() == 1 ? "; F32 was expected" : "");
    return nullptr;
  }
  return declare(info->type, name, ne,
                 {.tensor = nullptr, .info = info, .source = nullptr, .fill = {}, .offset = 0});
}

ggml_tensor* DenseWeights::require_matrix(const std::string& name, int64_t n_in, int64_t n_out) {
  ggml_tensor* tensor = require(name, {n_in, n_out});
  if (tensor != nullptr) declared_.back().is_matrix = true;
  return tensor;
}

ggml_tensor* DenseWeights::optional_matrix(const std::string& name, int64_t n_in, int64_t n_out) {
  ggml_tensor* tensor = optional(name, {n_in, n_out});
  if (tensor != nullptr) declared_.back().is_matrix = true;
  return tensor;
}

ggml_tensor* DenseWeights::derive(const std::string& name, std::initializer_list<int64_t> ne,
                                  const ggml_tensor* source, Fill fill) {
  if (!status_.has_value() || source == nullptr) return nullptr;
  return declare(
      GGML_TYPE_F32, name, ne,
      {.tensor = nullptr, .info = nullptr, .source = source, .fill = std::move(fill), .offset = 0});
}

ggml_tensor* DenseWeights::declare(ggml_type type, const std::string& name, std::span<const int64_t> ne,
                                   Declared declared) {
  ggml_tensor* tensor = ggml_new_tensor(context_.get(), type, static_cast<int>(ne.size()), ne.data());
  ggml_set_name(tensor, name.c_str());
  declared.tensor = tensor;
  if (declared.info != nullptr) file_bytes_ += declared.info->bytes;
  declared_.push_back(std::move(declared));
  return tensor;
}

void DenseWeights::keep_only_of_experts() {
  std::erase_if(declared_, [](const Declared& d) { return !d.on_host && !d.of_experts; });
  file_bytes_ = 0;
  for (const Declared& d : declared_) file_bytes_ += d.info->bytes;
}

// Says where every tensor lies, and how much memory that takes.  Returns bytes of host_memory_.
uint64_t DenseWeights::choose_regions(const Backend& backend, bool experts_on_device) {
  uint64_t plain_bytes = 0;
  uint64_t host_bytes = 0;
  uint64_t laid_out_bytes = 0;
  for (Declared& d : declared_) {
    const ggml_tensor* t = d.tensor;
    const bool on_host = d.on_host || (d.of_experts && !experts_on_device);
    if (on_host && !backend.computes_on_host_memory()) {
      d.region = kOnHost;
      d.offset = host_bytes;
      host_bytes += round_up(ggml_nbytes(t), kTensorAlignment);
      continue;
    }
    ggml_backend_buffer_type_t type = nullptr;
    if (d.is_matrix && ggml_nbytes(t) <= kMaxLaidOutBytes) {
      type = backend.matrix_buffer_type(t->type, t->ne[0], t->ne[1]);
    }
    // What the device keeps in memory of its own comes there through ours, as what is laid out does.
    if (type == nullptr && !backend.computes_on_host_memory() && d.info != nullptr)
      type = backend.buffer_type();
    if (type == nullptr) {
      d.offset = plain_bytes;
      plain_bytes += round_up(ggml_nbytes(t), backend.alignment());
      continue;
    }
    // A device may give memory in pieces of some size only.
    const uint64_t bytes = round_up(ggml_backend_buft_get_alloc_size(type, t), backend.alignment());
    const uint64_t most = ggml_backend_buft_get_max_size(type);
    auto region = std::ranges::find_if(regions_, [&](const Region& r) {
      return r.type == type && (r.bytes == 0 || bytes <= most - std::min(most, r.bytes));
    });
    if (region == regions_.end()) region = regions_.insert(region, {.type = type, .buffer = {}});
    d.region = static_cast<int>(region - regions_.begin());
    d.offset = region->bytes;
    region->bytes += bytes;
    load_bytes_ = std::max<uint64_t>({load_bytes_, ggml_nbytes(t)});
    laid_out_bytes += ggml_nbytes(t);
  }
  load_bytes_ = std::max(load_bytes_, std::min(laid_out_bytes, kStagingBytes));
  plain_bytes_ = plain_bytes;
  bytes_ = plain_bytes;
  for (const Region& region : regions_) bytes_ += region.bytes;
  return host_bytes;
}

bool DenseWeights::Region::place(ggml_tensor* tensor, uint64_t offset) const {
  if (memory.size() == 0) {
    auto* base = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer.get()));
    return ggml_backend_tensor_alloc(buffer.get(), tensor, base + offset) == GGML_STATUS_SUCCESS;
  }
  return place_laid_out(buffer.get(), tensor, memory.data() + offset);
}

Status DenseWeights::reserve(const Backend& backend, const Backend& host, bool experts_on_device) {
  ODMOE_RETURN_IF_ERROR(status_);
  if (const uint64_t bytes = choose_regions(backend, experts_on_device); bytes > 0) {
    ODMOE_ASSIGN_OR_RETURN(host_memory_, DeviceMemory::allocate(host, bytes, DeviceMemory::Use::kWhole));
  }
  ODMOE_ASSIGN_OR_RETURN(memory_, DeviceMemory::allocate(backend, plain_bytes_, DeviceMemory::Use::kWhole));
  for (Region& region : regions_) {
    uint64_t bytes = region.bytes;
    if (std::ranges::contains(backend.extra_buffer_types(), region.type)) {
      // Its matrices lie in memory of ours, of which nothing is there until it is filled, so that a model may
      // be planned that is larger than this machine.
      ODMOE_ASSIGN_OR_RETURN(region.memory, AlignedBuffer::allocate(region.bytes, /*huge_pages=*/true));
      bytes = kLayoutBufferBytes;
    }
    region.buffer.reset(ggml_backend_buft_alloc_buffer(region.type, bytes));
    if (region.buffer == nullptr) {
      return fail(ErrorKind::kIo, "{} has no memory for {} of dense weights; {}", backend.description(),
                  format_bytes(region.bytes),
                  backend.computes_on_host_memory() ? "lower the memory budget" : "use --device cpu");
    }
  }
  for (const Declared& d : declared_) {
    bool placed = false;
    if (d.region < 0) {
      placed = (d.region == kOnHost ? host_memory_ : memory_).place(d.tensor, d.offset);
    } else {
      const Region& region = regions_[static_cast<size_t>(d.region)];
      placed = region.place(d.tensor, d.offset);
    }
    if (!placed) {
      return fail(ErrorKind::kIo, "ggml could not place tensor {}", ggml_get_name(d.tensor));
    }
  }
  return {};
}

Status DenseWeights::load(AsyncReader& reader, const LoadOptions& options) {
  std::vector<BulkRange> ranges;
  std::vector<StagedTensor> staged;
  uint64_t plain_bytes = 0;
  for (const Declared& d : declared_) {
    if (d.info == nullptr) continue;
    if (d.region >= 0) {
      staged.push_back({.info = d.info, .tensor = d.tensor});
      continue;
    }
    const std::span<std::byte> memory = (d.region == kOnHost ? host_memory_ : memory_).host();
    for (uint64_t at = 0; at < d.info->bytes; at += kPieceBytes) {
      ranges.push_back({d.info->file, d.info->offset + at,
                        memory.subspan(d.offset + at, std::min(kPieceBytes, d.info->bytes - at))});
    }
    plain_bytes += d.info->bytes;
  }
  // In the order of the files, so that the drive reads forward.
  std::ranges::sort(ranges, {}, [](const BulkRange& r) { return std::pair(r.file, r.offset); });
  BulkReadOptions bulk;
  bulk.progress = options.progress;
  WeightDigest digest(ranges.size());
  bulk.range_done = [&](size_t i) { digest.add(i, ranges[i].destination); };
  ODMOE_RETURN_IF_ERROR(bulk_read(reader, ranges, bulk));
  ODMOE_ASSIGN_OR_RETURN(const AlignedBuffer staging, AlignedBuffer::allocate(load_bytes_));
  ODMOE_ASSIGN_OR_RETURN(const std::vector<Fingerprint::Value> digests,
                         load_staged(reader, std::move(staged),
                                     {.staging = staging.span(),
                                      .threads = options.threads,
                                      .progress =
                                          [&](uint64_t done) {
                                            return !options.progress || options.progress(plain_bytes + done);
                                          },
                                      .all_read = options.all_read}));
  Fingerprint all;
  for (const Fingerprint::Value& piece : digest.finish()) all.add(piece);
  for (const Fingerprint::Value& piece : digests) all.add(piece);
  fingerprint_ = all.value();

  fill_derived();
  return check_finite();
}

Status DenseWeights::check_finite() const {
  std::vector<float> values;
  for (const Declared& d : declared_) {
    if (!d.must_be_finite) continue;
    values.resize(static_cast<size_t>(ggml_nelements(d.tensor)));
    read_tensor(d.tensor, 0, std::as_writable_bytes(std::span(values)));
    if (all_finite(values)) continue;
    return fail(ErrorKind::kBadFile,
                "{}: tensor {} has a value that is not finite; the model is damaged: compare its files with "
                "their source",
                (d.info != nullptr ? file_->path_of(*d.info) : file_->path()).string(), d.tensor->name);
  }
  return {};
}

void DenseWeights::fill_derived() const {
  std::vector<std::byte> stored;      // what the device has
  std::vector<float> source, result;  // the second for the device
  for (const Declared& d : declared_) {
    if (!d.fill) continue;
    source.resize(static_cast<size_t>(ggml_nelements(d.source)));
    if (!on_host(d.source)) {
      stored.resize(ggml_nbytes(d.source));
      read_tensor(d.source, 0, stored);
    }
    const std::byte* from = on_host(d.source) ? host_address(d.source) : stored.data();
    if (d.source->type == GGML_TYPE_F32) {
      std::memcpy(source.data(), from, source.size() * sizeof(float));
    } else {
      ggml_get_type_traits(d.source->type)->to_float(from, source.data(), std::ssize(source));
    }
    if (on_host(d.tensor)) {
      d.fill(source, host_values<float>(d.tensor));
      continue;
    }
    result.resize(static_cast<size_t>(ggml_nelements(d.tensor)));
    d.fill(source, result);
    write_tensor(d.tensor, 0, std::as_bytes(std::span(result)));
  }
}

}  // namespace odmoe
