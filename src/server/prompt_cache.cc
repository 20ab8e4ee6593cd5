#include "server/prompt_cache.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/checksum.h"
#include "base/fingerprint.h"
#include "base/units.h"
#include "io/output_file.h"
#include "odmoe/format.h"
#include "server/private_directory.h"

namespace odmoe::server {
namespace {

constexpr std::string_view kSuffix = ".odmoe-kv";
constexpr std::string_view kUnfinished = ".unfinished";
// A file that another process began to write and did not finish is taken for abandoned after this.
constexpr std::chrono::hours kAbandoned{1};
constexpr size_t kMaxFiles = 65536;  // that are looked at in a directory

size_t shared_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

std::string file_name(std::string_view identity, std::string_view owner, std::span<const Token> tokens,
                      const Division& division) {
  Fingerprint fingerprint;
  fingerprint.add(identity);
  fingerprint.add(owner);
  fingerprint.add(std::as_bytes(tokens));
  for (const Division::Stretch& stretch : division.stretches()) {
    fingerprint.add(static_cast<uint64_t>(stretch.end) * 2 + (stretch.singly ? 1 : 0));
  }
  return fingerprint.value().hex() + std::string(kSuffix);
}

// Of the first n tokens those before the last evaluation of what was read and not written.
int32_t before_last_reading(Division division, int32_t n) {
  division.truncate(n);
  const std::span<const Division::Stretch> stretches = division.stretches();
  if (stretches.empty()) return 0;
  if (!stretches.back().singly) return division.boundary(stretches.back().end - 1);
  return stretches.size() == 1 ? 0 : division.boundary(stretches[stretches.size() - 2].end - 1);
}

}  // namespace

int32_t reusable(const DividedPrompt& prompt, std::span<const Token> tokens, const Division& division,
                 PromptReuse reuse) {
  if (prompt.tokens.empty()) return 0;
  // Of what the last token is evaluated with nothing is taken up: it is before this.
  const auto before = static_cast<int32_t>(prompt.tokens.size()) - 1;
  const auto equal = static_cast<int32_t>(shared_prefix(prompt.tokens, tokens));
  const int32_t most = std::min(equal, before);
  return reuse == PromptReuse::kLongest ? most : prompt.division.shared(division, most);
}

int32_t reusable(const DividedPrompt& prompt, const Session& session, PromptReuse reuse) {
  int32_t n = reusable(prompt, session.tokens(), session.division(), reuse);
  while (true) {
    n = session.reachable(n);
    const int32_t end = session.division().boundary(n);
    if (reuse == PromptReuse::kLongest || end == n) return n;
    n = end;
  }
}

PromptCache::PromptCache(const PromptCacheOptions& options) : options_(options) {}

Result<std::unique_ptr<PromptCache>> PromptCache::create(const PromptCacheOptions& options) {
  std::unique_ptr<PromptCache> cache(new PromptCache(options));
  if (!options.directory.empty()) {
    ODMOE_RETURN_IF_ERROR(cache->read_directory());
    cache->writer_ = std::thread([raw = cache.get()] { raw->write_files(); });
  }
  return cache;
}

PromptCache::~PromptCache() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  if (writer_.joinable()) writer_.join();
}

Status PromptCache::prepare(const std::filesystem::path& directory) {
  return prepare_private_directory("--cache-dir", directory);
}

Status PromptCache::read_directory() {
  namespace fs = std::filesystem;
  ODMOE_RETURN_IF_ERROR(prepare(options_.directory));
  std::error_code error;
  size_t n = 0;
  for (fs::directory_iterator entry(options_.directory, error), end; !error && entry != end && n < kMaxFiles;
       entry.increment(error), ++n) {
    const fs::path& path = entry->path();
    std::error_code gone;
    const auto used = fs::last_write_time(path, gone);
    if (path.extension() == kUnfinished) {
      if (!gone && fs::file_time_type::clock::now() - used > kAbandoned) fs::remove(path, gone);
      continue;
    }
    if (gone || path.extension() != kSuffix || !fs::is_regular_file(entry->symlink_status(gone))) continue;
    auto header = read_header(path);
    if (!header.has_value()) {
      std::array<std::byte, sizeof(uint64_t)> beginning{};
      std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(beginning.data()), beginning.size());
      const bool damaged = header.error().kind == ErrorKind::kBadFile && is_saved_state(beginning);
      spdlog::warn("{}; it is {}", header.error().message, damaged ? "removed" : "left alone");
      if (damaged) fs::remove(path, gone);
      continue;
    }
    // Earlier versions left it to the umask who may read a file.
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write, gone);
    Division division = Division::of(options_.chunk, header->stretches);
    File file{.path = path, .header = std::move(*header), .division = std::move(division), .used = used};
    file.ours = file.header.identity == options_.identity;
    file.bytes = file.header.file_bytes();
    if (!file.ours) file.header.tokens = {};
    const MutexLock lock(mutex_);
    disk_bytes_ += file.bytes;
    files_.push_back(std::move(file));
  }
  if (error) {
    return fail(ErrorKind::kUsage, "--cache-dir {}: {}", options_.directory.string(), error.message());
  }
  return {};
}

