#include "server/batch/batch_journal.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "odmoe/format.h"
#include "server/batch/line_file.h"
#include "server/private_directory.h"
#include "server/saved_state.h"

namespace odmoe::server {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWrittenName = "written", kNewWrittenName = "written.new";
constexpr std::string_view kStateSuffix = ".state", kUnfinishedSuffix = ".state.unfinished";
// The file of tokens is written anew when it has become so large, and most of it is of requests that are
// done.
constexpr uint64_t kMuchWrittenBytes = 16 << 10;
constexpr uint64_t kMuchMore = 4;
// A KV cache is saved and read back some day: twice its bytes.
constexpr double kBothWays = 2;
// Those that go on are saved after evaluations that took so many times as long as that, and so long at least.
constexpr double kWorthSaving = 25;
constexpr double kLeastBetweenSaves = 60;  // seconds

constexpr std::array<std::pair<std::string_view, Ending>, 4> kEnds = {
    {{"end_token", Ending::kEndToken},
     {"grammar", Ending::kGrammar},
     {"length", Ending::kLength},
     {"context_full", Ending::kContextFull}}};

// " TOKEN", with logprobs " TOKEN:BITS" and ":TOKEN:BITS" for each of the likeliest.
std::string journal_text(const GeneratedToken& token) {
  std::string text = odmoe::format(" {}", token.token);
  if (token.logprob == 0 && token.top.empty()) return text;
  text += odmoe::format(":{:x}", std::bit_cast<uint32_t>(token.logprob));
  for (const TokenLogprob& top : token.top) {
    text += odmoe::format(":{}:{:x}", top.token, std::bit_cast<uint32_t>(top.logprob));
  }
  return text;
}

// Takes what is written there off the front of a text.  One owner.
class WordReader {
 public:
  explicit WordReader(std::string_view text) : rest_(text) {}
  bool at_end() const { return rest_.empty(); }
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  template <typename T>
  bool number(T& value, int base = 10) {
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return true;
  }
  bool logprob(float& value) {
    uint32_t bits = 0;
    if (!number(bits, 16)) return false;
    value = std::bit_cast<float>(bits);
    return true;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

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

// CHECKSUM PLACE CHOICE FIRST, and tokens from the FIRST of the choice on, or "end NAME" behind so many.
struct JournalLine {
  size_t place = 0, choice = 0, first = 0;
  std::string_view what;
};

std::optional<JournalLine> read_journal_line(std::string_view line) {
  constexpr size_t kDigits = 16;
  uint64_t checksum = 0;
  if (line.size() <= kDigits || line[kDigits] != ' ') return std::nullopt;
  const auto [end, error] = std::from_chars(line.data(), line.data() + kDigits, checksum, 16);
  const std::string_view entry = line.substr(kDigits + 1);
  if (error != std::errc() || end != line.data() + kDigits || checksum != line_checksum(entry)) {
    return std::nullopt;
  }
  WordReader words(entry);
  JournalLine read;
  if (!words.number(read.place) || !words.take(' ') || !words.number(read.choice) || !words.take(' ') ||
      !words.number(read.first) || !words.take(' ')) {
    return std::nullopt;
  }
  read.what = words.rest();
  return read;
}

// Ends before a token that the model does not have.
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
  // What was written once is what is written again.
  kept.ending.reset();
  kept.written.resize(line.first);
  WordReader words(line.what);
  do {
    GeneratedToken token;
    if (!read_token(words, n_vocab, token)) return;
    kept.written.push_back(std::move(token));
  } while (words.take(' '));
}

// Whose KV cache a file is, by its name.
struct StateName {
  size_t place = 0, choice = 0;
  std::string_view suffix;
};

std::optional<StateName> read_state_name(std::string_view name) {
  WordReader words(name);
  StateName read;
  if (!words.number(read.place) || !words.take('-') || !words.number(read.choice)) return std::nullopt;
  read.suffix = words.rest();
  if (read.suffix != kStateSuffix && read.suffix != kUnfinishedSuffix) return std::nullopt;
  return read;
}

}  // namespace

fs::path journal_path_of(const fs::path& path) { return path.string() + ".under-way"; }

class BatchJournal::Keeper final : public GenerationKeeper {
 public:
  Keeper(std::shared_ptr<BatchJournal> journal, size_t place, size_t choice)
      : journal_(std::move(journal)), place_(place), choice_(choice) {
    const MutexLock lock(journal_->mutex_);
    ++journal_->n_keeper_;
  }
  ~Keeper() override {
    const MutexLock lock(journal_->mutex_);
    --journal_->n_keeper_;
    journal_->keeper_gone_.notify_all();
  }

