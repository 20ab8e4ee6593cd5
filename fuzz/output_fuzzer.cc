// What a model says, as a hostile or confused one would: in every format, cut anywhere.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/json_guard.h"
#include "server/output/output_reader.h"

namespace {

using namespace odmoe;
using namespace odmoe::server;

struct Whole {
  std::string reasoning, content;
  std::vector<ChatToolCall> calls;
};

Whole read(const OutputReaderOptions& options, std::string_view text, size_t piece) {
  const auto reader = make_output_reader(options);
  Whole whole;
  const auto take = [&](OutputDelta delta) {
    whole.reasoning += delta.reasoning;
    whole.content += delta.content;
    std::ranges::move(delta.calls, std::back_inserter(whole.calls));
  };
  for (size_t at = 0; at < text.size(); at += piece) take(reader->push(text.substr(at, piece)));
  take(reader->finish());
  return whole;
}

std::shared_ptr<const Tools> tools() {
  Tools some;
  some.push_back(
      {.name = "f", .parameters = Json::parse(R"({"type":"object","properties":{"x":{"type":"string"},
                      "n":{"type":"integer"},"o":{"$ref":"#/$defs/o"}},"$defs":{"o":{"type":"object"}}})")});
  return std::make_shared<const Tools>(std::move(some));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static const auto kTools = tools();
  const std::vector<OutputFormat>& formats = output_formats();
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const OutputReaderOptions options{.format = &formats[data[0] % formats.size()],
                                    .start = static_cast<OutputStart>(data[1] % 3),
                                    .calls = data[1] % 16 < 12,
                                    .tools = kTools,
                                    .id_prefix = "call_"};
  const Whole whole = read(options, text, text.size() + 1);
  for (const size_t piece : {size_t{1}, size_t{2} + data[1] / 16}) {
    const Whole pieces = read(options, text, piece);
    if (pieces.reasoning != whole.reasoning || pieces.content != whole.content ||
        pieces.calls.size() != whole.calls.size()) {
      __builtin_trap();
    }
  }
  // Nothing is made up, but for what the format has before what the model writes.
  const size_t most = text.size() + options.format->begins_with.size();
  if (whole.reasoning.size() + whole.content.size() > most) __builtin_trap();
  for (const ChatToolCall& call : whole.calls) {
    if (call.name.empty() || call.id.empty() || call.arguments.empty()) __builtin_trap();
  }
  return 0;
}
