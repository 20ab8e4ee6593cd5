// Names of the files of a split model: NAME-00001-of-00003.gguf.
#pragma once

#include <string>
#include <string_view>

namespace odmoe::hub {

struct Shard {
  std::string stem;  // the path without .gguf and without what numbers the shard
  int number = 1, count = 1;
};

// Of a path that ends in .gguf (in any case); any other is a whole of its own, with all of it for a stem.
Shard shard_of(std::string_view path);

bool is_gguf(std::string_view path);

}  // namespace odmoe::hub
