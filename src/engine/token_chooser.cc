#include "engine/token_chooser.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

}  // namespace

TokenChooser::TokenChooser(TokenChooserOptions options, int32_t n_vocab)
    : bias_(std::move(options.logit_bias)),
      never_drawn_(std::move(options.never_drawn)),
      constraint_(std::move(options.constraint)),
      sampler_(options.sampling, n_vocab) {
  if (constraint_ != nullptr || !bias_.empty() || !never_drawn_.empty()) {
    adjusted_.resize(static_cast<size_t>(n_vocab));
  }
}

std::expected<void, NoToken> TokenChooser::check() {
  if (adjusted_.empty()) return {};
  std::ranges::fill(adjusted_, 0.0F);
  adjust();
  if (std::ranges::any_of(adjusted_, [](float logit) { return logit > kForbidden; })) return {};
  NoToken none = nothing_left({});
  if (none.why == NoToken::Why::kComplete) return {};
  return std::unexpected(std::move(none));
}

std::expected<Token, NoToken> TokenChooser::choose(std::span<const float> model_logits) {
  std::span<const float> logits = model_logits;
  if (!adjusted_.empty()) {
    std::ranges::copy(model_logits, adjusted_.begin());
    adjust();
    logits = adjusted_;
  }
  if (const auto token = sampler_.sample(logits)) return *token;
  return std::unexpected(nothing_left(model_logits));
}

// What forbids comes last, so that no bias makes a token possible that may not be drawn.
void TokenChooser::adjust() {
  for (const auto& [token, bias] : bias_) adjusted_[static_cast<size_t>(token)] += bias;
  if (constraint_ != nullptr) return constraint_->mask(adjusted_);
  for (const Token token : never_drawn_) adjusted_[static_cast<size_t>(token)] = kForbidden;
}

bool TokenChooser::accept(Token token) {
  ++n_chosen_;
  sampler_.accept(token);
  return constraint_ == nullptr || constraint_->accept(token);
}

// Whether one of the tokens that may come here is one that the bias forbids.
bool TokenChooser::forbids() const {
  return std::ranges::any_of(bias_, [this](const auto& entry) {
    return entry.second == kForbidden && (constraint_ == nullptr || constraint_->allows(entry.first));
  });
}

NoToken TokenChooser::nothing_left(std::span<const float> model_logits) const {
  using Why = NoToken::Why;
  const std::string where = n_chosen_ == 0 ? "" : odmoe::format(" after {} tokens", n_chosen_);
  std::string wanted;
  if (constraint_ != nullptr) {
    // A text that is whole may end without an end token too.
    if (constraint_->complete()) return {.why = Why::kComplete};
    if (auto error = constraint_->dead_end(where)) return {.why = Why::kError, .error = *std::move(error)};
    wanted = constraint_->what_may_follow();
  }
  if (forbids()) {
    return {.why = Why::kForbidden,
            .error = {ErrorKind::kUsage,
                      !wanted.empty()
                          ? odmoe::format("the answer must continue with {}{}, but logit_bias forbids every "
                                          "token that does: allow one of them",
                                          wanted, where)
                          : std::string("logit_bias forbids every token that the model has: allow one")}};
  }
  const auto bad = std::ranges::count_if(model_logits, [](float logit) { return !std::isfinite(logit); });
  return {
      .why = Why::kError,
      .error = {ErrorKind::kBadFile,
                odmoe::format("the model gives no token that may follow{} a likelihood ({} of its {} logits "
                              "are not finite numbers): check its file",
                              where, bad, model_logits.size())}};
}

std::vector<Token> never_drawn(std::span<const Token> suppressed, std::span<const Token> ends,
                               bool ignore_eos) {
  std::vector<Token> tokens(suppressed.begin(), suppressed.end());
  if (ignore_eos) tokens.insert(tokens.end(), ends.begin(), ends.end());
  return tokens;
}

std::vector<Token> end_tokens(const Engine& engine) {
  std::vector<Token> tokens;
  for (Token token = 0; token < engine.model().n_vocab; ++token) {
    if (engine.is_end(token)) tokens.push_back(token);
  }
  return tokens;
}

}  // namespace odmoe
