// A stream of events as a hostile server would send it to `odmoe top`.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/expert_map.h"
#include "server/live_client.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace odmoe;
  using namespace odmoe::server;
  EventReader reader;
  LiveView view;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (size_t at = 0; at < text.size(); at += 100) {
    const Status status =
        reader.push(text.substr(at, 100), [&view](std::string_view name, std::string_view event) {
          (void)view.take(name, event);
          return Status();
        });
    if (!status.has_value()) return 0;
  }
  size_t n_expert = 0;
  for (const LiveView::Layer& layer : view.layers()) {
    if (layer.first != n_expert || layer.n_expert <= 0) __builtin_trap();
    n_expert += static_cast<size_t>(layer.n_expert);
  }
  if (view.letters().size() != n_expert) __builtin_trap();
  for (const char letter : view.letters()) {
    if (!is_expert_letter(letter)) __builtin_trap();
  }
  return 0;
}
