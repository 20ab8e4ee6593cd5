#include "model/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/tokenizer/testing_vocabulary.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Tokenizer, MergesInTheOrderOfTheRanksNotOfTheText) {
  TestVocabulary vocabulary;
  const Token bc = vocabulary.add_merge("b", "c");
  vocabulary.add_merge("a", "b");
  const Token abc = vocabulary.add_merge("a", "bc");
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "bc"), ElementsAre(bc));
  EXPECT_THAT(encode(*tokenizer, "abc"), ElementsAre(abc));
  EXPECT_THAT(encode(*tokenizer, "abcbc"), ElementsAre(abc, bc));
}

TEST(Tokenizer, OfEqualPairsTheLeftmostIsMergedFirst) {
  TestVocabulary vocabulary;
  const Token aa = vocabulary.add_merge("a", "a");
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "aaaaa"), ElementsAre(aa, aa, 'a'));
}

TEST(Tokenizer, NeverMergesAcrossWords) {
  TestVocabulary vocabulary;
  vocabulary.add_merge("1", "2");
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "12"), ElementsAre('1', '2'));  // qwen2 isolates digits
}

// 2^20 letters in one word: with a scan per merge this would take hours.
TEST(Tokenizer, AWordOfAMegabyteIsOrdinaryWork) {
  TestVocabulary vocabulary;
  std::string piece = "a";
  Token longest = -1;
  for (int i = 0; i < 6; ++i) {
    longest = vocabulary.add_merge(piece, piece);
    piece += piece;
  }
  const auto tokenizer = create(vocabulary.writer());
  const std::string text(1 << 20, 'a');
  EXPECT_EQ(encode(*tokenizer, text), std::vector<Token>((1 << 20) / 64, longest));
}

// The definition: of all pairs that stand beside each other the one of the lowest rank, the leftmost of
// these, again and again.
std::vector<std::string> merge_by_definition(const std::vector<std::pair<std::string, std::string>>& merges,
                                             std::string_view word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  while (true) {
    size_t best_rank = merges.size(), best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].first != symbols[i] || merges[rank].second != symbols[i + 1]) continue;
        best_rank = rank;
        best = i;
      }
    }
    if (best_rank == merges.size()) return symbols;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(Tokenizer, MergesAsTheDefinitionSaysWhateverTheMerges) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    TestVocabulary vocabulary;
    std::vector<std::string> known = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    const size_t n_merge = 1 + random() % 30;
    while (merges.size() < n_merge) {
      std::pair<std::string, std::string> merge = {known[random() % known.size()],
                                                   known[random() % known.size()]};
      if (std::ranges::contains(merges, merge)) break;
      const std::string whole = merge.first + merge.second;
      if (!std::ranges::contains(known, whole)) {
        vocabulary.add_merge(merge.first, merge.second);
        known.push_back(whole);
      } else {
        vocabulary.merges.push_back(merge.first + " " + merge.second);  // another way to the same token
      }
      merges.push_back(std::move(merge));
    }
    std::ranges::shuffle(vocabulary.merges, random);  // ranks need not follow how tokens are made of others
    merges.clear();
    for (const std::string& text : vocabulary.merges) {
      const size_t space = text.find(' ');
      merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
    const auto tokenizer = create(vocabulary.writer());
    for (int i = 0; i < 10; ++i) {
      std::string word(1 + random() % 200, 'a');
      const auto letters = 1 + random() % 3;
      for (char& c : word) c = static_cast<char>('a' + random() % letters);
      std::vector<std::string> pieces;
      for (const Token token : encode(*tokenizer, word)) pieces.push_back(tokenizer->token_bytes(token));
      ASSERT_EQ(pieces, merge_by_definition(merges, word)) << word;
    }
  }
}

