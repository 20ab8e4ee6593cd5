#include "server/prompt_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <span>
#include <vector>

namespace odmoe::server {
namespace {

constexpr int32_t kChunk = 4;
constexpr uint64_t kTokenBytes = 100;  // of state
constexpr uint64_t kEach = kTokenBytes + sizeof(Token);

std::vector<Token> text(Token first, int32_t n) {
  std::vector<Token> tokens(static_cast<size_t>(n));
  for (int32_t i = 0; i < n; ++i) tokens[static_cast<size_t>(i)] = first + i;
  return tokens;
}

// A timeline whose state says which tokens it is of.
class FakeSession final : public Session {
 public:
  Status evaluate(std::span<const Token> tokens, const LogitsSink&, const EvaluateProgress&) override {
    division_.append(static_cast<int32_t>(tokens.size()), /*singly=*/tokens.size() == 1);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    state_ = tokens_;
    return {};
  }
  Status evaluate_singly(std::span<const Token> tokens, const LogitsSink&) override {
    for (const Token token : tokens) (void)evaluate({&token, 1}, {}, {});
    return {};
  }
  std::span<const float> logits() const override { return {}; }
  std::span<const Token> tokens() const override { return tokens_; }
  int32_t context() const override { return 1000; }
  int32_t truncate(int32_t n) override {
    n = reachable(n);
    tokens_.resize(static_cast<size_t>(n));
    state_.resize(static_cast<size_t>(n));
    division_.truncate(n);
    return n;
  }
  int32_t reachable(int32_t n) const override {
    if (snapshots_.empty() || std::cmp_equal(n, tokens_.size())) return n;
    int32_t reached = 0;
    for (const int32_t snapshot : snapshots_) {
      if (snapshot <= n) reached = std::max(reached, snapshot);
    }
    return reached;
  }
  // From now on it can be taken back to these lengths alone.
  void keep(std::vector<int32_t> snapshots) { snapshots_ = std::move(snapshots); }
  const Division& division() const override { return division_; }
  uint64_t state_bytes(int32_t n) const override { return kTokenBytes * static_cast<uint64_t>(n); }
  void save_state(int32_t n, std::span<std::byte> state) const override {
    ASSERT_EQ(state.size(), state_bytes(n));
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      std::ranges::fill(state.subspan(i * kTokenBytes, kTokenBytes), static_cast<std::byte>(state_[i]));
    }
  }
  Status restore_state(std::span<const Token> tokens, int32_t n, const Division& division,
                       std::span<const std::byte> state) override {
    EXPECT_EQ(state.size(), state_bytes(static_cast<int32_t>(tokens.size())));
    tokens_.assign(tokens.begin(), tokens.begin() + n);
    division_ = division;
    division_.truncate(n);
    state_.clear();
    for (size_t i = 0; i < tokens_.size(); ++i) state_.push_back(static_cast<Token>(state[i * kTokenBytes]));
    EXPECT_EQ(state_, tokens_) << "the state is that of the tokens";
    return {};
  }
  Status write_state(const std::function<Status(std::span<const std::byte>)>& take) const override {
    std::vector<std::byte> state(state_bytes(static_cast<int32_t>(tokens_.size())));
    save_state(static_cast<int32_t>(tokens_.size()), state);
    return take(state);
  }
  Status read_state(std::span<const Token> tokens, const Division& division,
                    const std::function<Status(std::span<std::byte>)>& give) override {
    const auto n = static_cast<int32_t>(tokens.size());
    std::vector<std::byte> state(state_bytes(n));
    ODMOE_RETURN_IF_ERROR(give(state));
    return restore_state(tokens, n, division, state);
  }

