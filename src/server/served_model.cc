#include "server/served_model.h"

#include <utility>

#include "server/event_log.h"

namespace odmoe::server {

Result<std::shared_ptr<ServedModel>> make_served_model(Engine& engine, std::unique_ptr<Scheduler> scheduler,
                                                       int32_t sessions, ServedModelOptions options) {
  Result<std::shared_ptr<const ChatTemplate>> chat_template = engine.chat_template(options.chat_template);
  if (!chat_template.has_value()) {
    const bool chosen = !options.chat_template.source.empty() || !options.chat_template.kwargs.empty();
    if (chosen) return std::unexpected(chat_template.error());
    chat_template.error().message += " with --chat-template; /v1/completions works without";
    log_event(spdlog::level::warn, "no_chat_template", {{"why", chat_template.error().message}});
  }
  const ModelOutput output = output_of_template(chat_template.has_value() ? (*chat_template)->source() : "");
  const int32_t context = scheduler->context();
  return std::shared_ptr<ServedModel>(new ServedModel{.engine = &engine,
                                                      .scheduler = std::move(scheduler),
                                                      .context = context,
                                                      .sessions = sessions,
                                                      .chat_template = std::move(chat_template),
                                                      .output = output,
                                                      .sees_images = options.sees_images,
                                                      .model_path = std::move(options.model_path),
                                                      .checking = {},
                                                      .vocabulary_made = {},
                                                      .vocabulary = nullptr});
}

}  // namespace odmoe::server
