#include "server/batch/batch_journal.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "odmoe/format.h"
#include "server/batch/journal_line.h"
#include "server/batch/line_file.h"
#include "server/batch/word_reader.h"
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

template <typename See>
void each_file(const fs::path& directory, const See& see) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code none;
    if (const uintmax_t bytes = entry->file_size(none); !none) see(entry->path(), uint64_t{bytes});
  }
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
    journal_->append(place_, journal_line(place_, choice_, n_written_++, {&token, 1}));
  }

  bool went_on(const Session& session, double seconds) override {
    unsaved_s_ += seconds;
    return unsaved_s_ >= kLeastBetweenSaves && unsaved_s_ >= kWorthSaving * cost_of_saving(session);
  }

  bool save(const Session& session) override {
    unsaved_s_ = 0;
    return journal_->save(place_, choice_, session);
  }

  void ended(Ending ending) override {
    journal_->append(place_, journal_line(place_, choice_, n_written_, ending));
  }

  bool interrupted(const Session& session, double seconds) override {
    unsaved_s_ += seconds;
    {
      const MutexLock lock(journal_->mutex_);
      if (!journal_->interrupted_ || journal_->discarded_) return false;
    }
    return unsaved_s_ > cost_of_saving(session);
  }

 private:
  double cost_of_saving(const Session& session) const {
    const auto n = static_cast<int32_t>(session.tokens().size());
    return kBothWays * journal_->seconds_of(session.state_bytes(n));
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

std::string BatchJournal::first_line() const { return checked_line(options_.batch); }

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

void BatchJournal::append(size_t place, const std::string& line) {
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

uint64_t BatchJournal::line_bytes() const {
  const MutexLock lock(mutex_);
  return written_bytes_;
}

uint64_t BatchJournal::state_bytes() const {
  const MutexLock lock(mutex_);
  return state_bytes_;
}

uint64_t BatchJournal::bytes_in(const fs::path& directory) {
  uint64_t bytes = 0;
  each_file(directory, [&](const fs::path&, uint64_t of_file) { bytes += of_file; });
  return bytes;
}

uint64_t BatchJournal::state_bytes_in(const fs::path& directory) {
  uint64_t bytes = 0;
  each_file(directory, [&](const fs::path& path, uint64_t of_file) {
    if (read_state_name(path.filename().string())) bytes += of_file;
  });
  return bytes;
}

void BatchJournal::remove_states(const fs::path& directory) {
  each_file(directory, [](const fs::path& path, uint64_t) {
    std::error_code ignored;
    if (read_state_name(path.filename().string())) fs::remove(path, ignored);
  });
}

void BatchJournal::remove(const fs::path& directory) {
  std::error_code ignored;
  each_file(directory, [&](const fs::path& path, uint64_t) {
    const std::string name = path.filename().string();
    const bool is_ours = name == kWrittenName || name == kNewWrittenName || read_state_name(name);
    if (is_ours) fs::remove(path, ignored);
  });
  fs::remove(directory, ignored);  // unless there is something else in it
}

uint64_t BatchJournal::give_up_states(uint64_t bytes) {
  uint64_t given = 0;
  const MutexLock lock(mutex_);
  for (auto& [place, of_request] : under_way_) {
    auto& states = of_request.states;
    while (!states.empty() && given < bytes) {
      std::error_code ignored;
      fs::remove(state_path(place, states.begin()->first), ignored);
      given += states.begin()->second;
      states.erase(states.begin());
    }
  }
  for (Saving* const saving : saving_) {
    if (given >= bytes || saving->given_up) continue;
    saving->given_up = true;
    given += saving->bytes;
  }
  state_bytes_ -= given;
  return given;
}

// Its bytes.
uint64_t BatchJournal::forget_state(size_t place, size_t choice) {
  const auto found = under_way_.find(place);
  if (found == under_way_.end()) return 0;
  const auto state = found->second.states.find(choice);
  if (state == found->second.states.end()) return 0;
  const uint64_t bytes = state->second;
  found->second.states.erase(state);
  return bytes;
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
  Saving saving{.bytes = bytes};
  if (options_.has_room && !options_.has_room(bytes)) return false;
  FileDescriptor written;
  {
    const MutexLock lock(mutex_);
    if (discarded_ || state_bytes_ + bytes > options_.state_bytes) return false;
    state_bytes_ += bytes;
    saving_.push_back(&saving);
    written = FileDescriptor(fcntl(written_.number(), F_DUPFD_CLOEXEC, 0));
  }
  // Tokens that the KV cache is behind of are there as well when the power goes.  Those who write do not
  // wait.
  const Status status = fsync(written.number()) != 0
                            ? batch_file_error("write", written_path_, errno)
                            : write_session(state_path(place, choice), options_.identity, {}, session);
  const MutexLock lock(mutex_);
  std::erase(saving_, &saving);
  if (saving.given_up && status.has_value()) {
    std::error_code ignored;
    fs::remove(state_path(place, choice), ignored);
    state_bytes_ -= forget_state(place, choice);  // which it has replaced
    return false;
  }
  if (!status.has_value()) {
    if (!saving.given_up) state_bytes_ -= bytes;
    spdlog::debug("a KV cache was not saved: {}", status.error().message);
    return false;
  }
  uint64_t& of_choice = under_way_[place].states[choice];
  state_bytes_ -= std::exchange(of_choice, bytes);
  return true;
}

}  // namespace odmoe::server
