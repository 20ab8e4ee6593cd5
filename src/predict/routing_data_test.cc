#include "predict/routing_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

constexpr uint16_t kOne = 0x3C00, kHalf = 0x3800, kInfinity = 0x7C00;

// Two layers, two of eight experts, states of four values.
Collection empty_collection() {
  Collection collection;
  collection.tool = "test";
  collection.model = {
      .architecture = "qwen3moe",
      .name = "tiny",
      .fingerprint = "0123456789abcdef",
      .n_embd = 4,
      .n_expert = 8,
      .n_expert_used = 2,
      .layers = {1, 2},
      .router = {.gating = "sigmoid", .n_group = 2, .n_group_used = 1, .normalise = true, .scale = 2.5F}};
  collection.source = "corpus";
  collection.corpus = {{.name = "a.txt", .bytes = 12, .hash = "00ff"}};
  collection.n_token_wanted = 6;
  collection.document_tokens = 2;
  collection.chunk = 512;
  collection.threads = 2;
  return collection;
}

// One document of two tokens.
RoutingShard shard(int32_t document) {
  RoutingShard shard;
  shard.n_token = 2;
  shard.token = {5, 6};
  shard.document = {document, document};
  shard.position = {0, 1};
  shard.experts = {0, 1, 2, 3, 4, 5, 6, 7};
  shard.weights.assign(8, kHalf);
  shard.router_input.assign(16, kOne);
  shard.attention_input.assign(16, kHalf);
  shard.embedding.assign(8, kOne);
  return shard;
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void expect_bad(const Result<Collection>& result, const std::string& what) {
  ASSERT_FALSE(result.has_value()) << what;
  EXPECT_EQ(result.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(result.error().message, HasSubstr(what));
  EXPECT_THAT(result.error().message, HasSubstr("collection.json"));
}

TEST(RoutingData, ReadsBackWhatWasAppended) {
  const testing::TempDir dir;
  Collection collection = empty_collection();
  ASSERT_TRUE(append_shard(dir.path(), collection, shard(0)).has_value());
  ASSERT_TRUE(append_shard(dir.path(), collection, shard(1)).has_value());
  const auto read = read_collection(dir.path());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->model, collection.model);
  EXPECT_EQ(read->corpus, collection.corpus);
  EXPECT_EQ(read->n_token, 4);
  EXPECT_EQ(read->n_document, 2);
  ASSERT_EQ(read->shards.size(), 2U);
  const auto second = read_shard(dir.path(), *read, 1);
  ASSERT_TRUE(second.has_value()) << second.error().message;
  EXPECT_EQ(second->document, shard(1).document);
  EXPECT_EQ(second->experts, shard(1).experts);
  EXPECT_EQ(second->attention_input, shard(1).attention_input);
  EXPECT_EQ(second->embedding, shard(1).embedding);
}

TEST(RoutingData, LeavesOutStatesThatAreNotRecorded) {
  const testing::TempDir dir;
  Collection collection = empty_collection();
  collection.states = {.router_input = true, .attention_input = false, .embedding = false};
  ASSERT_TRUE(append_shard(dir.path(), collection, shard(0)).has_value());
  const auto read = read_shard(dir.path(), collection, 0);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->router_input.size(), 16U);
  EXPECT_TRUE(read->attention_input.empty());
  EXPECT_TRUE(read->embedding.empty());
}

TEST(RoutingData, SaysThatAFolderHoldsNoData) {
  const testing::TempDir dir;
  const auto result = read_collection(dir.path());
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(result.error().message, HasSubstr("odmoe collect"));
}

TEST(RoutingData, ReadsWhatRoutersSeeAndTakesItForTheUsualWhereItIsNotSaid) {
  Collection collection = empty_collection();
  collection.model.router.sees = "layer-input";
  collection.model.router.norm = "layer";
  collection.model.router.norm_groups = 2;
  collection.model.router.experts_see_another = true;
  const testing::TempDir dir;
  ASSERT_TRUE(write_collection(dir.path(), collection).has_value());
  const auto read = read_collection(dir.path());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->model, collection.model);

  std::string text = text_of(dir / "collection.json");
  const size_t first = text.find("\"sees\"");
  ASSERT_NE(first, std::string::npos);
  const size_t comma = text.rfind(',', first);
  text.erase(comma, text.find('}', first) - comma);
  const auto older = parse_collection(text, "collection.json");
  ASSERT_TRUE(older.has_value()) << older.error().message;
  EXPECT_EQ(older->model, empty_collection().model);
}

