// What one rendering uses: it owns all values that are not text, counts the memory of those that are, and the
// steps.  Whatever is beyond the limits raises kLimit.
//
// Containers live as long as the heap, so that those that hold each other (a namespace that is its own
// member) are no leak; text ends with its last holder, so that a long text that grows piece by piece costs
// only its last state.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "jinja/limits.h"

namespace odmoe::jinja {

struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
};

// One owner; it must outlive all values made with it.
class Heap {
 public:
  // `goes_on`: asked some times in a millisecond, false ends it; empty: nobody asks.  `wider`: by
  // Rules::kWider.
  explicit Heap(const Limits& limits, std::function<bool()> goes_on = {}, bool wider = false)
      : limits_(limits), goes_on_(std::move(goes_on)), wider_(wider) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  template <typename T, typename... Args>
  T* make(Args&&... args) {
    take(sizeof(T) + kOverheadBytes);
    work(1);
    auto object = std::make_unique<T>(std::forward<Args>(args)...);
    T* made = object.get();
    objects_.push_back(std::move(object));
    return made;
  }

  // Memory that a value is about to have.
  void take(size_t bytes);
  void give_back(size_t bytes) { used_bytes_ -= bytes; }
  // Work that is about to be done.
  void work(size_t steps);
  void copy(size_t bytes) { work(1 + bytes / 64); }

  const Limits& limits() const { return limits_; }
  bool wider() const { return wider_; }

  // One level of evaluation within another, for as long as it lives.
  class Level {
   public:
    explicit Level(Heap& heap) : heap_(&heap) { heap_->enter(); }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --heap_->depth_; }

   private:
    Heap* heap_;
  };

 private:
  void enter();

  static constexpr size_t kOverheadBytes = 32;  // of the allocation and of its place in the list

  static constexpr size_t kStepsBetweenQuestions = 4096;

  Limits limits_;
  std::function<bool()> goes_on_;
  bool wider_;
  size_t used_bytes_ = 0, steps_ = 0, asked_at_ = 0;
  int depth_ = 0;
  std::vector<std::unique_ptr<Object>> objects_;
};

}  // namespace odmoe::jinja
