// The model as Ollama tells of models: /api/tags, /api/ps, /api/show.
#pragma once

#include <string_view>

#include "server/api_error.h"
#include "server/body.h"
#include "server/request_memory.h"
#include "server/served_model.h"

namespace odmoe::server {

// Null: it is loading.
Body ollama_tags(std::string_view id, const ServedModel* model);
Body ollama_running(std::string_view id, const ServedModel* model);
// 404 for a model that is not here.
ApiResult<Body> answer_ollama_show(std::string_view id, const ServedModel& model, std::string_view body,
                                   RequestWork& work);

}  // namespace odmoe::server
