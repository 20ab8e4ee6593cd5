#include "server/batch/upload_form.h"

#include <charconv>
#include <utility>

#include "base/utf8.h"
#include "server/limits.h"

namespace odmoe::server {

std::string shown_file_name(std::string_view name) {
  name.remove_prefix(name.find_last_of("/\\") + 1);  // of none: from the first byte on
  std::string shown;
  while (!name.empty()) {
    const Utf8Char next = read_utf8(name);
    const bool control = next.length == 1 && (static_cast<unsigned char>(name[0]) < 0x20 || name[0] == 0x7F);
    if (next.valid && !control) {
      if (shown.size() + next.length > kMaxFileNameBytes) break;
      shown += name.substr(0, next.length);
    }
    name.remove_prefix(next.length);
  }
  return shown.empty() ? "file" : shown;
}

ApiStatus UploadForm::begin(const FormPart& part) {
  in_file_ = part.name == "file";
  if (!in_file_) {
    field_ = part.name;
    if (!fields_.try_emplace(field_).second) return bad_request(field_, "{} is there twice", field_);
    return {};
  }
  if (upload_) return bad_request("file", "the form has more than one file");
  // A purpose that is known to be wrong is refused before all of the file has come.
  if (fields_.contains("purpose")) ODMOE_RETURN_IF_ERROR(check_purpose());
  ODMOE_ASSIGN_OR_RETURN(FileStore::Upload upload, store_->begin());
  upload_.emplace(std::move(upload));
  file_name_ = shown_file_name(part.filename.value_or(""));
  return {};
}

ApiStatus UploadForm::data(std::string_view bytes) {
  if (in_file_) return upload_->write(bytes);
  std::string& value = fields_[field_];
  if (value.size() + bytes.size() > kMaxFormFieldBytes) return bad_request(field_, "{} is too long", field_);
  value += bytes;
  return {};
}

ApiStatus UploadForm::end() {
  file_done_ = file_done_ || in_file_;
  return {};
}

ApiStatus UploadForm::check_purpose() const {
  const auto purpose = fields_.find("purpose");
  if (purpose == fields_.end()) return bad_request("purpose", "purpose is missing: it must be batch");
  if (purpose->second != "batch") {
    return bad_request("purpose", "purpose must be batch: this server keeps no other files");
  }
  return {};
}

// In seconds; 0: it does not expire.
ApiResult<int64_t> UploadForm::expires_after() const {
  const auto anchor = fields_.find("expires_after[anchor]"), seconds = fields_.find("expires_after[seconds]");
  if (anchor == fields_.end() && seconds == fields_.end()) return 0;
  if (anchor == fields_.end() || anchor->second != "created_at") {
    return bad_request("expires_after[anchor]", "expires_after[anchor] must be created_at");
  }
  int64_t n = 0;
  const std::string text = seconds == fields_.end() ? "" : seconds->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < kLeastFileSeconds ||
      n > kMostFileSeconds) {
    return bad_request("expires_after[seconds]",
                       "expires_after[seconds] must be a whole number from {} to {}", kLeastFileSeconds,
                       kMostFileSeconds);
  }
  return n;
}

ApiResult<StoredFile> UploadForm::finish(const std::string& owner) {
  ODMOE_RETURN_IF_ERROR(check_purpose());
  if (!upload_ || !file_done_) return bad_request("file", "file is missing");
  ODMOE_ASSIGN_OR_RETURN(const int64_t seconds, expires_after());
  const int64_t now = store_->now();
  return upload_->finish({.owner = owner,
                          .name = file_name_,
                          .purpose = fields_["purpose"],
                          .created = now,
                          .expires = seconds > 0 ? now + seconds : 0});
}

}  // namespace odmoe::server
