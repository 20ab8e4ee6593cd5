// One timeline: the tokens so far and their KV cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/division.h"
#include "odmoe/options.h"
#include "odmoe/result.h"
#include "odmoe/sampling.h"

namespace odmoe {

using Token = int32_t;

// Sees the logits of consecutive positions of an evaluation: float [n_vocab], valid during the call.
using LogitsSink = std::function<void(int32_t position, std::span<const float> logits)>;

// Told how many tokens of an evaluation are done, and of how many.  Like LogitsSink it is called in the
// middle of the evaluation: of the engine it may call interrupt(), but nothing that waits for evaluations
// (another session's evaluate(), Engine::set_routing_observer()).
using EvaluateProgress = std::function<void(int32_t done, int32_t total)>;

// One owner.  Sessions of one engine may be used by different threads, but evaluations take turns.
class Session {
 public:
  virtual ~Session() = default;

  // Appends tokens to the timeline: in chunks of EngineOptions::chunk when there are several, each expert
  // read once per chunk.  `sink`, if given, sees the logits of every appended position, in order; without it
  // only the last position's are computed. After an error the timeline is as it was before the call.  Errors:
  // kUsage (a token out of range; no room in the context), kIo and kBadFile (an expert could not be read),
  // kInterrupted (interrupt() was called), kDeviceLost (then and from now on).
  // `progress`, if given, is called after each chunk.
  virtual Status evaluate(std::span<const Token> tokens, const LogitsSink& sink = {},
                          const EvaluateProgress& progress = {}) = 0;

  // Appends tokens (1 to EngineOptions::chunk) as if each were evaluated by itself, as generation does: every
  // bit of what is remembered of them, and of the logits, is what evaluate() of one after the other gives.
  // Several at once are asked of the experts together, so that it takes less time.  After an error the
  // timeline is as it was, but for models with windows or recurrent states, of which as much is left as can
  // be reached (reachable()).
  virtual Status evaluate_singly(std::span<const Token> tokens, const LogitsSink& sink = {}) = 0;

  // The logits of the last position evaluated, float [n_vocab]; valid until the next call on this session.
  virtual std::span<const float> logits() const = 0;

  virtual std::span<const Token> tokens() const = 0;  // the timeline
  virtual int32_t context() const = 0;                // the most tokens it can hold

  // Forgets everything after the first reachable(n) tokens (0 <= n <= tokens().size()), and returns how many
  // that is.
  virtual int32_t truncate(int32_t n) = 0;
  // The most tokens, at most n, to which this timeline can be taken back: n, unless the model has windows or
  // recurrent states.  Of those the engine keeps EngineOptions::snapshots: before the last evaluation of a
  // text that is read, where that is no whole chunk, and where generation begins.
  virtual int32_t reachable(int32_t n) const = 0;

  // How the first tokens were divided: all of them, unless the timeline was taken back to the middle of an
  // evaluation; then those before that.  What follows them here is bit for bit what it would be had they been
  // evaluated anew in the same division, and that is known of no others.
  virtual const Division& division() const = 0;

  // What is remembered of the first n tokens (reachable(n) == n): a copy of it brings them back, in
  // this session or another one, with every bit.  It does not depend on the context's size, but on the model,
  // the cache type and the machine's byte order: Engine::state_identity().
  virtual uint64_t state_bytes(int32_t n) const = 0;
  // `state` has state_bytes(n) bytes.
  virtual void save_state(int32_t n, std::span<std::byte> state) const = 0;
  // Replaces the timeline by the first n of `tokens`, for which save_state() gave `state` when division() was
  // `division` (of no more than `tokens`); all of them, unless ModelInfo::state_holds_every_length.  There
  // are no logits until something is evaluated.  kUsage when n tokens do not fit the context, or the bytes
  // are not those of the tokens; the timeline is then empty.
  virtual Status restore_state(std::span<const Token> tokens, int32_t n, const Division& division,
                               std::span<const std::byte> state) = 0;

  // The same of all tokens without a copy of the whole in memory: `take` gets the bytes of
  // save_state(tokens().size()) piece by piece and in order, `give` is asked for them.  What it fails with
  // ends it; of read_state() the timeline is then empty.
  virtual Status write_state(const std::function<Status(std::span<const std::byte>)>& take) const = 0;
  virtual Status read_state(std::span<const Token> tokens, const Division& division,
                            const std::function<Status(std::span<std::byte>)>& give) = 0;
};

enum class FinishReason { kEnd, kLength, kStopString, kContextFull, kInterrupted };
std::string_view finish_reason_name(FinishReason reason);

struct GenerateOptions {
  SamplingOptions sampling;
  int32_t max_tokens = -1;        // -1: until the end token or the context is full
  std::vector<std::string> stop;  // generation ends before any of these; they are not shown
  bool ignore_eos = false;        // end tokens are never drawn
  ContextOverflow context_overflow = ContextOverflow::kStop;
  int32_t keep = -1;  // tokens kept at the start by kShift; -1: the prompt's, at most a quarter
  // Whether the text of a control token is a part of what is streamed, for those who read the marks of the
  // model's format.  Empty: none is.
  std::function<bool(std::string_view text)> shows_control;
  // Called after each chunk of the prompt with the tokens evaluated so far, those reused not among them.
  EvaluateProgress prompt_progress;
};

struct GenerateResult {
  FinishReason finish = FinishReason::kEnd;
  int32_t prompt_tokens = 0;
  int32_t reused_tokens = 0;  // of the prompt, whose KV cache was kept from before
  int32_t generated_tokens = 0;
  std::string text;  // all that was streamed
};

// Called with text that is complete UTF-8; false stops the generation (kInterrupted).
using TextSink = std::function<bool(std::string_view text)>;

}  // namespace odmoe
