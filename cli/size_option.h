// An option that takes a size.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/units.h"

namespace odmoe::cli {

// `use` gets the bytes of a size as people write it ("16GiB"); it is not called when the option is not given.
// `fallback` is what help and man page say holds then.
inline CLI::Option* add_size(CLI::App& app, const std::string& name, std::function<void(uint64_t)> use,
                             const std::string& help, const std::string& fallback) {
  return app
      .add_option_function<std::string>(
          name,
          [name, use = std::move(use)](const std::string& text) {
            const auto bytes = parse_bytes(text);
            if (!bytes.has_value()) throw CLI::ValidationError(name, bytes.error().message);
            use(*bytes);
          },
          help)
      ->type_name("SIZE")
      ->default_str(fallback);
}

}  // namespace odmoe::cli
