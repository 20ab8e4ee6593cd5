#include "server/batch/batch_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/batch/batch_journal.h"
#include "server/limits.h"
#include "temp_dir.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kNoWait{0};

class BatchStoreTest : public ::testing::Test {
 protected:
  BatchStoreTest() { open(); }
  void open() {
    store_.reset();
    store_ = BatchStore::open({.directory = dir_ / "batches"}, [this] { return now_; }).value();
  }
  std::string file(const std::string& owner = "me", int64_t expires = 0) {
    auto upload = store_->files().begin().value();
    EXPECT_TRUE(upload.write("x").has_value());
    return upload.finish({.owner = owner, .name = "in", .purpose = "batch", .expires = expires}).value().id;
  }
  BatchRecord create(const std::string& owner = "me", int64_t file_expires = 0) {
    return store_
        ->create({.owner = owner,
                  .endpoint = "/v1/completions",
                  .input_file = file(owner, file_expires),
                  .window = "24h",
                  .created = now_,
                  .expires = now_ + 86400})
        .value();
  }
  BatchPhase phase(const std::string& id) { return store_->find(id, "me")->phase; }
  void set_phase(const std::string& id, BatchPhase phase) {
    ASSERT_TRUE(store_
                    ->update(id,
                             [&](BatchRecord& record) {
                               record.phase = phase;
                               if (phase == BatchPhase::kInProgress) record.in_progress = now_;
                             })
                    .has_value());
  }

  odmoe::testing::TempDir dir_;
  int64_t now_ = 1000;
  std::shared_ptr<BatchStore> store_;
};

TEST(BatchRecordText, SaysAllOfARecord) {
  const BatchRecord record{
      .id = "batch_1",
      .owner = "me",
      .number = 7,
      .endpoint = "/v1/completions",
      .input_file = "file-1",
      .window = "24h",
      .model = "demo",
      .metadata = {{"k", "v"}},
      .phase = BatchPhase::kFinalizing,
      .ending = BatchPhase::kExpired,
      .output_file = "file-2",
      .error_file = "file-3",
      .output_seconds = 4000,
      .created = 1,
      .expires = 2,
      .in_progress = 3,
      .finalizing = 4,
      .completed = 5,
      .failed = 6,
      .expired = 7,
      .cancelling = 8,
      .cancelled = 9,
      .n_request = 10,
      .n_completed = 6,
      .n_failed = 3,
      .usage = BatchUsage{.input_tokens = 100, .output_tokens = 50, .reasoning_tokens = 20},
      .faults = {{.code = "c", .message = "m", .line = 5}, {.code = "d", .message = "n"}}};
  const std::string text = record_text(record);
  const auto again = read_record(text);
  ASSERT_TRUE(again);
  EXPECT_EQ(record_text(*again), text);
  EXPECT_EQ(batch_json(*again), batch_json(record));
  EXPECT_EQ(again->ending, BatchPhase::kExpired);
  EXPECT_EQ(again->faults.at(0).line, 5U);
  EXPECT_FALSE(again->faults.at(1).line);
  for (size_t n = 0; n + 1 < text.size(); n += 13) EXPECT_FALSE(read_record(text.substr(0, n))) << n;
  for (const char* wrong : {"[]", "{}", "{\"id\":\"batch_1\"}"}) EXPECT_FALSE(read_record(wrong)) << wrong;
}

TEST(BatchRecordText, ClientsAreToldInOpenAisWords) {
  BatchRecord record{.id = "batch_1",
                     .owner = "secret",
                     .endpoint = "/v1/completions",
                     .input_file = "file-1",
                     .window = "24h",
                     .output_file = "file-2",
                     .created = 1,
                     .expires = 2,
                     .n_request = 3};
  EXPECT_EQ(
      batch_json(record).dump(),
      R"({"id":"batch_1","object":"batch","endpoint":"/v1/completions","model":null,"errors":null,"input_file_id":"file-1","completion_window":"24h","status":"validating","output_file_id":null,"error_file_id":null,"created_at":1,"in_progress_at":null,"expires_at":2,"finalizing_at":null,"completed_at":null,"failed_at":null,"expired_at":null,"cancelling_at":null,"cancelled_at":null,"request_counts":{"total":3,"completed":0,"failed":0},"usage":null,"metadata":null})");
  record.phase = BatchPhase::kFailed;
  record.faults = {{.code = "invalid_json_line", .message = "m", .line = 2}};
  record.usage = BatchUsage{.input_tokens = 100, .output_tokens = 50, .reasoning_tokens = 20};
  const Json json = batch_json(record);
  EXPECT_EQ(
      json["usage"].dump(),
      R"({"input_tokens":100,"input_tokens_details":{"cached_tokens":0},"output_tokens":50,"output_tokens_details":{"reasoning_tokens":20},"total_tokens":150})");
  EXPECT_EQ(json["output_file_id"], "file-2") << "once it is over";
  EXPECT_EQ(json["errors"].dump(),
            R"({"object":"list","data":[{"code":"invalid_json_line","message":"m","param":null,"line":2}]})");
}

