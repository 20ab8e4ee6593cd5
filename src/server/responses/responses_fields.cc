#include <algorithm>
#include <array>

#include "server/responses/responses_request.h"

namespace odmoe::server {
namespace {

using enum FieldRule::Treatment;

constexpr auto kResponsesRules = std::to_array<FieldRule>({
    own_rule("add_generation_prompt", kRefused, "[true]"),
    own_rule("background", kRefused, "[false]", "use stream"),
    own_rule("best_of", kRefused, "[1]", "send several requests"),
    own_rule("chat_template_kwargs", kHonoured),
    own_rule("context_management", kRefused, "", "send the items that are to be read"),
    own_rule("conversation", kRefused, "", "use previous_response_id"),
    own_rule("echo", kRefused, "[false]"),
    own_rule("enable_thinking", kHonoured),
    own_rule("frequency_penalty", kHonoured),
    own_rule("ignore_eos", kHonoured),
    own_rule("include", kHonoured),
    own_rule("input", kHonoured),
    own_rule("instructions", kHonoured),
    own_rule("logit_bias", kHonoured),
    own_rule("logprobs", kRefused, "[false]", "use include with message.output_text.logprobs"),
    own_rule("max_completion_tokens", kRefused, "", "use max_output_tokens"),
    own_rule("max_output_tokens", kHonoured),
    own_rule("max_tokens", kRefused, "", "use max_output_tokens"),
    own_rule("max_tool_calls", kHarmless, "", "it is about tools that a server runs, and there are none"),
    own_rule("messages", kRefused, "", "use input"),
    own_rule("metadata", kHonoured),
    own_rule("min_p", kHonoured),
    own_rule("model", kHonoured),
    own_rule("moderation", kRefused),
    own_rule("n", kRefused, "[1]", "send several requests"),
    own_rule("parallel_tool_calls", kHonoured),
    own_rule("presence_penalty", kHonoured),
    own_rule("previous_response_id", kHonoured),
    own_rule("prompt", kRefused, "", "use instructions and input"),
    own_rule("random_seed", kHonoured),
    own_rule("reasoning", kHonoured),
    own_rule("reasoning_effort", kRefused, "", "use reasoning.effort"),
    own_rule("repeat_last_n", kHonoured),
    own_rule("repeat_penalty", kHonoured),
    own_rule("repetition_penalty", kHonoured),
    own_rule("response_format", kRefused, R"([{"type": "text"}])", "use text.format"),
    own_rule("seed", kHonoured),
    own_rule("stop", kHonoured),
    own_rule("stop_token_ids", kHonoured),
    own_rule("store", kHonoured),
    own_rule("stream", kHonoured),
    own_rule("stream_options", kHarmless, "", "it only adds information to the answer"),
    own_rule("temperature", kHonoured),
    own_rule("text", kHonoured),
    own_rule("thinking_budget", kHonoured),
    own_rule("tool_choice", kHonoured),
    own_rule("tools", kHonoured),
    own_rule("top_k", kHonoured),
    own_rule("top_logprobs", kHonoured),
    own_rule("top_p", kHonoured),
});
static_assert(std::ranges::is_sorted(kResponsesRules, {}, &FieldRule::name));

}  // namespace

std::span<const FieldRule> responses_field_rules() { return kResponsesRules; }

}  // namespace odmoe::server
