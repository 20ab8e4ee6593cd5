#include "format/expert_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "format/gguf_file.h"
#include "format/metadata_json.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// Q8_0 of 32 x 32: 34 bytes for a block of 32, so 1088 for a projection.
ExpertManifest sound() {
  ExpertManifest manifest;
  manifest.metadata = {MetadataEntry::string("general.architecture", "qwen3moe"),
                       MetadataEntry::u32("qwen3moe.block_count", 2)};
  manifest.sources = {{.name = "model.gguf", .bytes = 12345}};
  manifest.files = {{.path = "base_model/norms.safetensors", .bytes = 10, .checksum = 0x123},
                    {.path = "tokenizer.json", .bytes = 11, .checksum = UINT64_MAX}};
  manifest.layers = {{.layer = 1,
                      .slices = {{.tensor = "blk.1.ffn_gate_exps.weight",
                                  .type = GGML_TYPE_Q8_0,
                                  .n_in = 32,
                                  .n_out = 32,
                                  .offset = 0,
                                  .bytes = 1088},
                                 {.tensor = "blk.1.ffn_up_exps.weight",
                                  .type = GGML_TYPE_Q8_0,
                                  .n_in = 32,
                                  .n_out = 32,
                                  .offset = 1088,
                                  .bytes = 1088},
                                 {.tensor = "blk.1.ffn_down_exps.weight",
                                  .type = GGML_TYPE_F16,
                                  .n_in = 32,
                                  .n_out = 32,
                                  .offset = 4096,
                                  .bytes = 2048}},
                      .record_bytes = 6144,
                      .first_offset = 4096,
                      .stride = 8192,
                      .checksums = {{.gate_up = 1, .down = 2}, {.gate_up = 0xFEDCBA9876543210, .down = 0}}}};
  return manifest;
}

// The same with gate and up laid out for wider kernels.
ExpertManifest repacked() {
  ExpertManifest manifest = sound();
  manifest.repacked = {.layout = "CPU_REPACK",
                       .ggml = "0.27.0 (abc)",
                       .processor = "AVX2=1",
                       .matrices = {{.type = GGML_TYPE_Q8_0, .n_in = 32, .n_out = 32, .fingerprint = 0xABC}}};
  for (const size_t i : {0, 1}) manifest.layers[0].slices[i].repacked = true;
  return manifest;
}

TEST(ExpertManifest, SaysWhichSlicesAreRepackedAndForWhom) {
  const std::string text = repacked().to_json();
  const auto got = ExpertManifest::parse(text, "model.json");
  ASSERT_TRUE(got.has_value()) << got.error().message;
  EXPECT_EQ(got->to_json(), text);
  ASSERT_TRUE(got->repacked.has_value());
  EXPECT_EQ(got->repacked->layout, "CPU_REPACK");
  EXPECT_EQ(got->repacked->ggml, "0.27.0 (abc)");
  EXPECT_EQ(got->repacked->processor, "AVX2=1");
  const auto* matrix = got->repacked->find(GGML_TYPE_Q8_0, 32, 32);
  ASSERT_NE(matrix, nullptr);
  EXPECT_EQ(matrix->fingerprint, 0xABCU);
  const auto& slices = got->layers[0].slices;
  EXPECT_TRUE(slices[0].repacked && slices[1].repacked && !slices[2].repacked);
  // Readers that know nothing of it would take the experts for plain ones.
  EXPECT_EQ(Json::parse(text)["version"], 2);
  EXPECT_EQ(Json::parse(sound().to_json())["version"], 1);
}

// The same with one of four experts.
ExpertManifest share() {
  ExpertManifest manifest = sound();
  manifest.share = {.rank = 1, .sizes = {2, 1, 1}, .uses = "ab", .model = "0123"};
  manifest.layers[0].n_expert_of_all = 4;
  manifest.layers[0].held = {1, 3};
  return manifest;
}

