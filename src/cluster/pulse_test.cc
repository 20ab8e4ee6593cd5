#include "cluster/pulse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "cluster/testing.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;
using testing::InProcessNetwork;

constexpr Pulse::Options kQuick{.interval = std::chrono::milliseconds(5),
                                .silence = std::chrono::milliseconds(200)};

// Waits for something that comes; a test that fails waits for ever and is ended by ctest.
template <typename Done>
void await(const Done& done) {
  while (!done()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(Pulse, NotesComeAndSignsOfLifeDoNot) {
  InProcessNetwork network(2);
  const auto head = network.rank(0), worker = network.rank(1);
  std::promise<std::string> came;
  const Pulse listens(*head, kQuick, [&](int from, const ReadNote& note) {
    EXPECT_EQ(from, 1);
    EXPECT_EQ(note.kind, NoteKind::kHello);
    came.set_value({reinterpret_cast<const char*>(note.body.data()), note.body.size()});
  });
  const Pulse speaks(*worker, kQuick, [](int, const ReadNote&) {});
  const std::string note = make_note(NoteKind::kHello, "here I am");
  ASSERT_TRUE(worker->send_note(0, std::as_bytes(std::span(note))).has_value());
  EXPECT_EQ(came.get_future().get(), "here I am");
  EXPECT_TRUE(listens.status().has_value());
}

TEST(Pulse, ARankThatIsSilentForTooLongIsAnErrorThatNamesIt) {
  InProcessNetwork network(3);
  const auto head = network.rank(0), worker = network.rank(1), other = network.rank(2);
  std::promise<Error> broken;
  const Pulse listens(
      *head, kQuick, [](int, const ReadNote&) {}, [&](const Error& error) { broken.set_value(error); });
  const Pulse one(*worker, kQuick, [](int, const ReadNote&) {});
  const Pulse two(*other, kQuick, [](int, const ReadNote&) {});
  network.cut(2);
  const Error error = broken.get_future().get();
  EXPECT_EQ(error.kind, ErrorKind::kIo);
  EXPECT_THAT(error.message, HasSubstr("rank 2 (host2) has not been heard of"));
  EXPECT_EQ(listens.status().error().message, error.message);
  // And that one has heard nothing either.
  await([&] { return !two.status().has_value(); });
  EXPECT_THAT(two.status().error().message, HasSubstr("rank 0 (host0)"));
}

TEST(Pulse, ARankThatHasGoneIsAnErrorAtOnce) {
  InProcessNetwork network(2);
  const auto head = network.rank(0);
  std::promise<Error> broken;
  const Pulse listens(
      *head, {}, [](int, const ReadNote&) {}, [&](const Error& error) { broken.set_value(error); });
  network.end(1);
  EXPECT_THAT(broken.get_future().get().message, HasSubstr("rank 1 (host1) has gone"));
}

}  // namespace
}  // namespace odmoe
