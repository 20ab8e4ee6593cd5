// collection.json
#include <algorithm>
#include <string_view>
#include <utility>

#include "base/whole_file.h"
#include "predict/recorded_json.h"
#include "predict/routed_model_json.h"
#include "predict/routing_data.h"

namespace odmoe {
namespace {

constexpr uint64_t kMaxJsonBytes = 64U << 20U;
constexpr std::string_view kManifestFile = "collection.json";

// Shards follow one another, and add up.
Status read_shards(const Json& json, Collection& collection, const std::string& name) {
  int64_t n_document = 0, n_token = 0;
  for (const Json& entry : json) {
    ShardEntry shard;
    Members members(entry, odmoe::format("{}, shard {}", name, collection.shards.size()));
    members.get("file", shard.file);
    members.get("first_document", shard.first_document, 0, kMaxJsonInteger);
    members.get("documents", shard.n_document, 1, INT32_MAX);
    members.get("tokens", shard.n_token, 1, INT32_MAX);
    members.get("bytes", shard.bytes, 1, kMaxJsonInteger);
    ODMOE_RETURN_IF_ERROR(members.status);
    if (std::filesystem::path(shard.file).filename() != shard.file || shard.file == "..") {
      members.wrong("file", "the name of a file in the folder");
    } else if (shard.first_document != n_document) {
      members.wrong("first_document", "the one after the last of the shard before");
    }
    ODMOE_RETURN_IF_ERROR(members.status);
    n_document += shard.n_document;
    n_token += shard.n_token;
    collection.shards.push_back(std::move(shard));
  }
  if (n_token != collection.n_token || n_document != collection.n_document) {
    return fail(ErrorKind::kBadFile, "{}: its shards have {} tokens of {} documents, but it says {} of {}",
                name, n_token, n_document, collection.n_token, collection.n_document);
  }
  return {};
}

}  // namespace

Result<Collection> parse_collection(std::string_view text, const std::string& name) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return fail(ErrorKind::kBadFile, "{} is not JSON; it is damaged", name);
  Collection collection;
  Members members(json, name);
  int version = 0;
  members.get("version", version, 1, INT32_MAX);
  if (members.status.has_value() && version != Collection::kVersion) {
    return fail(ErrorKind::kUnsupported, "{} has version {}; this program reads version {}: collect again",
                name, version, Collection::kVersion);
  }
  members.get("tool", collection.tool);
  members.get("source", collection.source);
  members.get("tokens_wanted", collection.n_token_wanted, 0, kMaxJsonInteger);
  members.get("document_tokens", collection.document_tokens, 1, INT32_MAX);
  members.get("chunk", collection.chunk, 0, INT32_MAX);
  members.get("threads", collection.threads, 0, INT32_MAX);
  members.get("seed", collection.seed, 0, kMaxJsonInteger);
  members.get("generate", collection.n_generate, 0, INT32_MAX);
  members.get("complete", collection.complete);
  members.get("tokens", collection.n_token, 0, kMaxJsonInteger);
  members.get("documents", collection.n_document, 0, INT32_MAX);
  members.get("clamped", collection.n_clamped, 0, kMaxJsonInteger);
  const Json* model = members.object("model", kMaxJsonText);
  const Json* states = members.object("states", kMaxJsonText);
  const Json* corpus = members.array("corpus", kMaxCollectionShards);
  const Json* shards = members.array("shards", kMaxCollectionShards);
  ODMOE_RETURN_IF_ERROR(members.status);
  ODMOE_ASSIGN_OR_RETURN(collection.model, routed_model_from_json(*model, name));
  Members recorded(*states, name + ", states");
  recorded.get("router_input", collection.states.router_input);
  recorded.get("attention_input", collection.states.attention_input);
  recorded.get("embedding", collection.states.embedding);
  ODMOE_RETURN_IF_ERROR(recorded.status);
  for (const Json& entry : *corpus) {
    CorpusFile file;
    Members of_file(entry, name + ", corpus");
    of_file.get("name", file.name);
    of_file.get("bytes", file.bytes, 0, kMaxJsonInteger);
    of_file.get("xxh3", file.hash);
    ODMOE_RETURN_IF_ERROR(of_file.status);
    collection.corpus.push_back(std::move(file));
  }
  ODMOE_RETURN_IF_ERROR(read_shards(*shards, collection, name));
  return collection;
}

Result<Collection> read_collection(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestFile;
  auto bytes = read_whole(path, kMaxJsonBytes);
  if (!bytes.has_value() && bytes.error().kind == ErrorKind::kNotFound) {
    return fail(ErrorKind::kNotFound, "{} holds no collected data (no {}): make some with odmoe collect",
                folder.string(), kManifestFile);
  }
  if (!bytes.has_value()) return std::unexpected(bytes.error());
  return parse_collection({reinterpret_cast<const char*>(bytes->data()), bytes->size()}, path.string());
}

Status write_collection(const std::filesystem::path& folder, const Collection& collection) {
  Json corpus = Json::array(), shards = Json::array();
  for (const CorpusFile& file : collection.corpus) {
    corpus.push_back({{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.hash}});
  }
  for (const ShardEntry& shard : collection.shards) {
    shards.push_back({{"file", shard.file},
                      {"first_document", shard.first_document},
                      {"documents", shard.n_document},
                      {"tokens", shard.n_token},
                      {"bytes", shard.bytes}});
  }
  const Json json = {{"version", Collection::kVersion},
                     {"tool", collection.tool},
                     {"model", routed_model_to_json(collection.model)},
                     {"states",
                      {{"router_input", collection.states.router_input},
                       {"attention_input", collection.states.attention_input},
                       {"embedding", collection.states.embedding}}},
                     {"source", collection.source},
                     {"corpus", corpus},
                     {"tokens_wanted", collection.n_token_wanted},
                     {"document_tokens", collection.document_tokens},
                     {"chunk", collection.chunk},
                     {"threads", collection.threads},
                     {"seed", collection.seed},
                     {"generate", collection.n_generate},
                     {"complete", collection.complete},
                     {"tokens", collection.n_token},
                     {"documents", collection.n_document},
                     {"clamped", collection.n_clamped},
                     {"shards", shards}};
  // A model's name may hold bytes that are not UTF-8: they become U+FFFD.
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  return replace_whole(folder / kManifestFile, std::as_bytes(std::span(text)));
}

}  // namespace odmoe
