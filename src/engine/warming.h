// Experts read before anybody asks for them: those of one store, likeliest first.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "format/expert_source.h"
#include "store/expert_store.h"

namespace odmoe {

// How far that is.
struct Warmth {
  size_t n_read = 0, n_expert = 0;
  bool done = true;  // those that are not read will not be
};

// One owner.  The store must outlive it.
class Warming {
 public:
  // As many as there are slots.  Nothing else fills slots until it is done; `fills`: then it goes on.
  Warming(ExpertStore& store, std::vector<ExpertKey> experts, bool fills);
  ~Warming();
  Warming(const Warming&) = delete;
  Warming& operator=(const Warming&) = delete;

  // Asks for what comes next and never waits: to be called again and again, every few milliseconds.
  Warmth go_on();

 private:
  using Time = std::chrono::steady_clock::time_point;
  void ask();

  ExpertStore& store_;
  std::vector<ExpertKey> experts_;
  bool fills_;
  size_t asked_ = 0, end_ = 0;  // of experts_, what is asked for now
  size_t there_ = 0;            // of that
  Time moved_{};
};

// What a site with a store does of ExpertSite::warm().  One owner.
class SiteWarming {
 public:
  void begin(ExpertStore& store, std::span<const ExpertKey> experts, bool fills);
  Warmth go_on();

 private:
  std::unique_ptr<Warming> warming_;  // while it is not done
  Warmth warmth_;
};

}  // namespace odmoe
