// SentencePiece's vocabularies, and Gemma 4's, which writes its tokens as they do.
#include "model/tokenizer/spm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "model/tokenizer/testing_vocabulary.h"
#include "model/tokenizer/tokenizer.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kUnused = 5;
constexpr Token kBos = 1, kEos = 2;

Token byte(uint8_t value) { return 3 + value; }

testing::GgufWriter without_space(const SpmVocabulary& vocabulary) {
  return vocabulary.writer().set("tokenizer.ggml.add_space_prefix", false);
}

TEST(Spm, TheBestScoreIsMergedFirstAndOfEqualsTheLeftmost) {
  SpmVocabulary vocabulary;
  const Token a = vocabulary.add("a", -9), b = vocabulary.add("b", -9);
  const Token ab = vocabulary.add("ab", -3);
  const Token ba = vocabulary.add("ba", -1);
  const Token bb = vocabulary.add("bb", -3);
  const auto tokenizer = create(without_space(vocabulary));
  EXPECT_THAT(encode(*tokenizer, "aba"), ElementsAre(a, ba));
  EXPECT_THAT(encode(*tokenizer, "abb"), ElementsAre(ab, b));
  EXPECT_THAT(encode(*tokenizer, "bbb"), ElementsAre(bb, b));
}

TEST(Spm, APieceThatIsNoTokenIsWrittenInBytes) {
  SpmVocabulary vocabulary;
  const Token a = vocabulary.add("a", -1);
  const auto tokenizer = create(without_space(vocabulary));
  EXPECT_THAT(encode(*tokenizer, "a\u00e9\n"), ElementsAre(a, byte(0xC3), byte(0xA9), byte('\n')));
  EXPECT_THAT(encode(*tokenizer,
                     "\xFF"
                     "a"),
              ElementsAre(byte(0xFF), a));
  EXPECT_EQ(tokenizer->token_bytes(byte(0xC3)), "\xC3");
  EXPECT_EQ(tokenizer->find("\n"), byte('\n'));
}

TEST(Spm, CharactersThatAreNoTokensMergeToOnesThatAre) {
  SpmVocabulary vocabulary;
  const Token xy = vocabulary.add("xy", -1);
  EXPECT_THAT(encode(*create(without_space(vocabulary)), "xyx"), ElementsAre(xy, byte('x')));
}

TEST(Spm, ASpaceGoesBeforeTheTextAndBeforeWhatFollowsASpecialToken) {
  SpmVocabulary vocabulary;
  const Token space = vocabulary.add("▁", -5);
  const Token a = vocabulary.add("a", -5);
  const Token space_a = vocabulary.add("▁a", -1);
  const Token mark = vocabulary.add("[m]", 0, kControl);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_TRUE(tokenizer->add_space());
  EXPECT_THAT(encode(*tokenizer, ""), ElementsAre());
  EXPECT_THAT(encode(*tokenizer, "a"), ElementsAre(space_a));
  EXPECT_THAT(encode(*tokenizer, " a"), ElementsAre(space, space_a));
  EXPECT_THAT(encode(*tokenizer, "aa[m]a", true), ElementsAre(space_a, a, mark, space_a));
  EXPECT_THAT(encode(*create(without_space(vocabulary)), "a[m]a", true), ElementsAre(a, mark, a));
}

TEST(Spm, DecodingTakesOffTheSpaceThatWasPutBeforeTheText) {
  SpmVocabulary vocabulary;
  const Token space = vocabulary.add("▁", -5);
  const Token space_a = vocabulary.add("▁a", -1);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_EQ(tokenizer->decode(std::vector<Token>{space_a, space_a}), "a a");
  EXPECT_EQ(tokenizer->decode(std::vector<Token>{space, space_a}), " a");
  EXPECT_EQ(tokenizer->decode(std::vector<Token>{kBos, space_a}), "a");
  EXPECT_EQ(tokenizer->decode(std::vector<Token>{kBos, space_a}, true), "<s>a");
  for (const std::string text : {"", " ", "a", "  a a ", "x\ny", "\xFF", " \u00e9"}) {
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
  // What is generated goes on with a text: its space stays.
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.push(space_a), " a");
}

