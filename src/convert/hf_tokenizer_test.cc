#include "convert/hf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/byte_alphabet.h"
#include "convert/hf_split_rule.h"
#include "convert/hf_tokenizer_family.h"
#include "convert/testing.h"
#include "format/checkpoint.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDir;

nlohmann::json small_tokenizer() {
  return nlohmann::json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<end>", "special": true}, {"id": 6, "content": "<x>", "special": false}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "model": {"type": "BPE", "vocab": {"a": 1, "b": 0, "ab": 2, "abb": 3}, "merges": ["a b", ["ab", "b"]]}})");
}

const MetadataEntry* find(const std::vector<MetadataEntry>& entries, std::string_view key) {
  const auto it = std::ranges::find(entries, key, &MetadataEntry::key);
  return it == entries.end() ? nullptr : &*it;
}

int64_t integer(const std::vector<MetadataEntry>& entries, std::string_view key) {
  const MetadataEntry* entry = find(entries, key);
  return entry == nullptr ? -1 : std::get<MetadataEntry::Integers>(entry->elements).at(0);
}

TEST(HfTokenizer, TokensStandAtTheirNumbers) {
  const auto v = parse_hf_tokenizer(small_tokenizer(), "t");
  ASSERT_TRUE(v.has_value()) << v.error().message;
  EXPECT_THAT(v->tokens, ElementsAre("b", "a", "ab", "abb", "<end>", "", "<x>"));
  EXPECT_THAT(v->types, ElementsAre(1, 1, 1, 1, 3, 0, 4));
  EXPECT_THAT(v->merges, ElementsAre("a b", "ab b"));
  EXPECT_EQ(v->pre, "gpt-2");
  EXPECT_FALSE(v->template_adds_bos);
}

TEST(HfTokenizer, DamageIsNamed) {
  const auto without = [](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = small_tokenizer();
    json[nlohmann::json::json_pointer(pointer)] = value;
    return message(parse_hf_tokenizer(json, "t"));
  };
  EXPECT_THAT(without("/model", 1), HasSubstr("has no model"));
  EXPECT_THAT(without("/model/type", "Unigram"),
              HasSubstr("the tokenizer is Unigram; only byte-level BPE is read"));
  EXPECT_THAT(without("/model/byte_fallback", true), HasSubstr("only byte-level BPE"));
  EXPECT_THAT(without("/model/merges", 3), HasSubstr("has no vocab or no merges"));
  EXPECT_THAT(without("/model/merges/0", "ab"), HasSubstr("a merge that is not a pair"));
  EXPECT_THAT(without("/model/vocab/a", -1), HasSubstr("token 'a' a number that is out of range"));
  EXPECT_THAT(without("/model/vocab/a", 1 << 21), HasSubstr("token 'a' a number that is out of range"));
  EXPECT_THAT(without("/added_tokens/0", "x"), HasSubstr("an added token without content or id"));
}

TEST(HfTokenizer, ASplittingRuleThatIsNotKnownIsShownWithThoseThatAre) {
  const auto rule = [](const char* text, bool ignore_merges = false) {
    const auto found = hf_split_rule(nlohmann::json::parse(text), ignore_merges, "t");
    return found.has_value() ? *found : message(found);
  };
  EXPECT_THAT(rule(R"({"type":"Split","pattern":{"Regex":"[a-z]+"},"behavior":"Isolated"})"),
              AllOf(HasSubstr("begins '[a-z]+'"), HasSubstr("qwen2, qwen35, llama-bpe, gpt-4o")));
  EXPECT_THAT(rule(R"({"type":"Metaspace"})"), HasSubstr("is not a splitting rule"));
  EXPECT_THAT(rule("null"), HasSubstr("is not a splitting rule"));
  const char* llama3 =
      R"J({"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})J";
  EXPECT_EQ(rule(llama3, true), "llama-bpe");
  EXPECT_EQ(rule(llama3, false), "dbrx");
  const char* deepseek =
      R"J({"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","pattern":{"Regex":"\\p{N}{1,3}"}},{"type":"Split","behavior":"Isolated","pattern":{"Regex":"[一-龥぀-ゟ゠-ヿ]+"}},{"type":"Split","behavior":"Isolated","pattern":{"Regex":"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})J";
  EXPECT_EQ(rule(deepseek), "deepseek-v3");
  const char* gpt4o =
      R"J({"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}})J";
  EXPECT_EQ(rule(gpt4o, true), "gpt-4o");
  const char* qwen35 =
      R"J({"type":"Split","behavior":"Isolated","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}})J";
  EXPECT_EQ(rule(qwen35), "qwen35");
}

