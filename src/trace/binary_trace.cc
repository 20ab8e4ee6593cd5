#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "trace/trace_formats.h"

namespace odmoe {
namespace {

constexpr size_t kPieceTokens = 256;  // read at once, so that a lie about n_tokens costs no memory

uint32_t little_u32(const std::byte* p) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8U | std::to_integer<uint32_t>(p[i]);
  return value;
}

float half(const std::byte* p) {
  const uint32_t bits = std::to_integer<uint32_t>(p[0]) | std::to_integer<uint32_t>(p[1]) << 8U;
  const auto mantissa = static_cast<float>(bits & 0x3FFU);
  const int exponent = static_cast<int>(bits >> 10U & 0x1FU);
  const float sign = (bits & 0x8000U) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) return std::numeric_limits<float>::quiet_NaN();
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

class BinaryParser {
 public:
  BinaryParser(const TraceInput& input, const std::string& name, const TraceOptions& options, bool wide)
      : input_(input), name_(name), options_(options), id_bytes_(wide ? 2 : 1) {}

  Result<RoutingTrace> parse() {
    buffer_.resize(16);
    ODMOE_RETURN_IF_ERROR(fill("its header"));
    const uint32_t n_layer = little_u32(&buffer_[0]), n_expert = little_u32(&buffer_[4]);
    const uint32_t most_experts = id_bytes_ == 1 ? 256 : kMaxTraceExperts;
    const uint32_t n_used = little_u32(&buffer_[8]), n_session = little_u32(&buffer_[12]);
    if (n_layer < 1 || n_layer > kMaxTraceLayers || n_expert < 1 || n_expert > most_experts || n_used < 1 ||
        n_used > std::min(n_expert, kMaxTraceExpertsUsed) || n_session > kMaxTraceSessions) {
      return fail(ErrorKind::kBadFile,
                  "{} has {} layers, {} of {} experts, {} sessions; the limits are {} layers, {} of {}, {}",
                  name_, n_layer, n_used, n_expert, n_session, kMaxTraceLayers, kMaxTraceExpertsUsed,
                  most_experts, kMaxTraceSessions);
    }
    trace_.n_layer = static_cast<int32_t>(n_layer);
    trace_.n_expert = static_cast<int32_t>(n_expert);
    trace_.n_expert_used = static_cast<int32_t>(n_used);
    trace_.n_session = static_cast<int32_t>(n_session);
    for (uint32_t session = 0; session < n_session; ++session) ODMOE_RETURN_IF_ERROR(read_session(session));
    ODMOE_RETURN_IF_ERROR(finish_trace(trace_, name_));
    return std::move(trace_);
  }

 private:
  Status fill(const std::string& what) {
    ODMOE_ASSIGN_OR_RETURN(const size_t n, input_(buffer_));
    if (n == buffer_.size()) return {};
    return fail(ErrorKind::kBadFile, "{} ends within {}; it was truncated: fetch it again", name_, what);
  }

  Status read_session(uint32_t session) {
    const std::string what = "session " + std::to_string(session);
    buffer_.resize(8);
    ODMOE_RETURN_IF_ERROR(fill(what));
    const uint64_t n_token = little_u32(buffer_.data());
    const auto per_token =
        static_cast<uint64_t>(trace_.n_layer) * static_cast<uint64_t>(trace_.n_expert_used);
    const bool kept = options_.keeps(session);
    if (kept && trace_.experts.size() + n_token * per_token > kMaxTraceChoices) {
      return fail(ErrorKind::kUsage, "{}: more than {} choices of experts; ask for fewer --sessions", name_,
                  kMaxTraceChoices);
    }
    for (uint64_t done = 0; done < n_token;) {
      const uint64_t n = std::min<uint64_t>(kPieceTokens, n_token - done);
      buffer_.resize(n * per_token * id_bytes_);
      ODMOE_RETURN_IF_ERROR(fill(what));
      done += n;
      if (kept) ODMOE_RETURN_IF_ERROR(add_choices(what));
    }
    for (uint64_t done = 0; done < n_token;) {
      const uint64_t n = std::min<uint64_t>(kPieceTokens, n_token - done);
      buffer_.resize(2 * n * per_token);
      ODMOE_RETURN_IF_ERROR(fill(what));
      done += n;
      if (!kept) continue;
      for (size_t i = 0; i < buffer_.size(); i += 2) {
        const float weight = half(&buffer_[i]);
        if (!(weight >= 0)) {
          return fail(ErrorKind::kBadFile, "{}: a probability of {} is not a number from 0 up", name_, what);
        }
        trace_.weights.push_back(weight);
      }
    }
    return {};
  }

  Status add_choices(const std::string& what) {
    const auto n_used = static_cast<size_t>(trace_.n_expert_used);
    for (size_t i = 0; i < buffer_.size(); i += n_used * id_bytes_) {
      trace_.events.push_back(
          {.layer = static_cast<int32_t>(trace_.events.size() % static_cast<size_t>(trace_.n_layer)),
           .n_expert = static_cast<uint32_t>(n_used),
           .first = trace_.experts.size()});
      for (size_t k = 0; k < n_used; ++k) {
        const std::byte* id = &buffer_[i + k * id_bytes_];
        auto expert = std::to_integer<int32_t>(id[0]);
        if (id_bytes_ == 2) expert |= std::to_integer<int32_t>(id[1]) << 8;
        const auto event = std::span(trace_.experts).subspan(trace_.experts.size() - k, k);
        if (expert >= trace_.n_expert || std::ranges::contains(event, expert)) {
          return fail(ErrorKind::kBadFile, "{}: {} chooses expert {} {}; it is damaged", name_, what, expert,
                      expert >= trace_.n_expert ? odmoe::format("of {}", trace_.n_expert) : "twice");
        }
        trace_.experts.push_back(expert);
      }
    }
    return {};
  }

  const TraceInput& input_;
  const std::string& name_;
  const TraceOptions& options_;
  size_t id_bytes_;
  std::vector<std::byte> buffer_;
  RoutingTrace trace_;
};

}  // namespace

Result<RoutingTrace> parse_binary_trace(const TraceInput& input, const std::string& name,
                                        const TraceOptions& options, bool wide) {
  return BinaryParser(input, name, options, wide).parse();
}

}  // namespace odmoe
