// An option that takes one of a few words.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace odmoe::cli {

// `use` gets the value that the word stands for; it is not called when the option is not given, so `fallback`
// must be what holds then.  The type's name, "a|b|c", is what help, man page and completion show and offer.
template <typename T>
CLI::Option* add_choice(CLI::App& app, const std::string& names, T fallback,
                        std::vector<std::pair<std::string, T>> choices, const std::string& help,
                        std::function<void(T)> use) {
  std::string type, fallback_word;
  for (const auto& [word, value] : choices) {
    type += (type.empty() ? "" : "|") + word;
    if (value == fallback) fallback_word = word;
  }
  return app
      .add_option_function<std::string>(
          names,
          [names, type, choices = std::move(choices), use = std::move(use)](const std::string& text) {
            for (const auto& [word, value] : choices) {
              if (word == text) return use(value);
            }
            throw CLI::ValidationError(names, "'" + text + "' is not one of " + type);
          },
          help)
      ->type_name(type)
      ->default_str(fallback_word);
}

}  // namespace odmoe::cli
