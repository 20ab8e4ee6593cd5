#include "hub/hub_client.h"

#include <charconv>
#include <optional>
#include <system_error>
#include <utility>

#include "format/printable.h"
#include "hub/url.h"

namespace odmoe::hub {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAskTick{100};
constexpr int kMaxHubRedirects = 5;
constexpr size_t kMaxRefusalBytes = size_t{64} << 10U;  // of the body of an error

// An answer as a whole.
class WholeAnswer final : public HttpSink {
 public:
  bool head(const HttpHead& head) override {
    head_ = head;
    return true;
  }
  bool body(std::span<const std::byte> bytes) override {
    if (body_.size() + bytes.size() > (head_.status == 200 ? kMaxListingBytes : kMaxRefusalBytes))
      return false;
    body_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }

  HttpHead head_;
  std::string body_;
};

// An ETag without what HTTP puts around it.
std::string_view plain_etag(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') etag = etag.substr(1, etag.size() - 2);
  return etag;
}

std::optional<uint64_t> whole_number(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool may_pass(int status) { return status == 408 || status >= 500; }

}  // namespace

Result<HubClient::Answer> HubClient::ask(const RepoName& name, std::string url, bool head) {
  Patience patience(options_->patience);
  int redirects = 0;
  ODMOE_ASSIGN_OR_RETURN(const std::string own, origin_of(url));
  while (true) {
    WholeAnswer answer;
    const Http::Id id = http_->start({.url = url, .token = options_->token, .head = head}, answer);
    std::optional<HttpEnd> end;
    while (!end) {
      for (auto& [ended, how] : http_->run(kAskTick)) {
        if (ended == id) end = std::move(how);
      }
      if (!end && !watcher_->goes_on()) {
        http_->cancel(id);
        return fail(ErrorKind::kInterrupted, "interrupted");
      }
    }
    const int status = answer.head_.status;
    std::optional<milliseconds> pause;
    std::string why;
    if (end->kind == HttpEnd::Kind::kUnreachable || end->kind == HttpEnd::Kind::kRefused) {
      return fail(ErrorKind::kIo, "{} cannot be reached: {}", host_of(url), end->why);
    }
    if (end->kind == HttpEnd::Kind::kStopped) {
      return fail(ErrorKind::kBadFile, "{} answers with more than makes sense", host_of(url));
    }
    if (end->kind == HttpEnd::Kind::kBroken) {
      pause = patience.fail();
      why = end->why;
    } else if (status == 429) {
      pause = patience.be_told_to_wait(end->retry_after);
      why = end->retry_after
                ? odmoe::format("too many requests (429): it asks to wait {} s", end->retry_after->count())
                : "too many requests (429)";
    } else if (may_pass(status)) {
      pause = patience.fail(end->retry_after);
      why = odmoe::format("status {}", status);
    } else if (status >= 300 && status < 400 && !answer.head_.field("location").empty()) {
      ODMOE_ASSIGN_OR_RETURN(std::string target, join_url(url, std::string(answer.head_.field("location"))));
      ODMOE_ASSIGN_OR_RETURN(const std::string origin, origin_of(target));
      // Bytes are elsewhere; the hub's own redirects are those of a repository that was renamed.
      if (origin != own) return Answer{.head = std::move(answer.head_), .body = {}, .url = std::move(url)};
      if (++redirects > kMaxHubRedirects)
        return fail(ErrorKind::kBadFile, "{} sends in circles", host_of(url));
      url = std::move(target);
      continue;
    } else if (status == 200) {
      return Answer{.head = std::move(answer.head_), .body = std::move(answer.body_), .url = std::move(url)};
    } else {
      return refused(name, answer.head_, url);
    }
    if (!pause) return fail(ErrorKind::kIo, "{}: {}; try again later", host_of(url), why);
    const std::string told = odmoe::format("{}: {}", host_of(url), why);
    if (!watcher_->wait(*pause, told)) return fail(ErrorKind::kInterrupted, "interrupted");
  }
}

Result<HubClient::Answer> HubClient::refused(const RepoName& name, const HttpHead& head,
                                             const std::string& url) const {
  const std::string_view code = head.field("x-error-code");
  const std::string page = options_->endpoint + "/" + name.id();
  const std::string host = host_of(url);
  if (code == "GatedRepo") {
    if (options_->token.empty()) {
      return fail(ErrorKind::kNotFound,
                  "{} is gated: accept its licence at {} and set HF_TOKEN to a token of your account",
                  name.id(), page);
    }
    return fail(ErrorKind::kNotFound,
                "{} is gated, and your token's account may not read it yet: accept its licence at {}",
                name.id(), page);
  }
  if (code == "RevisionNotFound") {
    return fail(ErrorKind::kNotFound, "{} has no revision {}", name.id(), name.revision);
  }
  if (code == "EntryNotFound") {
    return fail(ErrorKind::kNotFound, "{} has no such file: {}", name.id(), printable(url, 300));
  }
  if (head.status == 401 || head.status == 403) {
    if (options_->token.empty()) {
      return fail(ErrorKind::kNotFound,
                  "{} has no repository {}, or not for everybody ({}): check the name; for a private or "
                  "gated one set "
                  "HF_TOKEN and accept the licence at {}",
                  host, name.id(), head.status, page);
    }
    return fail(
        ErrorKind::kNotFound,
        "{} does not give {} to your token ({}): check the name, the token (HF_TOKEN or the token file), and "
        "whether the licence at {} is accepted",
        host, name.id(), head.status, page);
  }
  if (head.status == 404 || code == "RepoNotFound") {
    return fail(ErrorKind::kNotFound, "{} has no repository {}, or nothing at {}", host, name.id(),
                printable(url, 300));
  }
  const std::string_view message = head.field("x-error-message");
  return fail(ErrorKind::kIo, "{} answers {} with status {}{}{}", host, printable(url, 300), head.status,
              message.empty() ? "" : ": ", printable(message));
}

Result<Listing> HubClient::list(const RepoName& name) {
  ODMOE_ASSIGN_OR_RETURN(const Answer answer,
                         ask(name,
                             odmoe::format("{}/api/models/{}/revision/{}?blobs=true", options_->endpoint,
                                           name.id(), escaped_path(name.revision, /*keep_slashes=*/false)),
                             /*head=*/false));
  if (answer.head.status != 200) {
    return fail(ErrorKind::kBadFile, "{} sends on to another host instead of listing {}: check HF_ENDPOINT",
                host_of(answer.url), name.id());
  }
  return parse_listing(answer.body, name.id());
}

Result<Location> HubClient::locate(const RepoName& name, std::string_view commit, std::string_view path) {
  ODMOE_ASSIGN_OR_RETURN(const Answer answer, ask(name,
                                                  odmoe::format("{}/{}/resolve/{}/{}", options_->endpoint,
                                                                name.id(), commit, escaped_path(path)),
                                                  /*head=*/true));
  const bool elsewhere = answer.head.status != 200;
  Location location;
  std::string_view etag = answer.head.field("x-linked-etag"), bytes = answer.head.field("x-linked-size");
  if (elsewhere) {
    ODMOE_ASSIGN_OR_RETURN(location.url, join_url(answer.url, std::string(answer.head.field("location"))));
  } else {
    location.url = answer.url;
    location.token = options_->token;
    if (etag.empty()) etag = answer.head.field("etag");
    if (bytes.empty()) bytes = answer.head.field("content-length");
  }
  etag = plain_etag(etag);
  if (is_hex(etag, 64) || is_hex(etag, 40)) location.content_id = etag;
  const auto number = whole_number(bytes);
  if (!number)
    return fail(ErrorKind::kBadFile, "{} does not tell how large {} is", host_of(answer.url),
                printable(path));
  location.bytes = *number;
  const std::string_view at = answer.head.field("x-repo-commit");
  if (!at.empty() && at != commit) {
    return fail(ErrorKind::kBadFile, "{} gives {} of commit {} instead of {}", host_of(answer.url),
                printable(path), printable(at), commit);
  }
  return location;
}

}  // namespace odmoe::hub