TEST(Spm, BosIsAddedAndTheUsualIdsAreMeantWhereTheFileDoesNotSay) {
  SpmVocabulary vocabulary;
  const Token a = vocabulary.add("▁a", -1);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(tokenizer->encode("a"), ElementsAre(kBos, a));
  EXPECT_EQ(tokenizer->bos(), kBos);
  EXPECT_EQ(tokenizer->eos(), kEos);
  EXPECT_TRUE(tokenizer->is_end(kEos));
  const auto other = create(vocabulary.writer()
                                .set("tokenizer.ggml.add_bos_token", false)
                                .set("tokenizer.ggml.add_eos_token", true)
                                .set("tokenizer.ggml.eos_token_id", uint32_t{0}));
  EXPECT_THAT(other->encode("a"), ElementsAre(a, 0));
}

TEST(Spm, TextNeverMergesToASpecialToken) {
  SpmVocabulary vocabulary;
  vocabulary.add("[m", -1);
  const Token control = vocabulary.add("[m]", 5, kControl);
  const Token user = vocabulary.add("<u>", 5, kUserDefined);
  const auto tokenizer = create(without_space(vocabulary));
  for (const Token token : encode(*tokenizer, "[m]")) EXPECT_NE(token, control);
  EXPECT_THAT(encode(*tokenizer, "[m]", true), ElementsAre(control));
  EXPECT_THAT(encode(*tokenizer, "<u>"), ElementsAre(user));
}

TEST(Spm, TheLowerBlockIsASpace) {
  SpmVocabulary vocabulary;
  const Token space_a = vocabulary.add("▁a", -1);
  const auto tokenizer = create(without_space(vocabulary));
  EXPECT_THAT(encode(*tokenizer, "▁a"), ElementsAre(space_a));
  EXPECT_EQ(tokenizer->token_bytes(space_a), " a");
}

TEST(Spm, Phi3sSpecialTokensTakeTheWhiteSpaceAfterThem) {
  SpmVocabulary vocabulary;
  const Token space_a = vocabulary.add("▁a", -1);
  const Token user = vocabulary.add("<|user|>", 0, kControl);
  const std::string text = "<|user|>\n \ta<s> a";
  auto phi = vocabulary.writer();
  phi.set("general.name", "Phi-3 mini");
  const Token space = byte(' ');
  EXPECT_THAT(encode(*create(phi), text, true), ElementsAre(user, space_a, kBos, space, space_a));
  EXPECT_THAT(encode(*create(vocabulary.writer()), text, true),
              ElementsAre(user, space, byte('\n'), space, byte('\t'), byte('a'), kBos, space, space_a));
}

// The definition: of all neighbours whose text is a token those of the best score, the leftmost of these,
// again and again; over the whole text, however it is divided on the way.
std::vector<Token> merge_by_definition(const std::map<std::string, std::pair<float, Token>>& known,
                                       const std::string& text) {
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  while (true) {
    float best_score = -std::numeric_limits<float>::infinity();
    size_t best = 0;
    bool found = false;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto token = known.find(symbols[i] + symbols[i + 1]);
      if (token == known.end() || (found && token->second.first <= best_score)) continue;
      found = true;
      best_score = token->second.first;
      best = i;
    }
    if (!found) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  std::vector<Token> tokens;
  for (const std::string& symbol : symbols) {
    const auto token = known.find(symbol);
    tokens.push_back(token != known.end() ? token->second.second : byte(static_cast<uint8_t>(symbol[0])));
  }
  return tokens;
}

TEST(Spm, MergesAsTheDefinitionSaysWhateverTheScores) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    SpmVocabulary vocabulary;
    std::map<std::string, std::pair<float, Token>> known;
    const auto n_token = 1 + random() % 30;
    for (size_t i = 0; i < n_token; ++i) {
      std::string text(1 + random() % 5, ' ');
      for (char& c : text) c = "abcd "[random() % (1 + round % 5)];
      const auto score = static_cast<float>(random() % 8);
      if (known.contains(text)) continue;
      std::string written;
      for (const char c : text) written += c == ' ' ? "▁" : std::string(1, c);
      known[text] = {score, vocabulary.add(written, score, random() % 8 == 0 ? kUnused : 1)};
    }
    const auto tokenizer = create(without_space(vocabulary));
    for (int i = 0; i < 10; ++i) {
      std::string text(random() % 100, ' ');
      for (char& c : text) c = "abcd "[random() % (1 + round % 5)];
      ASSERT_EQ(encode(*tokenizer, text), merge_by_definition(known, text)) << text;
    }
  }
}