TEST(Tokenizer, StopsAtTheMostTokensThatAreWanted) {
  const auto tokenizer = create(TestVocabulary().writer());
  const auto encode_most = [&](std::string_view text, size_t most, bool special = false) {
    return tokenizer->encode(text, {.add_special = special}, {.tokens = most});
  };
  EXPECT_THAT(encode_most("1234", 4).value(), ElementsAre('1', '2', '3', '4'));
  const auto over = encode_most("12345", 4);
  ASSERT_FALSE(over.has_value());
  EXPECT_EQ(over.error().kind, ErrorKind::kBudget);
  EXPECT_THAT(over.error().message, HasSubstr("more than 4 tokens"));
  // What cannot fit is not merged to find that out: here that would take a gigabyte.
  int asked = 0;
  const std::string large(size_t{64} << 20, 'a');
  const auto answer = tokenizer->encode(large, {.add_special = false}, {.tokens = 1000, .goes_on = [&] {
                                                                          ++asked;
                                                                          return true;
                                                                        }});
  EXPECT_FALSE(answer.has_value());
  EXPECT_EQ(asked, 1);
}

TEST(Tokenizer, AWordLongerThanIsAllowedIsRefusedAndNotCut) {
  const auto tokenizer = create(TestVocabulary().writer());
  const EncodeLimits limits{.word_bytes = 8};
  EXPECT_EQ(tokenizer->encode("abcdefgh abcdefg", {.add_special = false}, limits).value().size(), 16);
  const auto refused = tokenizer->encode("abcdefghi", {.add_special = false}, limits);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBudget);
  EXPECT_THAT(refused.error().message, HasSubstr("a word of 9 bytes"));
}

TEST(Tokenizer, EndsWhenItIsTold) {
  const auto tokenizer = create(TestVocabulary().writer());
  int left = 3;
  const EncodeLimits limits{.goes_on = [&] { return --left > 0; }};
  const auto ended = tokenizer->encode(std::string(1 << 20, '1'), {.add_special = false}, limits);
  ASSERT_FALSE(ended.has_value());
  EXPECT_EQ(ended.error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(left, 0);
}

TEST(Tokenizer, ControlTokensAreReadOnlyWhenAskedForAndShownOnlyWhenAskedFor) {
  TestVocabulary vocabulary;
  const Token control = vocabulary.add("<c>", kControl);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "a<c>b"), ElementsAre('a', '<', 'c', '>', 'b'));
  EXPECT_THAT(encode(*tokenizer, "a<c>b", true), ElementsAre('a', control, 'b'));
  EXPECT_EQ(tokenizer->decode(std::vector<Token>{'a', control, 'b'}), "ab");
  EXPECT_EQ(tokenizer->decode(std::vector<Token>{'a', control, 'b'}, true), "a<c>b");
}

TEST(Tokenizer, UserDefinedTokensAreAlwaysReadAndShown) {
  TestVocabulary vocabulary;
  const Token step = vocabulary.add(" s0001", kUserDefined);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "x s0001 s0001y"), ElementsAre('x', step, step, 'y'));
  EXPECT_EQ(tokenizer->decode(std::vector<Token>{step, step}), " s0001 s0001");
}

TEST(Tokenizer, OfSpecialTokensTheLeftmostAndThenTheLongestCounts) {
  TestVocabulary vocabulary;
  const Token ab = vocabulary.add("[ab]", kUserDefined);
  const Token abc = vocabulary.add("[ab][c]", kUserDefined);
  const Token tail = vocabulary.add("b][", kUserDefined);
  const Token control = vocabulary.add("[ab][c][d]", kControl);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "[ab]"), ElementsAre(ab));
  EXPECT_THAT(encode(*tokenizer, "[ab][c]"), ElementsAre(abc));
  EXPECT_THAT(encode(*tokenizer, "b][c"), ElementsAre(tail, 'c'));
  EXPECT_THAT(encode(*tokenizer, "[ab][c][d]"), ElementsAre(abc, '[', 'd', ']'));
  EXPECT_THAT(encode(*tokenizer, "[ab][c][d]", true), ElementsAre(control));
  EXPECT_THAT(encode(*tokenizer, "[ab][c"), ElementsAre(ab, '[', 'c'));
}

