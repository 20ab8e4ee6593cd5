// A model that is open: dense weights in memory, experts on the drive and in the arena between.
//
//   auto engine = odmoe::Engine::open({.model = "model.gguf"});
//   auto session = (*engine)->new_session();
//   (*engine)->generate(**session, (*engine)->encode("Once"), {}, [](std::string_view t) { std::cout << t;
//   return true; });
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "odmoe/chat.h"
#include "odmoe/chat_template.h"
#include "odmoe/encode_limits.h"
#include "odmoe/left_over.h"
#include "odmoe/observer.h"
#include "odmoe/options.h"
#include "odmoe/result.h"
#include "odmoe/session.h"
#include "odmoe/stats.h"

namespace odmoe {

struct ModelInfo {
  std::string architecture;  // "deepseek2"
  std::string name;          // general.name, may be empty
  int32_t n_layer = 0, n_layer_dense_lead = 0;
  int32_t n_expert_layer = 0;  // layers that have experts
  int32_t n_embd = 0, n_vocab = 0, n_context_train = 0;
  int32_t n_head = 0, n_head_kv = 0;
  int32_t n_expert = 0, n_expert_used = 0, n_ff_exp = 0;
  // In the files: all, the routed experts, the dense weights that are used (MemoryPlan::dense_bytes is what
  // they take in memory).
  uint64_t file_bytes = 0, expert_bytes = 0, dense_bytes = 0;
  int32_t context = 0;  // tokens of a session: EngineOptions::context, or what stands for 0
  // Of one session, with the cache type chosen: what each token takes; and what the context's length does not
  // change: windows, recurrent states and their snapshots.
  uint64_t kv_bytes_per_token = 0, fixed_state_bytes = 0;
  // Whether what a session remembers can be taken back to any length, and restored to any below the one it
  // was saved at: not where there are windows or recurrent states (Session::reachable()).
  bool state_holds_every_length = true;
  uint64_t cycle_bytes = 0;                                      // routed bytes that one token uses
  std::vector<std::pair<std::string, uint64_t>> bytes_per_type;  // "Q4_K" -> bytes, largest first
  // Of an expert directory whose experts are repacked for this processor's kernels: ggml's name of the layout
  // ("CPU_REPACK"; empty: none are), and how many of expert_bytes lie in it.
  std::string repacked_layout;
  uint64_t repacked_bytes = 0;
  // What of the file is not used; where one is refused, Engine::open fails and only inspect() tells.
  std::vector<LeftOver> left_over;
};

// An expert that is likely to be wanted.
struct LikelyExpert {
  int32_t layer = 0, expert = 0;
};

// One more token of a session's timeline.
struct NextToken {
  Session* session = nullptr;
  Token token = 0;
};

// Tokens that follow in a session's timeline.
struct NextTokens {
  Session* session = nullptr;
  std::span<const Token> tokens;  // 1 to EngineOptions::chunk
};

using LoadProgress =
    std::function<bool(uint64_t bytes_done, uint64_t bytes_total)>;  // false stops: kInterrupted

// Thread-safe, except that it must outlive its sessions.
class Engine {
 public:
  // Reads the metadata, makes the memory plan, refuses what cannot fit (kBudget, naming the smallest budget
  // that would do) before anything large is read, then reads the dense weights.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options,
                                              const LoadProgress& progress = {});
  // The same without reading weights: what `inspect` shows.  No budget is needed.
  static Result<ModelInfo> inspect(const EngineOptions& options);
  // The division of the budget that open() would make, kBudget included, with as many slots; reads no weights
  // either.
  static Result<MemoryPlan> memory_plan(const EngineOptions& options);

  virtual ~Engine() = default;

  virtual const ModelInfo& model() const = 0;
  virtual const MemoryPlan& plan() const = 0;
  // Waits for no evaluation: during one, what it did is counted up to the last chunk of a prompt, or the last
  // token, that was done when somebody asked before; the store's part is as of now.
  virtual Stats stats() const = 0;

  // Every expert of a layer as of now, in order, into the front of `experts`, which has room for
  // ModelInfo::n_expert; returns how many there are, 0 for a dense layer or one that is not there.  Waits for
  // no evaluation and allocates nothing; the layers of one evaluation may be seen at different moments.
  virtual int32_t view_experts(int32_t layer, std::span<ExpertView> experts) const = 0;

  // Reads experts before anybody asks for them, the likeliest first, as many as the arena holds; waits until
  // they are there.  No token depends on it.  Progress counts experts.  kUsage (no such expert),
  // kInterrupted.
  virtual Status warm(std::span<const LikelyExpert> experts, const LoadProgress& progress = {}) = 0;

  // kBudget when EngineOptions::sessions are in use already.
  virtual Result<std::unique_ptr<Session>> new_session() = 0;

