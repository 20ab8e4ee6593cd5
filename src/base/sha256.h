// SHA-256 (FIPS 180-4; OpenSSL has it), for what must not be guessed backwards: names made of secrets.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

namespace odmoe {

std::array<std::byte, 32> sha256(std::span<const std::byte> bytes);

// The same as 64 hexadecimal digits.
std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace odmoe
