#include "format/expert_manifest.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "base/json_members.h"
#include "format/metadata_json.h"
#include "format/printable.h"
#include "format/tensor_info.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kFormat = "odmoe expert directory";
constexpr int64_t kMaxFileBytes = int64_t{1} << 50U;
constexpr int64_t kMaxRecordBytes = ExpertManifest::kMaxRecordBytes;
constexpr int64_t kMaxWidth = 1 << 24;

std::string checksum_text(uint64_t checksum) { return odmoe::format("{:016x}", checksum); }

std::optional<uint64_t> parse_checksum(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A path that stays in the directory: "tokenizer.json", "base_model/norms.safetensors".
bool is_inside(std::string_view path) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  constexpr std::string_view kBase = "base_model/";
  if (path.starts_with(kBase)) path.remove_prefix(kBase.size());
  return !path.empty() && path.size() <= 200 && path.front() != '.' && std::ranges::all_of(path, plain);
}

// What is wrong is kBadFile, and names the file and what of it is damaged.
struct ManifestWords {
  using Error = odmoe::Error;
  static constexpr bool kNullIsMissing = false, kFloatsAreNumbers = false;
  static constexpr size_t kMaxTextBytes = std::string::npos;

  Error damaged(std::string_view what) const {
    return {ErrorKind::kBadFile, odmoe::format("{} is damaged: {}; convert the model again", name, what)};
  }
  Error missing(std::string_view key) const { return damaged(odmoe::format("{} has no '{}'", where, key)); }
  Error wrong(std::string_view key, std::string_view wanted, const Json& /*found*/) const {
    return damaged(odmoe::format("{}: '{}' is not {}", where, key, wanted));
  }
  // Of something in it.
  ManifestWords at(std::string inner) const { return {.name = name, .where = std::move(inner)}; }

  std::string name;
  std::string where = "it";
};
using Members = FirstErrorMembers<Json, ManifestWords>;

template <typename... Args>
std::unexpected<Error> damaged(const ManifestWords& words, std::format_string<Args...> format,
                               Args&&... args) {
  return std::unexpected(words.damaged(odmoe::format(format, std::forward<Args>(args)...)));
}

Result<uint64_t> read_checksum(const Json& json, const ManifestWords& words) {
  const auto value =
      json.is_string() ? parse_checksum(json.get_ref<const std::string&>()) : std::optional<uint64_t>();
  if (!value) return damaged(words, "{} has a checksum that is not 16 hexadecimal digits", words.where);
  return *value;
}

Status read_files(const Json& files, const ManifestWords& words, ExpertManifest& manifest) {
  std::set<std::string> names;
  for (const Json& entry : files) {
    ExpertManifest::File file;
    std::string checksum;
    Members members(entry, words.at("a file"));
    members.get("path", file.path);
    members.get("bytes", file.bytes, 0, kMaxFileBytes);
    members.get("xxh3", checksum);
    ODMOE_RETURN_IF_ERROR(members.status);
    ODMOE_ASSIGN_OR_RETURN(file.checksum, read_checksum(checksum, words.at(printable(file.path))));
    if (!is_inside(file.path))
      return damaged(words, "'{}' is not the name of a file of the directory", printable(file.path));
    if (!names.insert(file.path).second)
      return damaged(words, "file {} is there twice", printable(file.path));
    manifest.files.push_back(std::move(file));
  }
  return {};
}

Status read_sources(const Json& sources, const ManifestWords& words, ExpertManifest& manifest) {
  for (const Json& entry : sources) {
    ExpertManifest::SourceFile source;
    Members members(entry, words.at("a source"));
    members.get("name", source.name);
    members.get("bytes", source.bytes, 0, kMaxFileBytes);
    ODMOE_RETURN_IF_ERROR(members.status);
    manifest.sources.push_back(std::move(source));
  }
  return {};
}

