// Forms as a hostile client would write them: however their bytes come they are the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/batch/form_reader.h"
#include "server/limits.h"

namespace {

using namespace odmoe;
using namespace odmoe::server;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

class Parts final : public FormSink {
 public:
  ApiStatus begin(const FormPart& part) override {
    require(!open_);
    open_ = true;
    all.push_back(part.name + "\n" + part.filename.value_or("none") + "\n");
    return {};
  }
  ApiStatus data(std::string_view bytes) override {
    require(open_ && !bytes.empty());
    all.back() += bytes;
    return {};
  }
  ApiStatus end() override {
    require(open_);
    open_ = false;
    return {};
  }
  std::vector<std::string> all;

 private:
  bool open_ = false;
};

struct Read {
  std::string error;
  std::vector<std::string> parts;  // of what is a form
  bool operator==(const Read&) const = default;
};

Read read(std::string_view type, std::string_view body, size_t piece) {
  Parts parts;
  auto reader = FormReader::create(type, parts);
  if (!reader.has_value()) return {.error = reader.error().message, .parts = {}};
  while (!body.empty()) {
    const auto status = reader->take(body.substr(0, piece));
    if (!status.has_value()) return {.error = status.error().message, .parts = {}};
    body.remove_prefix(std::min(piece, body.size()));
  }
  const auto status = reader->finish();
  if (!status.has_value()) return {.error = status.error().message, .parts = {}};
  require(parts.all.size() <= kMaxFormParts);
  return {.error = {}, .parts = std::move(parts.all)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  // The first line is the header Content-Type.
  const size_t end = std::min(bytes.find('\n'), size);
  const std::string_view type = bytes.substr(0, end), body = bytes.substr(std::min(end + 1, size));
  const Read whole = read(type, body, std::string_view::npos);
  require(whole == read(type, body, 1));
  require(whole == read(type, body, 3));
  return 0;
}
