#include "server/output/output_reader.h"

#include <utility>

namespace odmoe::server {

std::unique_ptr<OutputReader> make_output_reader(OutputReaderOptions options) {
  if (options.tools == nullptr) options.tools = std::make_shared<const Tools>();
  if (!options.format->calls) options.calls = false;
  return options.format->structure == OutputFormat::Structure::kHarmony
             ? make_harmony_reader(std::move(options))
             : make_mark_reader(std::move(options));
}

}  // namespace odmoe::server