 private:
  std::vector<Token> tokens_, state_;
  std::vector<int32_t> snapshots_;
  Division division_{kChunk};
};

FakeSession session_with(const std::vector<Token>& tokens) {
  FakeSession session;
  (void)session.evaluate(tokens, {}, {});
  return session;
}

// A prompt that is divided as one is of which nothing is known.
DividedPrompt in_chunks(const std::vector<Token>& prompt) {
  return {.tokens = prompt, .division = Division::in_chunks(kChunk, static_cast<int32_t>(prompt.size()))};
}
int32_t found_in(const PromptCache& cache, std::string_view owner, const std::vector<Token>& prompt) {
  return cache.find(owner, in_chunks(prompt));
}
int32_t restore_from(PromptCache& cache, std::string_view owner, const std::vector<Token>& prompt,
                     FakeSession& session) {
  return cache.restore(owner, in_chunks(prompt), session);
}

std::unique_ptr<PromptCache> make(const PromptCacheOptions& options) {
  auto cache = PromptCache::create(options);
  EXPECT_TRUE(cache.has_value()) << cache.error().message;
  return std::move(*cache);
}

PromptCacheOptions in_memory(int32_t n_token, PromptReuse reuse = PromptReuse::kExact) {
  return {.memory_bytes = kEach * static_cast<uint64_t>(n_token), .chunk = kChunk, .reuse = reuse};
}

TEST(Reusable, ExactlyWholeChunksAndNeverTheLastToken) {
  const std::vector<Token> tokens = text(1, 20);
  const auto exact = [&](int32_t n_prompt, int32_t whole) {
    const std::vector<Token> prompt = text(1, n_prompt);
    return reusable(in_chunks(prompt), tokens, Division::in_chunks(kChunk, whole), PromptReuse::kExact);
  };
  EXPECT_EQ(exact(20, 20), 16);  // the last chunk ends with the last token
  EXPECT_EQ(exact(21, 20), 20);
  EXPECT_EQ(exact(19, 20), 16);
  EXPECT_EQ(exact(50, 20), 20);
  EXPECT_EQ(exact(50, 8), 8);
  EXPECT_EQ(exact(4, 20), 0);
  EXPECT_EQ(exact(5, 20), 4);
  EXPECT_EQ(exact(0, 20), 0);
  const std::vector<Token> other = text(2, 20);
  EXPECT_EQ(reusable(in_chunks(other), tokens, Division::in_chunks(kChunk, 20), PromptReuse::kExact), 0);
}

TEST(Reusable, OfAConversationAllThatIsDividedAlike) {
  const std::vector<Token> tokens = text(1, 20);
  Division had(kChunk);  // 4 8 10 | 11 12 13 14 | 18 20
  had.append(10, /*singly=*/false);
  had.append(4, /*singly=*/true);
  had.append(6, /*singly=*/false);
  const auto taken_up = [&](int32_t n_prompt, const Division& division) {
    const std::vector<Token> prompt = text(1, n_prompt);
    return reusable({.tokens = prompt, .division = division}, tokens, had, PromptReuse::kConversation);
  };
  const auto going_on = [&](int32_t read, int32_t written, int32_t n) {
    Division division = Division::in_chunks(kChunk, read);
    division.append(written, /*singly=*/true);
    division.append(n - read - written, /*singly=*/false);
    return division;
  };
  EXPECT_EQ(taken_up(30, going_on(10, 4, 30)), 18)
      << "then there are whole chunks where there were two tokens";
  EXPECT_EQ(taken_up(20, going_on(10, 4, 20)), 18) << "what the last token is evaluated with is never there";
  EXPECT_EQ(taken_up(17, going_on(10, 4, 17)), 14);
  EXPECT_EQ(taken_up(30, going_on(10, 2, 30)), 12);
  EXPECT_EQ(taken_up(30, Division::in_chunks(kChunk, 30)), 8);
  EXPECT_EQ(taken_up(10, Division::in_chunks(kChunk, 10)), 8) << "the same prompt again";
}

TEST(Reusable, LongestTakesAllThatIsEqual) {
  const std::vector<Token> tokens = text(1, 20);
  const auto longest = [&](int32_t n_prompt) {
    const std::vector<Token> prompt = text(1, n_prompt);
    return reusable(in_chunks(prompt), tokens, Division(kChunk), PromptReuse::kLongest);
  };
  EXPECT_EQ(longest(20), 19);
  EXPECT_EQ(longest(30), 20);
  EXPECT_EQ(longest(3), 2);
}

TEST(Reusable, GoesBackToWhatTheSessionCanReach) {
  FakeSession session = session_with(text(1, 30));
  session.keep({4, 9, 16});
  const auto taken_up = [&](int32_t n_prompt, PromptReuse reuse) {
    const std::vector<Token> prompt = text(1, n_prompt);
    return reusable(in_chunks(prompt), session, reuse);
  };
  for (const PromptReuse reuse : {PromptReuse::kExact, PromptReuse::kConversation}) {
    EXPECT_EQ(taken_up(40, reuse), 16);
    EXPECT_EQ(taken_up(15, reuse), 4) << "9 is in the middle of a chunk";
    EXPECT_EQ(taken_up(4, reuse), 0);
  }
  EXPECT_EQ(taken_up(15, PromptReuse::kLongest), 9);
  EXPECT_EQ(taken_up(40, PromptReuse::kLongest), 30);
}

TEST(PromptCacheTest, StatesThatHoldOneLengthAreBroughtBackWholeOrNotAtAll) {
  PromptCacheOptions options = in_memory(100);
  options.states_hold_every_length = false;
  const auto cache = make(options);
  FakeSession session = session_with(text(1, 30));
  session.keep({8, 16});
  cache->save("", session, 0);
  EXPECT_EQ(found_in(*cache, "", text(1, 40)), 16) << "28 cannot be reached";
  EXPECT_EQ(found_in(*cache, "", text(1, 14)), 0) << "a state of 16 tokens has not that of 12 in it";
  cache->save("", session_with(text(1, 12)), 0);
  EXPECT_EQ(found_in(*cache, "", text(1, 14)), 12);
  EXPECT_EQ(found_in(*cache, "", text(1, 40)), 16)
      << "the longer one has not made the shorter one superfluous";
  FakeSession other;
  EXPECT_EQ(restore_from(*cache, "", text(1, 14), other), 12);
  EXPECT_EQ(std::vector(other.tokens().begin(), other.tokens().end()), text(1, 12));
}

TEST(PromptCacheTest, OfStatesThatHoldOneLengthTheLongestThatFitsIsKept) {
  PromptCacheOptions options = in_memory(10);
  options.states_hold_every_length = false;
  const auto cache = make(options);
  FakeSession session = session_with(text(1, 30));
  session.keep({8, 16});
  cache->save("", session, 0);
  EXPECT_EQ(found_in(*cache, "", text(1, 40)), 8);
}

TEST(PromptCacheTest, BringsBackTheLongestPrefixThatFits) {
  const auto cache = make(in_memory(100));
  cache->save("", session_with(text(1, 9)), 0);
  cache->save("", session_with(text(50, 30)), 0);
  std::vector<Token> prompt = text(50, 17);
  prompt.push_back(7);
  EXPECT_EQ(found_in(*cache, "", prompt), 16);
  FakeSession session = session_with(text(90, 5));
  EXPECT_EQ(restore_from(*cache, "", prompt, session), 16);
  EXPECT_EQ(std::vector(session.tokens().begin(), session.tokens().end()), text(50, 16));
  EXPECT_EQ(session.division(), Division::in_chunks(kChunk, 16));
  EXPECT_EQ(restore_from(*cache, "", text(70, 9), session), 0);
  EXPECT_TRUE(session.tokens().empty());
}

TEST(PromptCacheTest, KeepsOnlyWhatCanBeUsedExactly) {
  const auto cache = make(in_memory(100));
  FakeSession session = session_with(text(1, 9));  // 8 in chunks, then one by one
  for (Token t = 10; t < 30; ++t) (void)session.evaluate(std::array{t}, {}, {});
  cache->save("", session, 0);
  EXPECT_EQ(found_in(*cache, "", text(1, 40)), 8);
  EXPECT_EQ(cache->stats().memory_bytes, 8 * kEach);
  const auto longest = make(in_memory(100, PromptReuse::kLongest));
  longest->save("", session, 0);
  EXPECT_EQ(found_in(*longest, "", text(1, 40)), 29);
}

// A conversation: 10 tokens read, 5 written.
FakeSession conversation(Token first) {
  FakeSession session = session_with(text(first, 10));
  (void)session.evaluate_singly(text(first + 10, 5), {});
  return session;
}
// The next turn of it.
struct NextTurn {
  std::vector<Token> tokens;
  Division division{kChunk};
  explicit NextTurn(Token first, int32_t n = 22) : tokens(text(first, n)) {
    division.append(10, /*singly=*/false);
    division.append(5, /*singly=*/true);
    division.append(n - 15, /*singly=*/false);
  }
  DividedPrompt prompt() const { return {.tokens = tokens, .division = division}; }
};

TEST(PromptCacheTest, KeepsWhatWasWrittenForWhoGoesOnFromIt) {
  const auto cache = make(in_memory(100, PromptReuse::kConversation));
  cache->save("", conversation(1), 0);
  const NextTurn next(1);
  EXPECT_EQ(cache->find("", next.prompt()), 15);
  FakeSession session;
  EXPECT_EQ(cache->restore("", next.prompt(), session), 15);
  EXPECT_EQ(session.division(), conversation(1).division());
  EXPECT_EQ(found_in(*cache, "", text(1, 22)), 8) << "who did not write it has whole chunks alone";
}

TEST(PromptCacheTest, TheSameTextDividedOtherwiseIsAnotherState) {
  const auto cache = make(in_memory(100, PromptReuse::kConversation));
  cache->save("", conversation(1), 0);
  cache->save("", session_with(text(1, 15)), 0);
  EXPECT_EQ(cache->stats().states, 2U);
  cache->save("", conversation(1), 0);
  EXPECT_EQ(cache->stats().states, 2U) << "that is there";
  EXPECT_EQ(cache->find("", NextTurn(1).prompt()), 15);
  EXPECT_EQ(found_in(*cache, "", text(1, 22)), 12);
}

TEST(PromptCacheTest, OfStatesThatHoldOneLengthTheEndAndWhatWasReadAreKept) {
  PromptCacheOptions options = in_memory(100, PromptReuse::kConversation);
  options.states_hold_every_length = false;
  const auto cache = make(options);
  FakeSession session = conversation(1);
  session.keep({8, 10});
  cache->save("", session, 0);
  EXPECT_EQ(cache->stats().states, 2U);
  EXPECT_EQ(cache->find("", NextTurn(1).prompt()), 15);
  EXPECT_EQ(found_in(*cache, "", text(1, 22)), 8) << "who comes back with another answer";
}

TEST(PromptCacheTest, LittleThatIsLostIsNotWorthACopy) {
  const auto cache = make(in_memory(100, PromptReuse::kConversation));
  cache->save("", conversation(1), 12);
  EXPECT_EQ(cache->stats().states, 0U);
  cache->save("", conversation(1), 10);
  EXPECT_EQ(cache->stats().states, 1U);
}

TEST(PromptCacheTest, TheLeastRecentlyUsedGoesFirst) {
  const auto cache = make(in_memory(24));
  cache->save("", session_with(text(1, 8)), 0);
  cache->save("", session_with(text(20, 8)), 0);
  cache->save("", session_with(text(40, 8)), 0);
  FakeSession session;
  EXPECT_EQ(restore_from(*cache, "", text(1, 9), session), 8);
  cache->save("", session_with(text(60, 8)), 0);
  EXPECT_EQ(found_in(*cache, "", text(1, 9)), 8);
  EXPECT_EQ(found_in(*cache, "", text(20, 9)), 0);
  EXPECT_EQ(found_in(*cache, "", text(40, 9)), 8);
  EXPECT_EQ(found_in(*cache, "", text(60, 9)), 8);
  EXPECT_LE(cache->stats().memory_bytes, 24 * kEach);
}

TEST(PromptCacheTest, OfATextThatIsTooLongTheBeginningIsKept) {
  const auto cache = make(in_memory(10));
  cache->save("", session_with(text(1, 40)), 0);
  EXPECT_EQ(found_in(*cache, "", text(1, 41)), 8);
}

TEST(PromptCacheTest, ALongerTextTakesThePlaceOfItsBeginning) {
  const auto cache = make(in_memory(100));
  cache->save("", session_with(text(1, 8)), 0);
  cache->save("", session_with(text(1, 16)), 0);
  EXPECT_EQ(cache->stats().states, 1U);
  cache->save("", session_with(text(1, 12)), 0);  // is there already
  EXPECT_EQ(cache->stats().states, 1U);
  EXPECT_EQ(found_in(*cache, "", text(1, 17)), 16);
}

TEST(PromptCacheTest, NothingIsSavedOfWhatTheSessionKeeps) {
  const auto cache = make(in_memory(100));
  cache->save("", session_with(text(1, 10)), 8);
  EXPECT_EQ(cache->stats().states, 0U);
}

class PromptCacheFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(::testing::TempDir()) /
                 ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  PromptCacheOptions options(const std::string& identity = "a model") const {
    PromptCacheOptions options = in_memory(100);
    options.directory = directory_;
    options.disk_bytes = 1 << 20;
    options.identity = identity;
    return options;
  }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) paths.push_back(entry.path());
    return paths;
  }
  std::filesystem::path directory_;
};

