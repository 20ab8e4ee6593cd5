#include "base/fingerprint.h"

#include <xxhash.h>

#include <new>

#include "odmoe/format.h"

namespace odmoe {

struct Fingerprint::State {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> xxh3;
};

Fingerprint::Fingerprint() : state_(std::make_unique<State>()) {
  state_->xxh3.reset(XXH3_createState());
  if (state_->xxh3 == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh3.get());
}

Fingerprint::~Fingerprint() = default;
Fingerprint::Fingerprint(Fingerprint&&) noexcept = default;
Fingerprint& Fingerprint::operator=(Fingerprint&&) noexcept = default;

void Fingerprint::add(std::span<const std::byte> bytes) {
  add(uint64_t{bytes.size()});
  XXH3_128bits_update(state_->xxh3.get(), bytes.data(), bytes.size());
}

void Fingerprint::add(uint64_t number) { XXH3_128bits_update(state_->xxh3.get(), &number, sizeof(number)); }

void Fingerprint::add(const Value& value) {
  add(value.high);
  add(value.low);
}

Fingerprint::Value Fingerprint::value() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh3.get());
  return {.high = hash.high64, .low = hash.low64};
}

Fingerprint::Value Fingerprint::of(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.high = hash.high64, .low = hash.low64};
}

std::string Fingerprint::Value::hex() const { return odmoe::format("{:016x}{:016x}", high, low); }

}  // namespace odmoe