TEST(ExpertManifest, SaysWhoseExpertsAreThere) {
  const std::string text = share().to_json();
  const auto got = ExpertManifest::parse(text, "model.json");
  ASSERT_TRUE(got.has_value()) << got.error().message;
  EXPECT_EQ(got->to_json(), text);
  EXPECT_EQ(got->share, share().share);
  EXPECT_EQ(got->share->name(), "share 2 of 3");
  EXPECT_EQ(got->layers[0].n_expert(), 4);
  EXPECT_EQ(got->layers[0].n_record(), 2);
  EXPECT_EQ(got->layers[0].expert_of(1), 3);
  // Readers that know nothing of it would miss experts.
  EXPECT_EQ(Json::parse(text)["version"], 3);
}

TEST(ExpertManifest, RefusesADamagedShare) {
  const auto refused = [](const std::function<void(Json&)>& change) {
    Json json = Json::parse(share().to_json());
    change(json);
    return !ExpertManifest::parse(json.dump(), "model.json").has_value();
  };
  EXPECT_TRUE(refused([](Json& j) { j.erase("share"); }));
  EXPECT_TRUE(refused([](Json& j) { j["share"]["part"] = 4; }));
  EXPECT_TRUE(refused([](Json& j) { j["share"]["part"] = 0; }));
  EXPECT_TRUE(refused([](Json& j) { j["share"]["sizes"][1] = 0; }));
  EXPECT_TRUE(refused([](Json& j) { j["share"]["model"] = ""; }));
  EXPECT_TRUE(refused([](Json& j) { j["layers"][0].erase("n_expert"); }));
  EXPECT_TRUE(refused([](Json& j) { j["layers"][0]["n_expert"] = 3; }));
  EXPECT_TRUE(refused([](Json& j) { j["layers"][0]["experts"] = {3, 1}; }));
  EXPECT_TRUE(refused([](Json& j) { j["layers"][0]["experts"] = {1}; }));
  EXPECT_TRUE(refused([](Json& j) { j["layers"][0]["experts"] = {-1, 1}; }));
}

TEST(ExpertManifest, HasTwoMatricesInGateAndUpMerged) {
  const ExpertManifest::Slice merged{.tensor = "blk.1.ffn_gate_up_exps.weight", .n_out = 64};
  EXPECT_EQ(merged.matrix_rows(), 32);
  const ExpertManifest::Slice up{.tensor = "blk.1.ffn_up_exps.weight", .n_out = 64};
  EXPECT_EQ(up.matrix_rows(), 64);
}

TEST(ExpertManifest, IsReadAsItWasWritten) {
  const ExpertManifest wanted = sound();
  const auto got = ExpertManifest::parse(wanted.to_json(), "model.json");
  ASSERT_TRUE(got.has_value()) << got.error().message;
  EXPECT_EQ(got->metadata, wanted.metadata);
  EXPECT_EQ(got->page_bytes, wanted.page_bytes);
  EXPECT_EQ(got->layout, wanted.layout);
  ASSERT_EQ(got->files.size(), 2U);
  EXPECT_EQ(got->files[1].checksum, UINT64_MAX);
  ASSERT_EQ(got->layers.size(), 1U);
  EXPECT_EQ(got->layers[0].checksums, wanted.layers[0].checksums);
  EXPECT_EQ(got->layers[0].slices[2].type, GGML_TYPE_F16);
  EXPECT_EQ(got->to_json(), wanted.to_json());
}

struct Damage {
  const char* name;
  std::function<void(Json&)> change;
};

class DamagedManifest : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedManifest, IsRefusedInOneLine) {
  Json json = Json::parse(sound().to_json());
  GetParam().change(json);
  const auto got = ExpertManifest::parse(json.dump(), "model.json");
  ASSERT_FALSE(got.has_value());
  EXPECT_THAT(got.error().message, HasSubstr("model.json"));
  EXPECT_EQ(got.error().message.find('\n'), std::string::npos);
}