TEST(Spm, LimitsHold) {
  SpmVocabulary vocabulary;
  vocabulary.add("aa", -1);
  const auto tokenizer = create(vocabulary.writer());
  const std::string text(1 << 20, 'a');
  const auto most = tokenizer->encode(text, {}, {.tokens = 1000});
  ASSERT_FALSE(most.has_value());
  EXPECT_EQ(most.error().kind, ErrorKind::kBudget);
  const auto word = tokenizer->encode(text, {}, {.word_bytes = 1000});
  ASSERT_FALSE(word.has_value());
  EXPECT_THAT(word.error().message, HasSubstr("a word of"));
  // Where nothing can merge is where a word ends.
  std::string apart;
  for (int i = 0; i < 1000; ++i) apart += "aaaaaa b";
  EXPECT_TRUE(tokenizer->encode(apart, {}, {.word_bytes = 16}).has_value());
  // A copy of the text is no larger than a word either.
  const auto copied = tokenizer->encode(apart + "\u2581", {}, {.word_bytes = 16});
  ASSERT_FALSE(copied.has_value());
  EXPECT_THAT(copied.error().message, HasSubstr("U+2581"));
  int left = 3;
  const auto ended = tokenizer->encode(apart + apart, {}, {.goes_on = [&] { return --left > 0; }});
  ASSERT_FALSE(ended.has_value());
  EXPECT_EQ(ended.error().kind, ErrorKind::kInterrupted);
}

TEST(Spm, DamagedVocabulariesAreRefused) {
  SpmVocabulary few;
  few.scores.pop_back();
  EXPECT_THAT(error_of(few.writer()).message, HasSubstr("259 tokens but only 258 scores"));
  SpmVocabulary byteless;
  byteless.kinds[byte('\n')] = 1;
  EXPECT_THAT(error_of(byteless.writer()).message, HasSubstr("no token for the byte 0x0A: no byte fallback"));
  auto gguf = SpmVocabulary().writer();
  gguf.remove("tokenizer.ggml.pre");
  EXPECT_THAT(error_of(gguf.set("tokenizer.ggml.pre", "no-such-rule")).message,
              HasSubstr("\"no-such-rule\" is not supported with tokenizer model llama"));
}

TEST(Gemma4, MergesCharactersByRankOverSpaces) {
  SpmVocabulary vocabulary;
  vocabulary.add("▁", 0);
  vocabulary.add("a", 0);
  vocabulary.add("\u00e9", 0);
  const Token a_space = vocabulary.add("a▁", 0);
  const Token joined = vocabulary.add("a▁\u00e9", 0);
  const auto gguf = vocabulary.writer("gemma4", {"a ▁", "a▁ \u00e9"});
  const auto tokenizer = create(gguf);
  EXPECT_FALSE(tokenizer->add_space());
  EXPECT_THAT(encode(*tokenizer, "a \u00e9a "), ElementsAre(joined, a_space));
  EXPECT_THAT(encode(*tokenizer, "a \u00e8"), ElementsAre(a_space, byte(0xC3), byte(0xA8)));
  EXPECT_EQ(tokenizer->decode(encode(*tokenizer, "a \u00e9 \xC3\xFF")), "a \u00e9 \xC3\xFF");
}

TEST(Gemma4, NewlinesAreAWordOfTheirOwnAndWholeWhereTheyAreAToken) {
  SpmVocabulary vocabulary;
  const Token two = vocabulary.add("\n\n", 0);
  vocabulary.add("a", 0);
  const auto tokenizer = create(vocabulary.writer("gemma4", {}));
  EXPECT_THAT(encode(*tokenizer, "\n\n"), ElementsAre(two));
  EXPECT_THAT(encode(*tokenizer, "\n\n\n"), ElementsAre(byte('\n'), byte('\n'), byte('\n')));
}

TEST(Gemma4, BosIsAddedWhateverTheFileSays) {
  SpmVocabulary vocabulary;
  const Token a = vocabulary.add("a", 0);
  const auto tokenizer = create(vocabulary.writer("gemma4", {}).set("tokenizer.ggml.add_bos_token", false));
  EXPECT_THAT(tokenizer->encode("a"), ElementsAre(kBos, a));
}

TEST(Gemma4, EndsWithItsTurnAndNotWithATagOfHtml) {
  SpmVocabulary vocabulary;
  const Token tag = vocabulary.add("</b>", 0, kUserDefined);
  const Token turn = vocabulary.add("<turn|>", 0, kControl);
  const Token response = vocabulary.add("<|tool_response>", 0, kControl);
  const auto tokenizer = create(vocabulary.writer("gemma4", {}));
  EXPECT_TRUE(tokenizer->is_end(turn));
  EXPECT_TRUE(tokenizer->is_end(response));
  EXPECT_FALSE(tokenizer->is_end(kEos));  // </s>
  EXPECT_FALSE(tokenizer->is_end(tag));
}

}  // namespace
}  // namespace odmoe
