#include "server/batch/batch_dialect.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <utility>

#include "base/transfer.h"
#include "server/batch/batch_runner.h"
#include "server/batch/upload_form.h"
#include "server/fields.h"
#include "server/limits.h"
#include "server/metadata.h"
#include "server/openai_answer.h"

namespace odmoe::server {
namespace {

enum BatchRoute : int { kUpload, kFiles, kDeleteFile, kCreateBatch, kBatches, kPostBelowBatch };

using Method = Route::Method;
constexpr std::string_view kFilesPath = "/v1/files", kBatchesPath = "/v1/batches";
constexpr auto kBatchRoutes = std::to_array<Route>({
    {.method = Method::kPost, .path = kFilesPath, .streams_body = true, .needs_model = false, .id = kUpload},
    {.path = kFilesPath, .has_names = true, .needs_model = false, .id = kFiles},
    {.method = Method::kDelete,
     .path = kFilesPath,
     .has_names = true,
     .only_names = true,
     .needs_model = false,
     .id = kDeleteFile},
    {.method = Method::kPost,
     .path = kBatchesPath,
     .takes_body = true,
     .needs_model = false,
     .id = kCreateBatch},
    {.path = kBatchesPath, .has_names = true, .needs_model = false, .id = kBatches},
    {.method = Method::kPost,
     .path = kBatchesPath,
     .has_names = true,
     .only_names = true,
     .needs_model = false,
     .id = kPostBelowBatch},
});
// As OpenAI's API has them.
constexpr size_t kFilesOfPage = 10'000, kBatchesOfPage = 20, kMaxBatchesOfPage = 100;
constexpr size_t kFormOverheadBytes = kMaxFormParts * (kMaxFormHeaderBytes + kMaxFormFieldBytes);
constexpr size_t kContentPieceBytes = 64 << 10;

ApiError no_batch_dir() {
  return {.status = 404,
          .fault = Fault::kRequest,
          .message = "this server keeps no files and batches: start it with --batch-dir DIR",
          .code = "no_batch_dir"};
}

ApiError no_file(std::string_view id) {
  return {.status = 404,
          .fault = Fault::kRequest,
          .message = odmoe::format("No such File object: {}", id.substr(0, 128)),
          .param = "id"};
}

ApiError no_such_batch(std::string_view id) {
  return {.status = 404,
          .fault = Fault::kRequest,
          .message = odmoe::format("No batch found with id '{}'.", id.substr(0, 128)),
          .param = "id"};
}

Body json_body(const Json& json) { return {.text = dump_json(json) + "\n"}; }

// Bytes of a file, as they are on the drive.
Body content_of(FileDescriptor descriptor, uint64_t bytes) {
  const auto file = std::make_shared<FileDescriptor>(std::move(descriptor));
  return {
      .type = "application/octet-stream",
      .write =
          [file, bytes](const BodySink& sink) {
            std::string piece;
            for (uint64_t at = 0; at < bytes; at += piece.size()) {
              piece.resize(std::min<uint64_t>(bytes - at, kContentPieceBytes));
              if (!read_exactly(file->number(), at, std::as_writable_bytes(std::span(piece))).has_value() ||
                  !sink(piece)) {
                return false;
              }
            }
            return true;
          },
      .length = bytes};
}

// {"anchor": "created_at", "seconds": N}; 0: it is not there.
ApiResult<int64_t> read_expires_after(const Fields& fields, const char* name) {
  const Json* member = fields.find(name);
  if (member == nullptr) return 0;
  if (!member->is_object()) return bad_request(name, "{} must be an object", name);
  const Fields inner(*member, std::string(name) + ".");
  std::string anchor;
  ODMOE_RETURN_IF_ERROR(inner.read("anchor", anchor));
  if (anchor != "created_at") {
    return bad_request(inner.path("anchor"), "{} must be created_at", inner.path("anchor"));
  }
  return inner.integer("seconds", kLeastFileSeconds, kMostFileSeconds);
}

}  // namespace

int64_t window_seconds(std::string_view text) {
  int64_t n = 0;
  const auto [unit, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || unit + 1 != text.data() + text.size()) return 0;
  const int64_t seconds = *unit == 'd' ? 86400 : *unit == 'h' ? 3600 : *unit == 'm' ? 60 : 0;
  return seconds > 0 && n > 0 && n <= kMostWindowSeconds / seconds ? n * seconds : 0;
}

std::span<const Route> BatchDialect::routes() const { return kBatchRoutes; }

// Nothing here generates by itself.
ApiResult<ParsedRequest> BatchDialect::parse(const Route& /*route*/, std::string_view /*body*/,
                                             int32_t /*n_vocab*/, RequestWork& /*work*/) const {
  return std::unexpected(from_status(404));
}

ApiResult<Body> BatchDialect::answer(const Route& route, PlainRequest request) const {
  if (store_ == nullptr) return std::unexpected(no_batch_dir());
  switch (route.id) {
    case kUpload:
      return upload(request);
    case kFiles:
    case kDeleteFile:
      return answer_files(route, request);
    case kCreateBatch:
      return create(request);
    default:
      return answer_batches(route, request);
  }
}

ApiResult<Body> BatchDialect::upload(const PlainRequest& request) const {
  UploadForm form(store_->files());
  ODMOE_ASSIGN_OR_RETURN(FormReader reader, FormReader::create(request.content_type, form));
  const ApiStatus read = request.read_body(kMaxFileBytes + kFormOverheadBytes,
                                           [&](std::string_view piece) { return reader.take(piece); });
  if (!read.has_value()) {
    // The bound of the body is the file's, not --max-body.
    const bool too_large = read.error().status == 413 && read.error().code.empty();
    return std::unexpected(too_large ? file_too_large() : read.error());
  }
  ODMOE_RETURN_IF_ERROR(reader.finish());
  ODMOE_ASSIGN_OR_RETURN(const StoredFile file, form.finish(request.owner));
  return json_body(file_json(file));
}

ApiResult<Body> BatchDialect::answer_files(const Route& route, const PlainRequest& request) const {
  constexpr std::string_view kContent = "/content";
  FileStore& files = store_->files();
  if (request.path == kFilesPath) {
    ODMOE_ASSIGN_OR_RETURN(const PageQuery query, page_query(request.query, kFilesOfPage, kFilesOfPage));
    const auto purpose = request.query.find("purpose");
    ODMOE_ASSIGN_OR_RETURN(
        const ListPage<StoredFile> page,
        files.list(request.owner, purpose == request.query.end() ? "" : purpose->second, query));
    Json data = Json::array();
    for (const StoredFile& file : page.items) data.push_back(file_json(file));
    return json_body(list_json(std::move(data), page.more));
  }
  std::string_view name = request.path.substr(kFilesPath.size() + 1);
  const bool content = route.id == kFiles && name.ends_with(kContent);
  if (content) name.remove_suffix(kContent.size());
  const std::string id(name);
  if (route.id == kDeleteFile) {
    ODMOE_ASSIGN_OR_RETURN(const bool removed, files.remove(id, request.owner));
    if (!removed) return std::unexpected(no_file(id));
    return json_body({{"id", id}, {"object", "file"}, {"deleted", true}});
  }
  const auto file = files.find(id, request.owner);
  if (!file) return std::unexpected(no_file(id));
  if (!content) return json_body(file_json(*file));
  FileDescriptor descriptor = files.open_content(id, request.owner);
  if (!descriptor) return std::unexpected(no_file(id));
  return content_of(std::move(descriptor), file->bytes);
}

ApiResult<Body> BatchDialect::create(const PlainRequest& request) const {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_json(request.body, *request.work));
  if (!json.is_object()) return bad_request("", "the body must be a JSON object");
  const Fields fields(json);
  BatchRecord record{.owner = request.owner, .model = std::string(request.model_id)};
  for (const char* name : {"input_file_id", "endpoint", "completion_window"}) {
    if (!fields.has(name)) return bad_request(name, "{} is missing", name);
  }
  ODMOE_RETURN_IF_ERROR(fields.read("input_file_id", record.input_file));
  ODMOE_RETURN_IF_ERROR(fields.read("endpoint", record.endpoint));
  ODMOE_RETURN_IF_ERROR(fields.read("completion_window", record.window));
  if (!std::ranges::contains(kBatchUrls, record.endpoint)) {
    return bad_request("endpoint", "endpoint must be {}, {} or {}", kBatchUrls[0], kBatchUrls[1],
                       kBatchUrls[2]);
  }
  const int64_t seconds = window_seconds(record.window);
  if (seconds == 0) {
    return bad_request("completion_window",
                       "completion_window must be a time of at most {} days, such as 24h or 7d",
                       kMostWindowSeconds / 86400);
  }
  ODMOE_RETURN_IF_ERROR(check_metadata(fields));
  if (const Json* metadata = fields.find("metadata")) record.metadata = *metadata;
  ODMOE_ASSIGN_OR_RETURN(record.output_seconds, read_expires_after(fields, "output_expires_after"));
  record.created = store_->now();
  record.expires = record.created + seconds;
  ODMOE_ASSIGN_OR_RETURN(const BatchRecord created, store_->create(std::move(record)));
  return json_body(batch_json(created));
}

