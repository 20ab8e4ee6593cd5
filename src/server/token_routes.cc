#include "server/token_routes.h"

#include <memory>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "model/tokenizer/tokenizer.h"
#include "odmoe/format.h"
#include "server/encode_bounds.h"
#include "server/json_guard.h"
#include "server/json_list.h"
#include "server/request.h"
#include "server/token_text.h"

namespace odmoe::server {
namespace {

// What is kept until the answer is out.
struct Kept {
  std::vector<Token> tokens;
  RequestMemory::Share memory;
};

}  // namespace

ApiResult<Body> answer_tokenize(const Engine& engine, std::string body, RequestWork& work) {
  ODMOE_ASSIGN_OR_RETURN(TokenizeRequest text, parse_tokenize_request(body, &work));
  forget_body(body, work);
  const size_t most = work.most() / 4 / sizeof(Token);
  const TokenBounds bounds = token_bounds(work, most, text.content.size());
  ODMOE_RETURN_IF_ERROR(work.take(bounds.bytes));
  auto tokens = engine.encode_within(text.content, text.add_special, text.parse_special, bounds.limits);
  if (!tokens.has_value()) return std::unexpected(not_encoded(tokens.error(), work, "content"));
  text.content = std::string();
  work.give_back_to(tokens->capacity() * sizeof(Token));
  const auto kept = std::make_shared<Kept>(Kept{.tokens = std::move(*tokens), .memory = work.keep()});
  return Body{.write = [&engine, kept, with_pieces = text.with_pieces](const BodySink& sink) {
    const auto item = [&](size_t i) {
      const Token token = kept->tokens[i];
      if (!with_pieces) return std::to_string(token);
      // What is a part of a character is told by its bytes.
      const std::string piece = engine.token_bytes(token, true);
      const bool whole = is_utf8(piece);
      return dump_json({{"id", token}, {"piece", whole ? Json(piece) : token_byte_list(engine, token)}});
    };
    return sink("{\"tokens\":") && write_json_list(kept->tokens.size(), item, sink) &&
           sink(odmoe::format(",\"count\":{}}}\n", kept->tokens.size()));
  }};
}

ApiResult<Body> answer_detokenize(const Engine& engine, std::string body, RequestWork& work) {
  ODMOE_ASSIGN_OR_RETURN(auto tokens, parse_detokenize_request(body, engine.model().n_vocab, &work));
  forget_body(body, work);
  work.give_back_to(tokens.capacity() * sizeof(Token));
  const auto kept = std::make_shared<Kept>(Kept{.tokens = std::move(tokens), .memory = work.keep()});
  return Body{.write = [&engine, kept](const BodySink& sink) {
    constexpr size_t kTokensAtOnce = 1024;
    // A character may begin in one token and end in the next.
    StreamDecoder decoder;
    const auto write = [&](const std::string& text) {
      const std::string quoted = dump_json(text);
      return sink(std::string_view(quoted).substr(1, quoted.size() - 2));
    };
    if (!sink("{\"content\":\"")) return false;
    std::string bytes;
    for (size_t i = 0; i < kept->tokens.size(); ++i) {
      bytes += engine.token_bytes(kept->tokens[i], true);
      if (i % kTokensAtOnce != kTokensAtOnce - 1) continue;
      if (!write(decoder.push_bytes(bytes))) return false;
      bytes.clear();
    }
    return write(decoder.push_bytes(bytes) + decoder.finish()) && sink("\"}\n");
  }};
}

}  // namespace odmoe::server
