#include "server/batch/batch_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "odmoe/engine.h"
#include "temp_dir.h"

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;

GeneratedToken token_of(Token token) { return {.token = token}; }

bool none_is_done(size_t) { return false; }

class BatchJournalTest : public ::testing::Test {
 protected:
  std::shared_ptr<BatchJournal> open(const std::function<bool(size_t)>& is_done = none_is_done,
                                     const std::string& batch = "me") {
    return BatchJournal::open({.directory = directory_,
                               .batch = batch,
                               .identity = "model",
                               .n_vocab = kVocab,
                               .chunk = kChunk,
                               .state_bytes = state_bytes_,
                               .drive_bytes_per_second = 1e6,
                               .has_room = has_room_},
                              is_done)
        .value();
  }
  std::vector<Token> written(BatchJournal& journal, size_t place, size_t choice = 0) {
    std::vector<Token> tokens;
    for (const GeneratedToken& token : journal.keeper(place, choice)->kept().written) {
      tokens.push_back(token.token);
    }
    return tokens;
  }
  std::string text() const {
    std::ifstream file(directory_ / "written", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static constexpr int32_t kChunk = 16, kVocab = 110;
  odmoe::testing::TempDir dir_;
  std::filesystem::path directory_ = dir_ / "out.under-way";
  uint64_t state_bytes_ = 1 << 30;
  std::function<bool(uint64_t)> has_room_;
};

TEST_F(BatchJournalTest, WhatWasWrittenIsThereAgain) {
  {
    const auto journal = open();
    const auto first = journal->keeper(7, 0), second = journal->keeper(7, 1), third = journal->keeper(3, 0);
    EXPECT_TRUE(first->kept().written.empty());
    first->wrote({.token = 5, .logprob = -0.125F, .top = {{9, -1e-30F}, {5, -0.125F}}});
    second->wrote(token_of(0));
    first->wrote(token_of(6));
    third->wrote({.token = 1, .logprob = -2});
    second->ended(Ending::kEndToken);
  }
  const auto journal = open();
  const KeptGeneration first = journal->keeper(7, 0)->kept(), second = journal->keeper(7, 1)->kept();
  ASSERT_EQ(first.written.size(), 2U);
  EXPECT_EQ(first.written[0].token, 5);
  EXPECT_EQ(first.written[0].logprob, -0.125F);
  ASSERT_EQ(first.written[0].top.size(), 2U);
  EXPECT_EQ(first.written[0].top[0].token, 9);
  EXPECT_EQ(first.written[0].top[0].logprob, -1e-30F);
  EXPECT_EQ(first.written[1].token, 6);
  EXPECT_FALSE(first.ending);
  EXPECT_EQ(second.written.size(), 1U);
  EXPECT_EQ(second.ending, Ending::kEndToken);
  EXPECT_EQ(written(*journal, 3), std::vector<Token>{1});
  EXPECT_TRUE(written(*journal, 4).empty());
}

TEST_F(BatchJournalTest, GoesOnBehindWhatIsThere) {
  for (Token token = 0; token < 5; ++token) {
    const auto keeper = open()->keeper(0, 0);
    EXPECT_EQ(std::ssize(keeper->kept().written), token);
    keeper->wrote(token_of(token));
  }
  EXPECT_EQ(written(*open(), 0), (std::vector<Token>{0, 1, 2, 3, 4}));
}

TEST_F(BatchJournalTest, WhatAnEndLeftOfALineCountsForNothing) {
  {
    const auto keeper = open()->keeper(0, 0);
    for (Token token = 0; token < 5; ++token) keeper->wrote(token_of(token));
  }
  const std::string whole = text();
  size_t most = 0;
  for (size_t n = 0; n <= whole.size(); ++n) {
    dir_.write("out.under-way/written", whole.substr(0, n) + std::string(n % 3, '\0'));
    const std::vector<Token> there = written(*open(), 0);
    EXPECT_GE(there.size(), most) << n;
    most = there.size();
    for (size_t i = 0; i < there.size(); ++i) EXPECT_EQ(there[i], static_cast<Token>(i));
  }
  EXPECT_EQ(most, 5U);
}

TEST_F(BatchJournalTest, TakesUpNoTokenThatTheModelHasNot) {
  for (const Token wrong : {-1, kVocab}) {
    for (const bool alternative : {false, true}) {
      BatchJournal::remove(directory_);
      {
        const auto keeper = open()->keeper(0, 0);
        keeper->wrote(token_of(kVocab - 1));
        keeper->wrote(alternative ? GeneratedToken{.token = 1, .logprob = -1, .top = {{wrong, -1}}}
                                  : token_of(wrong));
        keeper->wrote(token_of(2));
        keeper->ended(Ending::kEndToken);
      }
      const auto keeper = open()->keeper(0, 0);
      const KeptGeneration kept = keeper->kept();
      ASSERT_EQ(kept.written.size(), 1U);
      EXPECT_EQ(kept.written[0].token, kVocab - 1);
      EXPECT_FALSE(kept.ending);
      keeper->wrote(token_of(3));
      EXPECT_EQ(written(*open(), 0), (std::vector<Token>{kVocab - 1, 3}));
    }
  }
}

TEST_F(BatchJournalTest, TakesNoFolderAndNoFileThatMayBeOthers) {
  const auto message = [&] {
    const auto refused =
        BatchJournal::open({.directory = directory_, .batch = "me", .identity = {}}, none_is_done);
    return refused.has_value() ? "" : refused.error().message;
  };
  std::filesystem::create_directory(directory_);
  ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  EXPECT_THAT(message(), HasSubstr("other users can get at it"));
  std::filesystem::remove(directory_);
  const auto precious = dir_.write("precious", std::string_view("mine\n"));
  std::filesystem::create_directory(dir_ / "elsewhere");
  std::filesystem::create_directory_symlink(dir_ / "elsewhere", directory_);
  EXPECT_THAT(message(), HasSubstr("is a link"));
  std::filesystem::remove(directory_);
  ASSERT_EQ(mkdir(directory_.c_str(), 0700), 0);
  std::filesystem::create_symlink(precious, directory_ / "written");
  EXPECT_THAT(message(), HasSubstr("written"));
  EXPECT_EQ(std::filesystem::file_size(precious), 5U);
  std::filesystem::remove(directory_ / "written");
  dir_.write("out.under-way/notes", std::string_view("mine\n"));
  dir_.write("out.under-way/7-0.state.unfinished", std::string_view("x"));
  EXPECT_EQ(message(), "");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "7-0.state.unfinished"));
  BatchJournal::remove(directory_);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "written"));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "notes")) << "it is none of a journal's";
}

