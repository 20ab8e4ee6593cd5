// The form that POST /v1/files takes: fields, and a file that goes to the drive as it comes.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "server/batch/file_store.h"
#include "server/batch/form_reader.h"

namespace odmoe::server {

// One owner; within the life of the store.
class UploadForm final : public FormSink {
 public:
  explicit UploadForm(FileStore& store) : store_(&store) {}

  ApiStatus begin(const FormPart& part) override;
  ApiStatus data(std::string_view bytes) override;
  ApiStatus end() override;

  // Once all of the form was taken: keeps the file as `owner`'s.  400 for what is missing or wrong.
  ApiResult<StoredFile> finish(const std::string& owner);

 private:
  ApiStatus check_purpose() const;
  ApiResult<int64_t> expires_after() const;

  FileStore* store_;
  std::optional<FileStore::Upload> upload_;
  bool in_file_ = false, file_done_ = false;
  std::string file_name_, field_;
  std::map<std::string, std::string> fields_;
};

// How a client calls a file, without folders, in characters that can be shown.
std::string shown_file_name(std::string_view name);

}  // namespace odmoe::server