TEST_F(PromptCacheFiles, OutliveTheProcess) {
  make(options())->save("", session_with(text(1, 10)), 0);
  const auto cache = make(options());
  EXPECT_EQ(cache->stats().states, 0U);
  EXPECT_EQ(cache->stats().files, 1U);
  FakeSession session;
  EXPECT_EQ(restore_from(*cache, "", text(1, 20), session), 8);
  EXPECT_EQ(cache->stats().states, 1U);
}

TEST_F(PromptCacheFiles, SayHowTheirTextWasDivided) {
  PromptCacheOptions kept = options();
  kept.reuse = PromptReuse::kConversation;
  {
    const auto cache = make(kept);
    cache->save("", session_with(text(1, 15)), 0, /*wait=*/true);
    cache->save("", conversation(1), 0, /*wait=*/true);
  }
  const auto cache = make(kept);
  EXPECT_EQ(cache->stats().files, 2U);
  FakeSession session;
  EXPECT_EQ(cache->restore("", NextTurn(1).prompt(), session), 15);
  EXPECT_EQ(session.division(), conversation(1).division());
  EXPECT_EQ(restore_from(*cache, "", text(1, 22), session), 12);
}

TEST_F(PromptCacheFiles, OfAnotherModelAreNotUsedButCount) {
  make(options("another"))->save("", session_with(text(1, 8)), 0);
  const auto cache = make(options());
  EXPECT_EQ(found_in(*cache, "", text(1, 20)), 0);
  EXPECT_EQ(cache->stats().files, 1U);
  EXPECT_GT(cache->stats().disk_bytes, 8 * kTokenBytes);
}

