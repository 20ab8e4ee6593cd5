// What is to be generated: what every dialect makes of its requests, checked against every limit.
//
// Where an error speaks of a part of it, it has OpenAI's name for that part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "odmoe/chat.h"
#include "odmoe/sampling.h"
#include "odmoe/session.h"
#include "server/json_guard.h"

namespace odmoe::server {

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
// The form that the answer is held to.
struct AnswerForm {
  enum class Kind { kText, kObject, kSchema, kPattern, kChoice };
  Kind kind = Kind::kText;
  Json schema = nullptr;                  // of kSchema
  std::string pattern = {};               // of kPattern: of the whole answer
  std::vector<std::string> choices = {};  // of kChoice: the answer is one of them
  std::string param = {};                 // the field that says so
};
// NOLINTEND(readability-redundant-member-init)

// Of both kinds of request.
struct CommonRequest {
  // The model's own distribution.
  SamplingOptions sampling{.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .penalty_last_n = -1};
  std::optional<uint64_t> seed;  // nothing: a new one
  int32_t max_tokens = -1;       // -1: as many as fit
  int32_t n = 1;
  std::vector<std::string> stop;
  std::vector<Token> stop_tokens;  // end the answer too, unseen
  std::vector<std::pair<Token, float>> logit_bias;
  int32_t top_logprobs = -1;  // -1: no logprobs
  bool ignore_eos = false;
  bool stream = false;
  bool include_usage = false;  // its stream says how many tokens there were, in dialects that leave it open
  bool echo = false;           // the text that is continued comes before the answer
  AnswerForm form;
};

// Text that goes on.
struct CompletionRequest : CommonRequest {
  std::vector<std::variant<std::string, std::vector<Token>>> prompts;
};

struct Image {
  std::string url;  // as the client gave it
  size_t turn = 0;  // whose content it belongs to
  size_t at = 0;    // where in the content its description goes
};

struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kAuto;
  std::string name;  // of kNamed
};

struct Tool {
  std::string name;
  Json parameters;      // JSON Schema; null: none given
  bool strict = false;  // its calls are held to the schema, also where they are the model's own choice
};

// An answer to a conversation.
struct ChatRequest : CommonRequest {
  Conversation conversation;
  std::vector<Image> images;  // in order
  std::vector<Tool> tools;    // as in conversation.tools
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  int32_t thought_tokens = -1;  // of its thought at most; -1: any number
};

using GenerationRequest = std::variant<CompletionRequest, ChatRequest>;

}  // namespace odmoe::server
