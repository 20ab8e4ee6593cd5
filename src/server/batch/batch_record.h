// What the server knows of one batch, as clients are told it and as it is kept on the drive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/json_guard.h"

namespace odmoe::server {

// In OpenAI's words.
enum class BatchPhase : uint8_t {
  kValidating,  // waits for its turn, or its file is read
  kInProgress,
  kFinalizing,  // its answers become files
  kCompleted,
  kFailed,  // its file is wrong, or there is no room for its answers
  kExpired,
  kCancelling,
  kCancelled,
};
std::string_view batch_phase_name(BatchPhase phase);
// Nothing follows.
bool is_over(BatchPhase phase);

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct BatchFault {
  std::string code = {}, message = {};
  std::optional<uint64_t> line = {};  // of the input file, from 1
};

// What its answers took, together.
struct BatchUsage {
  uint64_t input_tokens = 0, output_tokens = 0;
  uint64_t reasoning_tokens = 0;  // of the latter
};

struct BatchRecord {
  std::string id = {}, owner = {};
  uint64_t number = 0;  // later ones have larger ones
  std::string endpoint = {}, input_file = {}, window = {};
  std::string model = {};
  Json metadata = {};  // null: none
  BatchPhase phase = BatchPhase::kValidating;
  // Where finalizing leads, once it was begun.
  BatchPhase ending = BatchPhase::kCompleted;
  // Their ids are chosen before they are written; clients are told of them at the end.
  std::string output_file = {}, error_file = {};
  int64_t output_seconds = 0;  // how long they are kept; 0: until they are deleted
  // Unix time; 0: never.
  int64_t created = 0, expires = 0, in_progress = 0, finalizing = 0, completed = 0, failed = 0, expired = 0,
          cancelling = 0, cancelled = 0;
  size_t n_request = 0, n_completed = 0, n_failed = 0;
  std::optional<BatchUsage> usage = {};  // once it is over
  std::vector<BatchFault> faults = {};
};
// NOLINTEND(readability-redundant-member-init)

// As OpenAI's API has it.
Json batch_json(const BatchRecord& record);

// All of it, in one line; and what it says.  Nothing: it is not a record.
std::string record_text(const BatchRecord& record);
std::optional<BatchRecord> read_record(std::string_view text);

}  // namespace odmoe::server
