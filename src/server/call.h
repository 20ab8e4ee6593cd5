// One request on its way: what is generated for it and what its client is sent.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "server/answer.h"
#include "server/channel.h"
#include "server/dialect.h"
#include "server/request_memory.h"
#include "server/scheduler.h"
#include "server/served_model.h"

namespace odmoe::server {

// One owner: the thread that answers.  Its generations are cancelled when it goes.
struct Call {
  using Clock = std::chrono::steady_clock;
  Call(std::shared_ptr<ServedModel> with, const std::shared_ptr<RequestMemory>& account);

  std::shared_ptr<ServedModel> model;
  RequestMemory::Share memory;  // what its generations take
  std::shared_ptr<Channel> channel;
  std::vector<Scheduler::Ticket> tickets;  // one per choice
  std::unique_ptr<Answer> answer;
  std::unique_ptr<AnswerWriter> writer;
  std::optional<Clock::time_point> deadline;
  Clock::time_point last_sent = Clock::now();

  // The next event; nothing within kLiveness.  Sees to the deadline.
  std::optional<ChannelEvent> next();
  // Puts it into the answer, and ends choices that said enough.
  std::optional<AnswerEvent> take(const ChannelEvent& event);
  void cancel(Ending why);
  void log(const char* what) const;
};

}  // namespace odmoe::server
