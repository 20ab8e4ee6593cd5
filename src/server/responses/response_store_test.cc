#include "server/responses/response_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/memory_needs.h"
#include "server/server.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kRoom = 1 << 20;

std::shared_ptr<ResponseStore> store_of(uint64_t bytes, size_t responses = kMaxStoredResponses) {
  return std::make_shared<ResponseStore>(bytes, responses);
}

StoredResponse response(const std::string& id, const std::string& previous = "", size_t bytes = 10,
                        const std::string& owner = "me") {
  return {.id = id,
          .owner = owner,
          .previous = previous,
          .input = {{.id = "in_" + id, .text = std::string(bytes, 'x')}},
          .output = {},
          .head = "{",
          .tail = "}"};
}

std::vector<std::string> ids_of(const ResponseStore::History& history) {
  std::vector<std::string> ids;
  for (const SharedResponse& one : history.responses) ids.push_back(one->id);
  return ids;
}

bool has(ResponseStore& store, const std::string& id) { return store.find(id, "me") != nullptr; }

TEST(ResponseStore, AResponseIsThereForItsOwnerAlone) {
  const auto store = store_of(kRoom);
  EXPECT_TRUE(store->put(response("a")));
  EXPECT_EQ(store->find("a", "me")->input.at(0).id, "in_a");
  EXPECT_EQ(store->find("a", "you"), nullptr);
  EXPECT_THAT(store->history("a", "you").responses, IsEmpty());
  EXPECT_FALSE(store->remove("a", "you"));
  EXPECT_FALSE(store->put(response("b", "a", 10, "you"))) << "nobody goes on from another's";
  EXPECT_EQ(store->find("b", "you"), nullptr);
  EXPECT_FALSE(store->put(response("a"))) << "an id is taken once";
}

TEST(ResponseStore, AHistoryBeginsWithTheFirst) {
  const auto store = store_of(kRoom);
  EXPECT_TRUE(store->put(response("a")));
  EXPECT_TRUE(store->put(response("b", "a")));
  EXPECT_TRUE(store->put(response("c", "b")));
  EXPECT_TRUE(store->put(response("fork", "a")));
  EXPECT_THAT(ids_of(store->history("c", "me")), ElementsAre("a", "b", "c"));
  EXPECT_THAT(ids_of(store->history("fork", "me")), ElementsAre("a", "fork"));
  EXPECT_THAT(ids_of(store->history("nobody", "me")), IsEmpty());
}

TEST(ResponseStore, ThoseUsedLongestAgoGoFirst) {
  const auto store = store_of(4 * ResponseStore::kResponseBytes);
  for (const char* id : {"a", "b", "c"}) EXPECT_TRUE(store->put(response(id)));
  EXPECT_TRUE(has(*store, "a"));  // which is used again
  EXPECT_TRUE(store->put(response("d")));
  EXPECT_TRUE(has(*store, "a"));
  EXPECT_FALSE(has(*store, "b"));
  EXPECT_TRUE(has(*store, "c"));
  EXPECT_LE(store->bytes(), 4 * ResponseStore::kResponseBytes);
}

TEST(ResponseStore, ThereAreNoMoreThanItsEntries) {
  const auto store = store_of(kRoom, 2);
  for (const char* id : {"a", "b", "c"}) EXPECT_TRUE(store->put(response(id)));
  EXPECT_EQ(store->size(), 2);
  EXPECT_FALSE(has(*store, "a"));
}

TEST(ResponseStore, WhatIsLargerThanTheStoreIsNotKeptAndNothingGoesForIt) {
  const auto store = store_of(4 * ResponseStore::kResponseBytes);
  EXPECT_TRUE(store->put(response("a")));
  EXPECT_FALSE(store->put(response("large", "", 5 * ResponseStore::kResponseBytes)));
  EXPECT_FALSE(has(*store, "large"));
  EXPECT_TRUE(has(*store, "a"));
  EXPECT_FALSE(store_of(0)->put(response("a")));
  EXPECT_FALSE(store_of(0)->enabled());
}

TEST(ResponseStore, WhatAResponseGoesOnFromStaysWithItAndCounts) {
  const auto store = store_of(kRoom);
  EXPECT_TRUE(store->put(response("a")));
  const uint64_t one = store->bytes();
  EXPECT_TRUE(store->put(response("b", "a")));
  EXPECT_TRUE(store->remove("a", "me"));
  EXPECT_FALSE(has(*store, "a"));
  EXPECT_THAT(ids_of(store->history("b", "me")), ElementsAre("a", "b"));
  EXPECT_GT(store->bytes(), one);
  EXPECT_TRUE(store->remove("b", "me"));
  EXPECT_EQ(store->bytes(), 0);
}

TEST(ResponseStore, AConversationThatIsTooLongForTheStoreGoesAsAWhole) {
  const auto store = store_of(8 * ResponseStore::kResponseBytes);
  EXPECT_TRUE(store->put(response("0")));
  for (int i = 1; i < 6; ++i) {
    EXPECT_TRUE(store->put(response(std::to_string(i), std::to_string(i - 1))));
  }
  bool kept = true;
  for (int i = 6; kept; ++i) {
    ASSERT_LT(i, 12);
    kept = store->put(response(std::to_string(i), std::to_string(i - 1)));
    EXPECT_LE(store->bytes(), 8 * ResponseStore::kResponseBytes);
  }
  EXPECT_EQ(store->bytes(), 0);
  EXPECT_EQ(store->size(), 0);
}

TEST(ResponseStore, WhatIsHeldCanBeGoneOnFromWhateverComesBetween) {
  const auto store = store_of(4 * ResponseStore::kResponseBytes);
  EXPECT_TRUE(store->put(response("a")));
  {
    const ResponseStore::History held = store->history("a", "me");
    for (const char* id : {"b", "c", "d", "e"}) store->put(response(id));
    EXPECT_FALSE(has(*store, "a"));
    EXPECT_TRUE(store->put(response("next", "a")));
    EXPECT_LE(store->bytes(), 4 * ResponseStore::kResponseBytes);
  }
  EXPECT_THAT(ids_of(store->history("next", "me")), ElementsAre("a", "next"));
  EXPECT_TRUE(store->remove("next", "me"));
  EXPECT_FALSE(store->put(response("late", "a"))) << "nothing holds it any more";
}

TEST(ResponseStore, AVeryLongConversationIsForgottenOneAfterTheOther) {
  constexpr int kLength = 20000;
  const auto store = store_of(uint64_t{kLength} * 4096, kLength + 1);
  EXPECT_TRUE(store->put(response("0")));
  for (int i = 1; i < kLength; ++i) {
    ASSERT_TRUE(store->put(response(std::to_string(i), std::to_string(i - 1))));
  }
  for (int i = 0; i < kLength; ++i) ASSERT_TRUE(store->remove(std::to_string(i), "me"));
  EXPECT_EQ(store->bytes(), 0);
}

TEST(ResponseStore, ItsMemoryIsAmongTheServersNeeds) {
  ServerOptions without, with;
  without.response_store_bytes = 0;
  with.response_store_bytes = 5000;
  EXPECT_EQ(server_needs(with, 1).bytes, server_needs(without, 1).bytes + 5000);
}

}  // namespace
}  // namespace odmoe::server
