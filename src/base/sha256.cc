#include "base/sha256.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/hex.h"

namespace odmoe {
namespace {

constexpr size_t kBlockBytes = 64;

// The first 32 bits of the fractions of the cube roots of the first 64 primes.
constexpr std::array<uint32_t, 64> kRounds = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

class State {
 public:
  void add(std::span<const std::byte, kBlockBytes> block) {
    std::array<uint32_t, 64> w{};
    for (size_t i = 0; i < 16; ++i) {
      for (size_t j = 0; j < 4; ++j) w[i] = w[i] << 8U | std::to_integer<uint32_t>(block[4 * i + j]);
    }
    for (size_t i = 16; i < 64; ++i) {
      const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3U;
      const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10U;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = h_;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRounds[i] + w[i];
      const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
    const std::array<uint32_t, 8> sums = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < sums.size(); ++i) h_[i] += sums[i];
  }
  std::array<std::byte, 32> bytes() const {
    std::array<std::byte, 32> all{};
    for (size_t i = 0; i < all.size(); ++i)
      all[i] = static_cast<std::byte>(h_[i / 4] >> (24 - 8 * (i % 4)) & 0xFFU);
    return all;
  }

 private:
  // The same of the square roots of the first 8.
  std::array<uint32_t, 8> h_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
};

}  // namespace

std::array<std::byte, 32> sha256(std::span<const std::byte> bytes) {
  State state;
  const uint64_t n_bit = uint64_t{bytes.size()} * 8;
  while (bytes.size() >= kBlockBytes) {
    state.add(bytes.first<kBlockBytes>());
    bytes = bytes.subspan(kBlockBytes);
  }
  // The rest, a one, zeros, and how many bits there were.
  std::array<std::byte, 2 * kBlockBytes> tail{};
  std::ranges::copy(bytes, tail.begin());
  tail[bytes.size()] = std::byte{0x80};
  const size_t n = bytes.size() + 1 + sizeof(n_bit) <= kBlockBytes ? kBlockBytes : tail.size();
  for (size_t i = 0; i < sizeof(n_bit); ++i)
    tail[n - 1 - i] = static_cast<std::byte>(n_bit >> (8 * i) & 0xFFU);
  for (size_t at = 0; at < n; at += kBlockBytes)
    state.add(std::span<const std::byte, kBlockBytes>(tail.data() + at, kBlockBytes));
  return state.bytes();
}

std::string sha256_hex(std::span<const std::byte> bytes) { return to_hex(sha256(bytes)); }

}  // namespace odmoe