TEST(Tokenizer, TextAroundASpecialTokenIsSplitOnItsOwn) {
  TestVocabulary vocabulary;
  const Token spaces = vocabulary.add_merge("Ġ", "Ġ");
  const Token control = vocabulary.add("<c>", kControl);
  const auto tokenizer = create(vocabulary.writer());
  // Before a letter the last space belongs to the letter's word; at the end of a text, and so before <c>, it
  // does not.
  EXPECT_THAT(encode(*tokenizer, "  x"), ElementsAre(' ', ' ', 'x'));
  EXPECT_THAT(encode(*tokenizer, "  <c>", true), ElementsAre(spaces, control));
}

TEST(Tokenizer, WholeWordsGoBeforeMergesOnlyWhereTheRuleSaysSo) {
  TestVocabulary vocabulary;
  vocabulary.add_merge("a", "b");
  const Token whole = vocabulary.add("abc");  // no merge makes it
  const Token bos = vocabulary.add("<s>", kControl);
  auto gguf = vocabulary.writer("llama-bpe");
  gguf.set("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(bos));
  EXPECT_THAT(encode(*create(gguf), "abc"), ElementsAre(whole));
  EXPECT_THAT(encode(*create(vocabulary.writer("dbrx")), "abc"), ElementsAre(256, 'c'));
}

TEST(Tokenizer, BosAndEosAreAddedWhereTheFileOrTheRuleAsksForThem) {
  TestVocabulary vocabulary;
  const Token bos = vocabulary.add("<s>", kControl);
  const Token eos = vocabulary.add("<e>", kControl);
  const auto with_ids = [&](std::string_view rule) {
    auto gguf = vocabulary.writer(rule);
    gguf.set("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(bos));
    gguf.set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(eos));
    return gguf;
  };
  const auto plain = create(with_ids("qwen2"));
  EXPECT_THAT(plain->encode("a"), ElementsAre('a'));
  EXPECT_FALSE(plain->add_bos());
  EXPECT_EQ(plain->bos(), bos);
  EXPECT_EQ(plain->eos(), eos);

  const auto both = create(
      with_ids("qwen2").set("tokenizer.ggml.add_bos_token", true).set("tokenizer.ggml.add_eos_token", true));
  EXPECT_THAT(both->encode("a"), ElementsAre(bos, 'a', eos));
  EXPECT_THAT(both->encode("", {}), ElementsAre(bos, eos));
  EXPECT_THAT(encode(*both, "a"), ElementsAre('a'));
  EXPECT_TRUE(both->add_bos());

  EXPECT_THAT(create(with_ids("llama-bpe"))->encode("a"), ElementsAre(bos, 'a'));
  EXPECT_THAT(create(with_ids("llama-bpe").set("tokenizer.ggml.add_bos_token", false))->encode("a"),
              ElementsAre('a'));
}

TEST(Tokenizer, EndsAreWhatTheFileNamesAndWhatIsKnownByItsText) {
  TestVocabulary vocabulary;
  const Token eos = vocabulary.add("<e>", kControl);
  const Token eot = vocabulary.add("<t>", kControl);
  const Token im_end = vocabulary.add("<|im_end|>");  // not even marked as control
  const Token deepseek = vocabulary.add("<｜end▁of▁sentence｜>", kControl);
  const Token kimi = vocabulary.add("[EOS]", kControl);
  const Token other = vocabulary.add("<|im_start|>", kControl);
  const auto tokenizer = create(vocabulary.writer()
                                    .set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(eos))
                                    .set("tokenizer.ggml.eot_token_id", static_cast<uint32_t>(eot)));
  for (const Token token : {eos, eot, im_end, deepseek, kimi}) EXPECT_TRUE(tokenizer->is_end(token)) << token;
  for (const Token token : {other, Token{'a'}, Token{-1}, Token{100000}}) {
    EXPECT_FALSE(tokenizer->is_end(token)) << token;
  }
  EXPECT_EQ(tokenizer->token_bytes(im_end), "");
  EXPECT_EQ(tokenizer->token_bytes(im_end, true), "<|im_end|>");
}