// Of a tensor or whatever else `what` is.
Result<ggml_type> read_type(std::string_view name, std::string_view what, const ManifestWords& words) {
  const std::optional<ggml_type> type = find_ggml_type(name);
  if (type && is_weight_type(*type)) return *type;
  return fail(ErrorKind::kUnsupported, "{} has {} of type '{}', which this build of ggml cannot compute with",
              words.name, printable(what), printable(name));
}

// [n_in, n_out]
Result<std::pair<int64_t, int64_t>> read_shape(const Json& ne, ggml_type type, std::string_view what,
                                               const ManifestWords& words) {
  const auto width = [&](size_t i) -> int64_t {
    const bool good = ne.size() == 2 && ne[i].is_number_unsigned() &&
                      ne[i].get<uint64_t>() <= static_cast<uint64_t>(kMaxWidth);
    return good ? ne[i].get<int64_t>() : 0;
  };
  const std::pair shape{width(0), width(1)};
  if (shape.first < 1 || shape.second < 1 || shape.first % ggml_blck_size(type) != 0)
    return damaged(words, "{} has an impossible shape", printable(what));
  return shape;
}

Result<ExpertManifest::Slice> read_slice(const Json& json, const ManifestWords& words) {
  ExpertManifest::Slice slice;
  std::string type_name;
  Members members(json, words);
  if (members.has("repacked")) members.get("repacked", slice.repacked);
  members.get("tensor", slice.tensor);
  members.get("type", type_name);
  members.get("offset", slice.offset, 0, kMaxRecordBytes);
  members.get("bytes", slice.bytes, 1, kMaxRecordBytes);
  const Json* ne = members.array("ne");
  ODMOE_RETURN_IF_ERROR(members.status);
  ODMOE_ASSIGN_OR_RETURN(slice.type, read_type(type_name, slice.tensor, words));
  ODMOE_ASSIGN_OR_RETURN(const auto shape, read_shape(*ne, slice.type, slice.tensor, words));
  std::tie(slice.n_in, slice.n_out) = shape;
  // Widths are limited so that this fits.
  const uint64_t bytes = ggml_row_size(slice.type, slice.n_in) * static_cast<uint64_t>(slice.n_out);
  if (slice.bytes != bytes) {
    return damaged(words, "{} of {} bytes an expert should have {}", printable(slice.tensor), slice.bytes,
                   bytes);
  }
  if (slice.offset % kDataAlignment != 0) {
    return damaged(words, "{} begins at {}, which is not a multiple of {}", printable(slice.tensor),
                   slice.offset, kDataAlignment);
  }
  return slice;
}

// What all repacked slices have to be of.
Result<RepackedExperts> read_repacked(const Json& json, const ManifestWords& whole) {
  constexpr size_t kMaxMatrices = 1024;
  constexpr size_t kMaxNameBytes = 1000;
  RepackedExperts repacked;
  const ManifestWords words = whole.at("repacked");
  Members members(json, words);
  members.get("layout", repacked.layout);
  members.get("ggml", repacked.ggml);
  members.get("processor", repacked.processor);
  const Json* matrices = members.array("matrices", kMaxMatrices);
  ODMOE_RETURN_IF_ERROR(members.status);
  for (const std::string* text : {&repacked.layout, &repacked.ggml, &repacked.processor}) {
    if (text->empty() || text->size() > kMaxNameBytes)
      return damaged(words, "repacked has a name of {} bytes", text->size());
  }
  for (const Json& entry : *matrices) {
    RepackedExperts::Matrix matrix;
    std::string fingerprint;
    Members of_matrix(entry, whole.at("a repacked matrix"));
    const Json* ne = of_matrix.array("ne");
    std::string type_name;
    of_matrix.get("type", type_name);
    of_matrix.get("xxh3", fingerprint);
    ODMOE_RETURN_IF_ERROR(of_matrix.status);
    ODMOE_ASSIGN_OR_RETURN(matrix.type, read_type(type_name, "a repacked matrix", words));
    ODMOE_ASSIGN_OR_RETURN(const auto shape, read_shape(*ne, matrix.type, "a repacked matrix", words));
    std::tie(matrix.n_in, matrix.n_out) = shape;
    ODMOE_ASSIGN_OR_RETURN(matrix.fingerprint, read_checksum(fingerprint, whole.at("a repacked matrix")));
    if (repacked.find(matrix.type, matrix.n_in, matrix.n_out) != nullptr)
      return damaged(words, "a repacked matrix is there twice");
    repacked.matrices.push_back(matrix);
  }
  if (repacked.matrices.empty()) return damaged(words, "repacked has no matrices");
  return repacked;
}

