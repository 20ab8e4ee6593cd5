#include "format/expert_directory.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/whole_file.h"
#include "format/printable.h"
#include "format/safetensors.h"

namespace odmoe {
namespace {

class DirectoryExperts final : public ExpertSource {
 public:
  struct Layer {
    RecordLayout layout;
    int first_file = 0;
    bool file_per_expert = false;
    uint64_t first_offset = 0, stride = 0;
    int n_expert = 0;                        // of a dense layer 0
    std::vector<RecordChecksums> checksums;  // by record
    std::vector<int32_t> record;             // by expert, -1: none; empty: each has its own
  };

  DirectoryExperts(std::vector<std::filesystem::path> files, std::vector<Layer> layers, int n_expert_used)
      : files_(std::move(files)), layers_(std::move(layers)), n_expert_used_(n_expert_used) {}

  int n_layer() const override { return static_cast<int>(layers_.size()); }
  int n_expert(int layer) const override { return at(layer).n_expert; }
  int n_expert_used() const override { return n_expert_used_; }
  const RecordLayout& layout(int layer) const override { return at(layer).layout; }
  SliceLocation locate(ExpertKey key, int /*slice: there is one*/) const override {
    const Layer& layer = at(key.layer);
    const int32_t record = record_of(key);
    if (layer.file_per_expert) return {.file = layer.first_file + record, .offset = layer.first_offset};
    return {.file = layer.first_file,
            .offset = layer.first_offset + static_cast<uint64_t>(record) * layer.stride};
  }
  bool holds(ExpertKey key) const override {
    const std::vector<int32_t>& record = at(key.layer).record;
    return record.empty() || record[static_cast<size_t>(key.expert)] >= 0;
  }
  std::optional<RecordChecksums> checksums(ExpertKey key) const override {
    return at(key.layer).checksums[static_cast<size_t>(record_of(key))];
  }
  const std::vector<std::filesystem::path>& files() const override { return files_; }

 private:
  const Layer& at(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  int32_t record_of(ExpertKey key) const {
    assert(key.expert >= 0 && key.expert < n_expert(key.layer) && holds(key));
    const std::vector<int32_t>& record = at(key.layer).record;
    return record.empty() ? key.expert : record[static_cast<size_t>(key.expert)];
  }

  std::vector<std::filesystem::path> files_;
  std::vector<Layer> layers_;
  int n_expert_used_;
};

// A file of the directory that is read at once.
Result<std::string> read_json(const std::filesystem::path& path, uint64_t most_bytes) {
  Result<std::string> text = read_whole_text(path, most_bytes);
  if (text.has_value() || text.error().kind == ErrorKind::kIo) return text;
  return fail(text.error().kind, "{}; convert the model again", text.error().message);
}

// The record is one slice, so that it is read at once; the projections lie in it.
RecordLayout record_layout(const ExpertManifest::Layer& layer) {
  RecordLayout layout;
  layout.slices.push_back(
      {.bytes = layer.record_bytes, .name = odmoe::format("blk.{}.ffn_*_exps.weight", layer.layer)});
  const auto& first = layer.slices.front();
  const auto& down = layer.slices.back();
  if (layer.slices.size() == 3) {
    const auto& up = layer.slices[1];
    layout.gate = {.slice = 0, .offset = first.offset, .bytes = first.bytes};
    layout.up = {.slice = 0, .offset = up.offset, .bytes = up.bytes};
  } else if (first.tensor.ends_with(".ffn_up_exps.weight")) {  // without gate
    layout.up = {.slice = 0, .offset = first.offset, .bytes = first.bytes};
    layout.gate = layout.up;
  } else {  // merged: gate's rows, then up's
    const uint64_t half = first.bytes / 2;
    layout.gate = {.slice = 0, .offset = first.offset, .bytes = half};
    layout.up = {.slice = 0, .offset = first.offset + half, .bytes = half};
  }
  layout.down = {.slice = 0, .offset = down.offset, .bytes = down.bytes};
  return layout;
}

// "Q4_K 2048 1024": ggml's type and shape of a tensor that safetensors has no dtype for.
Result<TensorInfo> parse_description(std::string_view text, const SafetensorsTensor& tensor,
                                     const std::string& file) {
  const auto bad = [&] {
    return fail(ErrorKind::kBadFile,
                "{}: tensor '{}' is described as '{}', which does not give its {} bytes; convert the "
                "model again",
                file, printable(tensor.name), printable(text), tensor.bytes);
  };
  const std::string_view name = text.substr(0, text.find(' '));
  const std::optional<ggml_type> type = find_ggml_type(name);
  if (!type) {
    return fail(ErrorKind::kUnsupported, "{}: tensor '{}' is of type '{}', which this build of ggml lacks",
                file, printable(tensor.name), printable(name));
  }
  TensorInfo info{.name = tensor.name, .type = *type};
  text.remove_prefix(name.size());
  uint64_t rows = 1;
  for (size_t i = 0; !text.empty(); ++i) {
    constexpr int64_t kMax = int64_t{1} << 40U;
    if (i == info.ne.size()) return bad();
    text.remove_prefix(1);  // a space
    const char* const end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, info.ne[i]);
    if (error != std::errc() || info.ne[i] < 1 || info.ne[i] > kMax || (at != end && *at != ' '))
      return bad();
    text.remove_prefix(static_cast<size_t>(at - text.data()));
    // Never more rows than bytes, so nothing overflows.
    if (i > 0) rows *= static_cast<uint64_t>(info.ne[i]);
    if (rows > tensor.bytes) return bad();
  }
  if (info.ne[0] % ggml_blck_size(info.type) != 0) return bad();
  const uint64_t row_bytes = ggml_row_size(info.type, info.ne[0]);
  if (row_bytes > tensor.bytes / rows || row_bytes * rows != tensor.bytes) return bad();
  return info;
}

Result<TensorInfo> dense_tensor(const SafetensorsFile& file, const SafetensorsTensor& tensor) {
  const std::string name = printable_path(file.path());
  const auto described = file.metadata().find("ggml:" + tensor.name);
  if (described == file.metadata().end()) {
    return fail(ErrorKind::kBadFile,
                "{}: nothing says which type of ggml tensor '{}' is; convert the model again", name,
                printable(tensor.name));
  }
  ODMOE_ASSIGN_OR_RETURN(TensorInfo info, parse_description(described->second, tensor, name));
  info.offset = tensor.offset;
  info.bytes = tensor.bytes;
  return info;
}

}  // namespace

ExpertDirectory::ExpertDirectory(KeyValues values, std::filesystem::path path, ExpertManifest manifest)
    : Checkpoint(std::move(values), std::move(path)), manifest_(std::move(manifest)) {}

bool ExpertDirectory::is_one(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path / "model.json", error);
}

