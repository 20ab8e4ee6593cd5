// What a template may use.  Templates come with models and conversations from anyone, so each is bounded.
#pragma once

#include <cstddef>

namespace odmoe::jinja {

struct Limits {
  size_t source_bytes = size_t{4} << 20;
  size_t steps = 50'000'000;                // expressions evaluated, and each 64 bytes that are copied
  size_t memory_bytes = size_t{256} << 20;  // of values that live at once
  size_t output_bytes = size_t{64} << 20;
};

// Of expressions and statements in each other, as they are written.
inline constexpr int kMaxNesting = 150;
// Of all that is being evaluated at once: macros and loops that call themselves multiply the nesting.  Each
// takes up to 400 bytes of the thread's stack.
inline constexpr int kMaxDepth = 700;
// Of lists and dicts in each other.
inline constexpr int kMaxValueDepth = 200;

}  // namespace odmoe::jinja
