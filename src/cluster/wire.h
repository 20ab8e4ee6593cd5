// What ranks say to each other, as bytes.  All ranks run the same program (cluster/greeting.h sees to that),
// so numbers are as they lie in memory; what comes is still checked against what there is room for.
//
//   notes      a NoteKind, and what it says
//   work       from the head: a layer of some tokens, of one timeline or of several, what their routers
//   chose,
//              and what the experts see of those tokens that have experts of the receiver
//   results    from a worker, for each work one or several: rows of outputs in the order of its experts, and
//              of each expert's pairs; the last one says how it ended
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/expert_site.h"
#include "engine/site_figures.h"
#include "model/shape.h"
#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe {

enum class NoteKind : uint32_t {
  kAlive,    // nothing but that
  kBegin,    // head: what is going to be run (greeting.h)
  kHello,    // worker: who it is and what it has
  kSetup,    // head: all ranks, by which each finds the owners
  kReady,    // worker: that it has found the same, or why it cannot go on
  kHints,    // head: experts that are likely to be wanted
  kWarm,     // head: a part of the experts that are to be read before anybody asks for them
  kWarmed,   // worker: how far that is
  kAbandon,  // head: nobody wants a work any more
  kLeave,    // worker: it was asked to end
  kEnd,      // head: all end
};

// A note's kind, and the rest of it; nothing for what is not one.
struct ReadNote {
  NoteKind kind = NoteKind::kAlive;
  std::span<const std::byte> body;
};
std::optional<ReadNote> read_note(std::span<const std::byte> note);
std::string make_note(NoteKind kind, std::string_view body = {});

// Into `note`, which has room for kMaxHintsBytes; returns the bytes used.
inline constexpr size_t kMaxHintsBytes = 16 << 10;
size_t write_hints(std::span<std::byte> note, std::span<const ExpertKey> experts, PrefetchDepth depth);
struct Hints {
  PrefetchDepth depth = PrefetchDepth::kFew;
  std::span<const ExpertKey> experts;
};
std::optional<Hints> read_hints(std::span<const std::byte> body);
// Experts of a kWarm; those of one number follow each other, and begin when the last have come.
struct WarmPart {
  uint32_t number = 0;
  bool last = false;
  std::span<const ExpertKey> experts;
};
inline constexpr size_t kMostOfWarmPart = 2048;  // experts
std::string make_warm_part(const WarmPart& part);
std::optional<WarmPart> read_warm_part(std::span<const std::byte> body);
struct WarmedNote {
  uint32_t number = 0;  // of the kWarm
  uint32_t done = 0;
  uint64_t n_read = 0, n_expert = 0;
};
std::string make_warmed(const WarmedNote& warmed);
std::optional<WarmedNote> read_warmed(std::span<const std::byte> body);
size_t write_abandon(std::span<std::byte> note, uint32_t sequence);
std::optional<uint32_t> read_abandon(std::span<const std::byte> body);

// The sizes of a model that decide how much room messages need.
struct WireShape {
  int64_t width = 0;  // of what experts see and give
  int32_t n_expert = 0, n_expert_used = 0;
  int32_t n_layer = 0;
  // Of an evaluation: tokens of one timeline, or single ones of several; with them chunks of several.
  int32_t chunk = 0, lanes = 0, places = 0;

  // `options` as the head has them.
  static WireShape of(const ModelShape& shape, const EngineOptions& options);
  int64_t max_tokens() const;
};
uint64_t max_work_bytes(const WireShape& shape);
// Results are cut so that none is larger, unless a single row is.
uint64_t max_result_bytes(const WireShape& shape);

// Into `message`, which has max_work_bytes(); returns the bytes used.
// `scratch`: n_expert bytes.
size_t write_work(std::span<std::byte> message, const WireShape& shape, uint32_t sequence,
                  const ExpertWork& work, std::span<uint8_t> scratch);
// Tokens that are a chunk of one timeline, where there are several timelines.
struct WireChunk {
  int32_t first = 0, n_token = 0;
};
struct ReadWork {
  uint32_t sequence = 0;
  int32_t layer = 0;
  ExpertWork::Tokens tokens = ExpertWork::Tokens::kOne;
  int64_t n_token = 0;
  std::span<const WireChunk> chunks;  // in the order of their tokens; the others are single ones
  std::span<const int32_t> chosen;    // [n_expert_used, n_token]
  std::span<const float> weights;     // likewise
  // By token: its column of `input`; -1: it has no expert of the receiver.  Those that are not follow each
  // other.
  std::span<const int32_t> columns;
  std::span<const float> input;  // [width, the number of such columns]
};
// kIo for what is not one, or does not fit the shape.
Result<ReadWork> read_work(std::span<const std::byte> message, const WireShape& shape);

enum class Outcome : uint32_t {
  kMore,       // further results follow
  kDone,       // all rows have come
  kNotFinite,  // a value was not finite (ExpertSite::finish)
  kFailed,     // an error, whose message follows
};
struct ResultHeader {
  uint32_t magic = 0;
  uint32_t sequence = 0;
  Outcome outcome = Outcome::kMore;
  uint32_t error_kind = 0;            // of kFailed
  uint32_t first_row = 0, n_row = 0;  // of kMore and kDone
  int32_t token = 0, rank = 0;        // of kNotFinite: whose pair it is
  uint32_t message_bytes = 0;         // of kFailed
  uint32_t padding = 0;
  SiteFigures figures;  // of the worker
};
// The rows behind a header, [width, n_row].
std::span<float> result_rows(std::span<std::byte> message, const WireShape& shape, uint32_t n_row);
// How many rows one message takes.
uint32_t rows_per_result(const WireShape& shape);
// Writes the header, and the text of kFailed; returns the bytes of the whole message.
size_t write_result(std::span<std::byte> message, const WireShape& shape, ResultHeader header,
                    std::string_view text = {});
struct ReadResult {
  ResultHeader header;
  std::span<const float> rows;  // [width, n_row]
  std::string_view text;
};
Result<ReadResult> read_result(std::span<const std::byte> message, const WireShape& shape);

}  // namespace odmoe