Result<std::unique_ptr<ExpertDirectory>> ExpertDirectory::open(const std::filesystem::path& path) {
  const std::filesystem::path manifest_path = path / "model.json";
  ODMOE_ASSIGN_OR_RETURN(const std::string text, read_json(manifest_path, ExpertManifest::kMaxBytes));
  ODMOE_ASSIGN_OR_RETURN(ExpertManifest manifest, ExpertManifest::parse(text, printable_path(manifest_path)));
  const std::filesystem::path tokenizer_path = path / "tokenizer.json";
  ODMOE_ASSIGN_OR_RETURN(const std::string tokenizer_text,
                         read_json(tokenizer_path, ExpertManifest::kMaxTokenizerBytes));
  ODMOE_ASSIGN_OR_RETURN(const auto tokenizer,
                         parse_tokenizer_json(tokenizer_text, printable_path(tokenizer_path)));

  std::vector<MetadataEntry> metadata = manifest.metadata;
  metadata.insert(metadata.end(), tokenizer.begin(), tokenizer.end());
  ODMOE_ASSIGN_OR_RETURN(KeyValues values, KeyValues::of(metadata, printable_path(manifest_path)));
  std::unique_ptr<ExpertDirectory> directory(
      new ExpertDirectory(std::move(values), path, std::move(manifest)));
  ODMOE_RETURN_IF_ERROR(directory->add_dense_files());
  ODMOE_RETURN_IF_ERROR(directory->add_expert_files());
  ODMOE_RETURN_IF_ERROR(directory->index_tensors());
  return directory;
}

Status ExpertDirectory::check_file(const std::filesystem::path& path, uint64_t least_bytes) {
  std::error_code error;
  const uint64_t bytes = std::filesystem::file_size(path, error);
  if (error) {
    return fail(ErrorKind::kBadFile, "{} is missing or cannot be examined: {}; convert the model again",
                printable_path(path), error.message());
  }
  if (bytes < least_bytes) {
    return fail(ErrorKind::kBadFile, "{} has {} bytes and not {}: it is truncated; convert the model again",
                printable_path(path), bytes, least_bytes);
  }
  total_bytes_ += bytes;
  return {};
}

