#include "server/json_pieces.h"

#include <utility>

namespace odmoe::server {

bool write_json_list(size_t n, const std::function<std::string(size_t)>& item, const PieceSink& sink) {
  constexpr size_t kPieceBytes = 16 * 1024;
  std::string piece = "[";
  for (size_t i = 0; i < n; ++i) {
    if (i > 0) piece += ',';
    piece += item(i);
    if (piece.size() < kPieceBytes) continue;
    if (!sink(piece)) return false;
    piece.clear();
  }
  piece += ']';
  return sink(piece);
}

void send_pieces(httplib::Response& response, std::function<bool(const PieceSink&)> write) {
  size_t length = 0;
  write([&](std::string_view piece) {
    length += piece.size();
    return true;
  });
  response.set_content_provider(
      length, "application/json", [write = std::move(write)](size_t, size_t, httplib::DataSink& out) {
        return write([&](std::string_view piece) { return out.write(piece.data(), piece.size()); });
      });
}

}  // namespace odmoe::server
