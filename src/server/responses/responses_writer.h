// Answers of /v1/responses: whole, or as its stream of events.
#pragma once

#include <memory>

#include "server/dialect.h"
#include "server/responses/responses_request.h"

namespace odmoe::server {

// The answer is kept where the settings say so, once it is whole.
std::unique_ptr<AnswerWriter> responses_writer(const AnswerStart& start,
                                               std::shared_ptr<const ResponseSettings> settings);

}  // namespace odmoe::server
