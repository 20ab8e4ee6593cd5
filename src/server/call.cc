#include "server/call.h"

#include <utility>

#include "server/event_log.h"
#include "server/limits.h"

namespace odmoe::server {

Call::Call(std::shared_ptr<ServedModel> with, const std::shared_ptr<RequestMemory>& account)
    : model(std::move(with)),
      channel(std::make_shared<Channel>(kMaxHeldBackBytes, RequestMemory::Share(account))) {}

std::optional<ChannelEvent> Call::next() {
  auto event = channel->pop(kLiveness);
  if (deadline && Clock::now() >= *deadline) cancel(Ending::kDeadline);
  return event;
}

std::optional<AnswerEvent> Call::take(const ChannelEvent& event) {
  auto said = answer->take(event);
  if (!event.end && answer->enough(event.choice)) tickets[event.choice].cancel(Ending::kCancelled);
  // The other choices of a request that failed are nobody's.
  if (answer->error()) cancel(Ending::kCancelled);
  return said;
}

void Call::cancel(Ending why) {
  for (Scheduler::Ticket& ticket : tickets) ticket.cancel(why);
}

void Call::log(const char* what) const {
  const AnswerUsage& usage = answer->usage();
  log_event(spdlog::level::info, what,
            {{"prompt_tokens", usage.prompt},
             {"reused_tokens", usage.reused},
             {"generated_tokens", usage.generated}});
}

}  // namespace odmoe::server