TEST_F(BatchJournalTest, ForgetsRequestsThatAreDoneAndOtherBatches) {
  {
    const auto journal = open();
    for (const size_t place : {0, 1, 2})
      journal->keeper(place, 0)->wrote(token_of(static_cast<Token>(place)));
    journal->done(1);
    EXPECT_TRUE(written(*journal, 1).empty());
    EXPECT_EQ(written(*journal, 2), std::vector<Token>{2});
  }
  const auto journal = open([](size_t place) { return place < 2; });
  EXPECT_TRUE(written(*journal, 0).empty());
  EXPECT_EQ(written(*journal, 2), std::vector<Token>{2});
  EXPECT_TRUE(written(*open(none_is_done, "another"), 2).empty());
  EXPECT_TRUE(written(*open(), 2).empty()) << "it is another's now";
}

TEST_F(BatchJournalTest, TakesNoMoreThanWhatIsUnderWayNeeds) {
  const auto journal = open();
  const auto live = journal->keeper(0, 0);
  live->wrote(token_of(1));
  for (size_t place = 1; place < 1000; ++place) {
    const auto keeper = journal->keeper(place, 0);
    for (Token token = 0; token < 100; ++token) keeper->wrote(token_of(token));
    journal->done(place);
  }
  live->wrote(token_of(2));
  EXPECT_LT(text().size(), 20'000U) << "all lines are three million bytes";
  EXPECT_EQ(written(*journal, 0), (std::vector<Token>{1, 2}));
  EXPECT_EQ(written(*open(), 0), (std::vector<Token>{1, 2}));
}

// Another session's, of which `saved` is told as it is saved.
class HookedSession final : public Session {
 public:
  HookedSession(Session& session, std::function<void()> saved)
      : session_(&session), saved_(std::move(saved)) {}
  Status evaluate(std::span<const Token> tokens, const LogitsSink& sink,
                  const EvaluateProgress& progress) override {
    return session_->evaluate(tokens, sink, progress);
  }
  Status evaluate_singly(std::span<const Token> tokens, const LogitsSink& sink) override {
    return session_->evaluate_singly(tokens, sink);
  }
  std::span<const float> logits() const override { return session_->logits(); }
  std::span<const Token> tokens() const override { return session_->tokens(); }
  int32_t context() const override { return session_->context(); }
  int32_t truncate(int32_t n) override { return session_->truncate(n); }
  int32_t reachable(int32_t n) const override { return session_->reachable(n); }
  const Division& division() const override { return session_->division(); }
  uint64_t state_bytes(int32_t n) const override { return session_->state_bytes(n); }
  void save_state(int32_t n, std::span<std::byte> state) const override { session_->save_state(n, state); }
  Status restore_state(std::span<const Token> tokens, int32_t n, const Division& division,
                       std::span<const std::byte> state) override {
    return session_->restore_state(tokens, n, division, state);
  }
  Status write_state(const std::function<Status(std::span<const std::byte>)>& take) const override {
    if (const auto saved = std::exchange(saved_, nullptr)) saved();
    return session_->write_state(take);
  }
  Status read_state(std::span<const Token> tokens, const Division& division,
                    const std::function<Status(std::span<std::byte>)>& give) override {
    return session_->read_state(tokens, division, give);
  }

 private:
  Session* session_;
  mutable std::function<void()> saved_;
};

// With a session that has something to remember.
class JournalStates : public BatchJournalTest {
 protected:
  JournalStates() {
    engine_ = Engine::open({.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                            .memory = parse_memory_budget("100%").value(),
                            .context = 256,
                            .threads = 1,
                            .chunk = kChunk,
                            .sessions = 2})
                  .value();
    session_ = engine_->new_session().value();
    for (Token token = 0; token < 40; ++token) text_.push_back(token * 7 % 100);
    EXPECT_TRUE(session_->evaluate(std::span(text_).first(35)).has_value());
    for (size_t i = 35; i < 40; ++i) EXPECT_TRUE(session_->evaluate({&text_[i], 1}).has_value());
    text_.push_back(1);
    division_.append(6, /*singly=*/true);
  }
  // Takes as long to save as evaluating it did at so many seconds.
  double cost() const { return 2 * static_cast<double>(session_->state_bytes(40)) / 1e6; }
  void go_on(GenerationKeeper& keeper, double seconds) {
    if (!keeper.went_on(*session_, seconds)) return;
    EXPECT_TRUE(keeper.save(*session_));
  }
  bool interrupt(GenerationKeeper& keeper, double seconds) {
    return keeper.interrupted(*session_, seconds) && keeper.save(*session_);
  }
  int32_t restorable(BatchJournal& journal) {
    const auto keeper = journal.keeper(0, 0);
    (void)keeper->kept();
    return keeper->restorable(text_, division_);
  }

  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
  std::vector<Token> text_;
  Division division_ = Division::in_chunks(kChunk, 35);
};

TEST_F(JournalStates, WhatTookLongIsSavedAndBroughtBackWithEveryBit) {
  {
    const auto journal = open();
    const auto keeper = journal->keeper(0, 0);
    for (size_t i = 35; i < text_.size(); ++i) keeper->wrote(token_of(text_[i]));
    go_on(*keeper, 30);
    EXPECT_EQ(restorable(*journal), 0);
    go_on(*keeper, 30 + 50 * cost());
    EXPECT_EQ(restorable(*journal), 40);
  }
  const auto journal = open();
  EXPECT_GE(journal->state_bytes(), session_->state_bytes(40));
  const auto keeper = journal->keeper(0, 0);
  (void)keeper->kept();
  ASSERT_EQ(keeper->restorable(text_, division_), 40);
  const auto other = engine_->new_session().value();
  ASSERT_TRUE(other->evaluate(std::span(text_).first(20)).has_value());
  ASSERT_EQ(keeper->restore(*other), 40);
  EXPECT_TRUE(std::ranges::equal(other->tokens(), session_->tokens()));
  EXPECT_EQ(other->division(), session_->division());
  for (Session* session : {session_.get(), other.get()}) {
    ASSERT_TRUE(session->evaluate({&text_[40], 1}).has_value());
  }
  EXPECT_TRUE(std::ranges::equal(other->logits(), session_->logits()));
  journal->done(0);
  EXPECT_EQ(restorable(*journal), 0);
  EXPECT_EQ(journal->state_bytes(), 0U);
}

TEST_F(JournalStates, OfThoseThatAreCancelledOnlyWhatGoesOnAndIsWorthItIsSaved) {
  const auto saved = [&](double seconds, bool interrupted, bool discarded) {
    BatchJournal::remove(directory_);
    const auto journal = open();
    journal->keeper(0, 0)->wrote(token_of(1));
    if (discarded) journal->discard();
    if (interrupted) journal->interrupted();
    const bool is_saved = interrupt(*journal->keeper(0, 0), seconds);
    EXPECT_EQ(std::filesystem::exists(directory_ / "0-0.state"), is_saved);
    return is_saved;
  };
  EXPECT_TRUE(saved(1.1 * cost(), true, false));
  EXPECT_FALSE(saved(0.9 * cost(), true, false)) << "evaluating it again is cheaper";
  EXPECT_FALSE(saved(1.1 * cost(), false, false)) << "nobody goes on";
  EXPECT_FALSE(saved(1.1 * cost(), true, true));
  state_bytes_ = session_->state_bytes(40) - 1;
  EXPECT_FALSE(saved(1.1 * cost(), true, false)) << "there is no room";
}

TEST_F(JournalStates, GiveWayWhereTheirRoomIsNeeded) {
  const auto journal = open();
  journal->keeper(0, 0)->wrote(token_of(1));
  const uint64_t lines = journal->line_bytes(), each = session_->state_bytes(40);
  for (size_t choice = 0; choice < 3; ++choice) ASSERT_TRUE(journal->keeper(0, choice)->save(*session_));
  EXPECT_EQ(journal->state_bytes(), 3 * each);
  EXPECT_GE(BatchJournal::state_bytes_in(directory_), 3 * each);
  EXPECT_EQ(journal->give_up_states(1), each) << "no more than has to go";
  EXPECT_EQ(journal->state_bytes(), 2 * each);
  EXPECT_EQ(restorable(*journal), 0);
  EXPECT_EQ(journal->give_up_states(UINT64_MAX), 2 * each);
  EXPECT_EQ(BatchJournal::bytes_in(directory_), lines);
  EXPECT_EQ(journal->line_bytes(), lines);
  EXPECT_EQ(written(*journal, 0), std::vector<Token>{1});
  EXPECT_TRUE(journal->keeper(0, 0)->save(*session_)) << "there is room again";
  EXPECT_EQ(restorable(*journal), 40);
}

TEST_F(JournalStates, AreNotSavedWhereTheDriveHasNoRoom) {
  bool room = false;
  uint64_t asked = 0;
  has_room_ = [&](uint64_t bytes) {
    asked = bytes;
    return room;
  };
  const auto journal = open();
  journal->keeper(0, 0)->wrote(token_of(1));
  EXPECT_FALSE(journal->keeper(0, 0)->save(*session_));
  EXPECT_EQ(asked, session_->state_bytes(40));
  EXPECT_EQ(journal->state_bytes(), 0U);
  room = true;
  EXPECT_TRUE(journal->keeper(0, 0)->save(*session_));
}

TEST_F(JournalStates, OneThatIsBeingWrittenGivesWayToo) {
  std::shared_ptr<BatchJournal> journal = open();
  journal->keeper(0, 0)->wrote(token_of(1));
  ASSERT_TRUE(journal->keeper(0, 0)->save(*session_));
  const uint64_t each = session_->state_bytes(40);
  HookedSession hooked(*session_, [&] { EXPECT_EQ(journal->give_up_states(2 * each), 2 * each); });
  EXPECT_FALSE(journal->keeper(0, 0)->save(hooked));
  EXPECT_EQ(journal->state_bytes(), 0U);
  EXPECT_EQ(BatchJournal::state_bytes_in(directory_), 0U);
  EXPECT_EQ(restorable(*journal), 0);
}

TEST_F(JournalStates, WhatIsNotOfTheTextOrDamagedIsNotUsed) {
  const auto journal = open();
  journal->keeper(0, 0)->wrote(token_of(1));
  journal->interrupted();
  ASSERT_TRUE(interrupt(*journal->keeper(0, 0), 1e6));
  ASSERT_EQ(restorable(*journal), 40);
  const std::vector<Token> text = text_;
  text_[39] += 1;
  EXPECT_EQ(restorable(*journal), 0);
  text_ = text;
  text_.resize(39);
  EXPECT_EQ(restorable(*journal), 0) << "it has more tokens";
  text_ = text;
  division_ = Division::in_chunks(kChunk, 41);
  EXPECT_EQ(restorable(*journal), 0) << "it was divided another way";
  division_ = Division::in_chunks(kChunk, 35);
  division_.append(6, /*singly=*/true);
  {
    std::fstream file(directory_ / "0-0.state", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-4096, std::ios::end);
    file << std::string(4096, '\xff');  // which are no numbers
  }
  const auto keeper = journal->keeper(0, 0);
  (void)keeper->kept();
  ASSERT_EQ(keeper->restorable(text_, division_), 40);
  EXPECT_EQ(keeper->restore(*session_), 0);
  EXPECT_TRUE(session_->tokens().empty());
  EXPECT_TRUE(session_->evaluate(std::span(text_).first(5)).has_value()) << "nothing of it is left";
}

}  // namespace
}  // namespace odmoe::server
