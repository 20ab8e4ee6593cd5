#include "base/checksum.h"

#include <xxhash.h>

#include <new>

namespace odmoe {

struct Checksum::State {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> xxh3;
};

Checksum::Checksum() : state_(std::make_unique<State>()) {
  state_->xxh3.reset(XXH3_createState());
  if (state_->xxh3 == nullptr) throw std::bad_alloc();
  reset();
}

Checksum::~Checksum() = default;
Checksum::Checksum(Checksum&&) noexcept = default;
Checksum& Checksum::operator=(Checksum&&) noexcept = default;

void Checksum::reset() { XXH3_64bits_reset(state_->xxh3.get()); }

void Checksum::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_->xxh3.get(), bytes.data(), bytes.size());
}

uint64_t Checksum::value() const { return XXH3_64bits_digest(state_->xxh3.get()); }

uint64_t Checksum::of(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace odmoe
