#include "server/batch/batch_record.h"

#include <algorithm>
#include <array>
#include <utility>

#include "server/fields.h"

namespace odmoe::server {
namespace {

constexpr std::array<std::string_view, 8> kPhaseNames = {
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"};

struct TimeMember {
  const char* name;
  int64_t BatchRecord::* member;
};
constexpr std::array<TimeMember, 9> kTimes = {{{"created_at", &BatchRecord::created},
                                               {"in_progress_at", &BatchRecord::in_progress},
                                               {"expires_at", &BatchRecord::expires},
                                               {"finalizing_at", &BatchRecord::finalizing},
                                               {"completed_at", &BatchRecord::completed},
                                               {"failed_at", &BatchRecord::failed},
                                               {"expired_at", &BatchRecord::expired},
                                               {"cancelling_at", &BatchRecord::cancelling},
                                               {"cancelled_at", &BatchRecord::cancelled}}};

struct TextMember {
  const char* name;
  std::string BatchRecord::* member;
};
// As the record has them, beside what clients are told.
constexpr std::array<TextMember, 8> kTexts = {{{"id", &BatchRecord::id},
                                               {"owner", &BatchRecord::owner},
                                               {"endpoint", &BatchRecord::endpoint},
                                               {"input_file", &BatchRecord::input_file},
                                               {"window", &BatchRecord::window},
                                               {"model", &BatchRecord::model},
                                               {"output_file", &BatchRecord::output_file},
                                               {"error_file", &BatchRecord::error_file}}};

std::optional<BatchPhase> phase_named(const Fields& fields, const char* name) {
  std::string text;
  if (!fields.read(name, text).has_value()) return std::nullopt;
  const auto found = std::ranges::find(kPhaseNames, text);
  if (found == kPhaseNames.end()) return std::nullopt;
  return static_cast<BatchPhase>(found - kPhaseNames.begin());
}

Json or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json faults_json(const std::vector<BatchFault>& faults) {
  Json list = Json::array();
  for (const BatchFault& fault : faults) {
    list.push_back({{"code", fault.code},
                    {"message", fault.message},
                    {"param", nullptr},
                    {"line", fault.line ? Json(*fault.line) : Json(nullptr)}});
  }
  return list;
}

// Whole numbers from 0 on.
template <typename T>
bool read_number(const Fields& fields, const char* name, T& value) {
  const auto number = fields.integer(name, 0, INT64_MAX);
  if (!number.has_value()) return false;
  value = static_cast<T>(*number);
  return true;
}

// As OpenAI has it.  How much of prompts was there before is not told (batch_runner.h).
Json batch_usage_json(const BatchUsage& usage) {
  return {{"input_tokens", usage.input_tokens},
          {"input_tokens_details", {{"cached_tokens", 0}}},
          {"output_tokens", usage.output_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.input_tokens + usage.output_tokens}};
}

// Records of earlier versions have none.
bool read_usage(const Fields& fields, std::optional<BatchUsage>& usage) {
  const Json* json = fields.find("usage");
  if (json == nullptr || json->is_null()) return true;
  if (!json->is_object()) return false;
  const Fields of_usage(*json);
  BatchUsage read;
  if (!read_number(of_usage, "input", read.input_tokens) ||
      !read_number(of_usage, "output", read.output_tokens) ||
      !read_number(of_usage, "reasoning", read.reasoning_tokens)) {
    return false;
  }
  usage = read;
  return true;
}

bool read_faults(const Json& list, std::vector<BatchFault>& faults) {
  if (!list.is_array()) return false;
  for (const Json& json : list) {
    if (!json.is_object()) return false;
    const Fields fields(json);
    BatchFault fault;
    if (!fields.read("code", fault.code).has_value() || !fields.read("message", fault.message).has_value()) {
      return false;
    }
    if (uint64_t line = 0; fields.has("line") && read_number(fields, "line", line)) fault.line = line;
    faults.push_back(std::move(fault));
  }
  return true;
}

}  // namespace

std::string_view batch_phase_name(BatchPhase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

bool is_over(BatchPhase phase) {
  return phase == BatchPhase::kCompleted || phase == BatchPhase::kFailed || phase == BatchPhase::kExpired ||
         phase == BatchPhase::kCancelled;
}

Json batch_json(const BatchRecord& record) {
  const bool over = is_over(record.phase);
  Json json = {
      {"id", record.id},
      {"object", "batch"},
      {"endpoint", record.endpoint},
      {"model", or_null(record.model)},
      {"errors", record.faults.empty() ? Json(nullptr)
                                       : Json{{"object", "list"}, {"data", faults_json(record.faults)}}},
      {"input_file_id", record.input_file},
      {"completion_window", record.window},
      {"status", batch_phase_name(record.phase)},
      {"output_file_id", over ? or_null(record.output_file) : Json(nullptr)},
      {"error_file_id", over ? or_null(record.error_file) : Json(nullptr)}};
  for (const TimeMember& time : kTimes) {
    json[time.name] = record.*time.member > 0 ? Json(record.*time.member) : Json(nullptr);
  }
  json["request_counts"] = {
      {"total", record.n_request}, {"completed", record.n_completed}, {"failed", record.n_failed}};
  json["usage"] = record.usage ? batch_usage_json(*record.usage) : Json(nullptr);
  json["metadata"] = record.metadata;
  return json;
}

std::string record_text(const BatchRecord& record) {
  Json json;
  for (const TextMember& text : kTexts) json[text.name] = record.*text.member;
  for (const TimeMember& time : kTimes) json[time.name] = record.*time.member;
  json["number"] = record.number;
  json["status"] = batch_phase_name(record.phase);
  json["ending"] = batch_phase_name(record.ending);
  json["output_seconds"] = record.output_seconds;
  json["total"] = record.n_request;
  json["completed"] = record.n_completed;
  json["failed"] = record.n_failed;
  if (record.usage) {
    json["usage"] = {{"input", record.usage->input_tokens},
                     {"output", record.usage->output_tokens},
                     {"reasoning", record.usage->reasoning_tokens}};
  }
  json["metadata"] = record.metadata;
  json["faults"] = faults_json(record.faults);
  return dump_json(json) + "\n";
}

std::optional<BatchRecord> read_record(std::string_view text) {
  const auto json = parse_json(text);
  if (!json.has_value() || !json->is_object()) return std::nullopt;
  const Fields fields(*json);
  BatchRecord record;
  bool whole = true;
  for (const TextMember& member : kTexts) {
    whole = whole && fields.has(member.name) && fields.read(member.name, record.*member.member).has_value();
  }
  for (const TimeMember& member : kTimes) {
    whole = whole && read_number(fields, member.name, record.*member.member);
  }
  whole = whole && read_number(fields, "number", record.number) &&
          read_number(fields, "output_seconds", record.output_seconds) &&
          read_number(fields, "total", record.n_request) &&
          read_number(fields, "completed", record.n_completed) &&
          read_number(fields, "failed", record.n_failed);
  const auto phase = phase_named(fields, "status"), ending = phase_named(fields, "ending");
  const Json* faults = fields.find("faults");
  whole = whole && read_usage(fields, record.usage);
  if (!whole || !phase || !ending || faults == nullptr || !read_faults(*faults, record.faults)) {
    return std::nullopt;
  }
  record.phase = *phase;
  record.ending = *ending;
  if (const Json* metadata = fields.find("metadata")) record.metadata = *metadata;
  return record;
}

}  // namespace odmoe::server
