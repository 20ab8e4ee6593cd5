// Answers in Ollama's shapes: an object, whole or as the lines of a stream, each an object with what is new.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/dialect.h"

namespace odmoe::server {

// /api/chat has messages, /api/generate text.
enum class OllamaShape : uint8_t { kChat, kGenerate };

struct OllamaAnswerOptions {
  OllamaShape shape = OllamaShape::kChat;
  bool logprobs = false;
};

std::unique_ptr<AnswerWriter> ollama_writer(const AnswerStart& start, const OllamaAnswerOptions& options);

// What is said where only the model was asked for.
std::string ollama_loaded(const AnswerStart& start, OllamaShape shape);

// {"error": ...}
std::string ollama_error(const ApiError& error);

}  // namespace odmoe::server
