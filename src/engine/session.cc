#include <algorithm>
#include <cassert>
#include <functional>

#include "engine/engine_impl.h"

namespace odmoe {
namespace {

// Of a conversation with half as many answers; one with more allocates now and then.
constexpr size_t kStretches = 64;

}  // namespace

SessionImpl::SessionImpl(EngineImpl& engine, std::unique_ptr<SequenceState> state, int32_t lane,
                         int32_t context)
    : engine_(&engine),
      state_(std::move(state)),
      decode_graphs_(engine.decoder(), state_->plan(), lane, engine.graph_room()),
      context_(context),
      division_(engine.options().chunk) {
  division_.reserve(kStretches);
  tokens_.reserve(static_cast<size_t>(context));
  logits_.resize(static_cast<size_t>(engine.decoder().shape().n_vocab));
}

SessionImpl::~SessionImpl() { engine_->return_state(std::move(state_), decode_graphs_.lane()); }

// Whether these tokens can follow.
Status SessionImpl::check_next(std::span<const Token> tokens) const {
  if (tokens.empty()) return fail(ErrorKind::kUsage, "there are no tokens to evaluate");
  if (tokens.size() > static_cast<size_t>(context_) - tokens_.size()) {
    return fail(ErrorKind::kUsage,
                "{} tokens after {} do not fit in the context of {}; use a larger --context", tokens.size(),
                tokens_.size(), context_);
  }
  const int32_t n_vocab = engine_->decoder().shape().n_vocab;
  for (const Token token : tokens) {
    if (token < 0 || token >= n_vocab) {
      return fail(ErrorKind::kUsage, "token {} is not in the vocabulary of {}", token, n_vocab);
    }
  }
  return {};
}

Status SessionImpl::evaluate(std::span<const Token> tokens, const LogitsSink& sink,
                             const EvaluateProgress& progress) {
  ODMOE_RETURN_IF_ERROR(check_next(tokens));
  const auto first = static_cast<int64_t>(tokens_.size());
  const auto deliver = [&](int64_t index, std::span<const float> values) {
    if (sink) sink(static_cast<int32_t>(first + index), values);
    if (std::cmp_equal(index + 1, tokens.size())) std::ranges::copy(values, logits_.begin());
  };
  // A reference, since so many captures would be put on the heap.
  ODMOE_RETURN_IF_ERROR(engine_->evaluate(*state_, decode_graphs_, tokens, division_,
                                          sink ? ForwardPass::Logits::kAll : ForwardPass::Logits::kLast,
                                          std::ref(deliver), progress));
  append(tokens, /*singly=*/tokens.size() == 1);
  return {};
}

Status SessionImpl::evaluate_singly(std::span<const Token> tokens, const LogitsSink& sink) {
  ODMOE_RETURN_IF_ERROR(check_next(tokens));
  assert(std::cmp_less_equal(tokens.size(), engine_->options().chunk));
  const auto first = static_cast<int64_t>(tokens_.size());
  const auto deliver = [&](int64_t index, std::span<const float> values) {
    if (sink) sink(static_cast<int32_t>(first + index), values);
    if (std::cmp_equal(index + 1, tokens.size())) std::ranges::copy(values, logits_.begin());
  };
  const Status status = engine_->evaluate_singly(
      *state_, decode_graphs_, tokens, division_,
      sink ? ForwardPass::Logits::kAll : ForwardPass::Logits::kLast, std::ref(deliver));
  if (!status.has_value()) {
    truncate(static_cast<int32_t>(state_->length()));
    return status;
  }
  append(tokens, /*singly=*/true);
  return {};
}

// These were evaluated.
void SessionImpl::append(std::span<const Token> tokens, bool singly) {
  const bool known = std::cmp_equal(division_.length(), tokens_.size());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  if (known) division_.append(static_cast<int32_t>(tokens.size()), singly);
}

int32_t SessionImpl::truncate(int32_t n) {
  assert(n >= 0 && std::cmp_less_equal(n, tokens_.size()));
  n = static_cast<int32_t>(state_->rewind(n));
  tokens_.resize(static_cast<size_t>(n));
  division_.truncate(n);
  return n;
}

// Of a device that has failed nothing is to be saved.
int32_t SessionImpl::reachable(int32_t n) const {
  return engine_->device_condition().has_value() ? static_cast<int32_t>(state_->reachable(n)) : 0;
}

void SessionImpl::save_state(int32_t n, std::span<std::byte> state) const {
  assert(n >= 0 && state_->reachable(n) == n && state.size() == state_bytes(n));
  state_->save(n, state);
}

Status SessionImpl::restore_state(std::span<const Token> tokens, int32_t n, const Division& division,
                                  std::span<const std::byte> state) {
  truncate(0);
  if (n < 1 || std::cmp_greater(n, tokens.size()) || std::cmp_greater(division.length(), tokens.size()) ||
      division.chunk() != division_.chunk() || state.size() != state_->state_bytes(std::ssize(tokens))) {
    return fail(ErrorKind::kUsage,
                "{} bytes are not the state of {} tokens, {} of them divided by chunks of {}", state.size(),
                tokens.size(), division.length(), division.chunk());
  }
  if (std::cmp_less(n, tokens.size()) && !state_->plan().holds_every_length()) {
    return fail(ErrorKind::kUsage, "this model's state of {} tokens cannot be restored in part",
                tokens.size());
  }
  const std::span<const Token> kept = tokens.first(static_cast<size_t>(n));
  ODMOE_RETURN_IF_ERROR(check_next(kept));
  engine_->restore(*state_, n, std::ssize(tokens), state);
  tokens_.assign(kept.begin(), kept.end());
  division_ = division;
  division_.truncate(n);
  return {};
}

Status SessionImpl::write_state(const std::function<Status(std::span<const std::byte>)>& take) const {
  ODMOE_RETURN_IF_ERROR(engine_->device_condition());  // nothing of it is kept
  return state_->save_to(take);
}

Status SessionImpl::read_state(std::span<const Token> tokens, const Division& division,
                               const std::function<Status(std::span<std::byte>)>& give) {
  truncate(0);
  ODMOE_RETURN_IF_ERROR(check_next(tokens));
  if (std::cmp_greater(division.length(), tokens.size()) || division.chunk() != division_.chunk()) {
    return fail(ErrorKind::kUsage, "{} tokens, divided by chunks of {}, are not those of a state",
                tokens.size(), division.chunk());
  }
  ODMOE_RETURN_IF_ERROR(engine_->restore_from(*state_, std::ssize(tokens), give));
  tokens_.assign(tokens.begin(), tokens.end());
  division_ = division;
  return {};
}

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEnd:
      return "end";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kStopString:
      return "stop";
    case FinishReason::kContextFull:
      return "context full";
    case FinishReason::kInterrupted:
      return "interrupted";
  }
  return "";
}

}  // namespace odmoe
