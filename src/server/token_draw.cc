#include "server/token_draw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "odmoe/format.h"

namespace odmoe::server {
namespace {

constexpr float kForbiddenBias = -std::numeric_limits<float>::infinity();
constexpr size_t kNamedBytes = 8;  // in an error

bool any_left(std::span<const float> logits) {
  return std::ranges::any_of(logits, [](float logit) { return logit > kForbiddenBias; });
}

}  // namespace

TokenDraw::TokenDraw(const Generation& generation, int32_t n_vocab)
    : bias_(generation.logit_bias),
      sampler_(generation.sampling, n_vocab),
      after_(generation.grammar_after),
      after_token_(generation.grammar_after_token) {
  if (generation.grammar != nullptr) {
    matcher_.emplace(*generation.grammar);
    vocabulary_ = generation.grammar->vocabulary;
    before_ = !after_.empty();
  }
  if (matcher_ || !bias_.empty()) adjusted_.resize(static_cast<size_t>(n_vocab));
}

std::expected<void, DrawEnd> TokenDraw::check() {
  if (adjusted_.empty()) return {};
  std::ranges::fill(adjusted_, 0.0F);
  for (const auto& [token, bias] : bias_) adjusted_[static_cast<size_t>(token)] += bias;
  if (matcher_) matcher_->mask(adjusted_);
  if (any_left(adjusted_)) return {};
  before_ = false;  // what is missing is of the grammar
  DrawEnd end = nothing_left({});
  // A text that was begun may be whole already.
  if (end.ending == Ending::kGrammar) return {};
  return std::unexpected(std::move(end));
}

std::expected<Token, DrawEnd> TokenDraw::draw(std::span<const float> model_logits) {
  std::span<const float> logits = model_logits;
  if (!adjusted_.empty()) {
    std::ranges::copy(model_logits, adjusted_.begin());
    for (const auto& [token, bias] : bias_) adjusted_[static_cast<size_t>(token)] += bias;
    hold();
    logits = adjusted_;
  }
  if (!left_) {
    if (const auto token = sampler_.sample(logits)) return *token;
  }
  return std::unexpected(nothing_left(model_logits));
}

// Comes last, so that no bias makes a token possible that the grammar does not have.
void TokenDraw::hold() {
  if (!matcher_) return;
  if (!before_) return matcher_->mask(adjusted_);
  for (const Token end : vocabulary_->end_tokens()) adjusted_[static_cast<size_t>(end)] = kForbiddenBias;
}

bool TokenDraw::accept(Token token) {
  ++n_drawn_;
  sampler_.accept(token);
  if (!matcher_) return true;
  if (!before_) return matcher_->accept(token);
  take_before(token);
  return true;
}

void TokenDraw::take_before(Token token) {
  if (token == after_token_) {
    before_ = false;
    return;
  }
  tail_ += vocabulary_->bytes_of(token);
  const size_t at = tail_.find(after_);
  if (at == std::string::npos) {
    tail_.erase(0, tail_.size() - std::min(tail_.size(), after_.size() - 1));
    return;
  }
  before_ = false;
  // The token may hold the beginning of what follows, too.
  std::string_view rest = std::string_view(tail_).substr(at + after_.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
  left_ = !matcher_->accept_bytes(rest);
}

// Whether one of the tokens that the grammar has here is one that the bias forbids.
bool TokenDraw::forbids() {
  return std::ranges::any_of(bias_, [this](const auto& entry) {
    return entry.second == kForbiddenBias && (free() || matcher_->allows(entry.first));
  });
}

DrawEnd TokenDraw::nothing_left(std::span<const float> model_logits) {
  // A text that is complete may end without an end token too.
  if (!free() && !left_ && matcher_->complete()) return {.ending = Ending::kGrammar};
  const std::string where = n_drawn_ == 0 ? "" : odmoe::format(" after {} tokens", n_drawn_);
  if (left_) {
    return {.ending = Ending::kError,
            .error = {ErrorKind::kUnsupported,
                      odmoe::format("the model ended its thought{} in a token that goes on with what may not "
                                    "begin the answer: ask again, or without a thought",
                                    where)}};
  }
  if (!free() && !matcher_->allows_any()) {
    return {.ending = Ending::kError,
            .error = {ErrorKind::kUnsupported,
                      odmoe::format("the answer must go on with {}{}, and no token of this model begins so: "
                                    "ask for another form of answer",
                                    what_may_follow(), where)}};
  }
  if (forbids()) {
    return {.ending = Ending::kForbidden,
            .error = {ErrorKind::kUsage,
                      !free() ? odmoe::format("the answer must go on with {}{}, and logit_bias forbids every "
                                              "token that does: allow one of them",
                                              what_may_follow(), where)
                              : std::string("logit_bias forbids every token that the model has: allow one")}};
  }
  const auto bad = std::ranges::count_if(model_logits, [](float logit) { return !std::isfinite(logit); });
  return {
      .ending = Ending::kError,
      .error = {ErrorKind::kBadFile,
                odmoe::format("the model gives no token that may follow{} a likelihood ({} of its {} logits "
                              "are no finite numbers): check its file",
                              where, bad, model_logits.size())}};
}

std::string TokenDraw::what_may_follow() {
  const grammar::ByteSet bytes = matcher_->next_bytes();
  std::string text;
  size_t named = 0;
  for (size_t byte = 0; byte < bytes.size() && named < kNamedBytes; ++byte) {
    if (!bytes.test(byte)) continue;
    const bool plain = byte > ' ' && byte < 0x7F;
    const std::string name =
        plain ? odmoe::format("'{}'", static_cast<char>(byte)) : odmoe::format("0x{:02X}", byte);
    text += (named++ == 0 ? "" : ", ") + name;
  }
  if (bytes.count() > named) return odmoe::format("one of {} bytes ({}, ...)", bytes.count(), text);
  if (named == 0) return "a control token";
  return named == 1 ? "the byte " + text : "one of the bytes " + text;
}

}  // namespace odmoe::server
