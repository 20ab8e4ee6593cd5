// The dialects that the server speaks (dialect.h).
#pragma once

#include <memory>
#include <vector>

namespace odmoe::server {

class Dialect;

// The first is the default: its words tell what is wrong where no route says whose to use.
using Dialects = std::vector<std::shared_ptr<const Dialect>>;
Dialects all_dialects();

}  // namespace odmoe::server