Json& layer(Json& json) { return json["layers"][0]; }
Json& slice(Json& json, int i) { return layer(json)["slices"][static_cast<size_t>(i)]; }

INSTANTIATE_TEST_SUITE_P(
    ExpertManifest, DamagedManifest,
    ::testing::Values(
        Damage{"AnotherFormat", [](Json& j) { j["format"] = "x"; }},
        Damage{"AnotherVersion", [](Json& j) { j["version"] = 4; }},
        Damage{"RepackedWithoutSayingHow", [](Json& j) { j["version"] = 2; }},
        Damage{"NoVersion", [](Json& j) { j.erase("version"); }},
        Damage{"NoObject", [](Json& j) { j = Json::array(); }},
        Damage{"UnknownLayout", [](Json& j) { j["layout"] = "loose"; }},
        Damage{"OddPages", [](Json& j) { j["page_bytes"] = 5000; }},
        Damage{"HugePages", [](Json& j) { j["page_bytes"] = 1U << 30U; }},
        Damage{"NoMetadata", [](Json& j) { j.erase("metadata"); }},
        Damage{"MetadataOfNoType", [](Json& j) { j["metadata"]["qwen3moe.block_count"]["type"] = "u128"; }},
        Damage{"MetadataOfAnotherType",
               [](Json& j) { j["metadata"]["qwen3moe.block_count"]["value"] = "2"; }},
        Damage{"MetadataOutOfRange",
               [](Json& j) { j["metadata"]["qwen3moe.block_count"]["value"] = 1ULL << 33U; }},
        Damage{"APathOutside", [](Json& j) { j["files"][0]["path"] = "../norms.safetensors"; }},
        Damage{"AnAbsolutePath", [](Json& j) { j["files"][0]["path"] = "/etc/passwd"; }},
        Damage{"AFileTwice", [](Json& j) { j["files"][1] = j["files"][0]; }},
        Damage{"AChecksumThatIsNone", [](Json& j) { j["files"][0]["xxh3"] = "123"; }},
        Damage{"NoLayers", [](Json& j) { j["layers"] = Json::array(); }},
        Damage{"ALayerTwice", [](Json& j) { j["layers"].push_back(layer(j)); }},
        Damage{"ALayerBeyondAll", [](Json& j) { layer(j)["layer"] = 1U << 30U; }},
        Damage{"NoExperts",
               [](Json& j) { layer(j)["xxh3"] = {{"gate_up", Json::array()}, {"down", Json::array()}}; }},
        Damage{"OneChecksumOfARecord", [](Json& j) { layer(j)["xxh3"] = layer(j)["xxh3"]["gate_up"]; }},
        Damage{"NoChecksumsOfDown", [](Json& j) { layer(j)["xxh3"].erase("down"); }},
        Damage{"FewerChecksumsOfDown", [](Json& j) { layer(j)["xxh3"]["down"].erase(1); }},
        Damage{"AChecksumOfGateAndUpThatIsNone", [](Json& j) { layer(j)["xxh3"]["gate_up"][0] = 7; }},
        Damage{"AChecksumOfDownThatIsNone", [](Json& j) { layer(j)["xxh3"]["down"][1] = "12"; }},
        Damage{"RecordsOffThePage", [](Json& j) { layer(j)["first_offset"] = 5000; }},
        Damage{"RecordsOverEachOther", [](Json& j) { layer(j)["stride"] = 4096; }},
        Damage{"ASliceMissing", [](Json& j) { layer(j)["slices"].erase(1); }},
        Damage{"ASliceOfAnotherLayer", [](Json& j) { slice(j, 0)["tensor"] = "blk.2.ffn_gate_exps.weight"; }},
        Damage{"SlicesOverEachOther", [](Json& j) { slice(j, 1)["offset"] = 1056; }},
        Damage{"DownOffThePage",
               [](Json& j) {
                 slice(j, 2)["offset"] = 2176;
                 layer(j)["record_bytes"] = 4224;
               }},
        Damage{"AnUnalignedSlice", [](Json& j) { slice(j, 1)["offset"] = 1089; }},
        Damage{"ARecordOfAnotherSize", [](Json& j) { layer(j)["record_bytes"] = 6145; }},
        Damage{"ASliceOfAnotherSize", [](Json& j) { slice(j, 0)["bytes"] = 1087; }},
        Damage{"AnUnknownType", [](Json& j) { slice(j, 0)["type"] = "q9_9"; }},
        Damage{"ATypeThatIsNoWeight", [](Json& j) { slice(j, 0)["type"] = "i32"; }},
        Damage{"ANegativeShape", [](Json& j) { slice(j, 0)["ne"] = {-32, 32}; }},
        Damage{"AShapeBeyondAll", [](Json& j) { slice(j, 0)["ne"] = {1ULL << 62U, 1ULL << 62U}; }},
        Damage{"ARowThatIsNoBlocks", [](Json& j) { slice(j, 0)["ne"] = {33, 32}; }},
        Damage{"ShapesThatDoNotFit", [](Json& j) { slice(j, 2)["ne"] = {64, 16}; }}),
    [](const auto& param) { return std::string(param.param.name); });

