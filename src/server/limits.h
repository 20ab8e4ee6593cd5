// Every bound of what the server takes in or holds.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace odmoe::server {

inline constexpr size_t kMaxBodyBytes = 8 << 20;        // unless --max-body says otherwise
inline constexpr size_t kMaxImageBodyBytes = 64 << 20;  // the same with --vision-url

// Of a JSON body, before it is parsed: what it would take in memory is bounded by these, not by its bytes.
inline constexpr size_t kMaxJsonDepth = 64;
inline constexpr size_t kMaxJsonValues = 500'000;

inline constexpr size_t kMaxMessages = 4096;
inline constexpr size_t kMaxTools = 128;
inline constexpr size_t kMaxImages = 16;   // of one request
inline constexpr size_t kMaxPrompts = 16;  // of one /v1/completions request
inline constexpr int32_t kMaxChoices = 16;
inline constexpr size_t kMaxGenerations = 64;  // prompts times choices
inline constexpr size_t kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 1024;
inline constexpr int32_t kMaxTopLogprobs = 20;
inline constexpr size_t kMaxLogitBias = 1024;
inline constexpr size_t kMaxListeners = 8;            // of /v1/events, and half of the connections
inline constexpr size_t kMaxHeldBackBytes = 1 << 20;  // output that waits for a client that does not read

// A connection that sends a request slower than this is closed: so long at first, and a second more for so
// many bytes that came.
inline constexpr std::chrono::seconds kRequestGrace{10};
inline constexpr size_t kSlowestBytesPerSecond = 64 * 1024;
// A client that takes nothing of an answer for so long is dropped.
inline constexpr std::chrono::seconds kWriteTimeout{10};
inline constexpr std::chrono::seconds kKeepAlive{10};
inline constexpr size_t kKeepAliveRequests = 1000;  // of one connection
// Connections beyond the limit that are told so, rather than left waiting.
inline constexpr size_t kRefusalThreads = 4;
inline constexpr int kListenBacklog = 128;

// How often a request that waits looks whether its client is still there.
inline constexpr std::chrono::milliseconds kLiveness{10};
// How long the end of the server waits for those who listen to its live events to be told.
inline constexpr std::chrono::seconds kEndOfEvents{1};
// A comment goes to a streaming client when nothing else did for so long, lest something on the way gives up.
inline constexpr std::chrono::seconds kStreamKeepAlive{15};

}  // namespace odmoe::server
