#include "server/batch/batch_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "deadline.h"
#include "odmoe/format.h"
#include "server/batch/batch_journal.h"
#include "temp_dir.h"

namespace odmoe::server {
namespace {

class BatchWorkerTest : public ::testing::Test {
 protected:
  static constexpr int32_t kOfBatches = 2;
  BatchWorkerTest() {
    store_ = BatchStore::open({.directory = dir_ / "batches"}, [this] { return now_.load(); }).value();
    server_.model_id = "demo";
  }
  ~BatchWorkerTest() override {
    stop();
    model_.reset();
  }

  // Answers, from now on.
  void start() {
    stop();
    if (model_ == nullptr) {
      const EngineOptions options{.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                                  .memory = parse_memory_budget("100%").value(),
                                  .context = 512,
                                  .threads = 1,
                                  .chunk = 64,
                                  .sessions = 1 + kOfBatches,
                                  .prompts = 2};
      engine_ = Engine::open(options).value();
      auto scheduler =
          Scheduler::create(*engine_,
                            {.sessions = 1, .patient_sessions = kOfBatches, .chunk = 64, .prompts = 2})
              .value();
      model_ = make_served_model(*engine_, std::move(scheduler), 1, {}).value();
    }
    worker_ = std::make_unique<BatchWorker>(
        store_, model_, server_,
        BatchWorkerOptions{
            .sessions = kOfBatches, .chunk = 64, .pause_after_failure = std::chrono::milliseconds(1)});
  }
  void stop() { worker_.reset(); }

  std::string create(int n, int tokens, const std::string& more = "", const std::string& owner = "me") {
    auto upload = store_->files().begin().value();
    std::string text;
    for (int i = 0; i < n; ++i) {
      text += odmoe::format(
          R"({{"custom_id":"r{}","method":"POST","url":"/v1/completions","body":{{"prompt":"King {}","max_tokens":{},"temperature":0,"ignore_eos":true}}}})",
          i, i, tokens);
      text += "\n";
    }
    EXPECT_TRUE(upload.write(text + more).has_value());
    const StoredFile file = upload.finish({.owner = owner, .name = "in", .purpose = "batch"}).value();
    return store_
        ->create({.owner = owner,
                  .endpoint = "/v1/completions",
                  .input_file = file.id,
                  .window = "1h",
                  .output_seconds = 4000,
                  .created = now_,
                  .expires = now_ + 3600})
        .value()
        .id;
  }
  BatchRecord until(const std::string& id, const std::function<bool(const BatchRecord&)>& done,
                    const std::string& owner = "me") {
    const auto limit = std::chrono::steady_clock::now() + odmoe::testing::kDeadline;
    BatchRecord record = store_->find(id, owner).value();
    while (!done(record) && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      record = store_->find(id, owner).value();
    }
    EXPECT_TRUE(done(record)) << batch_json(record);
    return record;
  }
  BatchRecord until_over(const std::string& id) {
    return until(id, [](const BatchRecord& record) { return is_over(record.phase); });
  }
  // One that was stopped with some of its answers there.
  std::string interrupted(int n, int tokens) {
    std::string id;
    for (int attempt = 0; attempt < 20; ++attempt) {
      start();
      id = create(n, tokens);
      until(id, [](const BatchRecord& record) { return record.n_completed > 0; });
      stop();
      if (store_->find(id, "me")->phase == BatchPhase::kInProgress) return id;
    }
    ADD_FAILURE() << "it was always faster";
    return id;
  }
  std::vector<Json> lines_of(const std::string& file) {
    std::ifstream text(store_->files().path_of(file));
    std::vector<Json> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
    return lines;
  }
  std::vector<std::string> said_in(const std::string& file) {
    std::vector<std::string> said;
    for (const Json& line : lines_of(file)) said.push_back(line["response"]["body"]["choices"][0]["text"]);
    return said;
  }

