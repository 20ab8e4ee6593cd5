// One generation as text: whole characters, nothing of a stop string, and the markup that calls and thoughts
// are written with.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/stop_strings.h"
#include "model/tokenizer/tokenizer.h"
#include "odmoe/engine.h"
#include "server/channel.h"
#include "server/output/output_format.h"
#include "server/scheduler.h"

namespace odmoe::server {

struct ChoiceOptions {
  size_t choice = 0;
  std::vector<std::string> stop;
  std::vector<Token> stop_tokens;  // end the text too, and are not part of it
  bool logprobs = false;
  const OutputFormat* format = nullptr;  // control tokens of its marks become text; null: none do
  bool echo = false;                     // the prompt's logprobs are reported
};

class ChoiceSink final : public GenerationSink {
 public:
  // The engine must outlive it.
  ChoiceSink(const Engine& engine, std::shared_ptr<Channel> channel, ChoiceOptions options);

  void on_prompt(const GeneratedToken& token) override;
  bool on_token(const GeneratedToken& token) override;
  void on_end(const GenerationEnd& end) override;

 private:
  std::string bytes_of(Token token) const;

  const Engine* engine_;
  std::shared_ptr<Channel> channel_;
  ChoiceOptions options_;
  StreamDecoder decoder_;
  StopStrings stops_;
  std::vector<GeneratedToken> held_;  // whose text has not been told yet
  int32_t n_held_ = 0;                // of such tokens, whether or not they are told themselves
  bool too_slow_ = false;
};

}  // namespace odmoe::server
