// XXH3-128 of several things one after another: whether two models, say, are the same.  Two that differ have
// the same fingerprint once in 2^128 times by chance.  It is not a defence against someone who means harm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace odmoe {

// One owner.
class Fingerprint {
 public:
  struct Value {
    uint64_t high = 0, low = 0;
    bool operator==(const Value&) const = default;
    std::string hex() const;  // 32 digits
  };

  Fingerprint();
  ~Fingerprint();
  Fingerprint(Fingerprint&&) noexcept;
  Fingerprint& operator=(Fingerprint&&) noexcept;

  // Where one thing ends and the next begins counts, too.
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  void add(uint64_t number);
  void add(const Value& value);

  Value value() const;  // of what was added so far

  // Of these bytes alone, which is not what add() makes of them.  Allocates nothing.
  static Value of(std::span<const std::byte> bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace odmoe
