// OpenAI's responses: /v1/responses, and those that were kept.
#pragma once

#include <memory>
#include <span>

#include "server/dialect.h"
#include "server/responses/response_store.h"

namespace odmoe::server {

class ResponsesDialect final : public Dialect {
 public:
  // Keeps responses of so many bytes; 0: none.
  explicit ResponsesDialect(uint64_t store_bytes) : store_(std::make_shared<ResponseStore>(store_bytes)) {}

  std::span<const Route> routes() const override;
  ApiResult<ParsedRequest> parse(const Route& route, std::string_view body, int32_t n_vocab,
                                 RequestWork& work) const override;
  ApiResult<Body> answer(const Route& route, PlainRequest request) const override;
  Body error(const ApiError& error) const override;

 private:
  std::shared_ptr<ResponseStore> store_;  // thread-safe
};

}  // namespace odmoe::server