// Older files drop what an expression does not match; where it matches everything, that is nothing.
TEST(HfTokenizer, ARuleThatDropsTheRestIsTheSameWhereThereIsNone) {
  const auto rule = [](const char* name, const char* change) {
    auto json = nlohmann::json::parse(
        R"J({"type":"Split","behavior":"Removed","invert":true,"pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}})J");
    json.update(nlohmann::json::parse(change));
    const auto found = hf_split_rule(json, false, name);
    return found.has_value() ? *found : message(found);
  };
  EXPECT_EQ(rule("t", "{}"), "qwen2");
  EXPECT_THAT(rule("t", R"({"invert":false})"), HasSubstr("is not a splitting rule"));
  EXPECT_THAT(rule("t", R"({"behavior":"Isolated"})"), HasSubstr("is not a splitting rule"));
}

TEST(HfTokenizer, FamiliesHaveNamesOfTheirOwnForRules) {
  EXPECT_EQ(hf_rule_of_family("glm4moe", "llama-bpe"), "glm4");
  EXPECT_EQ(hf_rule_of_family("glm4moe", "dbrx"), "glm4");
  EXPECT_EQ(hf_rule_of_family("glm4moe", "qwen2"), "qwen2");
  EXPECT_EQ(hf_rule_of_family("minimax-m2", "gpt-4o"), "minimax-m2");
  EXPECT_EQ(hf_rule_of_family("gpt-oss", "gpt-4o"), "gpt-4o");
  EXPECT_EQ(hf_rule_of_family("olmoe", "gpt-2"), "olmo");
}

TEST(HfTokenizer, AnAddedTokenThatLooksSpecialIsControl) {
  nlohmann::json json = small_tokenizer();
  json["added_tokens"] = nlohmann::json::parse(
      R"([{"id":4,"content":"<|user|>","special":false},{"id":5,"content":"<｜User｜>"},{"id":6,"content":"<x>"},)"
      R"({"id":7,"content":"<|>"}])");
  const auto v = parse_hf_tokenizer(json, "t");
  ASSERT_TRUE(v.has_value()) << v.error().message;
  EXPECT_THAT(v->types, ElementsAre(1, 1, 1, 1, 3, 3, 4, 4));
}

// As llama.cpp's converter: texts end at the next turn, and begin with what the chat template begins with.
TEST(HfTokenizer, GlmsSpecialTokensAreThoseOfItsTemplate) {
  const TempDir dir;
  nlohmann::json json = small_tokenizer();
  json["added_tokens"] = nlohmann::json::array();
  int id = 4;
  for (const char* text : {"<|endoftext|>", "[gMASK]", "<|user|>", "<|observation|>"}) {
    json["added_tokens"].push_back({{"id", id++}, {"content", text}, {"special", true}});
  }
  dir.write("tokenizer.json", json.dump());
  const HfConfig config(nlohmann::json::parse(R"({"eos_token_id":[4,6,7],"pad_token_id":4})"), "c");
  const auto entries = read_hf_tokenizer(dir.path(), config, 9, "glm4moe");
  ASSERT_TRUE(entries.has_value()) << entries.error().message;
  const std::map<std::string, int64_t> wanted = {{"bos", 5}, {"eos", 4},     {"eot", 6},
                                                 {"eom", 7}, {"unknown", 4}, {"padding", 4}};
  for (const auto& [kind, token] : wanted) {
    EXPECT_EQ(integer(*entries, "tokenizer.ggml." + kind + "_token_id"), token) << kind;
  }
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.add_bos_token"), 0);
  const auto of_another = read_hf_tokenizer(dir.path(), config, 9, "qwen3moe");
  ASSERT_TRUE(of_another.has_value()) << of_another.error().message;
  EXPECT_EQ(find(*of_another, "tokenizer.ggml.bos_token_id"), nullptr);
  EXPECT_EQ(integer(*of_another, "tokenizer.ggml.eot_token_id"), 6);
  EXPECT_EQ(integer(*of_another, "tokenizer.ggml.eom_token_id"), 7);
}

