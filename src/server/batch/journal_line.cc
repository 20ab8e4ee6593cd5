#include "server/batch/journal_line.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "odmoe/format.h"
#include "server/batch/line_file.h"
#include "server/batch/word_reader.h"

namespace odmoe::server {
namespace {

constexpr std::array<std::pair<std::string_view, Ending>, 4> kEnds = {
    {{"end_token", Ending::kEndToken},
     {"grammar", Ending::kGrammar},
     {"length", Ending::kLength},
     {"context_full", Ending::kContextFull}}};

std::string journal_text(const GeneratedToken& token) {
  std::string text = odmoe::format(" {}", token.token);
  if (token.logprob == 0 && token.top.empty()) return text;
  text += odmoe::format(":{:x}", std::bit_cast<uint32_t>(token.logprob));
  for (const TokenLogprob& top : token.top) {
    text += odmoe::format(":{}:{:x}", top.token, std::bit_cast<uint32_t>(top.logprob));
  }
  return text;
}

bool read_token(WordReader& words, int32_t n_vocab, GeneratedToken& token) {
  const auto id = [&](Token& read) { return words.number(read) && read >= 0 && read < n_vocab; };
  if (!id(token.token)) return false;
  if (words.take(':') && !words.logprob(token.logprob)) return false;
  while (words.take(':')) {
    TokenLogprob top;
    if (!id(top.token) || !words.take(':') || !words.logprob(top.logprob)) return false;
    token.top.push_back(top);
  }
  return true;
}

}  // namespace

std::string journal_line(size_t place, size_t choice, size_t first, std::span<const GeneratedToken> tokens) {
  std::string entry = odmoe::format("{} {} {}", place, choice, first);
  for (const GeneratedToken& token : tokens) entry += journal_text(token);
  return checked_line(entry);
}

std::string journal_line(size_t place, size_t choice, size_t first, Ending ending) {
  const auto name = std::ranges::find(kEnds, ending, &std::pair<std::string_view, Ending>::second);
  return checked_line(odmoe::format("{} {} {} end {}", place, choice, first, name->first));
}

std::optional<JournalLine> read_journal_line(std::string_view line) {
  const auto entry = entry_of_checked_line(line);
  if (!entry) return std::nullopt;
  WordReader words(*entry);
  JournalLine read;
  if (!words.number(read.place) || !words.take(' ') || !words.number(read.choice) || !words.take(' ') ||
      !words.number(read.first) || !words.take(' ')) {
    return std::nullopt;
  }
  read.what = words.rest();
  return read;
}

void take_journal_line(const JournalLine& line, int32_t n_vocab, KeptGeneration& kept) {
  constexpr std::string_view kEnd = "end ";
  if (line.first > kept.written.size()) return;  // what comes before is not there
  if (line.what.starts_with(kEnd)) {
    const auto end =
        std::ranges::find(kEnds, line.what.substr(kEnd.size()), &std::pair<std::string_view, Ending>::first);
    if (end == kEnds.end() || line.first < kept.written.size()) return;
    kept.ending = end->second;
    return;
  }
  kept.ending.reset();
  kept.written.resize(line.first);
  WordReader words(line.what);
  do {
    GeneratedToken token;
    if (!read_token(words, n_vocab, token)) return;
    kept.written.push_back(std::move(token));
  } while (words.take(' '));
}

}  // namespace odmoe::server
