// Reads one call, or the calls of one list, behind the mark that opens it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "odmoe/chat.h"
#include "server/generation_request.h"
#include "server/output/output_format.h"

namespace odmoe::server {

using Tools = std::vector<Tool>;

// One owner.
class CallReader {
 public:
  enum class Step : uint8_t { kMore, kCall, kRefused };
  virtual ~CallReader() = default;

  // The next byte.  kCall: the calls are whole with it; marks that close them may follow.  kRefused: it is
  // not a call.  Nothing may be pushed after either.
  virtual Step push(char byte) = 0;
  // The text ends here: kCall where only its end mark is missing, else kRefused.
  virtual Step finish() = 0;
  // After kCall; without an id where the format has none.
  std::vector<ChatToolCall>& calls() { return calls_; }

 protected:
  std::vector<ChatToolCall> calls_;
};

// `syntax` and `tools` must outlive it.  With `bare` there is no mark before it, so that only the names of
// the tools make calls.
std::unique_ptr<CallReader> make_call_reader(const CallSyntax& syntax, const Tools& tools, bool bare = false);

// One for each form.
std::unique_ptr<CallReader> make_value_reader(const CallSyntax& syntax, const Tools& tools, bool bare);
std::unique_ptr<CallReader> make_named_reader(const CallSyntax& syntax, const Tools& tools);
std::unique_ptr<CallReader> make_parameter_reader(const CallSyntax& syntax, const Tools& tools);
std::unique_ptr<CallReader> make_gemma_reader();

// What they have alike.
bool is_tool_name(std::string_view name);
bool is_tool_name_character(char c);
// Arguments as they are kept: the text of a JSON object.  Where a model wrote that as a string, what the
// string says; "{}" for nothing.
std::string arguments_text(const Json& arguments);

// Whether a mark begins at `at` of a text of which more may come.
enum class Begins : uint8_t { kNo, kMaybe, kYes };
Begins begins_at(std::string_view text, size_t at, std::string_view mark);

}  // namespace odmoe::server