TEST(HfTokenizer, OfNormalizersNfcIsKnown) {
  nlohmann::json json = small_tokenizer();
  EXPECT_FALSE(parse_hf_tokenizer(json, "t")->to_nfc);
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", nlohmann::json::array()}};
  EXPECT_FALSE(parse_hf_tokenizer(json, "t")->to_nfc);
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_TRUE(parse_hf_tokenizer(json, "t")->to_nfc);
  json["normalizer"] = {{"type", "Lowercase"}};
  EXPECT_THAT(message(parse_hf_tokenizer(json, "t")),
              HasSubstr("its normalizer is not supported: only NFC is"));
  json["normalizer"] = "NFC";
  EXPECT_THAT(message(parse_hf_tokenizer(json, "t")), HasSubstr("normalizer"));
}

TEST(HfTokenizer, TheFilesBesideItNameTheSpecialTokens) {
  const TempDir dir;
  dir.write("tokenizer.json", small_tokenizer().dump());
  const HfConfig config(nlohmann::json::parse(R"({"bos_token_id":0,"eos_token_id":3})"), "c");
  auto entries = read_hf_tokenizer(dir.path(), config, 9, {});
  ASSERT_TRUE(entries.has_value()) << entries.error().message;
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.eos_token_id"), 3);
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.bos_token_id"), 0);
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.add_bos_token"), 0);
  EXPECT_EQ(find(*entries, "tokenizer.chat_template"), nullptr);
  const auto& tokens = std::get<MetadataEntry::Strings>(find(*entries, "tokenizer.ggml.tokens")->elements);
  EXPECT_EQ(tokens.size(), 9U);
  EXPECT_EQ(tokens[5], "[PAD5]");
  EXPECT_EQ(std::get<MetadataEntry::Integers>(find(*entries, "tokenizer.ggml.token_type")->elements)[5], 5);

  // What tokenizer_config.json names goes first; generation_config.json knows more ends.
  dir.write("tokenizer_config.json",
            std::string_view(
                R"({"eos_token":{"content":"<end>"},"bos_token":"<x>","add_bos_token":true,)"
                R"("chat_template":[{"name":"tool","template":"T"},{"name":"default","template":"D"}]})"));
  dir.write("generation_config.json", std::string_view(R"({"eos_token_id":[4,2]})"));
  entries = read_hf_tokenizer(dir.path(), config, 9, {});
  ASSERT_TRUE(entries.has_value()) << entries.error().message;
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.eos_token_id"), 4);
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.eot_token_id"), 2);
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.bos_token_id"), 6);
  EXPECT_EQ(integer(*entries, "tokenizer.ggml.add_bos_token"), 1);
  EXPECT_THAT(std::get<MetadataEntry::Strings>(find(*entries, "tokenizer.chat_template")->elements),
              ElementsAre("D"));
  dir.write("chat_template.jinja", std::string_view("J"));
  entries = read_hf_tokenizer(dir.path(), config, 9, {});
  EXPECT_THAT(std::get<MetadataEntry::Strings>(find(*entries, "tokenizer.chat_template")->elements),
              ElementsAre("J"));

  EXPECT_THAT(message(read_hf_tokenizer(dir.path(), config, 6, {})),
              HasSubstr("has 7 tokens, but the embedding only 6 rows"));
}

std::filesystem::path tokenizer_data(const std::string& name) {
  return std::filesystem::path(ODMOE_SOURCE_DIR) / "tests/data/tokenizer" / name;
}

// The demo vocabulary in both forms: one was trained with Hugging Face's tokenizers, the other is
// llama.cpp's.
TEST(HfTokenizer, TheDemoVocabularyBecomesThatOfItsGguf) {
  const TempDir dir;
  std::filesystem::copy(tokenizer_data("demo-tokenizer.json"), dir / "tokenizer.json");
  const auto made = read_hf_tokenizer(dir.path(), HfConfig(nlohmann::json::object(), "c"), 2048, {});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const auto gguf = open_checkpoint(tokenizer_data("demo-vocabulary.gguf"));
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  const std::vector<MetadataEntry> wanted = (*gguf)->entries();
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
                          "tokenizer.ggml.token_type", "tokenizer.ggml.merges"}) {
    ASSERT_NE(find(wanted, key), nullptr) << key;
    EXPECT_EQ(*find(*made, key), *find(wanted, key)) << key;
  }
}