ApiResult<Body> BatchDialect::answer_batches(const Route& route, const PlainRequest& request) const {
  constexpr std::string_view kCancel = "/cancel";
  if (request.path == kBatchesPath) {
    ODMOE_ASSIGN_OR_RETURN(const PageQuery query,
                           page_query(request.query, kBatchesOfPage, kMaxBatchesOfPage));
    ODMOE_ASSIGN_OR_RETURN(const ListPage<BatchRecord> page, store_->list(request.owner, query));
    Json data = Json::array();
    for (const BatchRecord& record : page.items) data.push_back(batch_json(record));
    return json_body(list_json(std::move(data), page.more));
  }
  std::string_view id = request.path.substr(kBatchesPath.size() + 1);
  if (route.id == kPostBelowBatch) {
    if (!id.ends_with(kCancel)) return std::unexpected(from_status(404));
    id.remove_suffix(kCancel.size());
    ODMOE_ASSIGN_OR_RETURN(const BatchRecord record, store_->cancel(std::string(id), request.owner));
    return json_body(batch_json(record));
  }
  const auto record = store_->find(std::string(id), request.owner);
  if (!record) return std::unexpected(no_such_batch(id));
  return json_body(batch_json(*record));
}

Body BatchDialect::error(const ApiError& error) const { return {.text = openai_error(error) + "\n"}; }

}  // namespace odmoe::server
