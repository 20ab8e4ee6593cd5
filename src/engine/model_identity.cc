#include "engine/model_identity.h"

#include <algorithm>
#include <fstream>
#include <set>

namespace odmoe {
namespace {

constexpr uint64_t kSamples = 64;
constexpr uint64_t kSampleBytes = 4096;

// Calls `use` for every routed expert that is there, in order.
template <typename Use>
void for_each_expert(const ExpertSource& source, const Use& use) {
  for (int32_t layer = 0; layer < source.n_layer(); ++layer) {
    for (int32_t expert = 0; expert < source.n_expert(layer); ++expert) {
      const ExpertKey key{.layer = layer, .expert = expert};
      if (source.holds(key)) use(key);
    }
  }
}

void add_table(Fingerprint& all, const Checkpoint& file) {
  all.add(file.encoded());
  for (const TensorInfo& tensor : file.tensors()) {
    all.add(tensor.name);
    all.add(static_cast<uint64_t>(tensor.type));
    for (const int64_t n : tensor.ne) all.add(static_cast<uint64_t>(n));
    all.add(static_cast<uint64_t>(tensor.file));
    all.add(tensor.offset);
    all.add(tensor.bytes);
    if (tensor.repacked) all.add(file.repacked()->layout);
  }
}

}  // namespace

Result<ModelIdentity> ModelIdentity::of(const Checkpoint& file, const ExpertSource& source,
                                        std::span<const ModelCopy> copies, StampFile stamp) {
  ModelIdentity identity(std::move(stamp));
  Fingerprint all;
  add_table(all, file);
  std::set<int> unchecked;  // files
  for_each_expert(source, [&](ExpertKey key) {
    if (const auto checksums = source.checksums(key)) {
      all.add(checksums->gate_up);
      all.add(checksums->down);
      return;
    }
    for (int slice = 0; slice < static_cast<int>(source.layout(key.layer).slices.size()); ++slice)
      unchecked.insert(source.locate(key, slice).file);
  });
  for (const ModelCopy& copy : copies) {
    for (const int i : unchecked) {
      const std::filesystem::path& path = copy.files[static_cast<size_t>(i)];
      ODMOE_ASSIGN_OR_RETURN(const FileStamp found, identity.stamp_(path));
      all.add(found.text());
      identity.files_.emplace_back(path, found);
    }
  }
  identity.value_ = all.value();
  return identity;
}

Status ModelIdentity::check() const {
  for (const auto& [path, stamp] : files_) {
    const auto now = stamp_(path);
    if (now.has_value() && *now == stamp) continue;
    return fail(ErrorKind::kBadFile, "{} {} since the model was opened; start again to use it as it is now",
                path.string(), now.has_value() ? "was changed" : "is gone");
  }
  return {};
}

Result<std::string> identity_of_copies(const Checkpoint& file, const ExpertSource& source) {
  if (const ExpertShare* share = file.share(); share != nullptr) return share->model;
  Fingerprint all;
  add_table(all, file);
  for_each_expert(source, [&](ExpertKey key) {
    if (const auto checksums = source.checksums(key)) {
      all.add(checksums->gate_up);
      all.add(checksums->down);
    }
  });
  ODMOE_ASSIGN_OR_RETURN(const Fingerprint::Value samples, sample_experts(source));
  all.add(samples);
  return all.value().hex();
}

Result<Fingerprint::Value> sample_experts(const ExpertSource& source) {
  struct Slice {
    ExpertKey key;
    int slice = 0;
  };
  std::vector<Slice> slices;
  for_each_expert(source, [&](ExpertKey key) {
    if (source.checksums(key)) return;
    for (int i = 0; i < static_cast<int>(source.layout(key.layer).slices.size()); ++i)
      slices.push_back({key, i});
  });
  Fingerprint all;
  std::vector<std::byte> bytes;
  const uint64_t n = std::min<uint64_t>(kSamples, slices.size());
  for (uint64_t i = 0; i < n; ++i) {
    const Slice& at = slices[(2 * i + 1) * slices.size() / (2 * n)];
    const SliceLocation location = source.locate(at.key, at.slice);
    const uint64_t size = source.layout(at.key.layer).slices[static_cast<size_t>(at.slice)].bytes;
    bytes.resize(std::min(kSampleBytes, size));
    const std::filesystem::path& path = source.files()[static_cast<size_t>(location.file)];
    std::ifstream file(path, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(location.offset + (size - bytes.size()) / 2));
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file) {
      return fail(ErrorKind::kIo, "{}: cannot be read at byte {}", path.string(), location.offset);
    }
    all.add(bytes);
  }
  return all.value();
}

}  // namespace odmoe