TEST_F(PromptCacheFiles, ThatAreDamagedAreRemovedAndOthersLeftAlone) {
  make(options())->save("", session_with(text(1, 8)), 0);
  {
    std::fstream file(files().front(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-3, std::ios::end);
    file.put('x');  // found out when it is read
  }
  std::ofstream(directory_ / "note.txt") << "mine";
  std::ofstream(directory_ / "mine.odmoe-kv") << "not what it is called";
  std::ofstream(directory_ / "short.odmoe-kv") << "ODMOEKV1";  // found out when the directory is read
  const auto cache = make(options());
  EXPECT_EQ(found_in(*cache, "", text(1, 20)), 8);
  FakeSession session;
  EXPECT_EQ(restore_from(*cache, "", text(1, 20), session), 0);
  EXPECT_TRUE(session.tokens().empty());
  EXPECT_EQ(found_in(*cache, "", text(1, 20)), 0);
  EXPECT_EQ(cache->stats().disk_bytes, 0U);
  std::vector<std::filesystem::path> left = files();
  std::ranges::sort(left);
  ASSERT_EQ(left.size(), 2U);
  EXPECT_EQ(left[0].filename(), "mine.odmoe-kv");
  EXPECT_EQ(left[1].filename(), "note.txt");
}

TEST_F(PromptCacheFiles, StayWithinTheLimit) {
  PromptCacheOptions small = options();
  small.disk_bytes = 20 * kEach + 400;
  {
    const auto cache = make(small);
    for (Token t = 1; t < 100; t += 20) cache->save("", session_with(text(t, 8)), 0, /*wait=*/true);
  }
  const auto cache = make(small);
  EXPECT_LE(cache->stats().disk_bytes, small.disk_bytes);
  EXPECT_EQ(cache->stats().files, 2U);
  EXPECT_EQ(found_in(*cache, "", text(81, 10)), 8) << "the last one is there";
  EXPECT_EQ(found_in(*cache, "", text(1, 10)), 0) << "the first one is not";
}

TEST_F(PromptCacheFiles, AreWrittenAllThoughTheMemoryHoldsOne) {
  PromptCacheOptions small = options();
  small.memory_bytes = 8 * kEach;
  {
    const auto cache = make(small);
    for (const Token t : {1, 20, 40, 60}) cache->save("", session_with(text(t, 8)), 0, /*wait=*/true);
    EXPECT_LE(cache->stats().memory_bytes, small.memory_bytes);
  }
  const auto cache = make(small);
  FakeSession session;
  for (const Token t : {1, 20, 40, 60}) EXPECT_EQ(restore_from(*cache, "", text(t, 9), session), 8);
  EXPECT_LE(cache->stats().memory_bytes, small.memory_bytes);
}

TEST_F(PromptCacheFiles, CannotBeWhereNoDirectoryCanBe) {
  std::ofstream(directory_) << "a file";
  const auto cache = PromptCache::create(options());
  ASSERT_FALSE(cache.has_value());
  EXPECT_EQ(cache.error().kind, ErrorKind::kUsage);
}

TEST_F(PromptCacheFiles, AreFoundAgainByTheirOwnerAlone) {
  {
    const auto cache = make(options());
    cache->save("anna", session_with(text(1, 8)), 0);
    cache->save("bert", session_with(text(1, 8)), 0);  // the same text is a file of his own
    cache->save("anna", session_with(text(50, 8)), 0);
  }
  const auto cache = make(options());
  EXPECT_EQ(cache->stats().files, 3U);
  FakeSession session;
  EXPECT_EQ(restore_from(*cache, "bert", text(50, 9), session), 0);
  EXPECT_EQ(restore_from(*cache, "", text(50, 9), session), 0);
  EXPECT_EQ(restore_from(*cache, "anna", text(50, 9), session), 8);
  EXPECT_EQ(found_in(*cache, "bert", text(50, 9)), 0) << "nor when it is in memory";
  EXPECT_EQ(found_in(*cache, "bert", text(1, 9)), 8);
}

TEST_F(PromptCacheFiles, ALongerTextReplacesNoneOfAnotherOwner) {
  {
    const auto cache = make(options());
    cache->save("anna", session_with(text(1, 8)), 0, /*wait=*/true);
    cache->save("bert", session_with(text(1, 12)), 0, /*wait=*/true);
    cache->save("anna", session_with(text(1, 4)), 0, /*wait=*/true);  // she has that already
  }
  const auto cache = make(options());
  EXPECT_EQ(cache->stats().files, 2U);
  EXPECT_EQ(found_in(*cache, "anna", text(1, 20)), 8);
  EXPECT_EQ(found_in(*cache, "bert", text(1, 20)), 12);
}

TEST_F(PromptCacheFiles, AreNeitherWrittenNorReadOnceTheModelChanged) {
  Status status;
  PromptCacheOptions checked = options();
  checked.check_identity = [&] { return status; };
  make(checked)->save("", session_with(text(1, 8)), 0);
  ASSERT_EQ(files().size(), 1U);
  {
    const auto cache = make(checked);
    status = fail(ErrorKind::kBadFile, "the model was changed");
    FakeSession session;
    EXPECT_EQ(restore_from(*cache, "", text(1, 9), session), 0);
    cache->save("", session_with(text(50, 8)), 0);
  }
  EXPECT_EQ(files().size(), 1U) << "what was there is no worse for it";
  status = {};
  const auto cache = make(checked);
  EXPECT_EQ(found_in(*cache, "", text(1, 9)), 8);
  EXPECT_EQ(found_in(*cache, "", text(50, 9)), 0);
}

using std::filesystem::perms;

perms perms_of(const std::filesystem::path& path) { return std::filesystem::status(path).permissions(); }

// Sets it for as long as it lives.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(umask(mask)) {}
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;
  ~Umask() { umask(before_); }

 private:
  mode_t before_;
};

