#include "server/thought_limit.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace odmoe::server {
namespace {

constexpr float kNeverDrawn = -std::numeric_limits<float>::infinity();

}  // namespace

LimitedThought::LimitedThought(std::shared_ptr<const ThoughtLimit> limit,
                               std::unique_ptr<TokenConstraint> answer, std::vector<Token> never_drawn)
    : limit_(std::move(limit)),
      answer_(std::move(answer)),
      never_drawn_(std::move(never_drawn)),
      state_(limit_->begun ? State::kThought : State::kBefore) {
  close_if_long();
}

void LimitedThought::close_if_long() {
  if (state_ != State::kThought || n_token_ < limit_->tokens) return;
  state_ = limit_->close_tokens.empty() ? State::kDone : State::kClosing;
}

void LimitedThought::mask(std::span<float> logits) {
  if (state_ == State::kClosing) {
    const auto next = static_cast<size_t>(limit_->close_tokens[n_closed_]);
    for (size_t token = 0; token < logits.size(); ++token) {
      if (token != next) logits[token] = kNeverDrawn;
    }
    return;
  }
  if (answer_ != nullptr) return answer_->mask(logits);
  for (const Token token : never_drawn_) logits[static_cast<size_t>(token)] = kNeverDrawn;
}

bool LimitedThought::accept(Token token) {
  follow(token);
  return answer_ == nullptr || answer_->accept(token);
}

void LimitedThought::follow(Token token) {
  switch (state_) {
    case State::kBefore: {
      text_ += limit_->text_of(token);
      const size_t at = std::min(text_.find_first_not_of(" \t\r\n"), text_.size());
      const std::string_view text = std::string_view(text_).substr(at);
      if (text.starts_with(limit_->open)) {
        state_ = State::kThought;
        text_.clear();
      } else if (!limit_->open.starts_with(text)) {
        state_ = State::kDone;
      }
      break;
    }
    case State::kThought:
      ++n_token_;
      text_ += limit_->text_of(token);
      if (text_.contains(limit_->close)) {
        state_ = State::kDone;
      } else {
        text_.erase(0, text_.size() - std::min(text_.size(), limit_->close.size()));
      }
      break;
    case State::kClosing:
      if (++n_closed_ == limit_->close_tokens.size()) state_ = State::kDone;
      break;
    case State::kDone:
      break;
  }
  close_if_long();
}

bool LimitedThought::complete() const {
  return state_ != State::kClosing && answer_ != nullptr && answer_->complete();
}

bool LimitedThought::allows(Token token) {
  if (state_ == State::kClosing) return token == limit_->close_tokens[n_closed_];
  return answer_ == nullptr || answer_->allows(token);
}

std::optional<Error> LimitedThought::dead_end(std::string_view where) {
  return state_ == State::kClosing || answer_ == nullptr ? std::nullopt : answer_->dead_end(where);
}

std::string LimitedThought::what_may_follow() {
  return state_ == State::kClosing ? limit_->close : answer_ == nullptr ? "" : answer_->what_may_follow();
}

}  // namespace odmoe::server
