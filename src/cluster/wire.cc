#include "cluster/wire.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "backend/tensor_memory.h"
#include "base/units.h"
#include "engine/limits.h"
#include "store/expert_store.h"

namespace odmoe {
namespace {

constexpr uint32_t kWorkMagic = 0x6f646d57, kResultMagic = 0x6f646d52;
constexpr uint64_t kResultBytes = 4 * kMiB;
constexpr size_t kTextBytes = 4096;  // of an error, at most

struct WorkHeader {
  uint32_t magic = kWorkMagic;
  uint32_t sequence = 0;
  int32_t layer = 0;
  uint32_t tokens = 0;
  int32_t n_token = 0, n_column = 0;
  int32_t n_chunk = 0, padding = 0;
};
static_assert(sizeof(WorkHeader) % sizeof(float) == 0 && sizeof(ResultHeader) % sizeof(uint64_t) == 0);

struct HintsHeader {
  NoteKind kind = NoteKind::kHints;
  uint32_t depth = 0;
};
static_assert(sizeof(HintsHeader) + ExpertStore::kMaxHints * sizeof(ExpertKey) <= kMaxHintsBytes);

template <typename T>
void put(std::span<std::byte> bytes, const T& value) {
  assert(bytes.size() >= sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
}

template <typename T>
std::optional<T> get(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// Messages begin where any number may (transports align them), and all before these is of whole ones.
template <typename T>
std::span<const T> view(std::span<const std::byte> bytes, size_t n) {
  assert(reinterpret_cast<uintptr_t>(bytes.data()) % alignof(T) == 0);
  return {reinterpret_cast<const T*>(bytes.data()), n};
}

template <typename T>
std::span<T> mutable_view(std::span<std::byte> bytes, size_t n) {
  assert(reinterpret_cast<uintptr_t>(bytes.data()) % alignof(T) == 0 && bytes.size() >= n * sizeof(T));
  return {reinterpret_cast<T*>(bytes.data()), n};
}

// Whether tokens are as an evaluation of such chunks may have them.
bool fit(const WireShape& shape, const WorkHeader& header, std::span<const WireChunk> chunks) {
  if (header.tokens == static_cast<uint32_t>(ExpertWork::Tokens::kOne)) return header.n_token == 1;
  if (header.tokens == static_cast<uint32_t>(ExpertWork::Tokens::kChunk))
    return header.n_token <= shape.chunk;
  int32_t end = 0, n_single = header.n_token;
  for (const WireChunk& chunk : chunks) {
    if (chunk.first < end || chunk.n_token < 2 || chunk.n_token > shape.chunk ||
        chunk.n_token > header.n_token - chunk.first) {
      return false;
    }
    end = chunk.first + chunk.n_token;
    n_single -= chunk.n_token;
  }
  return n_single <= shape.lanes;
}

}  // namespace

WireShape WireShape::of(const ModelShape& shape, const EngineOptions& options) {
  return {.width = shape.expert_width(),
          .n_expert = shape.router.n_expert,
          .n_expert_used = shape.router.n_expert_used,
          .n_layer = shape.n_layer,
          .chunk = options.chunk,
          .lanes = max_lanes(options),
          .places = max_places(options)};
}

int64_t WireShape::max_tokens() const { return std::max<int64_t>(chunk, lanes + int64_t{places} * chunk); }

std::optional<ReadNote> read_note(std::span<const std::byte> note) {
  const auto kind = get<uint32_t>(note);
  if (!kind || *kind > static_cast<uint32_t>(NoteKind::kEnd)) return std::nullopt;
  return ReadNote{.kind = static_cast<NoteKind>(*kind), .body = note.subspan(sizeof(uint32_t))};
}

std::string make_note(NoteKind kind, std::string_view body) {
  std::string note(sizeof(kind), '\0');
  std::memcpy(note.data(), &kind, sizeof(kind));
  return note.append(body);
}

size_t write_hints(std::span<std::byte> note, std::span<const ExpertKey> experts, PrefetchDepth depth) {
  put(note, HintsHeader{.depth = static_cast<uint32_t>(depth)});
  experts = experts.first(std::min(experts.size(), ExpertStore::kMaxHints));
  std::ranges::copy(std::as_bytes(experts), note.begin() + sizeof(HintsHeader));
  return sizeof(HintsHeader) + experts.size_bytes();
}

std::optional<Hints> read_hints(std::span<const std::byte> body) {
  const auto depth = get<uint32_t>(body);
  if (!depth || *depth > static_cast<uint32_t>(PrefetchDepth::kMany)) return std::nullopt;
  body = body.subspan(sizeof(uint32_t));
  if (body.size() % sizeof(ExpertKey) != 0) return std::nullopt;
  return Hints{.depth = static_cast<PrefetchDepth>(*depth),
               .experts = view<ExpertKey>(body, body.size() / sizeof(ExpertKey))};
}

std::string make_warm_part(const WarmPart& part) {
  std::string body(2 * sizeof(uint32_t) + part.experts.size_bytes(), '\0');
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(body));
  put(bytes, part.number);
  put(bytes.subspan(sizeof(uint32_t)), uint32_t{part.last});
  std::ranges::copy(std::as_bytes(part.experts), bytes.begin() + 2 * sizeof(uint32_t));
  return make_note(NoteKind::kWarm, body);
}

std::optional<WarmPart> read_warm_part(std::span<const std::byte> body) {
  const auto number = get<uint32_t>(body);
  if (!number || body.size() < 2 * sizeof(uint32_t)) return std::nullopt;
  const auto last = get<uint32_t>(body.subspan(sizeof(uint32_t)));
  body = body.subspan(2 * sizeof(uint32_t));
  if (body.size() % sizeof(ExpertKey) != 0) return std::nullopt;
  return WarmPart{.number = *number,
                  .last = *last != 0,
                  .experts = view<ExpertKey>(body, body.size() / sizeof(ExpertKey))};
}

std::string make_warmed(const WarmedNote& warmed) {
  std::string body(sizeof(warmed), '\0');
  put(std::as_writable_bytes(std::span(body)), warmed);
  return make_note(NoteKind::kWarmed, body);
}

std::optional<WarmedNote> read_warmed(std::span<const std::byte> body) { return get<WarmedNote>(body); }

size_t write_abandon(std::span<std::byte> note, uint32_t sequence) {
  put(note, NoteKind::kAbandon);
  put(note.subspan(sizeof(NoteKind)), sequence);
  return sizeof(NoteKind) + sizeof(sequence);
}

std::optional<uint32_t> read_abandon(std::span<const std::byte> body) { return get<uint32_t>(body); }

uint64_t max_work_bytes(const WireShape& shape) {
  const auto tokens = static_cast<uint64_t>(shape.max_tokens());
  const auto choice = static_cast<uint64_t>(shape.n_expert_used) * (sizeof(int32_t) + sizeof(float));
  return sizeof(WorkHeader) + static_cast<uint64_t>(shape.places) * sizeof(WireChunk) +
         tokens * (choice + sizeof(int32_t) + static_cast<uint64_t>(shape.width) * sizeof(float));
}

uint64_t max_result_bytes(const WireShape& shape) {
  const auto row = static_cast<uint64_t>(shape.width) * sizeof(float);
  const auto rows = static_cast<uint64_t>(shape.max_tokens() * shape.n_expert_used);
  return sizeof(ResultHeader) + std::max({row, std::min(rows * row, kResultBytes), uint64_t{kTextBytes}});
}

uint32_t rows_per_result(const WireShape& shape) {
  const auto row = static_cast<uint64_t>(shape.width) * sizeof(float);
  return static_cast<uint32_t>((max_result_bytes(shape) - sizeof(ResultHeader)) / row);
}

size_t write_work(std::span<std::byte> message, const WireShape& shape, uint32_t sequence,
                  const ExpertWork& work, std::span<uint8_t> scratch) {
  const LayerDemand& demand = *work.demand;
  const auto n_token = static_cast<size_t>(demand.n_token());
  const auto n_used = static_cast<size_t>(shape.n_expert_used);
  const auto width = static_cast<size_t>(shape.width);
  size_t at = sizeof(WorkHeader);
  const auto take = [&]<typename T>(T, size_t n) {
    const std::span<T> part = mutable_view<T>(message.subspan(at), n);
    at += part.size_bytes();
    return part;
  };
  const std::span<WireChunk> chunks = take(WireChunk{}, work.chunks.size());
  std::ranges::copy(demand.chosen(), take(int32_t{}, n_token * n_used).begin());
  const std::span<float> weights = take(float{}, n_token * n_used);
  const std::span<const float> all_weights = host_values<float>(work.columns.weight);
  const std::span<int32_t> columns = take(int32_t{}, n_token);
  const std::span<const float> input = host_values<float>(work.columns.input);
  std::ranges::fill(scratch, uint8_t{0});
  for (const int32_t expert : work.experts) scratch[static_cast<size_t>(expert)] = 1;
  const auto is_receivers = [&](int32_t expert) { return scratch[static_cast<size_t>(expert)] != 0; };
  int32_t n_column = 0;
  size_t n_chunk = 0;
  for (size_t t = 0; t < n_token; ++t) {
    const auto column = static_cast<size_t>(demand.columns()[t]);
    if (n_chunk < chunks.size() && std::cmp_equal(work.chunks[n_chunk].first, column)) {
      chunks[n_chunk] = {.first = static_cast<int32_t>(t), .n_token = work.chunks[n_chunk].n_token};
      ++n_chunk;
    }
    std::ranges::copy(all_weights.subspan(column * n_used, n_used),
                      weights.begin() + static_cast<ptrdiff_t>(t * n_used));
    columns[t] = -1;
    if (std::ranges::none_of(demand.chosen().subspan(t * n_used, n_used), is_receivers)) continue;
    columns[t] = n_column++;
    std::ranges::copy(input.subspan(column * width, width), take(float{}, width).begin());
  }
  assert(n_chunk == chunks.size());
  put(message, WorkHeader{.sequence = sequence,
                          .layer = demand.layer(),
                          .tokens = static_cast<uint32_t>(work.tokens),
                          .n_token = static_cast<int32_t>(n_token),
                          .n_column = n_column,
                          .n_chunk = static_cast<int32_t>(n_chunk)});
  return at;
}

Result<ReadWork> read_work(std::span<const std::byte> message, const WireShape& shape) {
  const auto not_understood = [&] {
    return fail(ErrorKind::kIo, "work of {} bytes came that is not understood", message.size());
  };
  const auto header = get<WorkHeader>(message);
  if (!header || header->magic != kWorkMagic || header->layer < 0 || header->layer >= shape.n_layer ||
      header->tokens > static_cast<uint32_t>(ExpertWork::Tokens::kTimelines) || header->n_token < 1 ||
      header->n_token > shape.max_tokens() || header->n_column < 1 || header->n_column > header->n_token ||
      header->n_chunk < 0 || header->n_chunk > shape.places ||
      (header->n_chunk > 0 && header->tokens != static_cast<uint32_t>(ExpertWork::Tokens::kTimelines))) {
    return not_understood();
  }
  const auto n_token = static_cast<size_t>(header->n_token);
  const auto n_chunk = static_cast<size_t>(header->n_chunk);
  const size_t n_pair = n_token * static_cast<size_t>(shape.n_expert_used);
  const size_t n_input = static_cast<size_t>(header->n_column) * static_cast<size_t>(shape.width);
  size_t at = sizeof(WorkHeader);
  if (message.size() != at + n_chunk * sizeof(WireChunk) + n_pair * (sizeof(int32_t) + sizeof(float)) +
                            n_token * sizeof(int32_t) + n_input * sizeof(float)) {
    return not_understood();
  }
  const auto take = [&]<typename T>(T, size_t n) {
    const std::span<const T> part = view<T>(message.subspan(at), n);
    at += part.size_bytes();
    return part;
  };
  ReadWork work{.sequence = header->sequence,
                .layer = header->layer,
                .tokens = static_cast<ExpertWork::Tokens>(header->tokens),
                .n_token = header->n_token};
  work.chunks = take(WireChunk{}, n_chunk);
  if (!fit(shape, *header, work.chunks)) return not_understood();
  work.chosen = take(int32_t{}, n_pair);
  work.weights = take(float{}, n_pair);
  work.columns = take(int32_t{}, n_token);
  work.input = take(float{}, n_input);
  int32_t next = 0;
  for (const int32_t column : work.columns) {
    if (column >= 0 && column != next++) return not_understood();
  }
  const bool experts_there =
      std::ranges::all_of(work.chosen, [&](int32_t e) { return e >= 0 && e < shape.n_expert; });
  if (next != header->n_column || !experts_there) return not_understood();
  return work;
}

std::span<float> result_rows(std::span<std::byte> message, const WireShape& shape, uint32_t n_row) {
  return mutable_view<float>(message.subspan(sizeof(ResultHeader)),
                             static_cast<size_t>(n_row) * static_cast<size_t>(shape.width));
}

size_t write_result(std::span<std::byte> message, const WireShape& shape, ResultHeader header,
                    std::string_view text) {
  header.magic = kResultMagic;
  text = text.substr(0, kTextBytes);
  header.message_bytes = static_cast<uint32_t>(text.size());
  put(message, header);
  std::ranges::copy(std::as_bytes(std::span(text)), message.begin() + sizeof(ResultHeader));
  return sizeof(ResultHeader) +
         std::max(static_cast<size_t>(header.n_row) * static_cast<size_t>(shape.width) * sizeof(float),
                  text.size());
}

Result<ReadResult> read_result(std::span<const std::byte> message, const WireShape& shape) {
  const auto header = get<ResultHeader>(message);
  const auto not_understood = [&] {
    return fail(ErrorKind::kIo, "a result of {} bytes came that is not understood", message.size());
  };
  if (!header || header->magic != kResultMagic || header->outcome > Outcome::kFailed ||
      header->error_kind > static_cast<uint32_t>(ErrorKind::kInterrupted)) {
    return not_understood();
  }
  const std::span<const std::byte> body = message.subspan(sizeof(ResultHeader));
  const size_t n = static_cast<size_t>(header->n_row) * static_cast<size_t>(shape.width);
  const bool has_text = header->outcome == Outcome::kFailed;
  if (body.size() != (has_text ? size_t{header->message_bytes} : n * sizeof(float))) return not_understood();
  ReadResult result{.header = *header};
  if (has_text) {
    result.text = {reinterpret_cast<const char*>(body.data()), body.size()};
  } else {
    result.rows = view<float>(body, n);
  }
  return result;
}

}  // namespace odmoe
