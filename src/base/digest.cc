#include "base/digest.h"

#include <openssl/evp.h>

#include <array>
#include <new>

#include "base/hex.h"

namespace odmoe {

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

// These calls fail for want of memory alone.
Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
  const EVP_MD* const method = kind == Kind::kSha256 ? EVP_sha256() : EVP_sha1();
  if (state_->context == nullptr || EVP_DigestInit_ex(state_->context, method, nullptr) != 1)
    throw std::bad_alloc();
}

Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::add(std::span<const std::byte> bytes) {
  if (EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) != 1) throw std::bad_alloc();
}

std::string Digest::hex() {
  std::array<std::byte, EVP_MAX_MD_SIZE> bytes{};
  unsigned size = 0;
  if (EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(bytes.data()), &size) != 1) {
    throw std::bad_alloc();
  }
  return to_hex(std::span(bytes).first(size));
}

}  // namespace odmoe