class DamagedRepackedManifest : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedRepackedManifest, IsRefusedInOneLine) {
  Json json = Json::parse(repacked().to_json());
  GetParam().change(json);
  const auto got = ExpertManifest::parse(json.dump(), "model.json");
  ASSERT_FALSE(got.has_value());
  EXPECT_THAT(got.error().message, HasSubstr("model.json"));
  EXPECT_EQ(got.error().message.find('\n'), std::string::npos);
}

Json& matrix(Json& json) { return json["repacked"]["matrices"][0]; }

INSTANTIATE_TEST_SUITE_P(
    ExpertManifest, DamagedRepackedManifest,
    ::testing::Values(
        Damage{"AVersionThatKnowsNothingOfIt", [](Json& j) { j["version"] = 1; }},
        Damage{"NoLayout", [](Json& j) { j["repacked"].erase("layout"); }},
        Damage{"ALayoutWithoutName", [](Json& j) { j["repacked"]["layout"] = ""; }},
        Damage{"AVersionThatIsNoText", [](Json& j) { j["repacked"]["ggml"] = 27; }},
        Damage{"AProcessorOfEndlessFeatures",
               [](Json& j) { j["repacked"]["processor"] = std::string(100'000, 'A'); }},
        Damage{"NoMatrices", [](Json& j) { j["repacked"]["matrices"] = Json::array(); }},
        Damage{"AThousandMatrices",
               [](Json& j) { j["repacked"]["matrices"] = Json(std::vector<Json>(2000, matrix(j))); }},
        Damage{"AMatrixOfNoProjection",
               [](Json& j) {
                 j["repacked"]["matrices"].push_back(matrix(j));
                 j["repacked"]["matrices"][1]["ne"] = {1 << 20, 1 << 20};
               }},
        Damage{"AMatrixTwice", [](Json& j) { j["repacked"]["matrices"].push_back(matrix(j)); }},
        Damage{"AMatrixOfAnotherShape", [](Json& j) { matrix(j)["ne"] = {32, 64}; }},
        Damage{"AMatrixOfAnotherType", [](Json& j) { matrix(j)["type"] = "q4_0"; }},
        Damage{"AMatrixOfAnUnknownType", [](Json& j) { matrix(j)["type"] = "q9_9"; }},
        Damage{"AMatrixOfAnImpossibleShape", [](Json& j) { matrix(j)["ne"] = {33, 32}; }},
        Damage{"AMatrixWithoutShape", [](Json& j) { matrix(j).erase("ne"); }},
        Damage{"AMatrixThatIsNone", [](Json& j) { matrix(j) = 7; }},
        Damage{"AHashThatIsNone", [](Json& j) { matrix(j)["xxh3"] = "123"; }},
        Damage{"ASliceThatIsPerhapsRepacked", [](Json& j) { slice(j, 0)["repacked"] = "yes"; }},
        Damage{"ASliceOfATypeThatNothingIsSaidOf", [](Json& j) { slice(j, 2)["repacked"] = true; }}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(ExpertManifest, IsRefusedWhereverItWasCutShort) {
  const std::string text = sound().to_json();
  for (size_t bytes = 0; bytes + 2 < text.size(); bytes += 7) {
    const auto got = ExpertManifest::parse(std::string_view(text).substr(0, bytes), "model.json");
    ASSERT_FALSE(got.has_value()) << bytes;
  }
}

TEST(ExpertManifest, BoundsDepthAndNumberOfValues) {
  const std::string deep(100'000, '[');
  EXPECT_THAT(ExpertManifest::parse(deep, "model.json").error().message, HasSubstr("nested deeper than"));
  std::string many = "[0";
  for (uint64_t i = 0; i < kMaxJsonValues; ++i) many += ",0";
  EXPECT_THAT(ExpertManifest::parse(many + "]", "model.json").error().message, HasSubstr("more than"));
}

TEST(MetadataJson, LosesNothing) {
  const std::vector<MetadataEntry> entries = {
      {"a.u8", GGUF_TYPE_UINT8, false, MetadataEntry::Integers{255}},
      {"b.i8", GGUF_TYPE_INT8, false, MetadataEntry::Integers{-128}},
      {"c.u64", GGUF_TYPE_UINT64, false, MetadataEntry::Integers{-1}},  // the bits of 2^64 - 1
      {"d.i64", GGUF_TYPE_INT64, false, MetadataEntry::Integers{std::numeric_limits<int64_t>::min()}},
      {"e.bools", GGUF_TYPE_BOOL, true, MetadataEntry::Integers{1, 0, 1}},
      {"f.f32", GGUF_TYPE_FLOAT32, false, MetadataEntry::Floats{static_cast<double>(1e-6F)}},
      {"g.f64s", GGUF_TYPE_FLOAT64, true,
       MetadataEntry::Floats{0.1, -1e300, std::numeric_limits<double>::infinity()}},
      {"h.empty", GGUF_TYPE_INT32, true, MetadataEntry::Integers{}},
      {"i.text", GGUF_TYPE_STRING, false, MetadataEntry::Strings{"\xC4\xA0quote \" \n\t \xE2\x82\xAC"}},
      {"j.bytes", GGUF_TYPE_STRING, true, MetadataEntry::Strings{"\xFF\xFE", std::string("\0x", 2), ""}}};
  const auto json = parse_json(metadata_to_json(entries).dump(), "x");
  ASSERT_TRUE(json.has_value()) << json.error().message;
  EXPECT_EQ(metadata_from_json(*json, "x").value(), entries);
  // And the same through GGUF's own form.
  const KeyValues values = KeyValues::of(entries, "x").value();
  EXPECT_EQ(values.entries(), entries);
  const auto bytes = values.encoded();
  EXPECT_EQ(GgufFile::parse(bytes, bytes.size()).value()->entries(), entries);
}

TEST(KeyValues, AreOfDistinctKeysThatHaveAName) {
  const auto message = [](std::vector<MetadataEntry> entries) {
    return KeyValues::of(entries, "model.json").error().message;
  };
  EXPECT_THAT(message({MetadataEntry::u32("a", 1), MetadataEntry::u32("b", 2), MetadataEntry::u32("a", 1)}),
              HasSubstr("model.json is damaged: it has key 'a' twice"));
  EXPECT_THAT(message({MetadataEntry::u32("", 1)}), HasSubstr("a key of 0 bytes"));
  EXPECT_THAT(message({MetadataEntry::u32(std::string(70000, 'k'), 1)}), HasSubstr("a key of 70000 bytes"));
  EXPECT_THAT(message({70000, MetadataEntry::u32("k", 1)}), HasSubstr("has 70000 keys, more than 65536"));
}

}  // namespace
}  // namespace odmoe