Status ExpertDirectory::add_dense_files() {
  for (const ExpertManifest::File& file : manifest_.files) {
    const std::filesystem::path path = path_ / file.path;
    ODMOE_RETURN_IF_ERROR(check_file(path, file.bytes));
    if (!file.path.ends_with(".safetensors")) continue;
    ODMOE_ASSIGN_OR_RETURN(const SafetensorsFile opened, SafetensorsFile::open(path));
    for (const SafetensorsTensor& tensor : opened.tensors()) {
      if (tensor.name.starts_with("padding")) continue;
      ODMOE_ASSIGN_OR_RETURN(TensorInfo info, dense_tensor(opened, tensor));
      info.file = static_cast<int>(files_.size());
      tensors_.push_back(std::move(info));
    }
    files_.push_back(path);
  }
  return {};
}

Status ExpertDirectory::add_expert_files() {
  for (const ExpertManifest::Layer& layer : manifest_.layers) {
    first_file_.push_back(static_cast<int>(files_.size()));
    const bool packed = manifest_.layout == ExpertManifest::Layout::kPacked;
    const auto n_record = static_cast<uint64_t>(layer.n_record());
    // The limits of the manifest keep this from overflowing.
    const uint64_t least = layer.first_offset + (packed && n_record > 0 ? (n_record - 1) * layer.stride : 0) +
                           layer.record_bytes;
    for (int record = 0; record < (packed ? std::min(layer.n_record(), 1) : layer.n_record()); ++record) {
      std::filesystem::path path =
          path_ / manifest_.expert_path(layer.layer, packed ? 0 : layer.expert_of(record));
      ODMOE_RETURN_IF_ERROR(check_file(path, least));
      files_.push_back(std::move(path));
    }
    for (const ExpertManifest::Slice& slice : layer.slices) {
      tensors_.push_back({.name = slice.tensor,
                          .type = slice.type,
                          .ne = {slice.n_in, slice.n_out, layer.n_expert(), 1},
                          .file = -1,
                          .bytes = slice.bytes * static_cast<uint64_t>(layer.n_expert()),
                          .repacked = slice.repacked});
    }
  }
  return {};
}

Result<std::unique_ptr<ExpertSource>> ExpertDirectory::expert_source(int n_layer, int n_expert,
                                                                     int n_expert_used) const {
  const std::string name = printable_path(path_ / "model.json");
  if (n_expert_used < 1 || n_expert_used > n_expert) {
    return fail(ErrorKind::kBadFile,
                "{} has {} experts of which {} are used, which cannot be; convert the model again", name,
                n_expert, n_expert_used);
  }
  if (n_layer < 1 || n_layer > ExpertManifest::kMaxLayers || manifest_.layers.front().layer >= n_layer) {
    return fail(ErrorKind::kBadFile,
                "{} has no experts in the {} layers of the model; convert the model again", name, n_layer);
  }
  std::vector<DirectoryExperts::Layer> layers(static_cast<size_t>(n_layer));
  for (size_t i = 0; i < manifest_.layers.size(); ++i) {
    const ExpertManifest::Layer& from = manifest_.layers[i];
    if (from.layer >= n_layer) break;  // whoever asks knows why they are there
    if (from.n_expert() != n_expert) {
      return fail(ErrorKind::kBadFile, "{} has {} experts in layer {} and not {}; convert the model again",
                  name, from.n_expert(), from.layer, n_expert);
    }
    DirectoryExperts::Layer& to = layers[static_cast<size_t>(from.layer)];
    to = {.layout = record_layout(from),
          .first_file = first_file_[i],
          .file_per_expert = manifest_.layout == ExpertManifest::Layout::kFiles,
          .first_offset = from.first_offset,
          .stride = from.stride,
          .n_expert = n_expert,
          .checksums = from.checksums,
          .record = {}};
    if (!manifest_.share) continue;
    to.record.assign(static_cast<size_t>(n_expert), -1);
    for (int record = 0; record < from.n_record(); ++record) {
      to.record[static_cast<size_t>(from.expert_of(record))] = record;
    }
  }
  return std::make_unique<DirectoryExperts>(files_, std::move(layers), n_expert_used);
}

}  // namespace odmoe
