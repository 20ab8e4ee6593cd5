// Everything that can be chosen when a model is opened.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

// What `--memory` says.  A size bounds the whole process; a percentage is of the routed experts' bytes and
// bounds the arena (the process then takes that plus the dense weights, the KV cache and the buffers).
// With a size or kAuto the arena also has the memory that the KV caches do not use yet, and kAuto follows
// what the machine has while running: the arena shrinks within a fraction of a second when others take
// memory, and grows again some seconds after they have given it back.  No token depends on any of it.
struct MemoryBudget {
  enum class Kind { kAuto, kBytes, kExpertPercent };
  Kind kind = Kind::kAuto;  // kAuto: the memory that is available (cgroup-aware) less a margin
  uint64_t bytes = 0;       // of kBytes
  double percent = 0;       // of kExpertPercent, above 0, at most 100
};
// "8GiB", "25%", "auto".  kUsage with an example for anything else.
Result<MemoryBudget> parse_memory_budget(std::string_view text);

enum class CacheType { kF16, kBF16, kQ8_0, kF32 };
// Of attention over keys and values: flash attention, one kernel that goes over them once per query head, or
// products and a softmax, which go over them once for all heads that share them but keep the scores of all.
enum class FlashAttention {
  kAuto,  // several tokens by the kernel, where the backend has one for the model's shapes; one by products
  kOn,    // by the kernel; kUnsupported where there is none
  kOff    // by products
};
enum class ReaderChoice { kAuto, kIoUring, kPread };
// Which experts stay in memory (docs/residency.md).
enum class PolicyKind {
  kForecast,  // ours: keeps those whose next use is expected soonest
  kLru,       // least recently used, of all layers together
  kLayerLru,  // least recently used, an equal share for every layer
  kLfu,       // least often used, of all layers together
  kLfuAging,  // the same with counts that fade, by 0.97 for every token
};
// "forecast", "lru", "layer-lru", "lfu", "lfu-aging".
std::string_view policy_name(PolicyKind policy);
// Where routed experts are computed, where a device computes the rest (docs/devices.md).
enum class ExpertPlacement {
  kHost,     // by the processor, from the host's arena
  kInPlace,  // by the device, from the host's arena
  kDevice,   // by the device, from an arena in its own memory
};
// "cpu", "in-place", "device".
std::string_view placement_name(ExpertPlacement placement);
// What guesses the experts of layers to come, so that they are read before they are asked for.  No token
// depends on it.
enum class PredictorKind {
  kNone,
  kPreviousToken,  // what a layer chose for the tokens before
  kCoactivation,   // what went together with this layer's choice so far
  kStaleGate,      // a later layer's router, on what this layer's router saw
  kShadow,         // a shadow model, trained for the model: EngineOptions::shadow
};
// "none", "previous-token", "coactivation", "stale-gate", "shadow".
std::string_view predictor_name(PredictorKind predictor);
// kUsage, naming them all, for anything else.
Result<PredictorKind> parse_predictor(std::string_view name);
// All of them, in order.
std::span<const PredictorKind> all_predictors();
inline constexpr int32_t kMaxLookahead = 4;
inline constexpr int32_t kMaxSessions = 256;
inline constexpr int32_t kMaxPrompts = 64;
enum class ContextOverflow {
  kStop,   // generation ends when the context is full
  kShift,  // the oldest half (after the first kept tokens) is forgotten and the rest evaluated anew, exactly
};

struct EngineOptions {
  std::filesystem::path model;  // a GGUF, or the first of a split GGUF
  MemoryBudget memory;
  int32_t context = 0;  // tokens of the KV cache; 0: the model's own, at most 4096
  CacheType cache_type = CacheType::kF16;
  FlashAttention flash_attention = FlashAttention::kAuto;
  // What computes all but the routed experts: "auto", "cpu", or a device that `odmoe devices` lists
  // (docs/devices.md).  "auto" is what was measured to be the fastest (device_file).  Results depend on it in
  // the last bits.
  std::string device = "auto";
  // The file that remembers which device is the fastest for which models, found when a model is first opened
  // by two or three prompts of at most 256 tokens on each, of which slow drives make minutes; empty, and
  // where there are no GPUs: "auto" is the processor.
  std::filesystem::path device_file;
  // The most that may be taken of a device's own memory; 0: what it has left.
  uint64_t device_memory_bytes = 0;
  // Results depend on it in the last bits, as on the device.
  ExpertPlacement experts = ExpertPlacement::kHost;
  int32_t threads = 0;   // 0: one per processor that affinity and quotas allow
  int32_t chunk = 512;   // tokens of a prompt evaluated at once.  Results depend on it in the last
                         // bits (so it is never derived from the budget); memory grows with it
  int32_t sessions = 1;  // KV caches planned for, 1..kMaxSessions
  // Prompts whose chunks are evaluated together (Engine::advance()), 1..kMaxPrompts; memory for activations
  // grows with it.  Speed alone depends on it.
  int32_t prompts = 1;
  // Of models with windows or recurrent states: how many earlier states of a session are kept to go back
  // to, 2..64.
  int32_t snapshots = 4;
  // Memory of the budget that somebody else in the process uses, such as a server's requests and prompt
  // cache, and what it takes besides for each token of the vocabulary.
  uint64_t reserved_bytes = 0;
  uint64_t reserved_bytes_per_token = 0;
  ReaderChoice reader = ReaderChoice::kAuto;
  PolicyKind policy = PolicyKind::kForecast;  // which experts stay; speed alone depends on it
  // Speed alone depends on it; trials switch it off where it does not pay (docs/shadow-model.md).
  PredictorKind predictor = PredictorKind::kStaleGate;
  std::filesystem::path shadow;  // the weights of kShadow, and of no other
  // Layers with experts by which the predictor is ahead, 1..kMaxLookahead; a shadow model no further than it
  // was trained for.
  int32_t lookahead = 3;
  // Memory of the arena that is still free is filled with experts that nobody has asked for, while the drive
  // has nothing better to do (docs/residency.md).  Speed alone depends on it, and what is read.
  bool fill = false;
  int32_t read_depth = 0;  // reads in flight, 1..1024; 0: what was found best for the drive, 32 if unknown
  // The file that remembers what drives can do, found by reading from each for under two seconds when it is
  // first used; empty: no drive is tried out.  A file that is damaged or cannot be written costs time, never
  // fails.
  std::filesystem::path drive_file;
  // The file that remembers for which models, budgets and drives reading ahead pays, which is tried out while
  // tokens are decoded; empty: each run finds out for itself.  As with drive_file it never fails.
  std::filesystem::path prefetching_file;
  // Other copies of the model to read experts from as well, each a path like `model` or the folder that holds
  // files of the same names; at most 15.  Refused when they are not the same model.
  std::vector<std::filesystem::path> mirrors;
  Status validate() const;  // kUsage naming the option and its range
};

}  // namespace odmoe
