#include "format/expert_manifest.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "format/metadata_json.h"
#include "format/printable.h"
#include "format/tensor_info.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kFormat = "odmoe expert directory";
constexpr uint64_t kMaxFileBytes = 1ULL << 50U;
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

// Takes values out of the JSON, and remembers what was wrong first.
class Reader {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}

  bool ok() const { return status_.has_value(); }
  const Status& status() const { return status_; }

  void complain(std::string_view what) {
    if (!ok()) return;
    status_ = fail(ErrorKind::kBadFile, "{} is damaged: {}; convert the model again", name_, what);
  }
  void unsupported(std::string_view what) {
    if (ok()) status_ = fail(ErrorKind::kUnsupported, "{} {}", name_, what);
  }

  // Null when it is missing or of another type.
  const Json* member(const Json& json, const char* key, Json::value_t type, std::string_view where) {
    const auto it = json.is_object() ? json.find(key) : json.end();
    if (it != json.end() && it->type() == type) return &*it;
    complain(odmoe::format("{} has no sound '{}'", where, key));
    return nullptr;
  }
  uint64_t number(const Json& json, const char* key, uint64_t least, uint64_t most, std::string_view where) {
    const Json* value = member(json, key, Json::value_t::number_unsigned, where);
    if (value == nullptr) return least;
    const auto number = value->get<uint64_t>();
    if (number >= least && number <= most) return number;
    complain(odmoe::format("{}: '{}' is {}, not {} to {}", where, key, number, least, most));
    return least;
  }
  std::string text(const Json& json, const char* key, std::string_view where) {
    const Json* value = member(json, key, Json::value_t::string, where);
    return value == nullptr ? std::string() : value->get<std::string>();
  }
  uint64_t checksum(const Json& json, std::string_view where) {
    const auto value =
        json.is_string() ? parse_checksum(json.get_ref<const std::string&>()) : std::optional<uint64_t>();
    if (!value) complain(odmoe::format("{} has a checksum that is none", where));
    return value.value_or(0);
  }

 private:
  std::string name_;
  Status status_;
};

void read_files(Reader& reader, const Json& json, ExpertManifest& manifest) {
  const Json* files = reader.member(json, "files", Json::value_t::array, "it");
  std::set<std::string> names;
  for (size_t i = 0; files != nullptr && i < files->size() && reader.ok(); ++i) {
    const Json& entry = (*files)[i];
    ExpertManifest::File file{.path = reader.text(entry, "path", "a file"),
                              .bytes = reader.number(entry, "bytes", 0, kMaxFileBytes, "a file")};
    const Json* checksum = reader.member(entry, "xxh3", Json::value_t::string, "a file");
    if (checksum != nullptr) file.checksum = reader.checksum(*checksum, printable(file.path));
    if (!is_inside(file.path))
      reader.complain(odmoe::format("'{}' is no name of its files", printable(file.path)));
    if (!names.insert(file.path).second)
      reader.complain(odmoe::format("file {} is there twice", printable(file.path)));
    manifest.files.push_back(std::move(file));
  }
}

void read_sources(Reader& reader, const Json& json, ExpertManifest& manifest) {
  const Json* sources = reader.member(json, "sources", Json::value_t::array, "it");
  for (size_t i = 0; sources != nullptr && i < sources->size() && reader.ok(); ++i) {
    const Json& entry = (*sources)[i];
    manifest.sources.push_back({.name = reader.text(entry, "name", "a source"),
                                .bytes = reader.number(entry, "bytes", 0, kMaxFileBytes, "a source")});
  }
}

