#include "server/token_routes.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "model/tokenizer/tokenizer.h"
#include "server/json_guard.h"
#include "server/json_pieces.h"
#include "server/request.h"

namespace odmoe::server {
namespace {

// What is kept until the answer is out.
struct Kept {
  std::vector<Token> tokens;
  RequestMemory::Share memory;
};

void forget(std::string& body, RequestWork& work) {
  const uint64_t bytes = body.size();
  body = std::string();
  work.give_back_to(work.bytes() - std::min(work.bytes(), bytes));
}

}  // namespace

TokenBounds token_bounds(RequestWork& work, size_t tokens, size_t text_bytes) {
  // A quarter of what a request may have is for merging, the rest for the text and its tokens.
  const size_t word_bytes = work.most() / 4 / kMergeBytesPerByte;
  return {.limits = {.tokens = tokens,
                     .word_bytes = word_bytes,
                     .goes_on = [&work] { return work.hurries_on(); }},
          // The last word may become more tokens than are wanted, which is known when they are there.
          .bytes = std::min(word_bytes, text_bytes) * (kMergeBytesPerByte + 2 * sizeof(Token)) +
                   std::min(tokens, text_bytes + 2) * sizeof(Token)};
}

ApiError not_encoded(const Error& error, const RequestWork& work, const char* param) {
  if (error.kind == ErrorKind::kInterrupted) {
    if (const ApiStatus status = work.goes_on(); !status.has_value()) return status.error();
  }
  if (error.kind != ErrorKind::kBudget) return from_engine(error);
  return {.status = 400, .type = "invalid_request_error", .message = error.message, .param = param};
}

ApiStatus answer_tokenize(const Engine& engine, std::string body, RequestWork& work,
                          httplib::Response& response) {
  ODMOE_ASSIGN_OR_RETURN(TokenizeRequest text, parse_tokenize_request(body, &work));
  forget(body, work);
  const size_t most = work.most() / 4 / sizeof(Token);
  const TokenBounds bounds = token_bounds(work, most, text.content.size());
  ODMOE_RETURN_IF_ERROR(work.take(bounds.bytes));
  auto tokens = engine.encode_within(text.content, text.add_special, text.parse_special, bounds.limits);
  if (!tokens.has_value()) return std::unexpected(not_encoded(tokens.error(), work, "content"));
  text.content = std::string();
  work.give_back_to(tokens->capacity() * sizeof(Token));
  const auto kept = std::make_shared<Kept>(Kept{.tokens = std::move(*tokens), .memory = work.keep()});
  send_pieces(response, [&engine, kept, with_pieces = text.with_pieces](const PieceSink& sink) {
    const auto item = [&](size_t i) {
      const Token token = kept->tokens[i];
      if (!with_pieces) return std::to_string(token);
      return dump_json({{"id", token}, {"piece", engine.token_bytes(token, true)}});
    };
    return sink("{\"tokens\":") && write_json_list(kept->tokens.size(), item, sink) &&
           sink(odmoe::format(",\"count\":{}}}\n", kept->tokens.size()));
  });
  return {};
}

ApiStatus answer_detokenize(const Engine& engine, std::string body, RequestWork& work,
                            httplib::Response& response) {
  ODMOE_ASSIGN_OR_RETURN(auto tokens, parse_detokenize_request(body, engine.model().n_vocab, &work));
  forget(body, work);
  work.give_back_to(tokens.capacity() * sizeof(Token));
  const auto kept = std::make_shared<Kept>(Kept{.tokens = std::move(tokens), .memory = work.keep()});
  send_pieces(response, [&engine, kept](const PieceSink& sink) {
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
  });
  return {};
}

}  // namespace odmoe::server
