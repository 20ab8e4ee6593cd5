// Conversations in files: JSON as `odmoe render --conversation` takes it.
#pragma once

#include <string>
#include <vector>

#include "odmoe/chat.h"
#include "odmoe/result.h"

namespace odmoe::cli {

// kIo when it cannot be written; kUsage where the file is something else than a conversation.  `~/` is the
// home folder in both.
Status save_conversation(const std::string& path, const std::vector<ChatTurn>& turns);
// kNotFound, kIo; kBadFile: no JSON, or messages that are not {"role", "content"} with text.
Result<std::vector<ChatTurn>> load_conversation(const std::string& path);

}  // namespace odmoe::cli
