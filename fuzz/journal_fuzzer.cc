// Any bytes as what a batch's journal has written (OUT.under-way/written): as they are, and each line with
// the checksum that it would have, behind which nothing would get by chance.
//
//   journal_fuzzer -max_total_time=60 -rss_limit_mb=2048 NEW fuzz/corpus/journal
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "gguf_exercise.h"
#include "server/batch/batch_journal.h"
#include "server/batch/journal_line.h"
#include "server/batch/line_file.h"
#include "temp_dir.h"

namespace {

using namespace odmoe;
using namespace odmoe::server;
using testing::must;

constexpr int32_t kVocab = 100;

bool none_is_done(size_t) { return false; }

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool same(const std::vector<GeneratedToken>& one, const std::vector<GeneratedToken>& other) {
  const auto equal = [](float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; };
  return std::ranges::equal(one, other, [&](const GeneratedToken& a, const GeneratedToken& b) {
    return a.token == b.token && equal(a.logprob, b.logprob) &&
           std::ranges::equal(a.top, b.top, [&](const TokenLogprob& x, const TokenLogprob& y) {
             return x.token == y.token && equal(x.logprob, y.logprob);
           });
  });
}

// What was read is what would be written.
void written_again(const JournalLine& line, const KeptGeneration& kept) {
  KeptGeneration again;
  const auto take = [&](const std::string& text) {
    const std::string_view whole = std::string_view(text).substr(0, text.size() - 1);
    const auto read = read_journal_line(whole);
    must(read && read->place == line.place && read->choice == line.choice, "a line that is written is read");
    take_journal_line(*read, kVocab, again);
  };
  if (!kept.written.empty()) take(journal_line(line.place, line.choice, 0, kept.written));
  if (kept.ending) take(journal_line(line.place, line.choice, kept.written.size(), *kept.ending));
  must(same(again.written, kept.written) && again.ending == kept.ending, "and says the same");
}

std::vector<JournalLine> whole_lines(std::string_view text) {
  std::vector<JournalLine> whole;
  for (const std::string_view line : lines_of(text)) {
    const auto read = read_journal_line(line);
    if (!read) break;
    KeptGeneration alone;
    take_journal_line(*read, kVocab, alone);
    written_again(*read, alone);
    whole.push_back(*read);
  }
  return whole;
}

void as_a_file(const testing::TempDir& dir, std::string_view text) {
  const BatchJournalOptions options{
      .directory = dir / "out.under-way", .batch = "fuzz", .identity = "model", .n_vocab = kVocab};
  std::filesystem::create_directories(options.directory);
  std::filesystem::permissions(options.directory, std::filesystem::perms::owner_all);
  const std::string first = checked_line(options.batch);
  const auto write = [&](const std::string& all) {
    std::ofstream(options.directory / "written", std::ios::binary) << all;
  };
  write(std::string(text));
  testing::exercise_result(BatchJournal::open(options, none_is_done));
  write(first + std::string(text));
  const std::vector<JournalLine> lines = whole_lines(text);
  uint64_t bytes = 0;
  for (int time = 0; time < 2; ++time) {
    const auto journal = BatchJournal::open(options, none_is_done);
    must(journal.has_value(), "damage is no error");
    must(time == 0 || (*journal)->line_bytes() == bytes, "what counts for nothing is gone");
    bytes = (*journal)->line_bytes();
    for (const JournalLine& line : lines) {
      KeptGeneration expected;
      for (const JournalLine& other : lines) {
        if (other.place == line.place && other.choice == line.choice)
          take_journal_line(other, kVocab, expected);
      }
      const KeptGeneration kept = (*journal)->keeper(line.place, line.choice)->kept();
      must(same(kept.written, expected.written) && kept.ending == expected.ending, "whole lines count");
      for (const GeneratedToken& token : kept.written) {
        must(token.token >= 0 && token.token < kVocab, "tokens are the model's");
      }
    }
  }
  const auto journal = BatchJournal::open(options, none_is_done);
  for (const JournalLine& line : lines) (*journal)->done(line.place);
  must((*journal)->line_bytes() == bytes, "lines of what is done go when there are many");
  const auto keeper = (*journal)->keeper(1, 0);
  const size_t n_before = keeper->kept().written.size();
  must(n_before == 0, "what is done has written nothing");
  keeper->wrote({.token = 5});
  must(keeper->kept().written.size() == 1, "what is written is there");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxBytes = 1 << 10;  // each line is compared with each other
  if (size > kMaxBytes) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const testing::TempDir dir;
  std::string checked;
  for (const std::string_view line : lines_of(text)) checked += checked_line(line);
  (void)whole_lines(text);
  as_a_file(dir, checked);
  return 0;
}
