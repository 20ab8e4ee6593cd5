#include "server/turn_ledger.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <system_error>
#include <utility>

#include "base/checksum.h"
#include "base/fingerprint.h"

namespace odmoe::server {
namespace {

constexpr uint64_t kTurnsMagic = 0x314c544f4d444f00;  // of the file, its first bytes
constexpr std::string_view kTurnsSuffix = ".odmoe-turns";
constexpr size_t kMostOthers = 15;  // files of other models that are left in a directory
constexpr uint32_t kSinglyBit = 1U << 31U;
// Of one prompt; more answers than that are not gone on from.
constexpr size_t kMostRuns = 64;
// An entry's part of list, index and the heap's bookkeeping.
constexpr uint64_t kEntryOverhead = 160, kRunOverhead = 48;

// A record of the file; the stretches follow, each as its end and the bit above it, and then the run.
struct Record {
  uint64_t checksum = 0;  // XXH3 of all that follows
  uint64_t key = 0;
  uint32_t n_stretch = 0, n_run = 0;
};
static_assert(sizeof(Record) == 24);

uint64_t first_key(std::string_view identity, std::string_view owner) {
  Fingerprint fingerprint;
  fingerprint.add(identity);
  fingerprint.add(owner);
  return fingerprint.value().low;
}

// The key of a text with one token more.
uint64_t next_key(uint64_t key, Token token) {
  key = (key ^ static_cast<uint32_t>(token)) + 0x9e3779b97f4a7c15U;
  key = (key ^ (key >> 30U)) * 0xbf58476d1ce4e5b9U;
  key = (key ^ (key >> 27U)) * 0x94d049bb133111ebU;
  return key ^ (key >> 31U);
}

uint8_t eight_bits_of(Token token) {
  return static_cast<uint8_t>((static_cast<uint32_t>(token) * 0x9e3779b1U) >> 24U);
}

std::vector<uint8_t> bits_of(std::span<const Token> tokens) {
  std::vector<uint8_t> bits(tokens.size());
  std::ranges::transform(tokens, bits.begin(), eight_bits_of);
  return bits;
}

bool is_begun_by(std::span<const uint8_t> all, std::span<const uint8_t> beginning) {
  return all.size() >= beginning.size() && std::ranges::equal(all.first(beginning.size()), beginning);
}

std::vector<std::byte> encode_record(uint64_t key, const Division& division, std::span<const uint8_t> run) {
  const std::span<const Division::Stretch> stretches = division.stretches();
  Record record{.key = key,
                .n_stretch = static_cast<uint32_t>(stretches.size()),
                .n_run = static_cast<uint32_t>(run.size())};
  std::vector<std::byte> bytes(sizeof(record) + stretches.size() * sizeof(uint32_t) + run.size());
  std::byte* at = bytes.data() + sizeof(record);
  for (const Division::Stretch& stretch : stretches) {
    const uint32_t word = static_cast<uint32_t>(stretch.end) | (stretch.singly ? kSinglyBit : 0);
    std::memcpy(at, &word, sizeof(word));
    at += sizeof(word);
  }
  std::ranges::copy(std::as_bytes(run), at);
  std::memcpy(bytes.data(), &record, sizeof(record));
  record.checksum = Checksum::of(std::span(bytes).subspan(sizeof(record.checksum)));
  std::memcpy(bytes.data(), &record, sizeof(record));
  return bytes;
}

}  // namespace

uint64_t TurnLedger::Entry::bytes() const {
  uint64_t bytes = kEntryOverhead + division.stretches().size_bytes();
  for (const Run& run : runs) bytes += run.size() + kRunOverhead;
  return bytes;
}

std::filesystem::path TurnLedger::file_in(const std::filesystem::path& directory, std::string_view identity) {
  namespace fs = std::filesystem;
  Fingerprint fingerprint;
  fingerprint.add(identity);
  const fs::path ours = directory / (fingerprint.value().hex() + std::string(kTurnsSuffix));
  std::vector<std::pair<fs::file_time_type, fs::path>> others;
  std::error_code error;
  for (fs::directory_iterator file(directory, error), end; !error && file != end; file.increment(error)) {
    if (file->path().extension() != kTurnsSuffix || file->path() == ours) continue;
    std::error_code gone;
    others.emplace_back(fs::last_write_time(file->path(), gone), file->path());
  }
  std::ranges::sort(others, std::greater<>());
  for (size_t i = kMostOthers; i < others.size(); ++i) fs::remove(others[i].second, error);
  return ours;
}

TurnLedger::TurnLedger(const TurnLedgerOptions& options) : options_(options) {
  if (options_.file.empty()) return;
  auto file = OutputFile::append_locked(options_.file);
  if (file.has_value()) {
    file_ = std::move(*file);
    std::error_code ignored;
    namespace fs = std::filesystem;
    fs::permissions(options_.file, fs::perms::owner_read | fs::perms::owner_write, ignored);
  } else {
    spdlog::warn("how conversations are divided is not kept: {}", file.error().message);
  }
  read();
}

// What the file has up to where it is damaged, as the end of one may be whose process was killed.
void TurnLedger::read() {
  std::ifstream input(options_.file, std::ios::binary);
  std::error_code unknown;
  const uint64_t size_of_file = std::filesystem::file_size(options_.file, unknown);
  std::vector<char> text(unknown ? 0 : size_of_file);
  input.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(input.gcount()));
  std::span<const std::byte> left = std::as_bytes(std::span(text));
  file_bytes_ = left.size();
  uint64_t magic = 0;
  if (left.size() >= sizeof(magic)) std::memcpy(&magic, left.data(), sizeof(magic));
  left = magic == kTurnsMagic ? left.subspan(sizeof(magic)) : left.first(0);
  const bool begun = magic == kTurnsMagic;
  while (left.size() >= sizeof(Record)) {
    Record record;
    std::memcpy(&record, left.data(), sizeof(record));
    const uint64_t size =
        sizeof(record) + uint64_t{record.n_stretch} * sizeof(uint32_t) + uint64_t{record.n_run};
    if (size > left.size()) break;
    if (Checksum::of(left.first(size).subspan(sizeof(record.checksum))) != record.checksum) break;
    std::vector<Division::Stretch> stretches(record.n_stretch);
    const std::byte* at = left.data() + sizeof(record);
    for (Division::Stretch& stretch : stretches) {
      uint32_t word = 0;
      std::memcpy(&word, at, sizeof(word));
      at += sizeof(word);
      stretch = {.end = static_cast<int32_t>(word & ~kSinglyBit), .singly = (word & kSinglyBit) != 0};
    }
    if (!Division::are_valid(stretches)) break;
    Run run(record.n_run);
    if (!run.empty()) std::memcpy(run.data(), at, run.size());  // its data may be null
    add_run(entry(record.key, Division::of(options_.chunk, stretches)), std::move(run));
    left = left.subspan(size);
  }
  if (!file_ || (begun && left.empty())) return;
  if (const Status status = rewrite(); !status.has_value()) {
    spdlog::warn("how conversations are divided is not kept: {}", status.error().message);
    file_.reset();
  }
}

