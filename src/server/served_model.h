// What there is once the model is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/mutex.h"
#include "grammar/token_mask.h"
#include "odmoe/engine.h"
#include "server/output/output_format.h"
#include "server/scheduler.h"

namespace odmoe::server {

// Thread-safe; shared by the requests under way.
struct ServedModel {
  Engine* engine;
  std::unique_ptr<Scheduler> scheduler;
  int32_t context;
  int32_t sessions;
  Result<std::shared_ptr<const ChatTemplate>> chat_template;  // an error: conversations are refused with it
  ModelOutput output;                                         // how thoughts, content and calls are written
  bool sees_images;                                           // they are described to it
  std::string model_path;                                     // of its first file
  Mutex checking;  // held while it is tried out whether a bias leaves anything of a grammar
  std::once_flag vocabulary_made;
  std::shared_ptr<const grammar::Vocabulary> vocabulary;  // made when the first grammar asks for it

  std::shared_ptr<const grammar::Vocabulary> words() {
    std::call_once(vocabulary_made, [this] {
      const auto bytes = [this](int32_t token) { return engine->token_bytes(token); };
      const auto is_end = [this](int32_t token) { return engine->is_end(token); };
      vocabulary = std::make_shared<grammar::Vocabulary>(engine->model().n_vocab, bytes, is_end);
    });
    return vocabulary;
  }
};

struct ServedModelOptions {
  ChatTemplateChoice chat_template;
  bool sees_images = false;
  std::string model_path;
};

// `scheduler` has all of the engine's sessions, which outlives what comes back.  A model without a template
// is served without conversations, which the log says; kUsage, kUnsupported: one that was chosen is none.
Result<std::shared_ptr<ServedModel>> make_served_model(Engine& engine, std::unique_ptr<Scheduler> scheduler,
                                                       int32_t sessions, ServedModelOptions options);

}  // namespace odmoe::server
