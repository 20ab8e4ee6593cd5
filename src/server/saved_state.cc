#include "server/saved_state.h"

#include <fcntl.h>

#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/checksum.h"
#include "base/file_descriptor.h"
#include "base/transfer.h"
#include "io/output_file.h"

namespace odmoe::server {
namespace {

constexpr uint64_t kMagic = 0x32564b454f4d444f;  // "ODMOEKV2" where the lowest byte comes first
constexpr uint64_t kFirstMagic = 0x31564b454f4d444f;
constexpr uint32_t kSingly = 1U << 31U;
constexpr uint64_t kFixedBytes = 48;
constexpr uint64_t kChecksumOffset = 40;
constexpr uint32_t kMaxIdentityBytes = 4096;
constexpr uint32_t kMaxOwnerBytes = 256;
constexpr uint32_t kMaxTokens = 1 << 24;

struct Fixed {
  uint64_t magic = kMagic;
  uint32_t identity_bytes = 0, n_token = 0, divided = 0, owner_bytes = 0;
  uint64_t state_bytes = 0, state_checksum = 0, header_checksum = 0;
};
static_assert(sizeof(Fixed) == kFixedBytes);

uint32_t n_stretch(const Fixed& fixed) { return fixed.magic == kMagic ? fixed.divided : 0; }

uint64_t header_bytes(const Fixed& fixed) {
  return kFixedBytes + fixed.identity_bytes + fixed.owner_bytes + uint64_t{fixed.n_token} * sizeof(Token) +
         uint64_t{n_stretch(fixed)} * sizeof(uint32_t);
}

uint64_t checksum_of(std::span<const std::byte> header) {
  Checksum checksum;
  checksum.add(header.first(kChecksumOffset));
  checksum.add(header.subspan(kFixedBytes));
  return checksum.value();
}

// Checks what can be checked before the rest is read.
Result<Fixed> parse_fixed(std::span<const std::byte> bytes, uint64_t file_bytes, const std::string& name) {
  Fixed fixed;
  if (bytes.size() < kFixedBytes || !is_saved_state(bytes)) {
    return fail(ErrorKind::kBadFile, "{}: this is not a saved KV cache", name);
  }
  std::memcpy(&fixed, bytes.data(), kFixedBytes);
  if (fixed.identity_bytes > kMaxIdentityBytes || fixed.n_token == 0 || fixed.n_token > kMaxTokens ||
      fixed.divided > fixed.n_token || fixed.owner_bytes > kMaxOwnerBytes ||
      header_bytes(fixed) > file_bytes || fixed.state_bytes != file_bytes - header_bytes(fixed)) {
    return fail(ErrorKind::kBadFile, "{}: this saved KV cache is damaged", name);
  }
  return fixed;
}

}  // namespace

uint64_t SavedStateHeader::state_offset() const {
  return kFixedBytes + identity.size() + owner.size() + tokens.size() * sizeof(Token) +
         stretches.size() * sizeof(uint32_t);
}

std::vector<std::byte> encode_header(const SavedStateHeader& header) {
  Fixed fixed{.identity_bytes = static_cast<uint32_t>(header.identity.size()),
              .n_token = static_cast<uint32_t>(header.tokens.size()),
              .divided = static_cast<uint32_t>(header.stretches.size()),
              .owner_bytes = static_cast<uint32_t>(header.owner.size()),
              .state_bytes = header.state_bytes,
              .state_checksum = header.state_checksum};
  std::vector<std::byte> bytes(header.state_offset());
  std::byte* at = bytes.data() + kFixedBytes;
  const auto put = [&at](const void* from, size_t n) {
    std::memcpy(at, from, n);
    at += n;
  };
  put(header.identity.data(), header.identity.size());
  put(header.owner.data(), header.owner.size());
  put(header.tokens.data(), header.tokens.size() * sizeof(Token));
  for (const Division::Stretch& stretch : header.stretches) {
    const uint32_t word = static_cast<uint32_t>(stretch.end) | (stretch.singly ? kSingly : 0);
    put(&word, sizeof(word));
  }
  std::memcpy(bytes.data(), &fixed, kFixedBytes);
  fixed.header_checksum = checksum_of(bytes);
  std::memcpy(bytes.data(), &fixed, kFixedBytes);
  return bytes;
}

bool is_saved_state(std::span<const std::byte> beginning) {
  uint64_t magic = 0;
  if (beginning.size() < sizeof(magic)) return false;
  std::memcpy(&magic, beginning.data(), sizeof(magic));
  return magic == kMagic || magic == kFirstMagic;
}

Result<SavedStateHeader> parse_header(std::span<const std::byte> bytes, uint64_t file_bytes,
                                      const std::string& name) {
  ODMOE_ASSIGN_OR_RETURN(const Fixed fixed, parse_fixed(bytes, file_bytes, name));
  const uint64_t size = header_bytes(fixed);
  if (bytes.size() < size || checksum_of(bytes.first(size)) != fixed.header_checksum) {
    return fail(ErrorKind::kBadFile, "{}: this saved KV cache is damaged", name);
  }
  SavedStateHeader header{.identity = std::string(fixed.identity_bytes, '\0'),
                          .owner = std::string(fixed.owner_bytes, '\0'),
                          .tokens = std::vector<Token>(fixed.n_token),
                          .stretches = std::vector<Division::Stretch>(n_stretch(fixed)),
                          .state_bytes = fixed.state_bytes,
                          .state_checksum = fixed.state_checksum};
  const std::byte* at = bytes.data() + kFixedBytes;
  const auto take = [&at](void* to, size_t n) {
    std::memcpy(to, at, n);
    at += n;
  };
  take(header.identity.data(), header.identity.size());
  take(header.owner.data(), header.owner.size());
  take(header.tokens.data(), header.tokens.size() * sizeof(Token));
  for (Division::Stretch& stretch : header.stretches) {
    uint32_t word = 0;
    take(&word, sizeof(word));
    stretch = {.end = static_cast<int32_t>(word & ~kSingly), .singly = (word & kSingly) != 0};
  }
  const bool fits =
      header.stretches.empty() || std::cmp_less_equal(header.stretches.back().end, header.tokens.size());
  if (!Division::are_valid(header.stretches) || !fits) {
    return fail(ErrorKind::kBadFile, "{}: this saved KV cache is damaged", name);
  }
  return header;
}

Result<SavedStateHeader> read_header(const std::filesystem::path& path) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (error || !file) return fail(ErrorKind::kIo, "{}: cannot be read", path.string());
  std::vector<std::byte> bytes(std::min(size, kFixedBytes));
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  ODMOE_ASSIGN_OR_RETURN(const Fixed fixed, parse_fixed(bytes, size, path.string()));
  bytes.resize(header_bytes(fixed));
  file.read(reinterpret_cast<char*>(bytes.data()) + kFixedBytes,
            static_cast<std::streamsize>(bytes.size() - kFixedBytes));
  if (!file) return fail(ErrorKind::kIo, "{}: cannot be read", path.string());
  return parse_header(bytes, size, path.string());
}

