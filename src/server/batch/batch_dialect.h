// OpenAI's files and batches: /v1/files, /v1/batches.
#pragma once

#include <memory>
#include <span>

#include "server/batch/batch_store.h"
#include "server/dialect.h"

namespace odmoe::server {

class BatchDialect final : public Dialect {
 public:
  // Null: all of it is refused with what turns it on.
  explicit BatchDialect(std::shared_ptr<BatchStore> store) : store_(std::move(store)) {}

  std::span<const Route> routes() const override;
  ApiResult<ParsedRequest> parse(const Route& route, std::string_view body, int32_t n_vocab,
                                 RequestWork& work) const override;
  ApiResult<Body> answer(const Route& route, PlainRequest request) const override;
  Body error(const ApiError& error) const override;

 private:
  ApiResult<Body> answer_files(const Route& route, const PlainRequest& request) const;
  ApiResult<Body> answer_batches(const Route& route, const PlainRequest& request) const;
  ApiResult<Body> upload(const PlainRequest& request) const;
  ApiResult<Body> create(const PlainRequest& request) const;

  const std::shared_ptr<BatchStore> store_;
};

// "24h", "7d", "90m": seconds, at most kMostWindowSeconds; 0: it is none.
int64_t window_seconds(std::string_view text);

}  // namespace odmoe::server