ExpertManifest::Slice read_slice(Reader& reader, const Json& json, std::string_view where) {
  ExpertManifest::Slice slice;
  slice.tensor = reader.text(json, "tensor", where);
  const std::string type_name = reader.text(json, "type", where);
  slice.offset = reader.number(json, "offset", 0, ExpertManifest::kMaxRecordBytes, where);
  slice.bytes = reader.number(json, "bytes", 1, ExpertManifest::kMaxRecordBytes, where);
  const Json* ne = reader.member(json, "ne", Json::value_t::array, where);
  if (!reader.ok()) return slice;
  const std::optional<ggml_type> type = find_ggml_type(type_name);
  if (!type || !is_weight_type(*type)) {
    reader.unsupported(odmoe::format("has {} of type '{}', which this build of ggml cannot compute with",
                                     printable(slice.tensor), printable(type_name)));
    return slice;
  }
  slice.type = *type;
  const auto width = [&](size_t i) -> int64_t {
    const bool good = ne->size() == 2 && (*ne)[i].is_number_unsigned() &&
                      (*ne)[i].get<uint64_t>() <= static_cast<uint64_t>(kMaxWidth);
    return good ? (*ne)[i].get<int64_t>() : 0;
  };
  slice.n_in = width(0);
  slice.n_out = width(1);
  if (slice.n_in < 1 || slice.n_out < 1 || slice.n_in % ggml_blck_size(slice.type) != 0) {
    reader.complain(odmoe::format("{} has a shape that cannot be", printable(slice.tensor)));
    return slice;
  }
  // Widths are limited so that this fits.
  const uint64_t bytes = ggml_row_size(slice.type, slice.n_in) * static_cast<uint64_t>(slice.n_out);
  if (slice.bytes != bytes) {
    reader.complain(odmoe::format("{} of {} bytes an expert should have {}", printable(slice.tensor),
                                  slice.bytes, bytes));
  }
  if (slice.offset % kDataAlignment != 0) {
    reader.complain(odmoe::format("{} begins at {}, which is no multiple of {}", printable(slice.tensor),
                                  slice.offset, kDataAlignment));
  }
  return slice;
}

void check_slices(Reader& reader, const ExpertManifest::Layer& layer, std::string_view where) {
  const auto is = [&](size_t i, std::string_view part) {
    return layer.slices[i].tensor == odmoe::format("blk.{}.ffn_{}_exps.weight", layer.layer, part);
  };
  const bool apart = layer.slices.size() == 3 && is(0, "gate") && is(1, "up") && is(2, "down");
  const bool merged = layer.slices.size() == 2 && is(0, "gate_up") && is(1, "down");
  if (!apart && !merged) {
    reader.complain(odmoe::format("{} does not have the slices gate, up, down or gate_up, down", where));
    return;
  }
  const auto& into = layer.slices.front();
  const auto& down = layer.slices.back();
  const int64_t n_ff = merged ? into.n_out / 2 : into.n_out;
  bool fits = down.n_in == n_ff && down.n_out == into.n_in && (!merged || into.n_out % 2 == 0);
  if (apart) fits = fits && layer.slices[1].n_in == into.n_in && layer.slices[1].n_out == into.n_out;
  if (!fits) reader.complain(odmoe::format("{} has projections whose shapes do not fit", where));
  uint64_t end = 0;
  for (const auto& slice : layer.slices) {
    if (slice.offset < end) reader.complain(odmoe::format("{} has slices over each other", where));
    end = slice.offset + slice.bytes;
  }
  if (end != layer.record_bytes) {
    reader.complain(
        odmoe::format("{} has records of {} bytes whose slices end at {}", where, layer.record_bytes, end));
  }
}

void read_checksums(Reader& reader, const Json& json, std::string_view where,
                    std::vector<RecordChecksums>& checksums) {
  const Json* both = reader.member(json, "xxh3", Json::value_t::object, where);
  if (both == nullptr) return;
  const Json* gate_up = reader.member(*both, "gate_up", Json::value_t::array, where);
  const Json* down = reader.member(*both, "down", Json::value_t::array, where);
  if (gate_up == nullptr || down == nullptr) return;
  const size_t n_expert = gate_up->size();
  if (n_expert < 1 || n_expert > static_cast<size_t>(ExpertManifest::kMaxExperts) ||
      down->size() != n_expert) {
    reader.complain(odmoe::format("{} has checksums of {} and of {} experts", where, n_expert, down->size()));
    return;
  }
  for (size_t i = 0; i < n_expert; ++i) {
    checksums.push_back(
        {.gate_up = reader.checksum((*gate_up)[i], where), .down = reader.checksum((*down)[i], where)});
  }
}