TEST(RoutingData, RefusesADamagedCollection) {
  const testing::TempDir dir;
  Collection collection = empty_collection();
  ASSERT_TRUE(append_shard(dir.path(), collection, shard(0)).has_value());
  const std::string whole = text_of(dir / "collection.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return parse_collection(text.replace(at, from.size(), to), "collection.json");
  };
  expect_bad(parse_collection(whole.substr(0, whole.size() / 2), "collection.json"), "is not JSON");
  expect_bad(parse_collection("[]", "collection.json"), "has no 'version'");
  expect_bad(with("\"n_embd\": 4", "\"n_embd\": 0"), "'n_embd' is not a whole number from 1");
  expect_bad(with("\"n_embd\": 4", "\"n_embd\": 4.5"), "'n_embd' is not a whole number");
  expect_bad(with("\"sigmoid\"", "\"sigmund\""), "'gating' is not softmax, sigmoid");
  expect_bad(with("\"residual\"", "\"remainder\""), "'sees' is not residual, layer-input or streams");
  expect_bad(with("\"rms\"", "\"root\""), "'norm' is not rms, layer or none");
  expect_bad(with("\"norm_groups\": 1", "\"norm_groups\": 3"), "'norm_groups' is not a number that divides");
  expect_bad(with("\"tokens\": 2", "\"tokens\": 3"), "its shards have 2 tokens");
  expect_bad(with("shard-00000", "../shard-0"), "'file' is not the name of a file in the folder");
  const auto newer = with("\"version\": 1", "\"version\": 2");
  ASSERT_FALSE(newer.has_value());
  EXPECT_EQ(newer.error().kind, ErrorKind::kUnsupported);
}

TEST(RoutingData, RefusesADamagedShard) {
  const testing::TempDir dir;
  Collection collection = empty_collection();
  const auto refused = [&](RoutingShard bad, const std::string& what) {
    const auto bytes = serialise_shard(bad, collection);
    ASSERT_TRUE(bytes.has_value()) << bytes.error().message;
    const auto read = parse_shard(*bytes, collection, "shard");
    ASSERT_FALSE(read.has_value()) << what;
    EXPECT_THAT(read.error().message, HasSubstr(what));
  };
  RoutingShard bad = shard(0);
  bad.experts[3] = 8;
  refused(bad, "names expert 8 of 8");
  bad = shard(0);
  bad.router_input[7] = kInfinity;
  refused(bad, "not a number");
  bad = shard(0);
  bad.position = {0, 2};
  refused(bad, "follows no other token");

  ASSERT_TRUE(append_shard(dir.path(), collection, shard(0)).has_value());
  Collection other = collection;
  other.model.n_expert_used = 1;
  auto read = read_shard(dir.path(), other, 0);
  ASSERT_FALSE(read.has_value());
  EXPECT_THAT(read.error().message, HasSubstr("'experts' is missing or not of the shape"));
  other = collection;
  other.model.fingerprint = "fedcba9876543210";
  read = read_shard(dir.path(), other, 0);
  ASSERT_FALSE(read.has_value());
  EXPECT_THAT(read.error().message, HasSubstr("another model"));
  std::filesystem::resize_file(dir.path() / collection.shards[0].file, collection.shards[0].bytes - 1);
  read = read_shard(dir.path(), collection, 0);
  ASSERT_FALSE(read.has_value());
  EXPECT_THAT(read.error().message, HasSubstr("collection.json says"));
}

TEST(RoutingData, ReadsBackRoutersAndKnowsThoseOfAnotherModel) {
  const testing::TempDir dir;
  Collection collection = empty_collection();
  std::vector<RouterWeights> routers;
  for (const int32_t layer : collection.model.layers) {
    routers.push_back({.layer = layer,
                       .weight = std::vector<float>(32, 0.5F),
                       .norm = std::vector<float>(4, 2),
                       .norm_bias = layer == 2 ? std::vector<float>(4, 0.5F) : std::vector<float>(),
                       .bias = layer == 1 ? std::vector<float>(8, 0.25F) : std::vector<float>()});
  }
  collection.model.fingerprint = fingerprint_of(routers, 4, 8);
  ASSERT_TRUE(write_routers(dir.path(), collection.model, routers).has_value());
  const auto read = read_routers(dir.path(), collection);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ((*read)[0].weight, routers[0].weight);
  EXPECT_EQ((*read)[0].bias, routers[0].bias);
  EXPECT_TRUE((*read)[1].bias.empty());
  EXPECT_TRUE((*read)[0].norm_bias.empty());
  EXPECT_EQ((*read)[1].norm_bias, routers[1].norm_bias);

  routers[1].weight[5] = 0.75F;
  ASSERT_TRUE(write_routers(dir.path(), collection.model, routers).has_value());
  const auto other = read_routers(dir.path(), collection);
  ASSERT_FALSE(other.has_value());
  EXPECT_THAT(other.error().message, HasSubstr("another model"));
}

TEST(RoutingData, HoldsOutATenthOfTheDocuments) {
  int n = 0;
  for (int32_t document = 0; document < 10'000; ++document) n += is_held_out(document) ? 1 : 0;
  EXPECT_NEAR(n, 1000, 100);
}

}  // namespace
}  // namespace odmoe
