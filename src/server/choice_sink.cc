#include "server/choice_sink.h"

#include <algorithm>
#include <utility>

namespace odmoe::server {

ChoiceSink::ChoiceSink(const Engine& engine, std::shared_ptr<Channel> channel, ChoiceOptions options)
    : engine_(&engine), channel_(std::move(channel)), options_(std::move(options)), stops_(options_.stop) {}

std::string ChoiceSink::bytes_of(Token token) const {
  std::string text = engine_->token_bytes(token);
  if (!text.empty() || options_.format == nullptr) return text;
  text = engine_->token_bytes(token, /*special=*/true);
  return is_mark(*options_.format, text) ? text : std::string();
}

void ChoiceSink::on_prompt(const GeneratedToken& token) {
  if (!options_.echo) return;
  too_slow_ = too_slow_ || !channel_->push({.choice = options_.choice, .tokens = {token}, .prompt = true});
}

bool ChoiceSink::on_token(const GeneratedToken& token) {
  if (too_slow_) return false;
  if (std::ranges::contains(options_.stop_tokens, token.token)) return false;
  if (options_.logprobs) held_.push_back(token);
  ++n_held_;
  std::string text = stops_.push(decoder_.push_bytes(bytes_of(token.token)));
  if (text.empty() && held_.empty()) return !stops_.stopped();
  if (!channel_->push({.choice = options_.choice,
                       .text = std::move(text),
                       .tokens = std::exchange(held_, {}),
                       .n_token = std::exchange(n_held_, 0)})) {
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
                        .n_token = n_held_,
                        .end = end,
                        .stop_string = stops_.found(),
                        .too_slow = too_slow_});
}

}  // namespace odmoe::server
