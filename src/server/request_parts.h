// The parts of a request, each read by a file of its own; request.cc puts OpenAI's together.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "server/fields.h"
#include "server/request.h"

namespace odmoe::server {

// request_sampling.cc: what both endpoints take, the form of the answer apart.
ApiStatus read_sampling(const Fields& fields, int32_t n_vocab, CommonRequest& request);
// Strings that end the answer: one or a list of them in the field `name`; empty ones end nothing.
ApiStatus read_stop(const Fields& fields, const char* name, std::vector<std::string>& stop);
// Tokens of a vocabulary of n_vocab; `list` is an array.
ApiResult<std::vector<Token>> read_tokens(const Json& list, const std::string& param, int32_t n_vocab);

// request_format.cc
ApiStatus read_format(const Fields& fields, CommonRequest& request, RequestWork& work);
// A JSON schema as it is, or as the text of one; `param` says where it stands.
ApiResult<AnswerForm> form_of_schema(const Json& json, std::string param, RequestWork& work);
// "json" or a schema (Ollama).
ApiResult<AnswerForm> form_of_ollama(const Json& json, RequestWork& work);

// request.cc: how many alternatives are told of each token of a chat's answer.
ApiStatus read_chat_logprobs(const Fields& fields, int32_t& top_logprobs);
// An object that has the form's type; `where`: its own name.
ApiResult<AnswerForm> form_of_object(const Json& json, const std::string& where, RequestWork& work);

// request_tools.cc: tools, tool_choice, parallel_tool_calls.
ApiStatus read_tools(const Fields& fields, ChatRequest& request);
// One more tool, {"type": "function", "function": {...}}; `where`: the place of what stands in the function.
ApiStatus add_tool(const Json& tool, const std::string& where, ChatRequest& request);

// request_thinking.cc: whether the model is to think and for how long, by the names that templates and APIs
// have for it.
ApiStatus read_thinking(const Fields& fields, ChatRequest& request);

// request_messages.cc: messages, continue_final_message, add_generation_prompt.
ApiStatus read_messages(const Fields& fields, ChatRequest& request, RequestWork& work);
// One message, `where` it stands ("messages[0]"): a turn more.
ApiStatus read_message(const Json& json, const std::string& where, ChatRequest& request, RequestWork& work);
// What the member says, text or parts, as the content of the turn, number `index`.
ApiStatus read_content(const Fields& fields, const char* name, size_t index, ChatTurn& turn,
                       std::vector<Image>& images);
// An image where the content of the turn, number `index`, ends; `param`: where it stands.
ApiStatus add_image(std::string url, const std::string& param, size_t index, const ChatTurn& turn,
                    std::vector<Image>& images);
// Those of a list of images in base64 (Ollama), or of URLs, where the content of the turn ends.
ApiStatus read_images(const Fields& fields, const char* name, size_t index, const ChatTurn& turn,
                      std::vector<Image>& images);
// Arguments as they came: JSON, or what a model wrote instead.
ApiStatus set_arguments(ChatToolCall& call, std::string arguments, RequestWork& work);
// Results that do not say which call they answer take the next one.
void give_ids(std::vector<ChatTurn>& turns);
// The model is to go on with the last turn, which stands at `where`; `said`: what says so.
ApiStatus continue_last_turn(ChatRequest& request, const std::string& where, std::string_view said);

}  // namespace odmoe::server
