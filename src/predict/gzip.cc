#include "predict/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <cassert>
#include <limits>

namespace odmoe {
namespace {

constexpr int kGzip = 15 + 16;  // the largest window, with gzip's header
// Halves of states are noise below their exponents: level 9 packs them 2 % smaller than level 1 in 4 times
// the time.
constexpr int kLevel = 1;
constexpr size_t kStep = size_t{1} << 20U;

uInt clamped(size_t n) { return static_cast<uInt>(std::min<size_t>(n, std::numeric_limits<uInt>::max())); }

}  // namespace

std::vector<std::byte> gzip(std::span<const std::byte> bytes) {
  z_stream stream{};
  [[maybe_unused]] const int opened = deflateInit2(&stream, kLevel, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY);
  assert(opened == Z_OK);
  std::vector<std::byte> packed;
  size_t done = 0;
  for (int result = Z_OK; result != Z_STREAM_END;) {
    const size_t size = packed.size();
    packed.resize(size + kStep);
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data() + done));
    stream.avail_in = clamped(bytes.size() - done);
    stream.next_out = reinterpret_cast<Bytef*>(packed.data() + size);
    stream.avail_out = clamped(kStep);
    const uInt given = stream.avail_in;
    result = deflate(&stream, done + given == bytes.size() ? Z_FINISH : Z_NO_FLUSH);
    assert(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR);
    done += given - stream.avail_in;
    packed.resize(size + kStep - stream.avail_out);
  }
  deflateEnd(&stream);
  return packed;
}

Result<std::vector<std::byte>> gunzip(std::span<const std::byte> packed, uint64_t most_bytes,
                                      const std::string& name) {
  z_stream stream{};
  [[maybe_unused]] const int opened = inflateInit2(&stream, kGzip);
  assert(opened == Z_OK);
  std::vector<std::byte> bytes;
  size_t done = 0;
  int result = Z_OK;
  while (result == Z_OK && bytes.size() <= most_bytes) {
    const size_t size = bytes.size();
    bytes.resize(size + kStep);
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data() + done));
    stream.avail_in = clamped(packed.size() - done);
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data() + size);
    stream.avail_out = clamped(kStep);
    const uInt given = stream.avail_in;
    result = inflate(&stream, Z_NO_FLUSH);
    done += given - stream.avail_in;
    bytes.resize(size + kStep - stream.avail_out);
  }
  inflateEnd(&stream);
  if (bytes.size() > most_bytes) {
    return fail(ErrorKind::kBadFile, "{} unpacks to more than the {} bytes that are expected; it is damaged",
                name, most_bytes);
  }
  if (result != Z_STREAM_END || done != packed.size()) {
    return fail(ErrorKind::kBadFile, "{} is {}; delete it and collect again", name,
                result == Z_BUF_ERROR || result == Z_OK ? "truncated" : "damaged");
  }
  return bytes;
}

}  // namespace odmoe
