#include "server/json_list.h"

namespace odmoe::server {

bool write_json_list(size_t n, const std::function<std::string(size_t)>& item, const BodySink& sink) {
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

}  // namespace odmoe::server