Status check_slices(const ExpertManifest::Layer& layer, const ManifestWords& words) {
  const auto is = [&](size_t i, std::string_view part) {
    return layer.slices[i].tensor == odmoe::format("blk.{}.ffn_{}_exps.weight", layer.layer, part);
  };
  const bool apart = layer.slices.size() == 3 && is(0, "gate") && is(1, "up") && is(2, "down");
  const bool merged = layer.slices.size() == 2 && is(0, "gate_up") && is(1, "down");
  const bool without_gate = layer.slices.size() == 2 && is(0, "up") && is(1, "down");
  if (!apart && !merged && !without_gate) {
    return damaged(words, "{} does not have the slices gate, up, down or gate_up, down or up, down",
                   words.where);
  }
  const auto& into = layer.slices.front();
  const auto& down = layer.slices.back();
  const int64_t n_ff = merged ? into.n_out / 2 : into.n_out;
  bool fits = down.n_in == n_ff && down.n_out == into.n_in && (!merged || into.n_out % 2 == 0);
  if (apart) fits = fits && layer.slices[1].n_in == into.n_in && layer.slices[1].n_out == into.n_out;
  if (!fits) return damaged(words, "{} has projections whose shapes do not fit", words.where);
  uint64_t end = 0;
  for (const auto& slice : layer.slices) {
    if (slice.offset < end) return damaged(words, "{} has slices that overlap", words.where);
    end = slice.offset + slice.bytes;
  }
  if (end != layer.record_bytes) {
    return damaged(words, "{} has records of {} bytes whose slices end at {}", words.where,
                   layer.record_bytes, end);
  }
  return {};
}

// Whose experts are here.
Result<ExpertShare> read_share(const Json& json, const ManifestWords& whole) {
  constexpr size_t kMaxNameBytes = 100;
  ExpertShare share;
  const ManifestWords words = whole.at("share");
  Members members(json, words);
  int32_t part = 0;
  members.get("part", part, 1, static_cast<int>(ExpertShare::kMaxParts));
  members.get("uses", share.uses);
  members.get("model", share.model);
  const Json* sizes = members.array("sizes", ExpertShare::kMaxParts);
  ODMOE_RETURN_IF_ERROR(members.status);
  for (const Json& size : *sizes) {
    const bool good = size.is_number_unsigned() && size.get<uint64_t>() >= 1 &&
                      size.get<uint64_t>() <= static_cast<uint64_t>(kMaxFileBytes);
    if (!good) return damaged(words, "a share has an impossible size");
    share.sizes.push_back(size.get<uint64_t>());
  }
  if (share.uses.size() > kMaxNameBytes || share.model.size() > kMaxNameBytes || share.model.empty())
    return damaged(words, "share has an impossible fingerprint");
  share.rank = part - 1;
  if (std::cmp_greater(part, share.sizes.size()))
    return damaged(words, "it is part {} of {}", part, share.sizes.size());
  return share;
}

// Of a share's layer.
Status read_held(const Json& held, const ManifestWords& words, ExpertManifest::Layer& layer) {
  for (const Json& expert : held) {
    const bool good =
        expert.is_number_unsigned() && expert.get<uint64_t>() < static_cast<uint64_t>(layer.n_expert_of_all);
    const int32_t number = good ? expert.get<int32_t>() : -1;
    if (!good || (!layer.held.empty() && number <= layer.held.back()))
      return damaged(words, "{} has experts that are not in ascending order", words.where);
    layer.held.push_back(number);
  }
  return {};
}

