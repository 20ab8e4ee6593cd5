// The other end of /v1/events: what somebody knows who listens to a server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "odmoe/result.h"
#include "server/json_guard.h"

namespace odmoe::server {

// Cuts a stream of server-sent events (text/event-stream) into events as its bytes come.  One owner.
class EventReader {
 public:
  static constexpr size_t kMaxEventBytes = 4 << 20;  // the largest map there can be takes half of it

  using Take = std::function<Status(std::string_view name, std::string_view data)>;
  // The next bytes; calls `take` for each event that is complete.  kBadFile when one is longer than
  // kMaxEventBytes, or what `take` says; nothing more may be pushed then.
  Status push(std::string_view bytes, const Take& take);

 private:
  std::string held_;         // the line that is not complete
  std::string name_, data_;  // of the event that is not
};

// The figures of a state event, by the group and the name that docs/server.md lists them with.  Copyable.
class LiveFigures {
 public:
  LiveFigures() = default;  // nothing is known
  explicit LiveFigures(Json state) : state_(std::move(state)) {}

  // Of what is missing or of another type: nothing, 0, nothing, false.
  std::optional<double> number(const char* group, const char* name) const;
  uint64_t count(const char* group, const char* name) const;
  std::string text(const char* group, const char* name) const;  // of one line, since it is shown to people
  bool flag(const char* group, const char* name) const;

  // Of several machines (docs/scale.md), in order; empty: there is one.
  struct Rank {
    uint64_t rank = 0;
    std::string host;
    uint64_t n_expert = 0, arena_bytes = 0, read_bytes = 0, wait_us = 0;
    std::optional<double> hit_rate;
  };
  std::vector<Rank> ranks() const;

 private:
  Json state_;
};

// What the events told so far.  One owner; copyable.
class LiveView {
 public:
  static constexpr size_t kMaxExperts = 1 << 20;  // of all layers

  struct Layer {
    int32_t number = 0;
    int32_t n_expert = 0;
    size_t first = 0;  // its first expert in letters()
  };

  // An event of the stream; those that are not known are passed over.  kBadFile when it cannot be what it
  // says it is; what was known before still stands then.
  Status take(std::string_view name, std::string_view data);

  bool loading() const { return loading_; }    // the server said that its model is
  bool ended() const { return ended_; }        // it said that it ends
  size_t n_state() const { return n_state_; }  // state events since the model event

  // Of the model event; empty before it.
  const std::string& id() const { return id_; }
  const std::string& architecture() const { return architecture_; }
  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t context() const { return context_; }
  const std::vector<Layer>& layers() const { return layers_; }

  // Of the last state event.  A letter for each expert (expert_map.h).
  const LiveFigures& figures() const { return figures_; }
  const std::string& letters() const { return letters_; }

 private:
  Status take_model(std::string_view data);
  Status take_state(std::string_view data);

  bool loading_ = false, ended_ = false;
  size_t n_state_ = 0;
  std::string id_, architecture_;
  uint64_t file_bytes_ = 0, context_ = 0;
  std::vector<Layer> layers_;
  LiveFigures figures_;
  std::string letters_;
};

}  // namespace odmoe::server