  KeptGeneration kept() override {
    KeptGeneration kept = journal_->kept(place_, choice_);
    n_written_ = kept.written.size();
    return kept;
  }

  int32_t restorable(std::span<const Token> text, const Division& division) override {
    if (!journal_->has_state(place_, choice_)) return 0;
    auto header = read_header(journal_->state_path(place_, choice_));
    if (!header.has_value() || header->identity != journal_->options_.identity) return 0;
    const auto n = static_cast<int32_t>(header->tokens.size());
    // The last token of a prompt is evaluated for its logits.
    const size_t most = n_written_ > 0 ? text.size() : text.size() - 1;
    if (header->tokens.size() > most ||
        !std::ranges::equal(header->tokens, text.first(header->tokens.size())))
      return 0;
    division_ = Division::of(journal_->options_.chunk, header->stretches);
    if (division_.length() != n || division.shared(division_, n) != n) return 0;
    header_ = std::move(*header);
    return n;
  }

  int32_t restore(Session& session) override {
    const Status status = read_session(journal_->state_path(place_, choice_), header_, division_, session);
    if (status.has_value()) return static_cast<int32_t>(header_.tokens.size());
    spdlog::warn("a KV cache is not used: {}", status.error().message);
    return 0;
  }

  void wrote(const GeneratedToken& token) override {
    journal_->append(place_, choice_, odmoe::format("{}{}", n_written_++, journal_text(token)));
  }

  void went_on(const Session& session, double seconds) override {
    unsaved_s_ += seconds;
    if (unsaved_s_ < kLeastBetweenSaves) return;
    if (unsaved_s_ < kWorthSaving * cost_of_saving(session)) return;
    save(session);
  }

  bool park(const Session& session) override { return journal_->save(place_, choice_, session); }

  void ended(Ending ending) override {
    const auto name = std::ranges::find(kEnds, ending, &std::pair<std::string_view, Ending>::second);
    journal_->append(place_, choice_, odmoe::format("{} end {}", n_written_, name->first));
  }

  void interrupted(const Session& session, double seconds) override {
    unsaved_s_ += seconds;
    {
      const MutexLock lock(journal_->mutex_);
      if (!journal_->interrupted_ || journal_->discarded_) return;
    }
    if (unsaved_s_ > cost_of_saving(session)) save(session);
  }

 private:
  double cost_of_saving(const Session& session) const {
    const auto n = static_cast<int32_t>(session.tokens().size());
    return kBothWays * journal_->seconds_of(session.state_bytes(n));
  }
  void save(const Session& session) {
    (void)journal_->save(place_, choice_, session);
    unsaved_s_ = 0;
  }

