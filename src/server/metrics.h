// /metrics: what the server and the engine did, in Prometheus' text format.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "odmoe/stats.h"
#include "server/scheduler.h"

namespace odmoe::server {

// Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  void count_request(std::string_view route, int status);
  void count_end(const GenerationEnd& end);

  // `stats` null: the model is not there yet.
  std::string text(const Stats* stats, const Scheduler::Load& load, size_t connections);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string_view ending_name(Ending ending);

}  // namespace odmoe::server
