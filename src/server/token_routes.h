// /tokenize and /detokenize.
#pragma once

#include <string>

#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/body.h"
#include "server/request_memory.h"

namespace odmoe::server {

// The engine must outlive the answer, which is written in pieces.  `work` bounds what is taken, and is kept
// with the answer.
ApiResult<Body> answer_tokenize(const Engine& engine, std::string body, RequestWork& work);
ApiResult<Body> answer_detokenize(const Engine& engine, std::string body, RequestWork& work);

}  // namespace odmoe::server