  const std::shared_ptr<BatchJournal> journal_;
  const size_t place_, choice_;
  size_t n_written_ = 0;
  double unsaved_s_ = 0;
  SavedStateHeader header_;  // of what restore() brings back
  Division division_{1};
};

Result<std::shared_ptr<BatchJournal>> BatchJournal::open(const BatchJournalOptions& options,
                                                         const std::function<bool(size_t place)>& is_done) {
  std::shared_ptr<BatchJournal> journal(new BatchJournal(options));
  ODMOE_RETURN_IF_ERROR(journal->open_files(is_done));
  return journal;
}

Status BatchJournal::open_files(const std::function<bool(size_t place)>& is_done) {
  const fs::path& directory = options_.directory;
  // It has what was asked and answered; where anybody may make files, others may have made it or a link.
  std::error_code none;
  if (fs::is_symlink(directory, none)) {
    return fail(ErrorKind::kUsage, "{} is a link to somewhere else: remove it", directory.string());
  }
  ODMOE_RETURN_IF_ERROR(prepare_private_directory("the folder of requests under way", directory));
  const MutexLock lock(mutex_);
  written_path_ = directory / kWrittenName;
  written_ = FileDescriptor::open(written_path_, O_RDWR | O_CREAT | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  if (!written_) return batch_file_error("write", written_path_, errno);
  bool is_ours = false;
  ODMOE_RETURN_IF_ERROR(each_batch_line(written_, written_path_, 0,
                                        [&](std::string_view text, uint64_t offset)
                                            ODMOE_REQUIRES(mutex_) -> Result<bool> {
                                              if (offset == 0) {
                                                is_ours = std::string(text) + "\n" == first_line();
                                                if (is_ours) written_bytes_ = text.size() + 1;
                                                return is_ours;
                                              }
                                              const auto line = read_journal_line(text);
                                              if (!line) return false;
                                              written_bytes_ = offset + text.size() + 1;
                                              if (is_done(line->place)) return true;
                                              under_way_[line->place].line_bytes += text.size() + 1;
                                              live_bytes_ += text.size() + 1;
                                              return true;
                                            }));
  if (ftruncate(written_.number(), static_cast<off_t>(written_bytes_)) != 0) {
    return batch_file_error("write", written_path_, errno);
  }
  if (!is_ours) {
    ODMOE_RETURN_IF_ERROR(write_whole_line(written_, written_path_, written_bytes_, first_line()));
  }
  return read_states([&](size_t place) { return !is_ours || is_done(place); });
}

std::string BatchJournal::first_line() const {
  return odmoe::format("{:016x} {}\n", line_checksum(options_.batch), options_.batch);
}

// Those of requests that are under way; others go, and nothing else does.
Status BatchJournal::read_states(const std::function<bool(size_t place)>& is_done) {
  std::error_code error;
  for (fs::directory_iterator entry(options_.directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string name = path.filename().string();
    const auto state = read_state_name(name);
    std::error_code gone;
    if (name == kNewWrittenName) fs::remove(path, gone);
    if (!state) continue;
    // A request that has written nothing yet has no lines.
    const uintmax_t bytes = fs::file_size(path, gone);
    if (state->suffix == kStateSuffix && !gone && !is_done(state->place)) {
      under_way_[state->place].states[state->choice] = bytes;
      state_bytes_ += bytes;
    } else {
      fs::remove(path, gone);
    }
  }
  if (error) return batch_file_error("read", options_.directory, error.value());
  return {};
}

fs::path BatchJournal::state_path(size_t place, size_t choice) const {
  return options_.directory / odmoe::format("{}-{}{}", place, choice, kStateSuffix);
}

std::shared_ptr<GenerationKeeper> BatchJournal::keeper(size_t place, size_t choice) {
  return std::make_shared<Keeper>(shared_from_this(), place, choice);
}

KeptGeneration BatchJournal::kept(size_t place, size_t choice) const {
  KeptGeneration kept;
  const MutexLock lock(mutex_);
  const auto found = under_way_.find(place);
  if (found == under_way_.end() || found->second.line_bytes == 0) return kept;
  const uint64_t begin = first_line().size();
  (void)each_batch_line(written_, written_path_, begin, [&](std::string_view text, uint64_t) -> Result<bool> {
    const auto line = read_journal_line(text);
    if (!line) return false;
    if (line->place == place && line->choice == choice) take_journal_line(*line, options_.n_vocab, kept);
    return true;
  });
  return kept;
}

void BatchJournal::append(size_t place, size_t choice, const std::string& what) {
  const std::string entry = odmoe::format("{} {} {}", place, choice, what);
  const std::string line = odmoe::format("{:016x} {}\n", line_checksum(entry), entry);
  const MutexLock lock(mutex_);
  if (discarded_) return;
  if (!write_whole_line(written_, written_path_, written_bytes_, line).has_value()) return;
  under_way_[place].line_bytes += line.size();
  live_bytes_ += line.size();
  if (written_bytes_ > kMuchWrittenBytes && written_bytes_ > kMuchMore * live_bytes_) compact();
}

// Leaves the lines of those that are under way.
void BatchJournal::compact() {
  const fs::path path = options_.directory / kNewWrittenName;
  FileDescriptor file =
      FileDescriptor::open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  if (!file) return;
  uint64_t bytes = 0;
  Status status = write_whole_line(file, path, bytes, first_line());
  if (status.has_value())
    status = each_batch_line(
        written_, written_path_, bytes,
        [&](std::string_view text, uint64_t) ODMOE_REQUIRES(mutex_) -> Result<bool> {
          const auto line = read_journal_line(text);
          if (!line) return false;
          if (!under_way_.contains(line->place)) return true;
          ODMOE_RETURN_IF_ERROR(write_whole_line(file, path, bytes, std::string(text) + "\n"));
          return true;
        });
  // What it replaces may have been brought to the drive.
  if (status.has_value() && fsync(file.number()) != 0) status = batch_file_error("write", path, errno);
  std::error_code error;
  if (status.has_value()) fs::rename(path, written_path_, error);
  if (!status.has_value() || error) {
    fs::remove(path, error);
    return;
  }
  written_ = std::move(file);
  written_bytes_ = bytes;
}

void BatchJournal::done(size_t place) {
  const MutexLock lock(mutex_);
  const auto found = under_way_.find(place);
  if (found == under_way_.end()) return;
  live_bytes_ -= found->second.line_bytes;
  for (const auto& [choice, bytes] : found->second.states) {
    std::error_code ignored;
    fs::remove(state_path(place, choice), ignored);
    state_bytes_ -= bytes;
  }
  under_way_.erase(found);
}

void BatchJournal::interrupted() {
  const MutexLock lock(mutex_);
  interrupted_ = true;
}

void BatchJournal::discard() {
  const MutexLock lock(mutex_);
  discarded_ = true;
}

void BatchJournal::wait_for_keepers() const {
  const MutexLock lock(mutex_);
  while (n_keeper_ > 0) keeper_gone_.wait(mutex_);
}

uint64_t BatchJournal::bytes() const {
  const MutexLock lock(mutex_);
  return written_bytes_ + state_bytes_;
}

uint64_t BatchJournal::bytes_in(const fs::path& directory) {
  uint64_t bytes = 0;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code none;
    if (const uintmax_t of_file = entry->file_size(none); !none) bytes += of_file;
  }
  return bytes;
}

void BatchJournal::remove(const fs::path& directory) {
  std::error_code error, ignored;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool is_ours = name == kWrittenName || name == kNewWrittenName || read_state_name(name);
    if (is_ours) fs::remove(entry->path(), ignored);
  }
  fs::remove(directory, ignored);  // unless there is something else in it
}

void BatchJournal::drop_states() {
  const MutexLock lock(mutex_);
  keeps_states_ = false;
  state_bytes_ = 0;
  for (auto& [place, of_request] : under_way_) {
    for (const auto& [choice, bytes] : of_request.states) {
      std::error_code ignored;
      fs::remove(state_path(place, choice), ignored);
    }
    of_request.states.clear();
  }
}

bool BatchJournal::has_state(size_t place, size_t choice) const {
  const MutexLock lock(mutex_);
  const auto found = under_way_.find(place);
  return found != under_way_.end() && found->second.states.contains(choice);
}

bool BatchJournal::save(size_t place, size_t choice, const Session& session) {
  const auto n = static_cast<int32_t>(session.tokens().size());
  if (n == 0 || session.division().length() != n) return false;
  // Beside the one that it replaces.
  const uint64_t bytes = session.state_bytes(n);
  {
    const MutexLock lock(mutex_);
    if (discarded_ || !keeps_states_ || state_bytes_ + bytes > options_.state_bytes) return false;
    state_bytes_ += bytes;
    // Tokens that the KV cache is behind of are there as well when the power goes.
    (void)fsync(written_.number());
  }
  const Status status = write_session(state_path(place, choice), options_.identity, {}, session);
  const MutexLock lock(mutex_);
  if (!keeps_states_) {  // they were dropped meanwhile
    std::error_code ignored;
    fs::remove(state_path(place, choice), ignored);
    return false;
  }
  if (!status.has_value()) {
    state_bytes_ -= bytes;
    spdlog::debug("a KV cache was not saved: {}", status.error().message);
    return false;
  }
  uint64_t& of_choice = under_way_[place].states[choice];
  state_bytes_ -= std::exchange(of_choice, bytes);
  return true;
}

}  // namespace odmoe::server