int32_t PromptCache::reusable_of(const DividedPrompt& prompt, std::span<const Token> tokens,
                                 const Division& division) const {
  const int32_t n = reusable(prompt, tokens, division, options_.reuse);
  return options_.states_hold_every_length || std::cmp_equal(n, tokens.size()) ? n : 0;
}

PromptCache::Found PromptCache::best(std::string_view owner, const DividedPrompt& prompt) const {
  Found found;
  for (const auto& state : states_) {
    if (state->owner != owner) continue;
    const int32_t n = reusable_of(prompt, state->tokens, state->division);
    if (n > found.n) found = {.n = n, .state = state, .file = {}};
  }
  for (const File& file : files_) {
    if (!file.ours || file.header.owner != owner || file.header.state_bytes > options_.memory_bytes) continue;
    const int32_t n = reusable_of(prompt, file.header.tokens, file.division);
    if (n > found.n) found = {.n = n, .state = nullptr, .file = file.path};
  }
  return found;
}

int32_t PromptCache::find(std::string_view owner, const DividedPrompt& prompt) const {
  const MutexLock lock(mutex_);
  return best(owner, prompt).n;
}

int32_t PromptCache::restore(std::string_view owner, const DividedPrompt& prompt, Session& session) {
  session.truncate(0);
  MutexLock lock(mutex_);
  while (true) {
    Found found = best(owner, prompt);
    if (found.n == 0) return 0;
    if (found.state == nullptr) {
      found.state = read(found.file);
      if (found.state == nullptr) continue;  // that file is forgotten
      insert(found.state);
    } else {
      states_.remove(found.state);
      states_.push_front(found.state);
    }
    const State& state = *found.state;
    lock.unlock();
    const Status status =
        session.restore_state(state.tokens, found.n, state.division,
                              std::span<const std::byte>(state.memory.span()).first(state.state_bytes));
    if (status.has_value()) return found.n;
    // A prompt that fits the context has no such state; files of the same identity have these sizes.
    spdlog::warn("a saved KV cache was not usable: {}", status.error().message);
    return 0;
  }
}

// The state of a file, of which room in memory is made; null, and the file forgotten, when it cannot be used.
std::shared_ptr<PromptCache::State> PromptCache::read(const std::filesystem::path& path) {
  const auto file = std::ranges::find(files_, path, &File::path);
  const SavedStateHeader header = file->header;
  auto state = std::make_shared<State>(file->division);
  state->owner = header.owner;
  state->tokens = header.tokens;
  state->state_bytes = header.state_bytes;
  Status status;
  if (options_.check_identity) status = options_.check_identity();
  if (!status.has_value()) {
    status = fail(ErrorKind::kIo, "{}", status.error().message);  // no damage of the file
  } else if (!make_room(state->bytes(), /*wait=*/true)) {
    status = fail(ErrorKind::kBudget, "{}: it does not fit the memory of the prompt cache", path.string());
  } else if (auto memory = AlignedBuffer::allocate(header.state_bytes); !memory.has_value()) {
    status = std::unexpected(memory.error());
  } else {
    state->memory = std::move(*memory);
    mutex_.unlock();
    status = read_state(path, header, state->memory.span().first(header.state_bytes));
    mutex_.lock();
  }
  std::error_code ignored;
  if (status.has_value()) {
    const auto now = std::filesystem::file_time_type::clock::now();
    std::filesystem::last_write_time(path, now, ignored);  // what a later process takes for its last use
    const auto still = std::ranges::find(files_, path, &File::path);
    if (still != files_.end()) still->used = now;
    return state;
  }
  const bool damaged = status.error().kind == ErrorKind::kBadFile;
  spdlog::warn("{}; it is {}", status.error().message, damaged ? "removed" : "not used");
  if (damaged) std::filesystem::remove(path, ignored);
  forget_file(path);
  return nullptr;
}

