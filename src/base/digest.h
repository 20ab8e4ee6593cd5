// Cryptographic hashes of what comes in pieces (OpenSSL's).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace odmoe {

// Move-only; one owner.
class Digest {
 public:
  enum class Kind {
    kSha256,
    kSha1,  // for names that git gives, not for what somebody might forge
  };
  explicit Digest(Kind kind);
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  void add(std::span<const std::byte> bytes);
  // Of all that was added, as hexadecimal digits; nothing can be added after that.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace odmoe
