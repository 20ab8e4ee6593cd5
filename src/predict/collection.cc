// collection.json
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "predict/routing_data.h"
#include "predict/whole_file.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxJsonBytes = 64U << 20U;
constexpr std::string_view kFile = "collection.json";
constexpr size_t kMaxText = 4096;

// Reads members of an object and keeps the first error.
class Members {
 public:
  Members(const Json& object, std::string where) : object_(&object), where_(std::move(where)) {}

  template <typename Int>
  void get(std::string_view key, Int& value, int64_t least, int64_t most) {
    const Json* member = find(key);
    if (member == nullptr) return;
    const bool fits = member->is_number_unsigned() ? member->get<uint64_t>() <= static_cast<uint64_t>(most)
                                                   : member->is_number_integer();
    if (!fits || member->get<int64_t>() < least || member->get<int64_t>() > most) {
      return wrong(key, std::format("an integer from {} to {}", least, most));
    }
    value = static_cast<Int>(member->get<int64_t>());
  }
  void get(std::string_view key, std::string& value) {
    const Json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_string() || member->get_ref<const std::string&>().size() > kMaxText) {
      return wrong(key, std::format("text of at most {} bytes", kMaxText));
    }
    value = member->get<std::string>();
  }
  void get(std::string_view key, bool& value) {
    const Json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_boolean()) return wrong(key, "true or false");
    value = member->get<bool>();
  }
  void get(std::string_view key, float& value) {
    const Json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_number() || !std::isfinite(member->get<float>())) return wrong(key, "a number");
    value = member->get<float>();
  }
  // An array or object; null after an error.
  const Json* get(std::string_view key, Json::value_t type, size_t most) {
    const Json* member = find(key);
    if (member == nullptr) return nullptr;
    if (member->type() != type || member->size() > most) {
      wrong(key, std::format("an {} of at most {} members", type == Json::value_t::array ? "array" : "object",
                             most));
      return nullptr;
    }
    return member;
  }
  void wrong(std::string_view key, std::string_view wanted) {
    if (status.has_value()) status = fail(ErrorKind::kBadFile, "{}: '{}' is not {}", where_, key, wanted);
  }

  Status status;

 private:
  const Json* find(std::string_view key) {
    if (!status.has_value()) return nullptr;
    const auto member = object_->is_object() ? object_->find(key) : object_->end();
    if (member == object_->end()) {
      status = fail(ErrorKind::kBadFile, "{} has no '{}'", where_, key);
      return nullptr;
    }
    return &*member;
  }
  const Json* object_;
  std::string where_;
};

constexpr int64_t kMany = int64_t{1} << 62U;

Result<RoutedModel> read_model(const Json& json, const std::string& name) {
  RoutedModel model;
  Members members(json, name + ", model");
  members.get("architecture", model.architecture);
  members.get("name", model.name);
  members.get("fingerprint", model.fingerprint);
  members.get("n_embd", model.n_embd, 1, kMaxCollectionEmbd);
  members.get("n_expert", model.n_expert, 1, kMaxCollectionExperts);
  members.get("n_expert_used", model.n_expert_used, 1, std::max(model.n_expert, 1));
  if (const Json* layers = members.get("layers", Json::value_t::array, kMaxCollectionLayers)) {
    for (const Json& layer : *layers) {
      if (!layer.is_number_integer() || layer < 0 || layer > kMaxCollectionLayers ||
          (!model.layers.empty() && layer <= model.layers.back())) {
        members.wrong("layers", "a list of rising layer numbers");
        break;
      }
      model.layers.push_back(layer.get<int32_t>());
    }
    if (model.layers.empty()) members.wrong("layers", "a list of rising layer numbers");
  }
  const Json* rule = members.get("router", Json::value_t::object, kMaxText);
  ODMOE_RETURN_IF_ERROR(members.status);
  Members router(*rule, name + ", router");
  router.get("gating", model.router.gating);
  router.get("n_group", model.router.n_group, 1, kMaxCollectionExperts);
  router.get("n_group_used", model.router.n_group_used, 1, kMaxCollectionExperts);
  router.get("normalise", model.router.normalise);
  router.get("scale", model.router.scale);
  constexpr std::array<std::string_view, 3> kGatings = {"softmax", "sigmoid", "softmax-over-chosen"};
  if (router.status.has_value() && !std::ranges::contains(kGatings, model.router.gating)) {
    router.wrong("gating", "softmax, sigmoid or softmax-over-chosen");
  }
  ODMOE_RETURN_IF_ERROR(router.status);
  return model;
}

