#include "server/http_answer.h"

#include <string>
#include <string_view>
#include <utility>

#include "server/limits.h"
#include "server/listener.h"

namespace odmoe::server {
namespace {

// Counts an answer that is under way.
class Answering {
 public:
  explicit Answering(std::atomic<int>& count) : count_(&count) { count_->fetch_add(1); }
  ~Answering() { count_->fetch_sub(1); }
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;

 private:
  std::atomic<int>* count_;
};

}  // namespace

void send(httplib::Response& response, Body body) {
  if (!body.write) return response.set_content(std::move(body.text), body.type);
  size_t length = body.length.value_or(0);
  if (!body.length) {
    body.write([&](std::string_view piece) {
      length += piece.size();
      return true;
    });
  }
  response.set_content_provider(
      length, body.type, [write = std::move(body.write)](size_t, size_t, httplib::DataSink& out) {
        return write([&](std::string_view piece) { return out.write(piece.data(), piece.size()); });
      });
}

void send(httplib::Response& response, const ApiError& error, const Dialect& dialect) {
  response.status = error.status;
  if (error.retry_after_s > 0) response.set_header("Retry-After", std::to_string(error.retry_after_s));
  if (error.status == 401) response.set_header("WWW-Authenticate", "Bearer");
  send(response, dialect.error(error));
}

ApiStatus answer_whole(const httplib::Request& request, httplib::Response& response,
                       std::shared_ptr<Call> call, std::atomic<int>& count) {
  const Answering answering(count);
  while (!call->answer->finished()) {
    if (const auto event = call->next()) {
      call->take(*event);
    } else if (request.is_connection_closed()) {
      call->cancel(Ending::kCancelled);
      call->log("client_gone");
      return std::unexpected(
          ApiError{.status = 499, .fault = Fault::kServer, .message = "the client went away"});
    }
  }
  call->log("answered");
  if (call->answer->error()) return std::unexpected(*call->answer->error());
  call->writer->complete(call->answer->choices(), call->answer->usage());
  send(response, {.type = std::string(call->writer->whole_type()), .write = [call](const BodySink& sink) {
                    return call->writer->write_whole(call->answer->choices(), call->answer->usage(), sink);
                  }});
  return {};
}

void answer_stream(const httplib::Request& request, httplib::Response& response, std::shared_ptr<Call> call,
                   std::atomic<int>& count) {
  count.fetch_add(1);
  response.set_header("Cache-Control", "no-cache");
  response.set_header("X-Accel-Buffering", "no");  // proxies are to pass on what there is
  auto begun = std::make_shared<bool>(false);
  Listener::stream(
      request, response, std::string(call->writer->stream_type()),
      [call, begun, closed = request.is_connection_closed](size_t, httplib::DataSink& out) {
        const BodySink sink = [&out](std::string_view text) { return out.write(text.data(), text.size()); };
        const Answer& answer = *call->answer;
        if (!std::exchange(*begun, true)) return call->writer->begin(answer.choices(), sink);
        const auto event = call->next();
        if (!event) {
          if (closed()) return false;
          if (Call::Clock::now() - call->last_sent < kStreamKeepAlive) return true;
          call->last_sent = Call::Clock::now();
          const std::string_view nothing = call->writer->keep_alive();
          return nothing.empty() || sink(nothing);
        }
        call->last_sent = Call::Clock::now();
        if (const auto said = call->take(*event); said && !call->writer->write(*said, sink)) return false;
        if (!answer.finished()) return true;
        const bool sent = answer.error() ? call->writer->fail(*answer.error(), sink)
                                         : call->writer->end(answer.usage(), sink);
        if (!sent) return false;
        out.done();
        return true;
      },
      [call, &count](bool) {
        call->log(call->answer->finished() ? "answered" : "client_gone");
        call->tickets.clear();  // whatever still runs is nobody's
        count.fetch_sub(1);
      });
}

}  // namespace odmoe::server
