#include "server/token_text.h"

#include <cstdint>

#include "model/tokenizer/tokenizer.h"

namespace odmoe::server {

std::string token_text(const Engine& engine, Token token) {
  StreamDecoder decoder;
  std::string text = decoder.push_bytes(engine.token_bytes(token, /*special=*/true));
  return text + decoder.finish();
}

Json token_byte_list(const Engine& engine, Token token) {
  Json bytes = Json::array();
  for (const char c : engine.token_bytes(token, /*special=*/true)) bytes.push_back(static_cast<uint8_t>(c));
  return bytes;
}

}  // namespace odmoe::server