TEST_F(PromptCacheFiles, AreTheirOwnersAloneWhateverTheUmask) {
  for (const mode_t mask : {0U, 0022U, 0777U}) {
    const Umask set(mask);
    make(options())->save("", session_with(text(1, 8)), 0);
    EXPECT_EQ(perms_of(directory_), perms::owner_all);
    ASSERT_EQ(files().size(), 1U);
    EXPECT_EQ(perms_of(files().front()), perms::owner_read | perms::owner_write);
    std::filesystem::remove_all(directory_);
  }
}

TEST_F(PromptCacheFiles, OfEarlierVersionsAreClosedToOthers) {
  make(options())->save("", session_with(text(1, 8)), 0);
  std::filesystem::permissions(files().front(), static_cast<perms>(0644));
  const auto cache = make(options());
  EXPECT_EQ(perms_of(files().front()), perms::owner_read | perms::owner_write);
  EXPECT_EQ(found_in(*cache, "", text(1, 9)), 8);
}

TEST_F(PromptCacheFiles, AreNotKeptInADirectoryThatIsOpenToOthers) {
  std::filesystem::create_directory(directory_);
  for (const unsigned mode : {0755U, 0750U, 0710U, 0701U, 0702U, 0704U}) {
    std::filesystem::permissions(directory_, static_cast<perms>(mode));
    const auto cache = PromptCache::create(options());
    ASSERT_FALSE(cache.has_value()) << mode;
    EXPECT_EQ(cache.error().kind, ErrorKind::kUsage);
    EXPECT_TRUE(cache.error().message.contains("chmod 700")) << cache.error().message;
  }
  std::filesystem::permissions(directory_, perms::owner_all);
  EXPECT_TRUE(PromptCache::create(options()).has_value());
}