TEST(HfTiktoken, TheRanksOfTheDemoVocabularyGiveBackItsMerges) {
  const auto json =
      nlohmann::json::parse(read_text_file(tokenizer_data("demo-tokenizer.json"), 1 << 20).value());
  const auto wanted = parse_hf_tokenizer(json, "t");
  ASSERT_TRUE(wanted.has_value()) << wanted.error().message;
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string tiktoken;
  for (size_t rank = 0; rank < 2045; ++rank) {
    const std::string& text = wanted->tokens[rank];
    const std::string bytes = decode_byte_alphabet(text).value();
    for (size_t i = 0; i < bytes.size(); i += 3) {
      uint32_t group = 0;
      for (size_t j = 0; j < 3; ++j)
        group = group << 8U | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0U);
      for (size_t j = 0; j < 4; ++j) {
        tiktoken += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63U];
      }
    }
    tiktoken += odmoe::format(" {}\n", rank);
  }
  const auto v = parse_tiktoken(tiktoken, nlohmann::json::object(), 2048, "t");
  ASSERT_TRUE(v.has_value()) << v.error().message;
  EXPECT_EQ(v->merges, wanted->merges);
  EXPECT_TRUE(std::equal(v->tokens.begin(), v->tokens.begin() + 2045, wanted->tokens.begin()));
}

TEST(HfTokenizer, NoTokenizerIsAnError) {
  const TempDir dir;
  EXPECT_THAT(message(read_hf_tokenizer(dir.path(), HfConfig(nlohmann::json::object(), "c"), 9, {})),
              HasSubstr("has no tokenizer.json (or tiktoken.model)"));
}

TEST(HfTiktoken, MergesComeFromTheRanks) {
  // a, b, c, "ab", "abc", " a": space is its own byte.
  const auto config = nlohmann::json::parse(R"({"added_tokens_decoder":{"8":{"content":"[BOS]"}}})");
  const auto v = parse_tiktoken("YQ== 0\nYg== 1\nYw== 2\nIA== 3\nYWI= 4\nYWJj 5\nIGE= 6\n", config, 10, "t");
  ASSERT_TRUE(v.has_value()) << v.error().message;
  EXPECT_THAT(v->tokens, ElementsAre("a", "b", "c", "Ġ", "ab", "abc", "Ġa", "<|reserved_token_7|>", "[BOS]",
                                     "<|reserved_token_9|>"));
  EXPECT_THAT(v->merges, ElementsAre("a b", "ab c", "Ġ a"));
  EXPECT_THAT(v->types, ElementsAre(1, 1, 1, 1, 1, 1, 1, 3, 3, 3));
  EXPECT_EQ(v->pre, "kimi-k2");
}

TEST(HfTiktoken, DamageIsNamedWithItsLine) {
  const auto parse = [](std::string_view text, const char* config = "{}") {
    return message(parse_tiktoken(text, nlohmann::json::parse(config), 10, "t"));
  };
  EXPECT_THAT(parse("YQ== 0\n*** 1\n"), HasSubstr("line 2 is not a token in base64"));
  EXPECT_THAT(parse("YQ==\n"), HasSubstr("line 1 is not a token in base64"));
  EXPECT_THAT(parse("YQ== x\n"), HasSubstr("line 1 has no rank"));
  EXPECT_THAT(parse("YQ== 99999999999999999999\n"), HasSubstr("line 1 has no rank"));
  EXPECT_THAT(parse("YQ== 0\nYQ== 1\n"), HasSubstr("line 2 repeats"));
  EXPECT_THAT(parse("YQ== 0\n", R"({"added_tokens_decoder":{"10":{"content":"x"}}})"),
              HasSubstr("adds token '10'"));
  EXPECT_THAT(parse("YQ== 0\n", R"({"added_tokens_decoder":{"0":{"content":"x"}}})"),
              HasSubstr("adds token '0'"));
}

}  // namespace
}  // namespace odmoe
