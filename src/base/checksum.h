// XXH3-64, the checksum of expert records: damage is found at the speed of memory.  It is not a defence
// against someone who means harm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace odmoe {

// The checksum of bytes that come in pieces.  One owner; allocates only when made.
class Checksum {
 public:
  Checksum();
  ~Checksum();
  Checksum(Checksum&&) noexcept;
  Checksum& operator=(Checksum&&) noexcept;

  void reset();  // to that of no bytes
  void add(std::span<const std::byte> bytes);
  uint64_t value() const;  // of what was added since the last reset

  static uint64_t of(std::span<const std::byte> bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace odmoe