TEST_F(BatchStoreTest, TheFirstThatIsNotOverHasItsTurnAlsoAfterARestart) {
  const std::string a = create().id, b = create("you").id;
  EXPECT_EQ(store_->next(kNoWait)->id, a);
  set_phase(a, BatchPhase::kInProgress);
  open();
  EXPECT_EQ(store_->next(kNoWait)->id, a);
  EXPECT_EQ(phase(a), BatchPhase::kInProgress);
  set_phase(a, BatchPhase::kCompleted);
  EXPECT_EQ(store_->next(kNoWait)->id, b);
  open();
  EXPECT_EQ(phase(a), BatchPhase::kCompleted);
  EXPECT_EQ(store_->next(kNoWait)->id, b);
}

TEST_F(BatchStoreTest, KeysHaveTheirTurnsOneAfterTheOther) {
  const std::string a = create().id, b = create().id, c = create("you").id, d = create("they").id;
  EXPECT_EQ(store_->next(kNoWait)->id, a);
  EXPECT_TRUE(store_->others_wait());
  EXPECT_EQ(store_->next(kNoWait)->id, c);
  EXPECT_EQ(store_->next(kNoWait)->id, d);
  EXPECT_EQ(store_->next(kNoWait)->id, a) << "before the second one of its key";
  ASSERT_TRUE(store_->cancel(c, "you").has_value());
  ASSERT_TRUE(store_->cancel(d, "they").has_value());
  EXPECT_FALSE(store_->others_wait()) << "but those of its own key";
  set_phase(a, BatchPhase::kCompleted);
  EXPECT_EQ(store_->next(kNoWait)->id, b);
}

TEST_F(BatchStoreTest, NobodySeesAnothersBatches) {
  const BatchRecord mine = create();
  EXPECT_FALSE(store_->find(mine.id, "you"));
  EXPECT_EQ(store_->cancel(mine.id, "you").error().status, 404);
  EXPECT_EQ(store_->list("you", {.limit = 9}).value().items.size(), 0U);
  EXPECT_EQ(store_->list("me", {.limit = 9}).value().items.size(), 1U);
  BatchRecord theirs{.owner = "you", .input_file = mine.input_file};
  const auto refused = store_->create(theirs);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().param, "input_file_id");
}

TEST_F(BatchStoreTest, AFileIsNeededUntilItsBatchIsOver) {
  const BatchRecord batch = create();
  EXPECT_EQ(store_->files().remove(batch.input_file, "me").error().code, "file_in_use");
  open();
  EXPECT_EQ(store_->files().remove(batch.input_file, "me").error().code, "file_in_use");
  set_phase(batch.id, BatchPhase::kFailed);
  EXPECT_TRUE(store_->files().remove(batch.input_file, "me").value());
}

TEST_F(BatchStoreTest, AFileThatExpiresStaysForItsBatchAlsoAfterARestart) {
  const BatchRecord first = create("me", 1500), second = create("me", 1500);
  now_ = 2000;
  open();
  for (const BatchRecord& batch : {first, second}) {
    EXPECT_TRUE(store_->files().find(batch.input_file, "me"));
    EXPECT_TRUE(std::filesystem::exists(store_->files().path_of(batch.input_file)));
    set_phase(batch.id, BatchPhase::kCompleted);
    EXPECT_FALSE(store_->files().find(batch.input_file, "me"));
  }
}