Json write_model(const RoutedModel& model) {
  return {{"architecture", model.architecture},
          {"name", model.name},
          {"fingerprint", model.fingerprint},
          {"n_embd", model.n_embd},
          {"n_expert", model.n_expert},
          {"n_expert_used", model.n_expert_used},
          {"layers", model.layers},
          {"router",
           {{"gating", model.router.gating},
            {"n_group", model.router.n_group},
            {"n_group_used", model.router.n_group_used},
            {"normalise", model.router.normalise},
            {"scale", model.router.scale}}}};
}

// Shards follow one another, and add up.
Status read_shards(const Json& json, Collection& collection, const std::string& name) {
  int64_t n_document = 0, n_token = 0;
  for (const Json& entry : json) {
    ShardEntry shard;
    Members members(entry, std::format("{}, shard {}", name, collection.shards.size()));
    members.get("file", shard.file);
    members.get("first_document", shard.first_document, 0, kMany);
    members.get("documents", shard.n_document, 1, INT32_MAX);
    members.get("tokens", shard.n_token, 1, INT32_MAX);
    members.get("bytes", shard.bytes, 1, kMany);
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
  members.get("tokens_wanted", collection.n_token_wanted, 0, kMany);
  members.get("document_tokens", collection.document_tokens, 1, INT32_MAX);
  members.get("chunk", collection.chunk, 0, INT32_MAX);
  members.get("threads", collection.threads, 0, INT32_MAX);
  members.get("seed", collection.seed, 0, kMany);
  members.get("generate", collection.n_generate, 0, INT32_MAX);
  members.get("complete", collection.complete);
  members.get("tokens", collection.n_token, 0, kMany);
  members.get("documents", collection.n_document, 0, INT32_MAX);
  members.get("clamped", collection.n_clamped, 0, kMany);
  const Json* model = members.get("model", Json::value_t::object, kMaxText);
  const Json* states = members.get("states", Json::value_t::object, kMaxText);
  const Json* corpus = members.get("corpus", Json::value_t::array, kMaxCollectionShards);
  const Json* shards = members.get("shards", Json::value_t::array, kMaxCollectionShards);
  ODMOE_RETURN_IF_ERROR(members.status);
  ODMOE_ASSIGN_OR_RETURN(collection.model, read_model(*model, name));
  Members recorded(*states, name + ", states");
  recorded.get("router_input", collection.states.router_input);
  recorded.get("attention_input", collection.states.attention_input);
  recorded.get("embedding", collection.states.embedding);
  ODMOE_RETURN_IF_ERROR(recorded.status);
  for (const Json& entry : *corpus) {
    CorpusFile file;
    Members of_file(entry, name + ", corpus");
    of_file.get("name", file.name);
    of_file.get("bytes", file.bytes, 0, kMany);
    of_file.get("xxh3", file.hash);
    ODMOE_RETURN_IF_ERROR(of_file.status);
    collection.corpus.push_back(std::move(file));
  }
  ODMOE_RETURN_IF_ERROR(read_shards(*shards, collection, name));
  return collection;
}

Result<Collection> read_collection(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kFile;
  auto bytes = read_whole(path, kMaxJsonBytes);
  if (!bytes.has_value() && bytes.error().kind == ErrorKind::kNotFound) {
    return fail(ErrorKind::kNotFound, "{} holds no collected data (no {}): make some with odmoe collect",
                folder.string(), kFile);
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
                     {"model", write_model(collection.model)},
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
  // A model's name may hold bytes that are no UTF-8: they become U+FFFD.
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  return replace_whole(folder / kFile, std::as_bytes(std::span(text)));
}

}  // namespace odmoe