// That of this key, in front of the others; a prompt that was not there yet is divided so.
TurnLedger::Entry& TurnLedger::entry(uint64_t key, const Division& division) {
  const auto known = by_key_.find(key);
  if (known != by_key_.end()) {
    entries_.splice(entries_.begin(), entries_, known->second);
    Entry& there = entries_.front();
    if (there.division != division) {  // another text of this key, or divided anew since it was forgotten
      memory_bytes_ -= there.bytes();
      there.division = division;
      there.runs.clear();
      memory_bytes_ += there.bytes();
      forget_oldest();
    }
    return there;
  }
  Entry& made = entries_.emplace_front(division);
  made.key = key;
  by_key_.emplace(key, entries_.begin());
  memory_bytes_ += made.bytes();
  forget_oldest();
  return made;
}

void TurnLedger::forget_oldest() {
  while (memory_bytes_ > options_.memory_bytes && entries_.size() > 1) {
    memory_bytes_ -= entries_.back().bytes();
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

void TurnLedger::add_run(Entry& to, Run run) {
  const auto begins = [&](const Run& other) { return is_begun_by(other, run); };
  if (run.empty() || std::ranges::any_of(to.runs, begins)) return;
  memory_bytes_ -= to.bytes();
  std::erase_if(to.runs, [&](const Run& other) { return is_begun_by(run, other); });
  if (to.runs.size() == kMostRuns) to.runs.erase(to.runs.begin());
  to.runs.push_back(std::move(run));
  while (to.runs.size() > 1 && to.bytes() > options_.memory_bytes) to.runs.erase(to.runs.begin());
  memory_bytes_ += to.bytes();
  forget_oldest();
}

TurnLedger::Place TurnLedger::divide(std::string_view owner, std::span<const Token> prompt) {
  const std::vector<uint8_t> bits = bits_of(prompt);
  const Entry* best = nullptr;
  size_t best_run = 0;  // tokens
  uint64_t key = first_key(options_.identity, owner);
  for (size_t at = 0;; ++at) {
    const auto found = by_key_.find(key);
    if (found != by_key_.end() && std::cmp_equal(found->second->division.length(), at)) {
      const Entry& known = *found->second;
      if (at == prompt.size()) return {.key = key, .division = entry(key, known.division).division};
      const std::span<const uint8_t> rest = std::span(bits).subspan(at);
      size_t longest = 0;
      for (const Run& run : known.runs) {
        longest = std::max(longest, static_cast<size_t>(std::ranges::mismatch(rest, run).in1 - rest.begin()));
      }
      const size_t so_far = best == nullptr ? 0 : static_cast<size_t>(best->division.length()) + best_run;
      if (longest > 0 && at + longest >= so_far) {
        best = &known;
        best_run = longest;
      }
    }
    if (at == prompt.size()) break;
    key = next_key(key, prompt[at]);
  }
  Division division(options_.chunk);
  if (best != nullptr) {
    division = best->division;
    division.append(static_cast<int32_t>(best_run), /*singly=*/true);
    entry(best->key, best->division);  // is used
  }
  const auto rest = static_cast<int32_t>(prompt.size()) - division.length();
  if (rest > 0) division.append(rest, /*singly=*/false);
  return {.key = key, .division = entry(key, division).division};
}

void TurnLedger::wrote(const Place& place, std::span<const Token> tokens) {
  Run run = bits_of(tokens);
  Entry& of_prompt = entry(place.key, place.division);
  const std::vector<std::byte> record = encode_record(of_prompt.key, of_prompt.division, run);
  add_run(of_prompt, std::move(run));
  append(record);
}

void TurnLedger::append(std::span<const std::byte> bytes) {
  if (!file_) return;
  Status status = file_->write(bytes);
  file_bytes_ += bytes.size();
  // What was forgotten is still in the file.
  if (status.has_value() && file_bytes_ > 2 * options_.memory_bytes) status = rewrite();
  if (status.has_value()) return;
  spdlog::warn("how conversations are divided is not kept any more: {}", status.error().message);
  file_.reset();
}

// Under another name first, so that no moment is without a whole file.
Status TurnLedger::rewrite() {
  const std::filesystem::path unfinished = options_.file.string() + ".unfinished";
  std::error_code error;
  std::filesystem::remove(unfinished, error);
  ODMOE_ASSIGN_OR_RETURN(OutputFile output, OutputFile::append_locked(unfinished));
  namespace fs = std::filesystem;
  fs::permissions(unfinished, fs::perms::owner_read | fs::perms::owner_write, error);
  ODMOE_RETURN_IF_ERROR(output.write(std::as_bytes(std::span(&kTurnsMagic, 1))));
  for (auto oldest = entries_.rbegin(); oldest != entries_.rend(); ++oldest) {
    if (oldest->runs.empty())
      ODMOE_RETURN_IF_ERROR(output.write(encode_record(oldest->key, oldest->division, {})));
    for (const Run& run : oldest->runs) {
      ODMOE_RETURN_IF_ERROR(output.write(encode_record(oldest->key, oldest->division, run)));
    }
  }
  ODMOE_RETURN_IF_ERROR(output.sync());
  fs::rename(unfinished, options_.file, error);
  if (error) return fail(ErrorKind::kIo, "{}: {}", options_.file.string(), error.message());
  file_bytes_ = output.bytes();
  file_ = std::move(output);
  return {};
}

}  // namespace odmoe::server
