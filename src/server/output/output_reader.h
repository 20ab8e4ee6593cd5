// What a model writes, taken apart as it comes: thoughts, content and calls of tools.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/chat.h"
#include "server/output/call_reader.h"
#include "server/output/output_format.h"

namespace odmoe::server {

// What is new, in this order.
struct OutputDelta {
  std::string reasoning;
  std::string content;
  std::vector<ChatToolCall> calls;  // complete ones
  bool empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
};

// Where the prompt ended: before the answer, which may begin with a thought, inside of a thought, or in what
// is said.
enum class OutputStart : uint8_t { kAnswer, kThought, kContent };

struct OutputReaderOptions {
  const OutputFormat* format;
  OutputStart start = OutputStart::kAnswer;
  bool calls = false;                  // they are looked for
  std::shared_ptr<const Tools> tools;  // null: none
  std::string id_prefix;               // of the ids of calls, where the format has none
};

// One owner.  What comes out does not depend on where the text was cut, but for how much of it comes when.
//
// Nothing is lost: what looks like a call and is none comes as content.  A call is whole with its arguments;
// a mark behind them may be missing.  A call within a thought counts where the thought does not end: else the
// model only thought of it, and what was held back until then is a part of the thought.
class OutputReader {
 public:
  virtual ~OutputReader() = default;
  virtual OutputDelta push(std::string_view text) = 0;
  virtual OutputDelta finish() = 0;
};

std::unique_ptr<OutputReader> make_output_reader(OutputReaderOptions options);

// One for each structure.
std::unique_ptr<OutputReader> make_mark_reader(OutputReaderOptions options);
std::unique_ptr<OutputReader> make_harmony_reader(OutputReaderOptions options);

}  // namespace odmoe::server