// Of n_record records, or of any number above 0 where that is not known.
Status read_checksums(const Json& both, const ManifestWords& words, std::optional<size_t> n_record,
                      std::vector<RecordChecksums>& checksums) {
  Members members(both, words);
  const Json* gate_up = members.array("gate_up");
  const Json* down = members.array("down");
  ODMOE_RETURN_IF_ERROR(members.status);
  const size_t n_expert = gate_up->size();
  if (n_expert < (n_record ? 0U : 1U) || n_expert > static_cast<size_t>(ExpertManifest::kMaxExperts) ||
      n_expert != n_record.value_or(n_expert) || down->size() != n_expert) {
    return damaged(
        words, "{} has {} checksums of gate and up and {} of down; there must be as many of each, 1 to {}",
        words.where, n_expert, down->size(), ExpertManifest::kMaxExperts);
  }
  for (size_t i = 0; i < n_expert; ++i) {
    RecordChecksums& record = checksums.emplace_back();
    ODMOE_ASSIGN_OR_RETURN(record.gate_up, read_checksum((*gate_up)[i], words));
    ODMOE_ASSIGN_OR_RETURN(record.down, read_checksum((*down)[i], words));
  }
  return {};
}

Result<ExpertManifest::Layer> read_layer(const Json& json, const ManifestWords& whole,
                                         const ExpertManifest& manifest) {
  ExpertManifest::Layer layer;
  Members number(json, whole.at("a layer"));
  number.get("layer", layer.layer, 0, ExpertManifest::kMaxLayers - 1);
  ODMOE_RETURN_IF_ERROR(number.status);
  const ManifestWords words = whole.at(odmoe::format("layer {}", layer.layer));
  Members members(json, words);
  members.get("record_bytes", layer.record_bytes, 1, kMaxRecordBytes);
  members.get("first_offset", layer.first_offset, manifest.page_bytes, kMaxRecordBytes);
  members.get("stride", layer.stride, 0, 2 * kMaxRecordBytes);
  const Json* slices = members.array("slices");
  const Json* checksums = members.object("xxh3");
  ODMOE_RETURN_IF_ERROR(members.status);
  for (size_t i = 0; i < slices->size() && i < 4; ++i) {
    ODMOE_ASSIGN_OR_RETURN(ExpertManifest::Slice slice, read_slice((*slices)[i], words));
    layer.slices.push_back(std::move(slice));
  }
  std::optional<size_t> n_record;
  if (manifest.share) {
    members.get("n_expert", layer.n_expert_of_all, 1, ExpertManifest::kMaxExperts);
    const Json* held = members.array("experts");
    ODMOE_RETURN_IF_ERROR(members.status);
    // No file need be there that would bound it, and sums of it must not overflow.
    if (layer.record_bytes > static_cast<uint64_t>(kMaxFileBytes / layer.n_expert_of_all))
      return damaged(words, "{} has an impossible size", words.where);
    ODMOE_RETURN_IF_ERROR(read_held(*held, words, layer));
    n_record = layer.held.size();
  }
  ODMOE_RETURN_IF_ERROR(read_checksums(*checksums, words, n_record, layer.checksums));
  const bool packed = manifest.layout == ExpertManifest::Layout::kPacked;
  if (layer.first_offset % manifest.page_bytes != 0 || layer.stride % manifest.page_bytes != 0 ||
      (packed ? layer.stride < layer.record_bytes : layer.stride != 0)) {
    return damaged(words, "{} has records that do not begin on pages or that overlap", words.where);
  }
  ODMOE_RETURN_IF_ERROR(check_slices(layer, words));
  for (const ExpertManifest::Slice& slice : layer.slices) {
    const auto& repacked = manifest.repacked;
    if (!slice.repacked) continue;
    if (!repacked || repacked->find(slice.type, slice.n_in, slice.matrix_rows()) == nullptr) {
      return damaged(words, "{} is repacked, but nothing says how", printable(slice.tensor));
    }
  }
  if (layer.gate_up_bytes() % manifest.page_bytes != 0)
    return damaged(words, "{} has records whose down does not begin on a page", words.where);
  return layer;
}

}  // namespace

