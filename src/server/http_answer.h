// Puts bodies and errors into answers of the HTTP library.
#pragma once

#include <httplib.h>

#include <atomic>
#include <memory>

#include "server/api_error.h"
#include "server/body.h"
#include "server/call.h"
#include "server/dialect.h"

namespace odmoe::server {

void send(httplib::Response& response, Body body);
// In the words of the dialect, with the headers that belong to it.
void send(httplib::Response& response, const ApiError& error, const Dialect& dialect);

// Answers with what the call generates: whole once it is, or as a stream as it comes.  `count` has one more
// until what was generated is on its way, and outlives the answer.
ApiStatus answer_whole(const httplib::Request& request, httplib::Response& response,
                       std::shared_ptr<Call> call, std::atomic<int>& count);
void answer_stream(const httplib::Request& request, httplib::Response& response, std::shared_ptr<Call> call,
                   std::atomic<int>& count);

}  // namespace odmoe::server
