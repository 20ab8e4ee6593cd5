#include "odmoe/options.h"

#include <array>
#include <string>
#include <utility>

#include "base/numbers.h"
#include "base/units.h"

namespace odmoe {

Result<MemoryBudget> parse_memory_budget(std::string_view text) {
  if (text == "auto") return MemoryBudget{};
  if (text.ends_with('%')) {
    const std::string_view number = text.substr(0, text.size() - 1);
    const auto percent = parse_double(number);
    if (!percent || percent->size != number.size() || !(percent->value > 0 && percent->value <= 100)) {
      return fail(ErrorKind::kUsage, "'{}' is not a share of the experts; write it like 25%", text);
    }
    return MemoryBudget{.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = percent->value};
  }
  const auto bytes = parse_bytes(text);
  if (!bytes.has_value()) {
    return fail(ErrorKind::kUsage, "'{}' is not a memory budget; write it like 8GiB, 900MiB, 25% or auto",
                text);
  }
  return MemoryBudget{.kind = MemoryBudget::Kind::kBytes, .bytes = *bytes, .percent = 0};
}

std::string_view predictor_name(PredictorKind predictor) {
  switch (predictor) {
    case PredictorKind::kNone:
      return "none";
    case PredictorKind::kPreviousToken:
      return "previous-token";
    case PredictorKind::kCoactivation:
      return "coactivation";
    case PredictorKind::kStaleGate:
      return "stale-gate";
    case PredictorKind::kShadow:
      return "shadow";
  }
  std::unreachable();
}

std::span<const PredictorKind> all_predictors() {
  static constexpr std::array kAll = {PredictorKind::kNone, PredictorKind::kPreviousToken,
                                      PredictorKind::kCoactivation, PredictorKind::kStaleGate,
                                      PredictorKind::kShadow};
  return kAll;
}

Result<PredictorKind> parse_predictor(std::string_view name) {
  std::string known;
  for (const PredictorKind kind : all_predictors()) {
    if (predictor_name(kind) == name) return kind;
    known += known.empty() ? "" : ", ";
    known += predictor_name(kind);
  }
  return fail(ErrorKind::kUsage, "'{}' is not a predictor; choose one of {}", name, known);
}

std::string_view placement_name(ExpertPlacement placement) {
  switch (placement) {
    case ExpertPlacement::kHost:
      return "cpu";
    case ExpertPlacement::kInPlace:
      return "in-place";
    case ExpertPlacement::kDevice:
      return "device";
  }
  std::unreachable();
}

std::string_view policy_name(PolicyKind policy) {
  switch (policy) {
    case PolicyKind::kForecast:
      return "forecast";
    case PolicyKind::kLru:
      return "lru";
    case PolicyKind::kLayerLru:
      return "layer-lru";
    case PolicyKind::kLfu:
      return "lfu";
    case PolicyKind::kLfuAging:
      return "lfu-aging";
  }
  std::unreachable();
}

Status EngineOptions::validate() const {
  const auto check = [](const char* name, int64_t value, int64_t least, int64_t most) -> Status {
    if (value < least || value > most) {
      return fail(ErrorKind::kUsage, "{} is {}; it goes from {} to {}", name, value, least, most);
    }
    return {};
  };
  if (model.empty()) return fail(ErrorKind::kUsage, "no model was named");
  ODMOE_RETURN_IF_ERROR(check("context", context, 0, 1 << 27));
  if (device.empty()) return fail(ErrorKind::kUsage, "no device was named; choose auto, cpu or one there is");
  ODMOE_RETURN_IF_ERROR(check("threads", threads, 0, 512));
  ODMOE_RETURN_IF_ERROR(check("chunk", chunk, 1, 8192));
  ODMOE_RETURN_IF_ERROR(check("sessions", sessions, 1, kMaxSessions));
  ODMOE_RETURN_IF_ERROR(check("prompts", prompts, 1, kMaxPrompts));
  ODMOE_RETURN_IF_ERROR(check("snapshots", snapshots, 2, 64));
  ODMOE_RETURN_IF_ERROR(check("lookahead", lookahead, 1, kMaxLookahead));
  if ((predictor == PredictorKind::kShadow) == shadow.empty()) {
    return fail(ErrorKind::kUsage, "the predictor shadow and a file of its weights (--shadow) go together");
  }
  ODMOE_RETURN_IF_ERROR(check("read depth", read_depth, 0, 1024));
  ODMOE_RETURN_IF_ERROR(check("number of mirrors", static_cast<int64_t>(mirrors.size()), 0, 15));
  if (memory.kind == MemoryBudget::Kind::kExpertPercent && !(memory.percent > 0 && memory.percent <= 100)) {
    return fail(ErrorKind::kUsage, "memory is {} % of the experts; it goes from above 0 to 100",
                memory.percent);
  }
  return {};
}

}  // namespace odmoe
