// What `odmoe top` shows: the live figures of a server as text, or drawn for a terminal.
#pragma once

#include <string>

#include "server/live_client.h"

namespace odmoe::cli {

// All figures, one a line, and the map, a line of letters for each layer (docs/server.md).  For scripts.
std::string top_text(const server::LiveView& view);

// A screen of that many columns and rows: figures, gauges, and the map in colours, in which a cell may stand
// for several experts.  `status`: what there is to say of the connection, may be empty.
std::string top_screen(const server::LiveView& view, const std::string& url, const std::string& status,
                       int columns, int rows);

}  // namespace odmoe::cli
