#include "xz_file.h"

#include <gtest/gtest.h>
#include <lzma.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace odmoe::testing {

std::filesystem::path unpack_xz(const std::filesystem::path& packed, const std::filesystem::path& path) {
  std::ifstream in(packed, std::ios::binary);
  EXPECT_TRUE(in.is_open()) << packed;
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  std::ofstream out(path, std::ios::binary);
  std::vector<char> block(size_t{1} << 20);
  lzma_stream stream = LZMA_STREAM_INIT;
  EXPECT_EQ(lzma_stream_decoder(&stream, UINT64_MAX, 0), LZMA_OK);
  stream.next_in = reinterpret_cast<const uint8_t*>(bytes.data());
  stream.avail_in = bytes.size();
  lzma_ret state = LZMA_OK;
  while (state == LZMA_OK) {
    stream.next_out = reinterpret_cast<uint8_t*>(block.data());
    stream.avail_out = block.size();
    state = lzma_code(&stream, LZMA_FINISH);
    out.write(block.data(), static_cast<std::streamsize>(block.size() - stream.avail_out));
  }
  EXPECT_EQ(state, LZMA_STREAM_END) << packed;
  lzma_end(&stream);
  EXPECT_TRUE(out.flush()) << path;
  return path;
}

}  // namespace odmoe::testing