void PromptCache::forget_file(const std::filesystem::path& path) {
  const auto file = std::ranges::find(files_, path, &File::path);
  if (file == files_.end()) return;
  disk_bytes_ -= file->bytes;
  files_.erase(file);
}

// Whether the state of `tokens`, of which `division` is known, brings back all that the state of others does.
bool PromptCache::holds(std::span<const Token> tokens, const Division& division,
                        std::span<const Token> others, const Division& of_others) const {
  const int32_t known = of_others.length();
  return shared_prefix(tokens, others) == others.size() && division.shared(of_others, known) == known &&
         (options_.states_hold_every_length || others.size() == tokens.size());
}

// Whether a state that is there brings back as much, whatever is asked for.
bool PromptCache::covered(const State& state) const {
  const auto covers = [&](const auto& other, const Division& division) {
    return other.owner == state.owner && holds(other.tokens, division, state.tokens, state.division);
  };
  return std::ranges::any_of(states_, [&](const auto& s) { return covers(*s, s->division); }) ||
         std::ranges::any_of(files_, [&](const File& f) { return f.ours && covers(f.header, f.division); });
}

// How many of a session's first tokens, at most so many: of what is too large for the memory the beginning.
int32_t PromptCache::worth_saving(const Session& session, int32_t most) const {
  const Division& division = session.division();
  const bool any = options_.reuse == PromptReuse::kLongest;
  int32_t n = most;
  if (!any) n = std::min(n, division.length());
  if (options_.reuse == PromptReuse::kExact) n = std::min(n, division.whole_chunks());
  while (n > 0) {
    if (!any) n = division.boundary(n);
    if (const int32_t reached = session.reachable(n); reached < n) {
      n = reached;
      continue;
    }
    const uint64_t bytes = session.state_bytes(n) + static_cast<uint64_t>(n) * sizeof(Token);
    if (bytes <= options_.memory_bytes) break;
    // Where rows are all there is, the state grows evenly; elsewhere there are few lengths to try.
    const uint64_t per_token = session.state_bytes(1) + sizeof(Token);
    n = options_.states_hold_every_length ? static_cast<int32_t>(options_.memory_bytes / per_token) : n - 1;
  }
  return n;
}

void PromptCache::save(std::string_view owner, const Session& session, int32_t kept, bool wait) {
  const int32_t n = worth_saving(session, static_cast<int32_t>(session.tokens().size()));
  // A copy of much to save the evaluation of little is not worth it.
  if (kept > 0 && n - kept < options_.chunk) return;
  if (n > kept) keep(owner, session, n, wait);
  if (options_.states_hold_every_length || options_.reuse == PromptReuse::kExact) return;
  // Who comes back with another text than what was written takes up what was read before.
  const int32_t read = worth_saving(session, before_last_reading(session.division(), n));
  if (read > kept && read < n) keep(owner, session, read, wait);
}

void PromptCache::keep(std::string_view owner, const Session& session, int32_t n, bool wait) {
  const std::span<const Token> all = session.tokens();
  Division division = session.division();
  division.truncate(n);
  auto state = std::make_shared<State>(std::move(division));
  state->owner = owner;
  state->tokens.assign(all.begin(), all.begin() + n);
  state->state_bytes = session.state_bytes(n);
  MutexLock lock(mutex_);
  if (covered(*state) || !make_room(state->bytes(), wait)) return;
  auto memory = AlignedBuffer::allocate(state->state_bytes);
  if (!memory.has_value()) return;
  state->memory = std::move(*memory);
  session.save_state(n, state->memory.span().first(state->state_bytes));
  if (session.reachable(n) < n) return;  // a device failed meanwhile
  insert(state);
  if (writer_.joinable()) {
    to_write_.push_back(std::move(state));
    work_.notify_one();
  }
}

// In front of those that it makes superfluous, which go.
void PromptCache::insert(std::shared_ptr<State> state) {
  std::erase_if(states_, [&](const auto& other) ODMOE_REQUIRES(mutex_) {
    const bool needless = other->owner == state->owner && !std::ranges::contains(to_write_, other) &&
                          holds(state->tokens, state->division, other->tokens, other->division);
    if (needless) memory_bytes_ -= other->bytes();
    return needless;
  });
  memory_bytes_ += state->bytes();
  states_.push_front(std::move(state));
}

