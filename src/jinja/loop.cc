#include "jinja/loop.h"

#include <utility>
#include <vector>

#include "jinja/arguments.h"
#include "jinja/compare.h"

namespace odmoe::jinja {
namespace {

struct LoopMethod : Callable {
  using Function = std::function<Value(Heap&, Arguments&)>;
  LoopMethod(std::string_view the_name, Function the_function)
      : Callable("method", the_name), function(std::move(the_function)) {}
  Value call(Heap& heap, Arguments& arguments) override { return function(heap, arguments); }
  Function function;
};

}  // namespace

Loop::Loop(Heap& heap, const Value& source, int the_depth, Recurse the_recurse)
    : Members("LoopContext"),
      heap_(&heap),
      items_(heap, source),
      length_(jinja::length(source)),
      depth_(the_depth),
      recurse_(std::move(the_recurse)) {}

std::optional<Value> Loop::advance() {
  std::optional<Value> next = peeked_ ? std::move(after_) : items_.next();
  peeked_ = false;
  after_.reset();
  if (!next) return std::nullopt;
  ++index0_;
  before_ = std::move(current_);
  current_ = next;
  return next;
}

const std::optional<Value>& Loop::peek() {
  if (!peeked_) {
    after_ = items_.next();
    peeked_ = true;
  }
  return after_;
}

size_t Loop::length() {
  if (!length_) {
    std::vector<Value> rest;
    while (auto item = items_.next()) {
      heap_->take(sizeof(Value));
      rest.push_back(*std::move(item));
    }
    length_ = rest.size() + static_cast<size_t>(index0_ + 1) + (peeked_ && after_ ? 1 : 0);
    items_ = Items(*heap_, make_list(*heap_, std::move(rest)));
  }
  return *length_;
}

Value Loop::neighbour(Heap& heap, const std::optional<Value>& item, std::string_view missing) {
  return item ? *item : make_undefined(heap, std::string(missing));
}

std::optional<Value> Loop::member(Heap& heap, std::string_view name) {
  if (name == "index0") return index0_;
  if (name == "index") return index0_ + 1;
  if (name == "first") return index0_ == 0;
  if (name == "last") return !peek().has_value();
  if (name == "length") return Value::integer(length());
  if (name == "revindex") return static_cast<int64_t>(length()) - index0_;
  if (name == "revindex0") return static_cast<int64_t>(length()) - index0_ - 1;
  if (name == "depth") return int64_t{depth_} + 1;
  if (name == "depth0") return int64_t{depth_};
  if (name == "previtem") return neighbour(heap, before_, "there is no previous item");
  if (name == "nextitem") return neighbour(heap, peek(), "there is no next item");
  if (name == "cycle") {
    return heap.make<LoopMethod>(name, [this](Heap&, Arguments& arguments) {
      if (arguments.positional.empty()) raise(FailureKind::kType, "no items for cycling given");
      return arguments.positional[static_cast<size_t>(index0_) % arguments.positional.size()];
    });
  }
  if (name == "changed") {
    return heap.make<LoopMethod>(name, [this](Heap& the_heap, Arguments& arguments) -> Value {
      const Value now = make_tuple(the_heap, arguments.positional);
      if (!last_changed_.is_nothing() && equals(last_changed_, now)) return false;
      last_changed_ = now;
      return true;
    });
  }
  return std::nullopt;
}

Value Loop::call(Heap&, Arguments& arguments) {
  if (!recurse_) {
    raise(FailureKind::kType, "The loop must have the 'recursive' marker to be called recursively.");
  }
  const Bound bound("loop", arguments, {"iterable"}, 1);
  return recurse_(bound[0], depth_ + 1);
}

}  // namespace odmoe::jinja
