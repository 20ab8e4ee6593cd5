// `loop`: what a template knows about the loop that it is in.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "jinja/value.h"

namespace odmoe::jinja {

// Goes through the items, one ahead where somebody asks for the next one.
struct Loop : Members {
  using Recurse = std::function<Value(const Value& items, int depth)>;

  // `recurse` is empty where the loop is not recursive.
  Loop(Heap& heap, const Value& source, int the_depth, Recurse the_recurse);

  std::optional<Value> advance();
  std::optional<Value> member(Heap& heap, std::string_view name) override;
  Value call(Heap& heap, Arguments& arguments) override;

 private:
  const std::optional<Value>& peek();
  size_t length();
  Value neighbour(Heap& heap, const std::optional<Value>& item, std::string_view missing);

  Heap* heap_;
  Items items_;
  std::optional<size_t> length_;
  int depth_;  // from 0
  Recurse recurse_;
  int64_t index0_ = -1;
  bool peeked_ = false;
  std::optional<Value> after_, current_, before_;
  Value last_changed_;
};

}  // namespace odmoe::jinja