Status read_state(const std::filesystem::path& path, const SavedStateHeader& header,
                  std::span<std::byte> state) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(header.state_offset()));
  file.read(reinterpret_cast<char*>(state.data()), static_cast<std::streamsize>(state.size()));
  if (!file) return fail(ErrorKind::kIo, "{}: cannot be read", path.string());
  if (Checksum::of(state) != header.state_checksum) {
    return fail(ErrorKind::kBadFile, "{}: this saved KV cache is damaged", path.string());
  }
  return {};
}

Status write_session(const std::filesystem::path& path, const std::string& identity, const std::string& owner,
                     const Session& session) {
  const std::span<const Token> tokens = session.tokens();
  const std::span<const Division::Stretch> stretches = session.division().stretches();
  Checksum checksum;
  ODMOE_RETURN_IF_ERROR(session.write_state([&](std::span<const std::byte> piece) -> Status {
    checksum.add(piece);
    return {};
  }));
  const SavedStateHeader header{.identity = identity,
                                .owner = owner,
                                .tokens = {tokens.begin(), tokens.end()},
                                .stretches = {stretches.begin(), stretches.end()},
                                .state_bytes = session.state_bytes(static_cast<int32_t>(tokens.size())),
                                .state_checksum = checksum.value()};
  const std::filesystem::path unfinished = path.string() + ".unfinished";
  const auto write_all = [&]() -> Status {
    ODMOE_ASSIGN_OR_RETURN(OutputFile output, OutputFile::create_private(unfinished));
    ODMOE_RETURN_IF_ERROR(output.write(encode_header(header)));
    ODMOE_RETURN_IF_ERROR(
        session.write_state([&](std::span<const std::byte> piece) { return output.write(piece); }));
    return output.sync();
  };
  Status status = write_all();
  std::error_code error;
  if (status.has_value()) {
    std::filesystem::rename(unfinished, path, error);
    if (!error) return {};
    status = fail(ErrorKind::kIo, "{}: {}", path.string(), error.message());
  }
  std::filesystem::remove(unfinished, error);
  return status;
}

Status read_session(const std::filesystem::path& path, const SavedStateHeader& header,
                    const Division& division, Session& session) {
  const FileDescriptor file = FileDescriptor::open(path, O_RDONLY);
  if (!file) {
    session.truncate(0);
    return fail(ErrorKind::kIo, "{}: cannot be read", path.string());
  }
  const auto damaged = [&]() -> Status {
    return fail(ErrorKind::kBadFile, "{}: this saved KV cache is damaged", path.string());
  };
  if (header.state_bytes != session.state_bytes(static_cast<int32_t>(header.tokens.size()))) {
    session.truncate(0);
    return damaged();
  }
  const uint64_t begin = header.state_offset();
  uint64_t offset = begin;
  Checksum checksum;
  // Whether they are as they were is known with the last piece, which therefore fails: then nothing of them
  // is left, where rows that nobody sees are multiplied by 0 and must be numbers.
  return session.read_state(header.tokens, division, [&](std::span<std::byte> piece) -> Status {
    if (!read_exactly(file.number(), offset, piece).has_value()) {
      return fail(ErrorKind::kIo, "{}: cannot be read", path.string());
    }
    offset += piece.size();
    checksum.add(piece);
    const bool all = offset - begin == header.state_bytes;
    return all && checksum.value() != header.state_checksum ? damaged() : Status();
  });
}

}  // namespace odmoe::server