TEST(Tokenizer, InHarmonyTheEndOfAMessageIsNotTheEnd) {
  TestVocabulary vocabulary;
  const Token end = vocabulary.add("<|end|>", kControl);
  EXPECT_TRUE(create(vocabulary.writer())->is_end(end));
  const Token returns = vocabulary.add("<|return|>", kControl);
  vocabulary.add("<|call|>", kControl);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_FALSE(tokenizer->is_end(end));
  EXPECT_TRUE(tokenizer->is_end(returns));
}

TEST(Tokenizer, TokensThatTheFileSuppressesAreThoseOfTheVocabulary) {
  TestVocabulary vocabulary;
  const Token image = vocabulary.add("<image|>", kControl);
  const auto with = [&](const std::vector<int32_t>& tokens) {
    return try_create(vocabulary.writer().set_array("tokenizer.ggml.suppress_tokens", tokens));
  };
  const auto tokenizer = with({image, 0});
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  EXPECT_THAT((*tokenizer)->suppressed(), ElementsAre(image, 0));
  EXPECT_TRUE(create(vocabulary.writer())->suppressed().empty());
  for (const int32_t wrong : {-1, image + 1}) {
    const auto refused = with({wrong});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().kind, ErrorKind::kBadFile);
    EXPECT_THAT(refused.error().message, HasSubstr("suppress_tokens"));
  }
}

// llama.cpp knows the same by key and by text.
TEST(Tokenizer, EveryFamilyEndsWhereItsFileOrItsTokensSay) {
  struct Family {
    std::vector<const char*> ends, others;
  };
  const Family families[] = {
      {{"<|return|>", "<|call|>", "<|endoftext|>"}, {"<|end|>", "<|start|>", "<|message|>", "<|channel|>"}},
      {{"<end_of_turn>", "<eos>"}, {"<start_of_turn>", "<bos>"}},
      {{"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}, {"<|start_header_id|>", "<|python_tag|>"}},
      {{"<|eot|>", "<|eom|>"}, {"<|header_start|>", "<|step|>"}},
      {{"<|endoftext|>"}, {"<|assistant|>", "[gMASK]"}},
      {{"[e~["}, {"]~b]"}},
      {{"<|end_of_text|>", "<reponame>", "<fim_pad>"}, {"<|start_of_role|>", "<fim_prefix>"}},
      {{"<|end|>"}, {"<|user|>"}},
      {{"[EOT]", "[EOS]", "[PAD]"}, {"[BOS]"}},
  };
  for (const Family& family : families) {
    TestVocabulary vocabulary;
    std::vector<Token> ends, others;
    for (const char* text : family.ends) ends.push_back(vocabulary.add(text, kControl));
    for (const char* text : family.others) others.push_back(vocabulary.add(text, kControl));
    const auto tokenizer = create(vocabulary.writer());
    for (const Token token : ends)
      EXPECT_TRUE(tokenizer->is_end(token)) << tokenizer->token_bytes(token, true);
    for (const Token token : others)
      EXPECT_FALSE(tokenizer->is_end(token)) << tokenizer->token_bytes(token, true);
  }
  // GLM's are roles, which its file names.
  TestVocabulary glm;
  const Token user = glm.add("<|user|>", kControl), observation = glm.add("<|observation|>", kControl);
  const auto tokenizer = create(glm.writer()
                                    .set("tokenizer.ggml.eot_token_id", static_cast<uint32_t>(user))
                                    .set("tokenizer.ggml.eom_token_id", static_cast<uint32_t>(observation)));
  EXPECT_TRUE(tokenizer->is_end(user) && tokenizer->is_end(observation));
}

TEST(Tokenizer, TokensByWhichTextIsFilledInAreControlTokensWhateverTheFileSays) {
  TestVocabulary vocabulary;
  const Token prefix = vocabulary.add("<|fim_prefix|>", kUserDefined);
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_EQ(tokenizer->token_bytes(prefix), "");
  EXPECT_THAT(encode(*tokenizer, "<|fim_prefix|>", true), ElementsAre(prefix));
  EXPECT_EQ(encode(*tokenizer, "<|fim_prefix|>").size(), 14);
}

TEST(Tokenizer, TextIsComposedFirstWhereTheFileAsksForIt) {
  TestVocabulary vocabulary;
  const Token e_acute = vocabulary.add_merge("Ã", "©");
  const auto plain = create(vocabulary.writer());
  EXPECT_THAT(encode(*plain, "e\u0301"), ElementsAre('e', 0xCC, 0x81));
  const auto composing = create(vocabulary.writer().set("tokenizer.ggml.normalizer.nfc", true));
  EXPECT_THAT(encode(*composing, "e\u0301x"), ElementsAre(e_acute, 'x'));
  EXPECT_THAT(encode(*composing, "\u00e9"), ElementsAre(e_acute));
}

TEST(Tokenizer, BytesThatNoTextHasMayLackATokenAndAreReplaced) {
  TestVocabulary vocabulary;
  const Token replacement = vocabulary.add_merge("ï", "¿");
  vocabulary.tokens[0xFF] = "nothing";
  vocabulary.tokens[0xF2] = "nothing else";
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "a\xFF"), ElementsAre('a', replacement, 0xBD));
  // As Hugging Face's and llama.cpp: what is no token is left out.
  EXPECT_THAT(encode(*tokenizer, "\U00080000"), ElementsAre(0x80, 0x80, 0x80));
}