int64_t ExpertManifest::Slice::matrix_rows() const {
  return tensor.ends_with(".ffn_gate_up_exps.weight") ? n_out / 2 : n_out;
}

std::string_view layout_name(ExpertManifest::Layout layout) {
  return layout == ExpertManifest::Layout::kPacked ? "packed" : "files";
}

std::string ExpertManifest::expert_path(int layer, int expert) const {
  if (layout == Layout::kPacked) return odmoe::format("experts/layer_{:02}.experts", layer);
  return odmoe::format("experts/layer_{:02}_expert_{:03}.safetensors", layer, expert);
}

std::string ExpertManifest::to_json() const {
  OrderedJson json{{"format", kFormat},
                   {"version", share      ? kShareVersion
                               : repacked ? kRepackedVersion
                                          : kVersion},
                   {"layout", layout_name(layout)},
                   {"page_bytes", page_bytes},
                   {"metadata", metadata_to_json(metadata)}};
  if (repacked) {
    OrderedJson matrices = OrderedJson::array();
    for (const RepackedExperts::Matrix& matrix : repacked->matrices) {
      matrices.push_back({{"type", ggml_type_name(matrix.type)},
                          {"ne", {matrix.n_in, matrix.n_out}},
                          {"xxh3", checksum_text(matrix.fingerprint)}});
    }
    json["repacked"] = {{"layout", repacked->layout},
                        {"ggml", repacked->ggml},
                        {"processor", repacked->processor},
                        {"matrices", std::move(matrices)}};
  }
  if (share) {
    json["share"] = {
        {"part", share->rank + 1}, {"sizes", share->sizes}, {"uses", share->uses}, {"model", share->model}};
  }
  OrderedJson& source_list = json["sources"] = OrderedJson::array();
  for (const SourceFile& source : sources)
    source_list.push_back({{"name", printable(source.name, 1000)}, {"bytes", source.bytes}});
  OrderedJson& file_list = json["files"] = OrderedJson::array();
  for (const File& file : files) {
    file_list.push_back({{"path", file.path}, {"bytes", file.bytes}, {"xxh3", checksum_text(file.checksum)}});
  }
  OrderedJson& layer_list = json["layers"] = OrderedJson::array();
  for (const Layer& layer : layers) {
    OrderedJson entry{{"layer", layer.layer},
                      {"record_bytes", layer.record_bytes},
                      {"first_offset", layer.first_offset},
                      {"stride", layer.stride},
                      {"slices", OrderedJson::array()}};
    for (const Slice& slice : layer.slices) {
      entry["slices"].push_back({{"tensor", slice.tensor},
                                 {"type", ggml_type_name(slice.type)},
                                 {"ne", {slice.n_in, slice.n_out}},
                                 {"offset", slice.offset},
                                 {"bytes", slice.bytes}});
      if (slice.repacked) entry["slices"].back()["repacked"] = true;
    }
    if (share) {
      entry["n_expert"] = layer.n_expert_of_all;
      entry["experts"] = layer.held;
    }
    OrderedJson gate_up = OrderedJson::array(), down = OrderedJson::array();
    for (const RecordChecksums& checksums : layer.checksums) {
      gate_up.push_back(checksum_text(checksums.gate_up));
      down.push_back(checksum_text(checksums.down));
    }
    entry["xxh3"] = {{"gate_up", std::move(gate_up)}, {"down", std::move(down)}};
    layer_list.push_back(std::move(entry));
  }
  return json.dump(1) + "\n";
}

namespace {

bool has_slice_of(const ExpertManifest& manifest, const RepackedExperts::Matrix& matrix) {
  const auto is_of = [&](const ExpertManifest::Slice& slice) {
    return slice.repacked && slice.type == matrix.type && slice.n_in == matrix.n_in &&
           slice.matrix_rows() == matrix.n_out;
  };
  return std::ranges::any_of(manifest.layers, [&](const ExpertManifest::Layer& layer) {
    return std::ranges::any_of(layer.slices, is_of);
  });
}

}  // namespace