ExpertManifest::Layer read_layer(Reader& reader, const Json& json, const ExpertManifest& manifest) {
  ExpertManifest::Layer layer;
  layer.layer = static_cast<int>(reader.number(json, "layer", 0, ExpertManifest::kMaxLayers - 1, "a layer"));
  const std::string where = odmoe::format("layer {}", layer.layer);
  layer.record_bytes = reader.number(json, "record_bytes", 1, ExpertManifest::kMaxRecordBytes, where);
  layer.first_offset =
      reader.number(json, "first_offset", manifest.page_bytes, ExpertManifest::kMaxRecordBytes, where);
  layer.stride = reader.number(json, "stride", 0, 2 * ExpertManifest::kMaxRecordBytes, where);
  const Json* slices = reader.member(json, "slices", Json::value_t::array, where);
  for (size_t i = 0; slices != nullptr && i < slices->size() && i < 4 && reader.ok(); ++i) {
    layer.slices.push_back(read_slice(reader, (*slices)[i], where));
  }
  read_checksums(reader, json, where, layer.checksums);
  if (!reader.ok()) return layer;
  const bool packed = manifest.layout == ExpertManifest::Layout::kPacked;
  if (layer.first_offset % manifest.page_bytes != 0 || layer.stride % manifest.page_bytes != 0 ||
      (packed ? layer.stride < layer.record_bytes : layer.stride != 0)) {
    reader.complain(odmoe::format("{} has records that do not begin on pages or lie over each other", where));
  }
  check_slices(reader, layer, where);
  if (reader.ok() && layer.gate_up_bytes() % manifest.page_bytes != 0)
    reader.complain(odmoe::format("{} has records whose down does not begin on a page", where));
  return layer;
}

}  // namespace

std::string_view layout_name(ExpertManifest::Layout layout) {
  return layout == ExpertManifest::Layout::kPacked ? "packed" : "files";
}

std::string ExpertManifest::expert_path(int layer, int expert) const {
  if (layout == Layout::kPacked) return odmoe::format("experts/layer_{:02}.experts", layer);
  return odmoe::format("experts/layer_{:02}_expert_{:03}.safetensors", layer, expert);
}

std::string ExpertManifest::to_json() const {
  OrderedJson json{{"format", kFormat},
                   {"version", kVersion},
                   {"layout", layout_name(layout)},
                   {"page_bytes", page_bytes},
                   {"metadata", metadata_to_json(metadata)}};
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

Result<ExpertManifest> ExpertManifest::parse(std::string_view text, const std::string& name) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_json(text, name));
  Reader reader(name);
  if (reader.text(json, "format", "it") != kFormat) {
    return fail(ErrorKind::kBadFile, "{} is not of an expert directory: it does not say \"format\": \"{}\"",
                name, kFormat);
  }
  const uint64_t version = reader.number(json, "version", 1, std::numeric_limits<uint32_t>::max(), "it");
  if (reader.ok() && version != kVersion) {
    return fail(
        ErrorKind::kUnsupported,
        "{} is of version {}, and this program knows {}; use a newer odmoe or convert the model again", name,
        version, kVersion);
  }
  ExpertManifest manifest;
  const std::string layout = reader.text(json, "layout", "it");
  manifest.layout = layout == "files" ? Layout::kFiles : Layout::kPacked;
  if (reader.ok() && layout != layout_name(manifest.layout))
    reader.complain(odmoe::format("layout '{}' is not known", printable(layout)));
  manifest.page_bytes = static_cast<uint32_t>(reader.number(json, "page_bytes", 512, 1U << 24U, "it"));
  if ((manifest.page_bytes & (manifest.page_bytes - 1)) != 0)
    reader.complain("page_bytes is no power of two");
  const Json* metadata = reader.member(json, "metadata", Json::value_t::object, "it");
  ODMOE_RETURN_IF_ERROR(reader.status());
  ODMOE_ASSIGN_OR_RETURN(manifest.metadata, metadata_from_json(*metadata, name));
  read_sources(reader, json, manifest);
  read_files(reader, json, manifest);
  const Json* layers = reader.member(json, "layers", Json::value_t::array, "it");
  for (size_t i = 0; reader.ok() && i < layers->size(); ++i) {
    Layer layer = read_layer(reader, (*layers)[i], manifest);
    if (!manifest.layers.empty() && layer.layer <= manifest.layers.back().layer)
      reader.complain("its layers do not ascend");
    manifest.layers.push_back(std::move(layer));
  }
  ODMOE_RETURN_IF_ERROR(reader.status());
  if (manifest.layers.empty()) return fail(ErrorKind::kBadFile, "{} has no layer with experts", name);
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
  Reader reader(name);
  const Json* metadata = reader.member(json, "metadata", Json::value_t::object, "it");
  ODMOE_RETURN_IF_ERROR(reader.status());
  return metadata_from_json(*metadata, name);
}

}  // namespace odmoe
