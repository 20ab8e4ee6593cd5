#include "convert/hf_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <system_error>

#include "base/transfer.h"
#include "convert/hf_dequantise.h"
#include "convert/hf_index.h"
#include "format/printable.h"

namespace odmoe {
namespace {

// The names of the safetensors files of a folder without index.
Result<std::vector<std::string>> files_without_index(const std::filesystem::path& folder) {
  constexpr std::string_view kOnlyFile = "model.safetensors";
  std::error_code error;
  if (std::filesystem::exists(folder / kOnlyFile, error))
    return std::vector<std::string>{std::string(kOnlyFile)};
  std::set<std::string> found;
  bool pickle = false;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".safetensors") found.insert(it->path().filename().string());
    pickle = pickle || it->path().extension() == ".bin" || it->path().extension() == ".pt";
  }
  if (found.size() == 1) return std::vector<std::string>{*found.begin()};
  if (!found.empty()) {
    return fail(
        ErrorKind::kNotFound,
        "{} has {} safetensors files but no model.safetensors.index.json, which tells what is in which: "
        "download it too",
        printable_path(folder), found.size());
  }
  return fail(
      ErrorKind::kNotFound, "{} has a config.json but no safetensors files{}", printable_path(folder),
      pickle ? "; PyTorch's .bin files are not read: download the safetensors" : ": download them too");
}

}  // namespace

bool looks_like_hf_checkpoint(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error) && std::filesystem::exists(path / "config.json", error);
}

Result<std::unique_ptr<HfCheckpoint>> HfCheckpoint::open(const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / "config.json";
  ODMOE_ASSIGN_OR_RETURN(const std::string text, read_text_file(config_path, kMaxConfigBytes));
  ODMOE_ASSIGN_OR_RETURN(nlohmann::json json, parse_json_object(text, printable_path(config_path)));
  std::unique_ptr<HfCheckpoint> checkpoint(
      new HfCheckpoint(HfConfig(std::move(json), printable_path(config_path))));
  checkpoint->folder_ = folder;

  const std::filesystem::path index_path = folder / "model.safetensors.index.json";
  Result<std::string> index_text = read_text_file(index_path, kMaxHfIndexBytes);
  if (!index_text.has_value()) {
    if (index_text.error().kind != ErrorKind::kNotFound)
      return std::unexpected(std::move(index_text).error());
    ODMOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, files_without_index(folder));
    ODMOE_RETURN_IF_ERROR(checkpoint->open_files(names));
    for (size_t i = 0; i < checkpoint->shards_.size(); ++i) {
      for (const SafetensorsTensor& tensor : checkpoint->shards_[i].tensors()) {
        checkpoint->tensors_.emplace(tensor.name, Tensor{&tensor, static_cast<int>(i)});
      }
    }
    return checkpoint;
  }
  ODMOE_ASSIGN_OR_RETURN(const HfIndex index, parse_hf_index(*index_text, printable_path(index_path)));
  *index_text = {};
  ODMOE_RETURN_IF_ERROR(checkpoint->open_files(index.shards));
  for (const auto& [name, shard] : index.tensors) {
    const SafetensorsTensor* tensor = checkpoint->shards_[static_cast<size_t>(shard)].find(name);
    if (tensor == nullptr) {
      return fail(
          ErrorKind::kBadFile,
          "{} says that tensor '{}' is in {}, but it is not: they are not of one model; download them "
          "again",
          printable_path(index_path), printable(name), printable(index.shards[static_cast<size_t>(shard)]));
    }
    if (!checkpoint->tensors_.emplace(tensor->name, Tensor{tensor, shard}).second) {
      return fail(ErrorKind::kBadFile, "{} lists tensor '{}' twice: it is damaged; download it again",
                  printable_path(index_path), printable(name));
    }
  }
  return checkpoint;
}

Status HfCheckpoint::open_files(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::filesystem::path path = folder_ / name;
    Result<SafetensorsFile> file = SafetensorsFile::open(path);
    if (!file.has_value() && file.error().kind == ErrorKind::kNotFound) {
      return fail(ErrorKind::kNotFound,
                  "{} is missing: file {} of the {} of this checkpoint; download it too",
                  printable_path(path), shards_.size() + 1, names.size());
    }
    if (!file.has_value()) return std::unexpected(std::move(file).error());
    // Through the page cache: small pieces of neighbouring tensors are read.
    ODMOE_ASSIGN_OR_RETURN(DirectFile open_file, DirectFile::open(path, /*direct=*/false));
    shards_.push_back(std::move(*file));
    open_.push_back(std::move(open_file));
    paths_.push_back(path);
  }
  return {};
}

const HfCheckpoint::Tensor* HfCheckpoint::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

Status HfCheckpoint::read(const Tensor& tensor, uint64_t offset, std::span<std::byte> out) const {
  const DirectFile& file = open_[static_cast<size_t>(tensor.file)];
  const auto done = read_exactly(file.descriptor(), tensor.info->offset + offset, out);
  if (!done.has_value()) {
    const uint64_t at = tensor.info->offset + offset + done.error().bytes;
    if (done.error().error != 0) {
      return fail(ErrorKind::kIo, "{}: cannot read tensor '{}' at byte {}: {}; check the drive",
                  printable_path(file.path()), printable(tensor.info->name), at,
                  std::strerror(done.error().error));
    }
    return fail(ErrorKind::kBadFile,
                "{} ends at byte {}, within tensor '{}': it was changed while it was read",
                printable_path(file.path()), at, printable(tensor.info->name));
  }
  return {};
}

Result<std::vector<float>> HfCheckpoint::read_floats(const Tensor& tensor, int64_t most) const {
  const uint64_t bits = safetensors_dtype_bits(tensor.info->dtype);
  const uint64_t n = tensor.info->bytes * 8 / bits;
  if (n > static_cast<uint64_t>(most)) {
    return fail(ErrorKind::kBadFile, "{}: tensor '{}' has {} elements, more than the {} that make sense",
                printable_path(files()[static_cast<size_t>(tensor.file)]), printable(tensor.info->name), n,
                most);
  }
  std::vector<std::byte> bytes(tensor.info->bytes);
  ODMOE_RETURN_IF_ERROR(read(tensor, 0, bytes));
  std::vector<float> values(n);
  if (!plain_to_float(tensor.info->dtype, bytes, values)) {
    return fail(ErrorKind::kUnsupported, "{}: tensor '{}' is {}; F32, F16, BF16 or F64 was expected",
                printable_path(files()[static_cast<size_t>(tensor.file)]), printable(tensor.info->name),
                tensor.info->dtype);
  }
  return values;
}

}  // namespace odmoe