TEST_F(BatchStoreTest, WhatWaitsIsCancelledAtOnceAndWhatRunsSoon) {
  const std::string a = create().id, b = create().id;
  ASSERT_EQ(store_->next(kNoWait)->id, a);
  set_phase(a, BatchPhase::kInProgress);
  now_ = 2000;
  EXPECT_EQ(store_->cancel(b, "me")->phase, BatchPhase::kCancelled);
  EXPECT_EQ(store_->find(b, "me")->cancelled, 2000);
  EXPECT_FALSE(store_->is_cancelling(a));
  EXPECT_EQ(store_->cancel(a, "me")->phase, BatchPhase::kCancelling);
  EXPECT_TRUE(store_->is_cancelling(a));
  EXPECT_EQ(store_->cancel(a, "me")->phase, BatchPhase::kCancelling) << "once more changes nothing";
  set_phase(a, BatchPhase::kCancelled);
  const auto over = store_->cancel(a, "me");
  ASSERT_FALSE(over.has_value());
  EXPECT_EQ(over.error().status, 409);
  EXPECT_THAT(over.error().message, HasSubstr("'cancelled'"));
}

TEST_F(BatchStoreTest, CountsAreToldAndKeptWithTheNextStep) {
  const std::string id = create().id;
  store_->count(id, 5, 2);
  EXPECT_EQ(store_->find(id, "me")->n_completed, 5U);
  set_phase(id, BatchPhase::kFinalizing);
  open();
  EXPECT_EQ(store_->find(id, "me")->n_completed, 5U);
  EXPECT_EQ(store_->find(id, "me")->n_failed, 2U);
}

TEST_F(BatchStoreTest, AnswersOfBatchesThatAreOverGoWhenItIsOpened) {
  const std::string a = create().id, b = create().id;
  set_phase(a, BatchPhase::kCompleted);
  for (const std::string& id : {a, b, std::string("batch_none")}) {
    dir_.write("batches/batches/" + id + ".out", "x");
    dir_.write("batches/batches/" + id + ".out.progress", "x");
  }
  std::filesystem::create_directory(journal_path_of(store_->output_path(b)));
  dir_.write("batches/batches/" + b + ".out.under-way/written", std::string_view("xyz"));
  dir_.write("batches/batches/" + b + ".out.under-way/0-0.state", std::string_view("xyzu"));
  open();
  EXPECT_FALSE(std::filesystem::exists(store_->output_path(a)));
  EXPECT_TRUE(std::filesystem::exists(store_->output_path(b)));
  EXPECT_TRUE(std::filesystem::exists(store_->output_path(b).string() + ".progress"));
  EXPECT_FALSE(std::filesystem::exists(store_->output_path("batch_none")));
  EXPECT_EQ(store_->files().used_bytes(), 2 * (1 + FileStore::kFileBytes) + 2 * 2 + 7)
      << "and room for the others";
}

TEST_F(BatchStoreTest, TheFirstOfThoseThatAreOverGoWhereThereIsTooMuchOfThem) {
  const std::string waiting = create().id;
  std::string last;
  BatchRecord large{.owner = "me", .input_file = file()};
  for (int i = 0; i < 16; ++i) {
    large.metadata[std::to_string(i)] = std::string(kMaxMetadataValueBytes, 'x');
  }
  size_t n = 0;
  for (; n < kMaxBatchRecordBytes / (16 * kMaxMetadataValueBytes) + 5; ++n) {
    last = store_->create(large).value().id;
    set_phase(last, BatchPhase::kCompleted);
  }
  EXPECT_TRUE(store_->find(waiting, "me"));
  EXPECT_TRUE(store_->find(last, "me"));
  size_t left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "batches" / "batches")) {
    left += entry.path().extension() == ".json" ? 1 : 0;
  }
  EXPECT_LT(left, n + 1);
}

TEST_F(BatchStoreTest, OneProcessServesAFolder) {
  const pid_t child = fork();
  if (child == 0) {
    const auto other = BatchStore::open({.directory = dir_ / "batches"});
    _exit(!other.has_value() && other.error().kind == ErrorKind::kUsage ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(BatchStoreTest, AFolderThatOthersCanReadIsRefused) {
  const auto path = dir_ / "open";
  std::filesystem::create_directory(path);
  std::filesystem::permissions(path, std::filesystem::perms::all);
  const auto refused = BatchStore::open({.directory = path});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("--batch-dir"));
}

}  // namespace
}  // namespace odmoe::server
