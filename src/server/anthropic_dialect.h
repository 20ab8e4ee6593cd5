// Anthropic's API: messages and the count of their tokens.
#pragma once

#include <span>
#include <string_view>

#include "server/dialect.h"

namespace odmoe::server {

class AnthropicDialect final : public Dialect {
 public:
  std::span<const Route> routes() const override;
  ApiResult<ParsedRequest> parse(const Route& route, std::string_view body, int32_t n_vocab,
                                 RequestWork& work) const override;
  ApiResult<Body> answer(const Route& route, PlainRequest request) const override;
  Body error(const ApiError& error) const override;
};

}  // namespace odmoe::server
