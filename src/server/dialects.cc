#include "server/dialects.h"

#include "server/openai_dialect.h"

namespace odmoe::server {

Dialects all_dialects() { return {std::make_shared<OpenAiDialect>()}; }

}  // namespace odmoe::server