// Gives up the least recently used states until there is room for another; those that are still to be written
// are waited for, or stand in the way.
bool PromptCache::make_room(uint64_t bytes, bool wait) {
  if (bytes > options_.memory_bytes) return false;
  while (memory_bytes_ + bytes > options_.memory_bytes) {
    const auto oldest = std::ranges::find_if(
        states_.rbegin(), states_.rend(),
        [&](const auto& state) ODMOE_REQUIRES(mutex_) { return !std::ranges::contains(to_write_, state); });
    if (oldest != states_.rend()) {
      memory_bytes_ -= (*oldest)->bytes();
      states_.erase(std::next(oldest).base());
    } else if (wait) {
      written_.wait(mutex_);
    } else {
      return false;
    }
  }
  return true;
}

void PromptCache::write_files() {
  MutexLock lock(mutex_);
  bool said = false;
  while (true) {
    while (!stop_ && to_write_.empty()) work_.wait(mutex_);
    if (to_write_.empty()) return;
    const std::shared_ptr<State> state = to_write_.front();
    const uint64_t bytes = state->bytes() + options_.identity.size() + state->owner.size() +
                           state->division.stretches().size() * sizeof(uint32_t) +
                           SavedStateHeader{}.state_offset();
    if (bytes <= options_.disk_bytes) {
      while (disk_bytes_ + bytes > options_.disk_bytes && !files_.empty()) {
        const auto path = std::ranges::min_element(files_, {}, &File::used)->path;
        std::error_code ignored;
        std::filesystem::remove(path, ignored);
        forget_file(path);
      }
      lock.unlock();
      const Status status = write(*state);
      lock.lock();
      if (!status.has_value() && !std::exchange(said, true)) {
        spdlog::warn("a KV cache was not saved, and no other will be until this is repaired: {}",
                     status.error().message);
      }
      if (status.has_value()) said = false;
    }
    to_write_.pop_front();
    written_.notify_all();
  }
}

// Under another name first, so that no process ever sees half a file.
Status PromptCache::write(const State& state) {
  // What was computed before now is sound if the model's files are as they were even now.
  if (options_.check_identity) ODMOE_RETURN_IF_ERROR(options_.check_identity());
  const std::span<const std::byte> bytes =
      std::span<const std::byte>(state.memory.span()).first(state.state_bytes);
  const std::span<const Division::Stretch> stretches = state.division.stretches();
  File file{
      .path = options_.directory / file_name(options_.identity, state.owner, state.tokens, state.division),
      .header = {.identity = options_.identity,
                 .owner = state.owner,
                 .tokens = state.tokens,
                 .stretches = {stretches.begin(), stretches.end()},
                 .state_bytes = state.state_bytes,
                 .state_checksum = Checksum::of(bytes)},
      .division = state.division,
      .used = std::filesystem::file_time_type::clock::now(),
      .ours = true};
  file.bytes = file.header.file_bytes();
  const std::filesystem::path unfinished =
      options_.directory / odmoe::format("{}.{}{}", file.path.filename().string(), getpid(), kUnfinished);
  const auto write_all = [&]() -> Status {
    ODMOE_ASSIGN_OR_RETURN(OutputFile output, OutputFile::create_private(unfinished));
    ODMOE_RETURN_IF_ERROR(output.write(encode_header(file.header)));
    ODMOE_RETURN_IF_ERROR(output.write(bytes));
    return output.sync();
  };
  Status status = write_all();
  std::error_code error;
  if (status.has_value()) {
    std::filesystem::rename(unfinished, file.path, error);
    if (error) status = fail(ErrorKind::kIo, "{}: {}", file.path.string(), error.message());
  }
  if (!status.has_value()) {
    std::filesystem::remove(unfinished, error);
    return status;
  }
  (void)sync_directory(options_.directory);
  const MutexLock lock(mutex_);
  forget_file(file.path);
  // Files that this one makes superfluous.
  std::erase_if(files_, [&](const File& other) ODMOE_REQUIRES(mutex_) {
    const bool needless = other.ours && other.header.owner == state.owner &&
                          holds(state.tokens, state.division, other.header.tokens, other.division);
    if (needless) {
      std::filesystem::remove(other.path, error);
      disk_bytes_ -= other.bytes;
    }
    return needless;
  });
  disk_bytes_ += file.bytes;
  files_.push_back(std::move(file));
  return {};
}

PromptCache::Stats PromptCache::stats() const {
  const MutexLock lock(mutex_);
  return {.states = states_.size(),
          .files = files_.size(),
          .memory_bytes = memory_bytes_,
          .disk_bytes = disk_bytes_};
}

}  // namespace odmoe::server