  odmoe::testing::TempDir dir_;
  std::atomic<int64_t> now_ = 1000;
  std::shared_ptr<BatchStore> store_;
  ServerOptions server_;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<ServedModel> model_;
  std::unique_ptr<BatchWorker> worker_;
};

TEST_F(BatchWorkerTest, WhatIsLeftWhenTheTimeIsOverIsAnErrorForEach) {
  const std::string id = create(40, 400), later = create(1, 1);
  start();
  until(id, [](const BatchRecord& record) { return record.n_completed >= 2; });
  now_ = 1000 + 3600;
  const BatchRecord over = until_over(id);
  EXPECT_EQ(over.phase, BatchPhase::kExpired);
  EXPECT_EQ(over.expired, 4600);
  EXPECT_EQ(lines_of(over.output_file).size(), over.n_completed);
  const std::vector<Json> errors = lines_of(over.error_file);
  ASSERT_EQ(errors.size() + over.n_completed, 40U);
  EXPECT_EQ(errors.back()["error"]["code"], "batch_expired");
  EXPECT_EQ(errors.back()["custom_id"], "r39");
  EXPECT_EQ(store_->files().find(over.output_file, "me")->expires, 4600 + 4000);
  const BatchRecord waited = until_over(later);
  EXPECT_EQ(waited.phase, BatchPhase::kExpired) << "it had no turn";
  EXPECT_TRUE(waited.output_file.empty());
  ASSERT_EQ(lines_of(waited.error_file).size(), 1U);
  EXPECT_EQ(lines_of(waited.error_file)[0]["error"]["code"], "batch_expired");
}

TEST_F(BatchWorkerTest, WhatAnEarlierProcessAnsweredIsThereWhenTheTimeIsOver) {
  const std::string id = interrupted(30, 100);
  const size_t answered = store_->find(id, "me")->n_completed;
  store_->count(id, 0, 0);  // it is known when the folder is opened again
  now_ = 1000 + 3600;
  start();
  const BatchRecord over = until_over(id);
  EXPECT_EQ(over.phase, BatchPhase::kExpired);
  EXPECT_EQ(over.n_completed, answered);
  EXPECT_EQ(said_in(over.output_file).size(), answered);
  EXPECT_EQ(lines_of(over.error_file).size(), 30 - answered);
}

TEST_F(BatchWorkerTest, WithoutItsInputABatchEndsWithWhatIsThere) {
  struct Case {
    BatchPhase phase;
    bool cancel;
    int64_t seconds;
  };
  for (const auto& [phase, cancel, seconds] :
       {Case{BatchPhase::kFailed, false, 0}, Case{BatchPhase::kCancelled, true, 0},
        Case{BatchPhase::kExpired, false, 3600}}) {
    const std::string id = interrupted(30, 100);
    const size_t answered = store_->find(id, "me")->n_completed;
    store_->count(id, 0, 0);
    ASSERT_TRUE(std::filesystem::remove(store_->files().path_of(store_->find(id, "me")->input_file)));
    if (cancel) {
      ASSERT_TRUE(store_->cancel(id, "me").has_value());
    }
    now_ += seconds;
    const std::string later = create(1, 1);
    start();
    const BatchRecord over = until_over(id);
    EXPECT_EQ(over.phase, phase);
    EXPECT_EQ(over.n_completed, answered);
    EXPECT_EQ(said_in(over.output_file).size(), answered);
    EXPECT_EQ(over.faults.empty(), phase != BatchPhase::kFailed);
    EXPECT_EQ(until_over(later).phase, BatchPhase::kCompleted) << "it has its turn";
  }
}

TEST_F(BatchWorkerTest, GoesOnWithWhatIsThereUnlessTheModelIsAnother) {
  start();
  const auto wanted = said_in(until_over(create(12, 20)).output_file);
  ASSERT_EQ(wanted.size(), 12U);
  const std::string id = interrupted(12, 20);
  now_ = 2000;
  start();
  const BatchRecord whole = until_over(id);
  EXPECT_EQ(said_in(whole.output_file), wanted);
  for (const Json& line : lines_of(whole.output_file)) {
    EXPECT_EQ(line["response"]["body"]["created"], 1000) << "when it was begun";
  }

  const std::string other = interrupted(12, 20);
  server_.model_id = "another";
  start();
  const BatchRecord over = until_over(other);
  EXPECT_EQ(over.n_completed, 12U);
  for (const Json& line : lines_of(over.output_file)) {
    EXPECT_EQ(line["response"]["body"]["model"], "another") << "all of it is of one model";
  }
}

TEST_F(BatchWorkerTest, KeysHaveTurnsAndWhatGaveWayGoesOnWithTheSameBytes) {
  start();
  const auto wanted = said_in(until_over(create(24, 120)).output_file);
  const std::string mine = create(24, 120);
  until(mine, [](const BatchRecord& record) { return record.n_completed > 0; });
  const std::string yours = create(2, 3, "", "you");
  now_ += kBatchTurnSeconds;
  const auto is_done = [](const BatchRecord& record) { return is_over(record.phase); };
  EXPECT_EQ(until(yours, is_done, "you").phase, BatchPhase::kCompleted);
  EXPECT_FALSE(is_over(store_->find(mine, "me")->phase)) << "it gave way";
  const BatchRecord over = until_over(mine);
  EXPECT_EQ(over.phase, BatchPhase::kCompleted);
  EXPECT_EQ(said_in(over.output_file), wanted);
}

TEST_F(BatchWorkerTest, WhatTakesTheRoomOfAnswersGoes) {
  const std::string id = interrupted(30, 100);
  // A KV cache of one that is under way, larger than all of the drive.
  const auto state = journal_path_of(store_->output_path(id)) / "29-0.state";
  std::ofstream(state).close();
  std::filesystem::resize_file(state, store_->disk_bytes() + 1);
  start();
  const BatchRecord over = until_over(id);
  EXPECT_EQ(over.phase, BatchPhase::kCompleted);
  EXPECT_EQ(over.n_completed, 30U);
}

TEST_F(BatchWorkerTest, AnUploadTakesTheRoomOfKvCaches) {
  const std::string id = interrupted(30, 100);
  const auto directory = journal_path_of(store_->output_path(id));
  const auto state = directory / "29-0.state";
  std::ofstream(state).close();
  store_->states().take(id, directory);
  const uint64_t free = store_->disk_bytes() - store_->files().used_bytes();
  std::filesystem::resize_file(state, free);  // all that is left
  store_->states().take(id, directory);
  ASSERT_FALSE(store_->files().has_room(1));
  const std::string second = create(1, 1);  // is uploaded
  EXPECT_FALSE(std::filesystem::exists(state));
  EXPECT_EQ(store_->states().bytes(), 0U);
  start();
  EXPECT_EQ(until_over(id).n_completed, 30U) << "it is evaluated again";
  EXPECT_EQ(until_over(second).n_completed, 1U);
}

TEST_F(BatchWorkerTest, SaysWhatTheAnswersTook) {
  start();
  const BatchRecord over = until_over(create(3, 4));
  ASSERT_TRUE(over.usage);
  EXPECT_EQ(over.usage->output_tokens, 12U);
  uint64_t prompts = 0;
  for (const Json& line : lines_of(over.output_file)) {
    prompts += line["response"]["body"]["usage"]["prompt_tokens"].get<uint64_t>();
  }
  EXPECT_EQ(over.usage->input_tokens, prompts);
}

TEST_F(BatchWorkerTest, AnInputThatCannotBeReadFailsItsBatchAlone) {
  const std::string begun = interrupted(30, 100), waiting = create(2, 2), good = create(1, 1);
  for (const std::string& id : {begun, waiting}) {
    const auto path = store_->files().path_of(store_->find(id, "me")->input_file);
    std::filesystem::remove(path);
    std::filesystem::create_symlink(path, path);  // an error, each time it is opened
  }
  const size_t answered = store_->find(begun, "me")->n_completed;
  start();
  for (const std::string& id : {begun, waiting}) {
    const BatchRecord over = until_over(id);
    EXPECT_EQ(over.phase, BatchPhase::kFailed);
    ASSERT_EQ(over.faults.size(), 1U);
    EXPECT_EQ(over.faults[0].code, "unreadable_input_file");
  }
  EXPECT_EQ(said_in(store_->find(begun, "me")->output_file).size(), answered);
  EXPECT_EQ(until_over(good).phase, BatchPhase::kCompleted);
}

TEST_F(BatchWorkerTest, FinishesWhatWasInterruptedWhileItBecameFiles) {
  start();
  const std::string id = create(3, 4, "");
  const BatchRecord done = until_over(id);
  stop();
  // As if the process had ended after the answers' file was there, and before that was known.
  std::filesystem::copy_file(store_->files().path_of(done.output_file), store_->output_path(id));
  std::ofstream(store_->output_path(id).string() + ".progress")
      << R"({"odmoe_batch":1,"identity":"x","begun":1})"
      << "\n";
  ASSERT_TRUE(
      store_->update(id, [](BatchRecord& record) { record.phase = BatchPhase::kFinalizing; }).has_value());
  const auto said = said_in(done.output_file);
  start();
  const BatchRecord again = until_over(id);
  EXPECT_EQ(again.phase, BatchPhase::kCompleted);
  EXPECT_EQ(again.output_file, done.output_file);
  EXPECT_EQ(said_in(again.output_file), said);
  stop();  // it goes after the batch is over
  EXPECT_FALSE(std::filesystem::exists(store_->output_path(id)));
}

TEST_F(BatchWorkerTest, KeepsWhatAnEarlierProcessAnsweredOfOneThatIsCancelled) {
  start();
  const std::string id = create(30, 400);
  until(id, [](const BatchRecord& record) { return record.n_completed >= 3; });
  stop();
  ASSERT_EQ(store_->next(std::chrono::milliseconds(0))->id, id);
  store_->count(id, 0, 0);  // it is known when the folder is opened again
  ASSERT_TRUE(store_->cancel(id, "me").has_value());
  start();
  const BatchRecord over = until_over(id);
  EXPECT_EQ(over.phase, BatchPhase::kCancelled);
  EXPECT_GE(over.n_completed, 3U);
  EXPECT_EQ(said_in(over.output_file).size(), over.n_completed);
}

}  // namespace
}  // namespace odmoe::server