Result<ExpertManifest> ExpertManifest::parse(std::string_view text, const std::string& name) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_json(text, name));
  const ManifestWords words{.name = name};
  std::string format;
  Members members(json, words);
  members.get("format", format);
  if (format != kFormat) {
    return fail(ErrorKind::kBadFile,
                "{} does not belong to an expert directory: it does not say \"format\": \"{}\"", name,
                kFormat);
  }
  uint32_t version = 0;
  members.get("version", version, 1, std::numeric_limits<uint32_t>::max());
  if (members.status.has_value() && version > kShareVersion) {
    return fail(
        ErrorKind::kUnsupported,
        "{} is of version {}, and this program knows {} to {}; use a newer odmoe or convert the model again",
        name, version, kVersion, kShareVersion);
  }
  ExpertManifest manifest;
  std::string layout;
  members.get("layout", layout);
  members.get("page_bytes", manifest.page_bytes, 512, 1 << 24);
  const Json* metadata = members.object("metadata");
  const Json* sources = members.array("sources");
  const Json* files = members.array("files");
  const Json* layers = members.array("layers");
  const bool has_repacked =
      version == kRepackedVersion || (version == kShareVersion && members.has("repacked"));
  const Json* repacked = has_repacked ? members.object("repacked") : nullptr;
  const Json* share = version == kShareVersion ? members.object("share") : nullptr;
  ODMOE_RETURN_IF_ERROR(members.status);
  if (share != nullptr) {
    ODMOE_ASSIGN_OR_RETURN(manifest.share, read_share(*share, words));
  }
  if (repacked != nullptr) {
    ODMOE_ASSIGN_OR_RETURN(manifest.repacked, read_repacked(*repacked, words));
  }
  manifest.layout = layout == "files" ? Layout::kFiles : Layout::kPacked;
  if (layout != layout_name(manifest.layout))
    return damaged(words, "layout '{}' is not known", printable(layout));
  if ((manifest.page_bytes & (manifest.page_bytes - 1)) != 0)
    return damaged(words, "page_bytes is not a power of two");
  ODMOE_ASSIGN_OR_RETURN(manifest.metadata, metadata_from_json(*metadata, name));
  ODMOE_RETURN_IF_ERROR(read_sources(*sources, words, manifest));
  ODMOE_RETURN_IF_ERROR(read_files(*files, words, manifest));
  for (const Json& entry : *layers) {
    ODMOE_ASSIGN_OR_RETURN(Layer layer, read_layer(entry, words, manifest));
    if (!manifest.layers.empty() && layer.layer <= manifest.layers.back().layer)
      return damaged(words, "its layers are not in ascending order");
    manifest.layers.push_back(std::move(layer));
  }
  if (manifest.layers.empty()) return fail(ErrorKind::kBadFile, "{} has no layer with experts", name);
  if (manifest.repacked && !std::ranges::all_of(manifest.repacked->matrices, [&](const auto& matrix) {
        return has_slice_of(manifest, matrix);
      })) {
    return damaged(words, "a repacked matrix is of no projection");  // whose size would be bounded by nothing
  }
  return manifest;
}

bool is_tokenizer_key(std::string_view key) { return key.starts_with("tokenizer."); }

std::string tokenizer_to_json(const std::vector<MetadataEntry>& metadata) {
  std::vector<MetadataEntry> entries;
  std::ranges::copy_if(metadata, std::back_inserter(entries),
                       [](const MetadataEntry& entry) { return is_tokenizer_key(entry.key); });
  return OrderedJson{{"format", "odmoe tokenizer"}, {"metadata", metadata_to_json(entries)}}.dump() + "\n";
}

Result<std::vector<MetadataEntry>> parse_tokenizer_json(std::string_view text, const std::string& name) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_json(text, name));
  Members members(json, ManifestWords{.name = name});
  const Json* metadata = members.object("metadata");
  ODMOE_RETURN_IF_ERROR(members.status);
  return metadata_from_json(*metadata, name);
}

}  // namespace odmoe
