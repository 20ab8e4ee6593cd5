#include "hub/curl_http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

#include "base/trim.h"
#include "format/printable.h"

namespace odmoe::hub {
namespace {

constexpr long kConnectSeconds = 20;
constexpr long kBufferBytes = 512L << 10U;
constexpr size_t kMaxHeadBytes = size_t{64} << 10U;

HttpEnd::Kind kind_of(CURLcode code) {
  switch (code) {
    case CURLE_OK:
      return HttpEnd::Kind::kWhole;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return HttpEnd::Kind::kUnreachable;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_OUT_OF_MEMORY:
      return HttpEnd::Kind::kRefused;
    default:
      return HttpEnd::Kind::kBroken;
  }
}

// One request on its way.
class Exchange {
 public:
  Exchange(HttpRequest request, HttpSink& sink, const CurlOptions& options)
      : request_(std::move(request)), sink_(&sink), easy_(curl_easy_init()) {
    if (easy_ == nullptr) return;
    set(CURLOPT_URL, request_.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, request_.url.starts_with("http:") ? "http,https" : "https");
    set(CURLOPT_USERAGENT, options.user_agent.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    // Several requests at once are to have several connections.
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall.count()));
    set(CURLOPT_BUFFERSIZE, kBufferBytes);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_ERRORBUFFER, error_.data());
    if (!options.certificates.empty()) set(CURLOPT_CAINFO, options.certificates.c_str());
    if (request_.head) set(CURLOPT_NOBODY, 1L);
    if (request_.range) {
      set(CURLOPT_RANGE, odmoe::format("{}-{}", request_.range->begin, request_.range->end - 1).c_str());
    }
    if (!request_.token.empty()) {
      const std::string line = "Authorization: Bearer " + request_.token;
      fields_ = curl_slist_append(nullptr, line.c_str());
      set(CURLOPT_HTTPHEADER, fields_);
    }
    set(CURLOPT_HEADERFUNCTION, &take_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &take_body);
    set(CURLOPT_WRITEDATA, this);
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() {
    curl_easy_cleanup(easy_);
    curl_slist_free_all(fields_);
  }

  CURL* handle() const { return easy_; }

  HttpEnd end(CURLcode code) const {
    HttpEnd end{.kind = stopped_ ? HttpEnd::Kind::kStopped : kind_of(code), .why = {}};
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0) {
      end.retry_after = std::chrono::seconds(seconds);
    }
    if (end.kind != HttpEnd::Kind::kWhole && end.kind != HttpEnd::Kind::kStopped) {
      end.why = printable(error_[0] != '\0' ? error_.data() : curl_easy_strerror(code), 300);
    }
    return end;
  }

 private:
  template <typename T>
  void set(CURLoption option, T value) {
    (void)curl_easy_setopt(easy_, option, value);
  }

  // A line of the head, the empty one at its end too; of every head, where a server sends several.
  static size_t take_header(char* bytes, size_t size, size_t count, void* self) {
    return static_cast<Exchange*>(self)->header({bytes, size * count}) ? size * count : CURL_WRITEFUNC_ERROR;
  }
  static size_t take_body(char* bytes, size_t size, size_t count, void* self) {
    const std::span<const char> taken(bytes, size * count);
    return static_cast<Exchange*>(self)->body(std::as_bytes(taken)) ? taken.size() : CURL_WRITEFUNC_ERROR;
  }

  bool header(std::string_view line) {
    head_bytes_ += line.size();
    if (head_bytes_ > kMaxHeadBytes) return false;
    if (line.starts_with("HTTP/")) {
      head_ = {};
      return true;
    }
    const std::string_view field = trimmed(line, " \t\r\n");
    if (field.empty()) return end_of_head();
    const size_t colon = field.find(':');
    if (colon == field.npos) return true;
    std::string name(trimmed(field.substr(0, colon), " \t\r\n"));
    std::ranges::transform(name, name.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    head_.fields[std::move(name)] = trimmed(field.substr(colon + 1), " \t\r\n");
    return true;
  }

  bool end_of_head() {
    long status = 0;
    (void)curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    head_.status = static_cast<int>(status);
    if (status < 200) return true;  // another follows
    stopped_ = !sink_->head(head_);
    return !stopped_;
  }

  bool body(std::span<const std::byte> bytes) {
    stopped_ = !sink_->body(bytes);
    return !stopped_;
  }

  HttpRequest request_;
  HttpSink* sink_;
  CURL* easy_;
  curl_slist* fields_ = nullptr;
  HttpHead head_;
  size_t head_bytes_ = 0;
  bool stopped_ = false;
  std::array<char, CURL_ERROR_SIZE> error_{};
};

class CurlHttp final : public Http {
 public:
  CurlHttp(CURLM* multi, CurlOptions options) : multi_(multi), options_(std::move(options)) {}
  CurlHttp(const CurlHttp&) = delete;
  CurlHttp& operator=(const CurlHttp&) = delete;
  ~CurlHttp() override {
    for (const auto& [id, exchange] : exchanges_) (void)curl_multi_remove_handle(multi_, exchange->handle());
    exchanges_.clear();
    (void)curl_multi_cleanup(multi_);
  }

  Id start(HttpRequest request, HttpSink& sink) override {
    const Id id = ++last_;
    auto exchange = std::make_unique<Exchange>(std::move(request), sink, options_);
    if (exchange->handle() == nullptr || curl_multi_add_handle(multi_, exchange->handle()) != CURLM_OK) {
      failed_.push_back({id, {.kind = HttpEnd::Kind::kRefused, .why = "libcurl takes no further request"}});
      return id;
    }
    exchanges_.emplace(id, std::move(exchange));
    return id;
  }

  void cancel(Id id) override {
    if (const auto found = exchanges_.find(id); found != exchanges_.end()) {
      (void)curl_multi_remove_handle(multi_, found->second->handle());
      exchanges_.erase(found);
    }
  }

  std::vector<std::pair<Id, HttpEnd>> run(std::chrono::milliseconds patience) override {
    std::vector<std::pair<Id, HttpEnd>> ended = std::exchange(failed_, {});
    perform(ended);
    if (!ended.empty() || exchanges_.empty()) return ended;
    (void)curl_multi_poll(multi_, nullptr, 0, static_cast<int>(patience.count()), nullptr);
    perform(ended);
    return ended;
  }

 private:
  void perform(std::vector<std::pair<Id, HttpEnd>>& ended) {
    int running = 0;
    (void)curl_multi_perform(multi_, &running);
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      CURL* const handle = message->easy_handle;
      const CURLcode code = message->data.result;
      const auto found = std::ranges::find_if(
          exchanges_, [&](const auto& entry) { return entry.second->handle() == handle; });
      if (found == exchanges_.end()) continue;
      ended.emplace_back(found->first, found->second->end(code));
      cancel(found->first);
    }
  }

  CURLM* multi_;
  CurlOptions options_;
  Id last_ = 0;
  std::map<Id, std::unique_ptr<Exchange>> exchanges_;
  std::vector<std::pair<Id, HttpEnd>> failed_;
};

}  // namespace

Result<std::unique_ptr<Http>> make_curl_http(const CurlOptions& options) {
  static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
  CURLM* const multi = kReady == CURLE_OK ? curl_multi_init() : nullptr;
  if (multi == nullptr) return fail(ErrorKind::kIo, "libcurl cannot begin: {}", curl_easy_strerror(kReady));
  return std::make_unique<CurlHttp>(multi, options);
}

}  // namespace odmoe::hub
