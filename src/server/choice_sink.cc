#include "server/choice_sink.h"

#include <algorithm>
#include <utility>

namespace odmoe::server {

ChoiceSink::ChoiceSink(const Engine& engine, std::shared_ptr<Channel> channel, ChoiceOptions options)
    : engine_(&engine), channel_(std::move(channel)), options_(std::move(options)), stops_(options_.stop) {}

std::string ChoiceSink::bytes_of(Token token) const {
  std::string text = engine_->token_bytes(token);
  if (!text.empty() || !options_.show_markup) return text;
  text = engine_->token_bytes(token, /*special=*/true);
  const bool markup = text.contains("tool") || text.contains("think") || text.contains("DSML");
  return markup ? text : std::string();
}

void ChoiceSink::on_prompt(const GeneratedToken& token) {
  if (!options_.echo) return;
  too_slow_ = too_slow_ || !channel_->push({.choice = options_.choice, .tokens = {token}, .prompt = true});
}

bool ChoiceSink::on_token(const GeneratedToken& token) {
  if (too_slow_) return false;
  if (std::ranges::contains(options_.stop_tokens, token.token)) return false;
  if (options_.logprobs) held_.push_back(token);
  std::string text = stops_.push(decoder_.push_bytes(bytes_of(token.token)));
  if (text.empty() && held_.empty()) return !stops_.stopped();
  if (!channel_->push(
          {.choice = options_.choice, .text = std::move(text), .tokens = std::exchange(held_, {})})) {
    too_slow_ = true;
    return false;
  }
  return !stops_.stopped();
}

void ChoiceSink::on_end(const GenerationEnd& end) {
  std::string text;
  if (!stops_.stopped()) text = stops_.push(decoder_.finish());
  const bool stopped = stops_.stopped();
  if (!stopped) text += stops_.finish();
  (void)channel_->push({.choice = options_.choice,
                        .text = std::move(text),
                        .end = end,
                        .stop_string = stopped,
                        .too_slow = too_slow_});
}

}  // namespace odmoe::server