TEST(Tokenizer, FindsTokensByTheirBytes) {
  TestVocabulary vocabulary;
  const Token the = vocabulary.add("Ġthe");
  const Token control = vocabulary.add("<c>", kControl);
  const auto tokenizer = create(vocabulary.writer().set("tokenizer.chat_template", "{{ x }}"));
  EXPECT_EQ(tokenizer->find(" the"), the);
  EXPECT_EQ(tokenizer->find("<c>"), control);
  EXPECT_EQ(tokenizer->find("<d>"), -1);
  EXPECT_EQ(tokenizer->find(""), -1);
  EXPECT_EQ(tokenizer->n_vocab(), 258);
  EXPECT_EQ(tokenizer->chat_template(), "{{ x }}");
}

TEST(Tokenizer, TokensBeyondTheVocabularyHaveNoBytes) {
  const auto tokenizer = create(TestVocabulary().writer());
  EXPECT_EQ(tokenizer->token_bytes(-1, true), "");
  EXPECT_EQ(tokenizer->token_bytes(256, true), "");
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->eos(), -1);
}

TEST(Tokenizer, AnyBytesComeBack) {
  TestVocabulary vocabulary;
  vocabulary.add_merge("Ġ", "t");
  vocabulary.add_merge("Ã", "©");
  std::string text = "caf\xC3\xA9 t\xED\xA0\x80\xF0\x9F\x9A";
  for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
  text += "\xFF\xFF\xC3";
  for (const char* rule : {"qwen2", "gpt-2", "deepseek-llm", "deepseek-v3", "kimi-k2", "gpt-4o"}) {
    const auto tokenizer = create(vocabulary.writer(rule));
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text) << rule;
  }
}

