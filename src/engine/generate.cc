#include <algorithm>
#include <utility>

#include "engine/engine_impl.h"
#include "engine/stop_strings.h"
#include "engine/token_chooser.h"

namespace odmoe {
namespace {

// Makes room in a full timeline: keeps the first tokens, forgets the older half of the others and evaluates
// the rest anew at their new positions, so that the result is what a fresh session with that text would give.
// Of what is kept as well what the timeline cannot be taken back to.
Status shift_context(Session& session, int32_t keep) {
  const std::vector<Token> text(session.tokens().begin(), session.tokens().end());
  const auto size = static_cast<int32_t>(text.size());
  const int32_t forget = std::max(1, (size - keep) / 2);
  const int32_t reached = session.truncate(keep);
  std::vector<Token> rest(text.begin() + reached, text.begin() + keep);
  rest.insert(rest.end(), text.begin() + keep + forget, text.end());
  if (rest.empty()) return {};
  return session.evaluate(rest);
}

// Text on its way to the user: whole characters only, and nothing of a stop string.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, const GenerateOptions& options, const TextSink& sink,
             std::string& text)
      : tokenizer_(&tokenizer), options_(&options), stops_(options.stop), sink_(&sink), text_(&text) {}

  void push(Token token) { show(stops_.push(decoder_.push_bytes(bytes_of(token)))); }
  void finish() {
    show(stops_.push(decoder_.finish()));
    show(stops_.finish());
  }
  bool stopped() const { return stops_.stopped(); }
  bool refused() const { return refused_; }

 private:
  std::string bytes_of(Token token) const {
    std::string text = tokenizer_->token_bytes(token);
    if (!text.empty() || !options_->shows_control) return text;
    text = tokenizer_->token_bytes(token, /*special=*/true);
    return options_->shows_control(text) ? text : std::string();
  }
  void show(const std::string& piece) {
    if (piece.empty() || refused_) return;
    *text_ += piece;
    if (*sink_ && !(*sink_)(piece)) refused_ = true;
  }

  const Tokenizer* tokenizer_;
  const GenerateOptions* options_;
  StreamDecoder decoder_;
  StopStrings stops_;
  const TextSink* sink_;
  std::string* text_;
  bool refused_ = false;
};

}  // namespace

Result<GenerateResult> EngineImpl::generate(Session& session, std::span<const Token> prompt,
                                            const GenerateOptions& options, const TextSink& sink) {
  ODMOE_RETURN_IF_ERROR(options.sampling.validate());
  if (prompt.empty()) return fail(ErrorKind::kUsage, "the prompt is empty; give at least one token of text");
  if (std::cmp_greater(prompt.size(), session.context())) {
    return fail(ErrorKind::kUsage, "the prompt has {} tokens, the context {}; use --context {} or more",
                prompt.size(), session.context(), prompt.size() + 1);
  }
  const int64_t begin_us = clock_->now_us();
  GenerateResult result;
  result.prompt_tokens = static_cast<int32_t>(prompt.size());
  TextStream stream(*tokenizer_, options, sink, result.text);
  const auto done = [&](FinishReason reason) {
    stream.finish();
    result.finish = stream.refused() ? FinishReason::kInterrupted : reason;
    return result;
  };

  // The last prompt token is always evaluated: its logits are what generation begins with.
  const auto shared = std::ranges::mismatch(prompt, session.tokens()).in1 - prompt.begin();
  result.reused_tokens = session.truncate(
      static_cast<int32_t>(std::min<ptrdiff_t>(shared, static_cast<ptrdiff_t>(prompt.size()) - 1)));
  Status status = session.evaluate(prompt.subspan(static_cast<size_t>(result.reused_tokens)), {},
                                   options.prompt_progress);

  TokenChooser chooser(
      {.sampling = options.sampling,
       .never_drawn = never_drawn(suppressed_tokens(), end_tokens(*this), options.ignore_eos)},
      tokenizer_->n_vocab());
  for (const Token token : prompt) chooser.read(token);
  const int32_t keep =
      std::min(options.keep >= 0 ? options.keep : result.prompt_tokens, session.context() / 4);

  while (status.has_value()) {
    if (options.max_tokens >= 0 && result.generated_tokens >= options.max_tokens)
      return done(FinishReason::kLength);
    const auto chosen = chooser.choose(session.logits());
    if (!chosen.has_value()) {
      const Error& error = chosen.error().error;
      return fail(error.kind, "'{}': {}", options_.model.string(), error.message);
    }
    const Token token = *chosen;
    if (result.generated_tokens == 0)
      note_first_token(static_cast<double>(clock_->now_us() - begin_us) * 1e-3);
    if (tokenizer_->is_end(token)) return done(FinishReason::kEnd);
    chooser.accept(token);
    ++result.generated_tokens;
    stream.push(token);
    if (stream.stopped()) return done(FinishReason::kStopString);
    if (stream.refused()) return done(FinishReason::kInterrupted);
    if (options.max_tokens >= 0 && result.generated_tokens >= options.max_tokens)
      return done(FinishReason::kLength);
    if (std::cmp_equal(session.tokens().size(), session.context())) {
      if (options.context_overflow == ContextOverflow::kStop) return done(FinishReason::kContextFull);
      status = shift_context(session, keep);
      if (!status.has_value()) break;
    }
    status = session.evaluate({&token, 1});
  }
  if (status.error().kind == ErrorKind::kInterrupted) return done(FinishReason::kInterrupted);
  return std::unexpected(status.error());
}

}  // namespace odmoe
