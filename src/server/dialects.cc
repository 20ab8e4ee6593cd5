#include "server/dialects.h"

#include "server/anthropic_dialect.h"
#include "server/batch/batch_dialect.h"
#include "server/ollama_dialect.h"
#include "server/openai_dialect.h"
#include "server/responses/responses_dialect.h"

namespace odmoe::server {

Dialects all_dialects(const DialectOptions& options) {
  return {std::make_shared<OpenAiDialect>(), std::make_shared<ResponsesDialect>(options.response_store_bytes),
          std::make_shared<AnthropicDialect>(), std::make_shared<OllamaDialect>(),
          std::make_shared<BatchDialect>(options.batches)};
}

}  // namespace odmoe::server