TEST(Tokenizer, UnknownModelsAndRulesAreNamedWithTheKnownOnes) {
  const Error rule = error_of(TestVocabulary().writer("no-such-rule"));
  EXPECT_EQ(rule.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(rule.message, HasSubstr("\"no-such-rule\""));
  EXPECT_THAT(rule.message, HasSubstr("qwen2"));
  EXPECT_THAT(rule.message, HasSubstr("kimi-k2"));

  auto gguf = TestVocabulary().writer();
  gguf.remove("tokenizer.ggml.model");
  gguf.set("tokenizer.ggml.model", "bert");
  const Error model = error_of(gguf);
  EXPECT_EQ(model.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(model.message, HasSubstr("\"bert\""));
  EXPECT_THAT(model.message, HasSubstr("gemma4, gpt2, llama"));
}

TEST(Tokenizer, DamagedVocabulariesAreRefused) {
  const auto message = [](const testing::GgufWriter& gguf) {
    const Error error = error_of(gguf);
    EXPECT_EQ(error.kind, ErrorKind::kBadFile) << error.message;
    EXPECT_EQ(error.message.find('\n'), std::string::npos);
    return error.message;
  };
  for (const char* key :
       {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    auto gguf = TestVocabulary().writer();
    gguf.remove(key);
    EXPECT_THAT(message(gguf), HasSubstr(key));
  }

  TestVocabulary no_newline;
  no_newline.tokens['\n'] = "nothing";
  EXPECT_THAT(message(no_newline.writer()), HasSubstr("no token for the byte 0x0A"));

  TestVocabulary few_kinds;
  few_kinds.kinds.pop_back();
  EXPECT_THAT(message(few_kinds.writer()), HasSubstr("256 tokens but only 255 token types"));

  TestVocabulary empty;
  empty.tokens.clear();
  empty.kinds.clear();
  EXPECT_THAT(message(empty.writer()), HasSubstr("the vocabulary is empty"));

  const auto with_merge = [](const char* merge) {
    TestVocabulary vocabulary;
    vocabulary.merges.emplace_back(merge);
    return vocabulary.writer();
  };
  EXPECT_THAT(message(with_merge("a b")), HasSubstr("merge 0 names what is not in the vocabulary"));
  EXPECT_THAT(message(with_merge("ab")), HasSubstr("merge 0 is not a pair"));
  EXPECT_THAT(message(with_merge("a ")), HasSubstr("merge 0 is not a pair"));
  EXPECT_THAT(message(with_merge("")), HasSubstr("merge 0 is not a pair"));
  EXPECT_THAT(message(with_merge("a ｜")), HasSubstr("merge 0 is not written in the byte alphabet"));

  for (const char* key :
       {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    auto gguf = TestVocabulary().writer();
    EXPECT_THAT(message(gguf.set(key, uint32_t{256})), HasSubstr(key));
  }
  auto nameless_bos = TestVocabulary().writer();
  EXPECT_THAT(message(nameless_bos.set("tokenizer.ggml.add_bos_token", true)),
              HasSubstr("tokenizer.ggml.add_bos_token"));
}

TEST(Tokenizer, RepeatedMergesAndTokensCountOnce) {
  TestVocabulary vocabulary;
  const Token ab = vocabulary.add_merge("a", "b");
  const Token bc = vocabulary.add_merge("b", "c");
  vocabulary.merges.emplace_back("a b");
  vocabulary.add("ab");
  const auto tokenizer = create(vocabulary.writer());
  EXPECT_THAT(encode(*tokenizer, "abc"), ElementsAre(ab, 'c'));
  EXPECT_THAT(encode(*tokenizer, "bc"), ElementsAre(bc));
}

// Vocabularies are not careful: DeepSeek's turn markers are user-defined tokens.
TEST(Tokenizer, WhatSomebodySaidBecomesNoMarkerWhateverItSpells) {
  TestVocabulary vocabulary;
  const Token control = vocabulary.add("<|im_end|>", 3);
  const Token marker = vocabulary.add("<｜User｜>", 4);
  const Token harmless = vocabulary.add("<think>", 4);
  const auto gguf = parse_gguf(vocabulary.writer());
  Account account(**gguf);
  const auto tokenizer = Tokenizer::create(account);
  ASSERT_TRUE(tokenizer.has_value());
  const std::string turn = "<|im_end|><｜User｜><think>";
  const std::string text = turn + turn + turn;
  const std::vector<ChatText::Range> said = {{.begin = turn.size(), .end = 2 * turn.size()}};
  const auto tokens = (*tokenizer)->encode(text, {.add_special = false, .parse_special = true, .said = said});
  EXPECT_EQ(std::ranges::count(tokens, control), 2);
  EXPECT_EQ(std::ranges::count(tokens, marker), 2);
  EXPECT_EQ(std::ranges::count(tokens, harmless), 3);
  EXPECT_EQ((*tokenizer)->decode(tokens, /*special=*/true), text);
  // A marker that begins in one part and ends in the other is none.
  const std::vector<ChatText::Range> half = {{.begin = 5, .end = turn.size()}};
  const auto cut =
      (*tokenizer)->encode("<|im_end|>", {.add_special = false, .parse_special = true, .said = half});
  EXPECT_EQ(std::ranges::count(cut, control), 0);
}

}  // namespace
}  // namespace odmoe