  // Appends one token to each of several timelines in one pass through the model: in each layer the experts
  // that any of them wants are asked for, read and counted once.  Each session's logits() are, bit for bit,
  // what evaluating its token alone gives, whoever the others are.  The sessions are distinct, of this
  // engine, and used by nobody else meanwhile.  After an error all timelines are as they were before the
  // call; evaluate each alone to find out which failed.  Errors as Session::evaluate().
  // With a routing observer the tokens are evaluated one after the other.
  virtual Status step(std::span<const NextToken> batch) = 0;

  // The same of several tokens each: chunks of prompts, at most EngineOptions::prompts parts of more than one
  // token, and single ones.  In each layer every expert that any of all the tokens wants is read once.  Each
  // session has afterwards, bit for bit, what evaluate() of its part alone gives.
  virtual Status advance(std::span<const NextTokens> parts) = 0;

  // What saved states of sessions (Session::save_state) belong to: equal only where all that their bits
  // depend on is (model, cache type, chunk, threads, kernels; docs/server.md says what is seen of the model).
  // kIo; kBadFile once a file of experts is no longer as it was opened: states saved after that cannot be
  // used.
  virtual Result<std::string> state_identity() const = 0;

  virtual std::vector<Token> encode(std::string_view text, bool add_special = true,
                                    bool parse_special = true) const = 0;
  // The same within limits: kBudget or kInterrupted where one is met.
  virtual Result<std::vector<Token>> encode_within(std::string_view text, bool add_special,
                                                   bool parse_special, const EncodeLimits& limits) const = 0;
  // With the text of control tokens only if `special`.
  virtual std::string decode(std::span<const Token> tokens, bool special = false) const = 0;
  // The bytes of one token, maybe a part of a character; those of control tokens only if `special`.
  virtual std::string token_bytes(Token token, bool special = false) const = 0;
  virtual bool is_control(Token token) const = 0;  // no text: token_bytes() without `special` is empty
  virtual bool is_end(Token token) const = 0;      // whether generation ends here
  virtual Token bos() const = 0;                   // -1: the vocabulary has none
  virtual Token eos() const = 0;                   // likewise
  // Tokens that generation never draws, as the model's file says; valid as long as the engine.
  virtual std::span<const Token> suppressed_tokens() const = 0;

  // The model's own chat template, or the chosen one, with the model's special tokens.
  // kUnsupported: the model has none, or it cannot be read; kUsage: its variables are no JSON object.
  virtual Result<std::unique_ptr<ChatTemplate>> chat_template(
      const ChatTemplateChoice& choice = {}) const = 0;
  // A conversation as tokens.  What the turns say never becomes a control token, whatever it spells.
  // Errors as of ChatTemplate::render(), and as encode_within().
  virtual Result<std::vector<Token>> encode_chat(const Conversation& conversation,
                                                 const ChatTemplate& chat_template,
                                                 const EncodeLimits& limits = {},
                                                 const ChatTemplateLimits& template_limits = {}) const = 0;

  // Evaluates `prompt` (reusing the KV cache of the longest prefix that the session's timeline shares with
  // it) and generates after it.  Text streams to `sink` as soon as it is certain.
  virtual Result<GenerateResult> generate(Session& session, std::span<const Token> prompt,
                                          const GenerateOptions& options, const TextSink& sink) = 0;

  // From now on `observer` is called; null: no longer.  It must outlive the engine or be taken away before
  // it ends.  The embeddings that it is shown take 4 * n_embd * EngineOptions::chunk bytes that are not in
  // the memory plan.  No logit depends on it.  Waits for an evaluation in progress, so nothing that is
  // called in the middle of one may call it.
  virtual void set_routing_observer(RoutingObserver* observer) = 0;

  // What "auto" came to as EngineOptions::device, and why; empty: a device was named, or there is only the
  // processor.
  virtual std::string device_choice() const = 0;
  // kDeviceLost once the device that computes the dense part has failed: nothing is evaluated any more, and
  // what is to go on is opened in another process.  Waits for no evaluation.
  virtual Status device_condition() const = 0;

  // Makes evaluations in progress return kInterrupted soon.  Async-signal-safe; sticky until
  // clear_interrupt().
  virtual void interrupt() noexcept = 0;
  virtual void clear_interrupt() noexcept = 0;
};

struct PerplexityResult {
  double perplexity = 0;
  double standard_error = 0;  // of the perplexity
  int32_t chunks = 0;
  int32_t scored_tokens = 0;
};
struct PerplexityProgress {
  int32_t chunk = 0, chunks = 0;
  double perplexity = 0;  // so far
};

// As llama-perplexity counts: the text in chunks of the session's context, each evaluated afresh (its first
// token replaced by BOS where the vocabulary adds one), the second half of each scored.
// kUsage when the text is shorter than two chunks.
Result<PerplexityResult> perplexity(Engine& engine, std::string_view text, const LogitsSink& sink = {},
                                    const std::function<bool(const PerplexityProgress&)>& progress = {});

}  // namespace odmoe
