#include "trace/trace_writer.h"

#include <lzma.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

#include "trace/trace_formats.h"

namespace odmoe {
namespace {

void put(std::string& text, uint32_t value, int n_byte) {
  for (int i = 0; i < n_byte; ++i) text += static_cast<char>(value >> (8 * i) & 0xFFU);
}

Result<std::string> pack(const std::string& text, const std::string& name) {
  std::string packed(lzma_stream_buffer_bound(text.size()), '\0');
  size_t n = 0;
  const lzma_ret code = lzma_easy_buffer_encode(LZMA_PRESET_DEFAULT, LZMA_CHECK_CRC64, nullptr,
                                                reinterpret_cast<const uint8_t*>(text.data()), text.size(),
                                                reinterpret_cast<uint8_t*>(packed.data()), &n, packed.size());
  if (code != LZMA_OK) return fail(ErrorKind::kIo, "{}: no memory to pack it", name);
  packed.resize(n);
  return packed;
}

}  // namespace

Result<std::string> serialise_trace(const TraceShape& shape, std::span<const TraceSession> sessions) {
  if (shape.n_layer < 1 || shape.n_layer > kMaxTraceLayers || shape.n_expert < 1 ||
      shape.n_expert > kMaxTraceExperts || shape.n_expert_used < 1 ||
      shape.n_expert_used > std::min(shape.n_expert, kMaxTraceExpertsUsed) ||
      sessions.size() > kMaxTraceSessions) {
    return fail(ErrorKind::kUsage, "{} layers, {} of {} experts, {} sessions are beyond what a trace holds",
                shape.n_layer, shape.n_expert_used, shape.n_expert, sessions.size());
  }
  const bool wide = shape.n_expert > 256;
  std::string text(wide ? kWideTraceMagic.data() : kBinaryTraceMagic.data(), kBinaryTraceMagic.size());
  for (const uint32_t value : {shape.n_layer, shape.n_expert, shape.n_expert_used}) put(text, value, 4);
  put(text, static_cast<uint32_t>(sessions.size()), 4);
  const size_t per_token = size_t{shape.n_layer} * shape.n_expert_used;
  for (const TraceSession& session : sessions) {
    if (session.experts.size() % per_token != 0 || session.weights.size() != session.experts.size()) {
      return fail(ErrorKind::kUsage, "a session of {} experts and {} weights is not a multiple of {}",
                  session.experts.size(), session.weights.size(), per_token);
    }
    put(text, static_cast<uint32_t>(session.experts.size() / per_token), 4);
    put(text, session.first_position, 4);
    for (const uint16_t expert : session.experts) put(text, expert, wide ? 2 : 1);
    for (const uint16_t weight : session.weights) put(text, weight, 2);
  }
  return text;
}

Status write_trace(const std::filesystem::path& path, const TraceShape& shape,
                   std::span<const TraceSession> sessions) {
  ODMOE_ASSIGN_OR_RETURN(std::string text, serialise_trace(shape, sessions));
  if (path.extension() == ".xz") {
    ODMOE_ASSIGN_OR_RETURN(text, pack(text, path.string()));
  }
  const auto failed = [&]() -> Status {
    return fail(ErrorKind::kIo, "cannot write {}: {}", path.string(), std::generic_category().message(errno));
  };
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"), &std::fclose);
  if (file == nullptr) return failed();
  if (std::fwrite(text.data(), 1, text.size(), file.get()) != text.size()) return failed();
  if (std::fclose(file.release()) != 0) return failed();  // the last bytes are written only now
  return {};
}

}  // namespace odmoe
