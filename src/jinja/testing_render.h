// Renders a template in one line, for tests.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/template.h"

namespace odmoe::jinja::testing {

// All variables are the conversation's.
inline Result<Rendered> render_with(std::string_view source, const nlohmann::ordered_json& variables,
                                    const RenderOptions& options = {}) {
  std::vector<Input> inputs;
  inputs.reserve(variables.size());
  for (const auto& [name, value] : variables.items()) inputs.push_back({.name = name, .value = value});
  return Template::parse(source).and_then([&](const Template& one) { return one.render(inputs, options); });
}

// The text, or the error behind "error: ".
inline std::string text_of(std::string_view source,
                           const nlohmann::ordered_json& variables = nlohmann::ordered_json::object()) {
  const auto rendered = render_with(source, variables);
  return rendered.has_value() ? rendered->text : "error: " + rendered.error().message;
}

// The text with what the conversation wrote in brackets: 〔said〕.
inline std::string marked(std::string_view source, const nlohmann::ordered_json& variables) {
  const auto rendered = render_with(source, variables);
  if (!rendered.has_value()) return "error: " + rendered.error().message;
  std::string text;
  size_t done = 0;
  for (const Span& span : rendered->said) {
    text += rendered->text.substr(done, span.begin - done) + "〔" +
            rendered->text.substr(span.begin, span.end - span.begin) + "〕";
    done = span.end;
  }
  return text + rendered->text.substr(done);
}

}  // namespace odmoe::jinja::testing
