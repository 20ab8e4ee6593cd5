#include "odmoe/format.h"

namespace odmoe {

std::string vformat(std::string_view format, std::format_args arguments) {
  return std::vformat(format, arguments);
}

}  // namespace odmoe
