// Renders templates for template_differential.py: a line of JSON for each on standard input
// ({"source": ..., "variables": {...}}), and a line for each on standard output ({"text": ...} or
// {"error": ...}).
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "jinja/template.h"

namespace {

using Json = nlohmann::ordered_json;

Json render(const Json& request) {
  const auto parsed = odmoe::jinja::Template::parse(request["source"].get<std::string>());
  if (!parsed.has_value()) return {{"error", parsed.error().message}};
  std::vector<odmoe::jinja::Input> inputs;
  inputs.reserve(request["variables"].size());
  for (const auto& [name, value] : request["variables"].items())
    inputs.push_back({.name = name, .value = value});
  const auto rendered = parsed->render(inputs);
  if (!rendered.has_value()) return {{"error", rendered.error().message}};
  return {{"text", rendered->text}};
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << render(Json::parse(line)).dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
  return 0;
}