TEST_F(PromptCacheFiles, AreNotKeptInADirectoryOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
  std::filesystem::create_directory(directory_);
  std::filesystem::permissions(directory_, perms::owner_all);
  ASSERT_EQ(chown(directory_.c_str(), 65534, 65534), 0);
  const auto cache = PromptCache::create(options());
  ASSERT_FALSE(cache.has_value());
  EXPECT_TRUE(cache.error().message.contains("another user")) << cache.error().message;
}

TEST_F(PromptCacheFiles, ThatAreLinksAreLeftAlone) {
  make(options())->save("", session_with(text(1, 8)), 0);
  const std::filesystem::path elsewhere = directory_.string() + ".elsewhere";
  const std::filesystem::path file = files().front();
  std::filesystem::rename(file, elsewhere);
  std::filesystem::create_symlink(elsewhere, file);
  EXPECT_EQ(make(options())->stats().files, 0U);
  make(options())->save("", session_with(text(1, 8)), 0);  // takes the link's place
  EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(file)));
  std::filesystem::remove(elsewhere);
}

TEST_F(PromptCacheFiles, AFullDriveCostsNoAnswer) {
  PromptCacheOptions gone = options();
  const auto cache = make(gone);
  std::filesystem::remove_all(directory_);  // no file can be made now
  cache->save("", session_with(text(1, 8)), 0);
  EXPECT_EQ(found_in(*cache, "", text(1, 9)), 8) << "from memory";
}

}  // namespace
}  // namespace odmoe::server
