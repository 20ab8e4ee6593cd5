#include "cli/live_connection.h"

#include <httplib.h>

#include <atomic>
#include <optional>
#include <string_view>
#include <utility>

#include "server/json_guard.h"

namespace odmoe::cli {
namespace {

constexpr size_t kMaxRefusalBytes = 64 << 10;
constexpr int kConnectSeconds = 5;
constexpr int kSilenceSeconds = 30;  // the server says something every 15 s, whatever happens

// What an answer that is not a stream says of the reason.
std::string refusal_text(const std::string& body) {
  const auto json = server::parse_json(body);
  if (!json.has_value() || !json->is_object()) return {};
  const auto error = json->find("error");
  if (error == json->end() || !error->is_object()) return {};
  const auto message = error->find("message");
  return message != error->end() && message->is_string() ? message->get<std::string>() : std::string();
}

}  // namespace

struct LiveConnection::Impl {
  std::string url, path;
  httplib::Client client;
  httplib::Headers headers;
  std::atomic<bool> stopped = false;

  Impl(std::string address, std::string prefix, const std::string& origin)
      : url(std::move(address)), path(std::move(prefix) + "/v1/events"), client(origin) {}

  Status refused(int status, const std::string& body) const {
    if (status == 401) {
      return fail(ErrorKind::kUsage, "{} needs a key: give one with --api-key or in ODMOE_API_KEY", url);
    }
    const std::string why = refusal_text(body);
    if (status == 404 || why.empty()) {
      return fail(ErrorKind::kUsage,
                  "no odmoe with live figures answers at {} (status {}); check the address", url, status);
    }
    const bool later = status == 429 || status == 503;
    return fail(later ? ErrorKind::kIo : ErrorKind::kUsage, "{} says: {}", url, why);
  }
};

LiveConnection::LiveConnection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LiveConnection::LiveConnection(LiveConnection&&) noexcept = default;
LiveConnection::~LiveConnection() = default;
const std::string& LiveConnection::url() const { return impl_->url; }

Result<LiveConnection> LiveConnection::create(const std::string& url, const std::string& api_key) {
  std::string address = url.contains("://") ? url : "http://" + url;
  while (address.ends_with('/')) address.pop_back();
  const auto no_address = [&url] {
    return fail(ErrorKind::kUsage,
                "'{}' is not the address of a server; give one such as http://127.0.0.1:8080", url);
  };
  if (!address.starts_with("http://") && !address.starts_with("https://")) return no_address();
  const size_t host = address.find("://") + 3;
  const size_t slash = std::min(address.find('/', host), address.size());
  if (slash == host) return no_address();
  auto impl = std::make_unique<Impl>(address, address.substr(slash), address.substr(0, slash));
  if (!impl->client.is_valid()) return no_address();
  impl->client.set_connection_timeout(kConnectSeconds);
  impl->client.set_read_timeout(kSilenceSeconds);
  impl->headers.emplace("Accept", "text/event-stream");
  if (!api_key.empty()) impl->headers.emplace("Authorization", "Bearer " + api_key);
  return LiveConnection(std::move(impl));
}

Status LiveConnection::listen(const Take& take) {
  server::EventReader reader;
  server::LiveView view;
  std::string refusal;  // the body of an answer that is not a stream
  int status = 0;
  bool enough = false, streams = false;
  Status outcome;
  const auto begin = [&](const httplib::Response& response) {
    status = response.status;
    streams = status == 200 && response.get_header_value("Content-Type").starts_with("text/event-stream");
    return true;
  };
  const auto receive = [&](const char* data, size_t size) {
    if (!streams) {
      refusal.append(data, std::min(size, kMaxRefusalBytes - refusal.size()));
      return refusal.size() < kMaxRefusalBytes;
    }
    outcome = reader.push({data, size}, [&](std::string_view name, std::string_view event) -> Status {
      ODMOE_RETURN_IF_ERROR(view.take(name, event));
      enough = enough || !take(view);
      return Status();
    });
    return outcome.has_value() && !enough && !impl_->stopped;
  };
  if (impl_->stopped) return {};
  const auto result = impl_->client.Get(impl_->path, impl_->headers, begin, receive);
  if (enough || impl_->stopped) return {};
  ODMOE_RETURN_IF_ERROR(outcome);
  if (status != 0 && !streams) return impl_->refused(status, refusal);
  if (!streams) {
    return fail(ErrorKind::kIo, "cannot reach {} ({}): is odmoe serve running there?", impl_->url,
                httplib::to_string(result.error()));
  }
  if (view.ended()) return fail(ErrorKind::kIo, "the server at {} has ended", impl_->url);
  return fail(ErrorKind::kIo, "the connection to {} broke off", impl_->url);
}

void LiveConnection::stop() {
  impl_->stopped = true;
  impl_->client.stop();
}

}  // namespace odmoe::cli
