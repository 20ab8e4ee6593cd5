#include "engine/stop_strings.h"

#include <algorithm>
#include <utility>

namespace odmoe {

StopStrings::StopStrings(std::vector<std::string> stops) {
  for (std::string& text : stops) {
    if (text.empty()) continue;
    std::vector<uint32_t> borders(text.size());
    for (uint32_t i = 1, border = 0; i < text.size(); ++i) {
      while (border > 0 && text[i] != text[border]) border = borders[border - 1];
      if (text[i] == text[border]) ++border;
      borders[i] = border;
    }
    stops_.push_back({.text = std::move(text), .borders = std::move(borders)});
  }
}

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  const size_t before = pending_.size();
  pending_ += text;
  size_t found = std::string::npos;  // where the first of them begins
  size_t keep = 0;                   // the longest end of the text that begins a stop string
  for (Stop& stop : stops_) {
    for (size_t i = before; i < pending_.size(); ++i) {
      while (stop.matched > 0 && pending_[i] != stop.text[stop.matched]) {
        stop.matched = stop.borders[stop.matched - 1];
      }
      if (pending_[i] == stop.text[stop.matched]) ++stop.matched;
      if (stop.matched < stop.text.size()) continue;
      if (const size_t begin = i + 1 - stop.text.size(); begin < found) {
        found = begin;
        found_ = stop.text;
      }
      break;
    }
    keep = std::max<size_t>(keep, stop.matched);
  }
  if (found != std::string::npos) {
    stopped_ = true;
    pending_.resize(found);
    return std::exchange(pending_, {});
  }
  std::string shown = pending_.substr(0, pending_.size() - keep);
  pending_.erase(0, pending_.size() - keep);
  return shown;
}

std::string StopStrings::finish() { return stopped_ ? std::string() : std::exchange(pending_, {}); }

}  // namespace odmoe
