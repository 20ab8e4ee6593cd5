// Cuts text into the words that the merges work on, by a rule of split_rules.h.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe {

// Immutable, so thread-safe.
class Splitter {
 public:
  // kUnsupported when this build of PCRE2 cannot compile an expression.
  static Result<Splitter> compile(std::span<const std::string_view> expressions);

  Splitter(Splitter&&) noexcept;
  Splitter& operator=(Splitter&&) noexcept;
  ~Splitter();

  // Takes a word; false: no more are wanted.
  using WordSink = std::function<bool(std::string_view word)>;
  // Finds the words of `text` in order, and keeps none of them.  They cover it exactly: no byte is lost or
  // repeated, whatever the bytes are and even if matching fails.  A run of bytes that is not UTF-8 is a word
  // of its own.  False when the sink wanted no more.
  bool split(std::string_view text, const WordSink& sink) const;

 private:
  struct Expressions;
  explicit Splitter(std::unique_ptr<Expressions> expressions);

  std::unique_ptr<Expressions> expressions_;
};

}  // namespace odmoe
